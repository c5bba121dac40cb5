//! The daemon as one of the nodes of a cluster.

use std::sync::Arc;

use actors::{HomeRule, Homes};
use anyhow::Context as _;
use cluster::{Etcd, Held, Identity, Members, Placement};
use tokio::sync::watch;

use crate::config::Config;

/// Joins the cluster, if the daemon is configured to be in one.
///
/// # Errors
/// If there is a node of this name, no slot is left, or etcd is away.
pub async fn join(config: &Config) -> anyhow::Result<Option<Members>> {
    if !config.cluster.is_shared() {
        return Ok(None);
    }
    let etcd = Etcd::new(&config.cluster.etcd()).context("cluster")?;
    let identity = Identity {
        name: config.cluster.name(),
        addresses: config.ike.listen.clone(),
        mesh: None,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let members = Members::join(etcd, identity).await.context("cluster")?;
    let own = members.own();
    tracing::info!(node = own.name, slot = own.slot, "joined the cluster");
    Ok(Some(members))
}

/// Which peers the actors are to begin with.
pub fn homes(members: &Members) -> Homes {
    let (moved_in, moved) = watch::channel(());
    let placement = members.placement();
    let mut changes = placement.clone();
    tokio::spawn(async move { while changes.changed().await.is_ok() && moved_in.send(()).is_ok() {} });
    Homes::new(Rule { placement, held: members.held() }, moved)
}

struct Rule {
    placement: watch::Receiver<Arc<Placement>>,
    held: Held,
}

impl HomeRule for Rule {
    fn elsewhere(&self, uid: u64) -> Option<String> {
        let placement = self.placement.borrow();
        placement.begins(uid).filter(|node| node.name != placement.own).map(|node| node.name.clone())
    }

    fn is_guest(&self, uid: u64) -> bool {
        !self.placement.borrow().is_home(uid)
    }

    fn hold(&self, uid: u64, held: bool) {
        self.held.hold(uid, held);
    }
}
