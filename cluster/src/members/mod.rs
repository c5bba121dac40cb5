//! Which nodes there are, and which of them a peer is at home with.
//!
//! | key, after the prefix | what |
//! |---|---|
//! | `nodes/NAME` | a node that is there: [`Node`] |
//! | `nodes/NAME/held` | peers that it has a connection with ([`Held`]) |
//!
//! All are held by a lease of etcd, [`TTL`] long, that the node keeps alive: a node that is gone is gone from there. A node that
//! finds its lease lost, having been paused or cut off, takes a new one; if its name is another's by now it has no
//! business any more and ends ([`Members::lost`]), as it does where etcd has lost what it knew. While etcd is away nothing changes. A node that joins takes a slot as well, which is
//! no part of its lease: see `slots`.

mod compact;
mod drained;
mod held;
mod join;
mod keep;
mod placement;
#[cfg(test)]
mod tests;
mod uids;

use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use latest::Latest as _;
use prost::Message;
use tokio::sync::watch;

pub use drained::Drained;
pub use held::Held;
#[cfg(feature = "scale")]
pub(crate) use held::{OCTETS_PER_SECOND as HELD_OCTETS_PER_SECOND, TOGETHER as HELD_TOGETHER};
use join::Entered;
pub use placement::Placement;
pub use uids::Uids;

use crate::etcd::mirror::Known;
use crate::etcd::{Etcd, EtcdError};
use crate::slots::Process;
use crate::task::{of_node, unending};

/// How long a node may be silent before the others take it for gone. An etcd that elects a leader keeps leases alive meanwhile.
pub(crate) const TTL: Duration = Duration::from_secs(5);
/// How long a node that joins waits for the others to see it, and to say with which of its peers they have a connection.
const SETTLE: Duration = Duration::from_secs(1);
/// Slots: 6 bits of the SPI, of which 0 is not used.
pub const SLOTS: std::ops::RangeInclusive<u8> = 1..=63;

/// A node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// The slot with which it has begun; 0 if none was free.
    pub slot: u8,
    /// Where it receives IKE and ESP.
    pub addresses: Vec<IpAddr>,
    /// Version of `culvertd`.
    pub version: String,
    /// When it joined.
    pub since: SystemTime,
    /// Where the other nodes reach it, if it has a way between nodes.
    pub mesh: Option<SocketAddr>,
    /// Of the process alone: a node that was started again is another one.
    pub instance: Vec<u8>,
    /// It was drained: no peer is at home with it.
    pub drained: bool,
}

/// A node as it is stored.
#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(uint32, tag = "1")]
    slot: u32,
    #[prost(string, repeated, tag = "2")]
    addresses: Vec<String>,
    #[prost(string, tag = "3")]
    version: String,
    #[prost(message, optional, tag = "4")]
    since: Option<prost_types::Timestamp>,
    #[prost(bytes = "vec", tag = "5")]
    instance: Vec<u8>,
    #[prost(string, optional, tag = "6")]
    mesh: Option<String>,
    #[prost(bool, tag = "7")]
    drained: bool,
}

impl Node {
    /// Tells its processes apart: one that was started again has another.
    pub fn instance(&self) -> &[u8] {
        &self.instance
    }

    /// What it is called where a name would be too long: by what is passed on to it.
    pub fn number(&self) -> u32 {
        self.instance.first_chunk().map_or(0, |octets| u32::from_be_bytes(*octets))
    }

    /// This process of it.
    pub fn process(&self) -> Process {
        Process { node: self.name.clone(), instance: self.instance.clone() }
    }

    fn write(&self) -> Vec<u8> {
        let stored = Stored {
            slot: self.slot.into(),
            addresses: self.addresses.iter().map(ToString::to_string).collect(),
            version: self.version.clone(),
            since: Some(self.since.into()),
            instance: self.instance.clone(),
            mesh: self.mesh.map(|mesh| mesh.to_string()),
            drained: self.drained,
        };
        stored.encode_to_vec()
    }

    pub(crate) fn read(name: &str, value: &[u8]) -> Result<Self, EtcdError> {
        let corrupt = |reason: String| EtcdError::Corrupt { key: format!("nodes/{name}"), reason };
        let stored = Stored::decode(value).map_err(|error| corrupt(error.to_string()))?;
        let slot = u8::try_from(stored.slot).map_err(|error| corrupt(error.to_string()))?;
        let since = SystemTime::try_from(stored.since.unwrap_or_default());
        Ok(Self {
            name: name.to_owned(),
            slot,
            addresses: stored.addresses.iter().filter_map(|address| address.parse().ok()).collect(),
            version: stored.version,
            since: since.map_err(|error| corrupt(error.to_string()))?,
            mesh: stored.mesh.and_then(|mesh| mesh.parse().ok()),
            instance: stored.instance,
            drained: stored.drained,
        })
    }
}

/// Who a node says that it is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name among the others.
    pub name: String,
    /// Where it receives IKE and ESP.
    pub addresses: Vec<IpAddr>,
    /// Where the other nodes reach it, if it has a way between nodes.
    pub mesh: Option<SocketAddr>,
    /// Version of `culvertd`.
    pub version: String,
}

/// Why a node cannot join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is one of this name.
    #[error("node {0} is there already; each needs a name of its own")]
    Taken(String),
    /// As many as there are slots are there.
    #[error("{} nodes are there; a cluster has no more", SLOTS.count())]
    Full,
    /// etcd.
    #[error(transparent)]
    Etcd(#[from] EtcdError),
}

/// The place of this node among the others. It leaves when this is dropped and the lease has run out, or at once by
/// [`Members::leave`].
#[derive(Debug)]
pub struct Members {
    etcd: Etcd,
    own: Node,
    lease: watch::Receiver<i64>,
    placement: watch::Receiver<Arc<Placement>>,
    lost: watch::Receiver<Option<String>>,
    away: watch::Receiver<bool>,
    known: Known,
    held: Held,
    drained: Drained,
    tasks: tokio::task::JoinSet<()>,
}

impl Members {
    /// Joins the cluster: takes the name and a slot. To be called in a tokio runtime.
    ///
    /// # Errors
    /// [`JoinError`].
    pub async fn join(etcd: Etcd, identity: Identity) -> Result<Self, JoinError> {
        let Entered { node: own, lease, looked } = join::enter(&etcd, identity).await?;
        let (placement_in, placement) = watch::channel(Arc::new(looked.0.clone()));
        let (lease_in, lease) = watch::channel(lease);
        let (lost_in, lost) = watch::channel(None);
        let (away_in, away) = watch::channel(false);
        let mut tasks = tokio::task::JoinSet::new();
        let mut spawn = |what: &'static str, task: Pin<Box<dyn Future<Output = ()> + Send>>| {
            let lost = lost_in.clone();
            // Whoever ends by itself for a reason has said that before.
            let ended = move || {
                lost.send_if_modified(|lost| {
                    let is_news = lost.is_none();
                    lost.get_or_insert_with(|| format!("{what} any more: see the log"));
                    is_news
                });
            };
            tasks.spawn(of_node(unending(task, ended)));
        };
        let (held, drained) = (Held::default(), Drained::default());
        let known = Known::default();
        let (node, no_place) = (own.clone(), lost_in.clone());
        let kept = keep::keep_alive(etcd.clone(), node, lease_in, known.clone(), no_place, away_in);
        spawn("nobody keeps this node's place", Box::pin(kept));
        let ends = keep::end_with_etcd(etcd.clone(), lost_in.clone());
        spawn("nobody notices that etcd has lost what it knew", Box::pin(ends));
        let published = held::publish(etcd.clone(), own.name.clone(), held.clone(), lease.clone());
        spawn("nobody says with whom this node is connected", Box::pin(published));
        let published = drained::publish(etcd.clone(), own.clone(), drained.clone(), lease.clone());
        spawn("nobody says whether this node was drained", Box::pin(published));
        let compacts = compact::run(etcd.clone(), placement.clone(), compact::ROUND);
        spawn("nobody makes etcd forget what is old", Box::pin(compacts));
        let watched = keep::watch(etcd.clone(), looked, known.clone(), placement_in);
        spawn("nobody sees which nodes there are", Box::pin(watched));
        Ok(Self { etcd, own, lease, placement, lost, away, known, held, drained, tasks })
    }

    /// This node.
    pub fn own(&self) -> &Node {
        &self.own
    }

    pub(crate) fn etcd(&self) -> &Etcd {
        &self.etcd
    }

    /// Who is there, now and later.
    pub fn placement(&self) -> watch::Receiver<Arc<Placement>> {
        self.placement.clone()
    }

    /// Where it is noted with which peers there is a connection.
    pub fn held(&self) -> Held {
        self.held.clone()
    }

    /// Where it is noted that this node was drained.
    pub fn drained(&self) -> Drained {
        self.drained.clone()
    }

    /// Why this node has no place any more, once that is so: it is to end.
    pub fn lost(&self) -> watch::Receiver<Option<String>> {
        self.lost.clone()
    }

    /// Whether etcd has not answered the last sign of life, or takes no writes.
    pub(crate) fn etcd_is_away(&self) -> watch::Receiver<bool> {
        self.away.clone()
    }

    /// What is known of the keys of nodes.
    pub(crate) const fn known(&self) -> &Known {
        &self.known
    }

    /// Leaves, so that the others know at once.
    pub async fn leave(mut self) {
        self.tasks.abort_all();
        let lease = self.lease.latest();
        if self.away.latest() {
            // It would be waited for in vain.
            tracing::debug!("the others learn by the end of the lease that this node is gone");
            return;
        }
        if let Err(error) = self.etcd.revoke(lease).await {
            tracing::debug!(%error, "the others learn by the end of the lease that this node is gone");
        }
    }
}
