//! Which node begins with a peer.

use std::sync::Arc;

use actors::{HomeRule, Homes};
use cluster::{Held, Members, Placement};
use tokio::sync::watch;

/// Which peers the actors are to begin with.
pub(super) fn homes(members: &Members) -> Homes {
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
