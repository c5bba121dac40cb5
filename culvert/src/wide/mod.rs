//! The tunnels of all nodes of a cluster, for whoever asks one of them.
//!
//! [`Wide`] is what the services ask. A node that is alone answers by itself. One of several asks the others as well, by the gRPC API
//! that each serves them alone (`server/nodes.rs`): what comes in by that door is about the node itself, and is asked of nobody else.
//!
//! `ask.rs` is how others are asked, `merge.rs` what is made of several answers, `held.rs` what those are about, `reads.rs`, `lists.rs`,
//! `orders.rs` (where in `place.rs`), `terminate.rs`, `slots.rs`, `events.rs` and `follow.rs` what is asked.

mod ask;
mod events;
mod follow;
mod held;
mod lists;
mod memory;
mod merge;
mod orders;
mod place;
mod reads;
mod slots;
mod terminate;
mod whose;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use cluster::Placement;
use cluster::mesh::Incoming;
use latest::Latest as _;
use tokio::sync::watch;
use tonic::transport::{Channel, Endpoint};

use ask::Ways;
pub(crate) use ask::{BY, MAX_STREAMS};
pub use events::After;
pub(crate) use events::{LAST_EVENT, Watched};
pub(crate) use terminate::Meant;
pub(crate) use whose::is_of_another;

use crate::runtime::Runtime;
use lists::Lists;

/// The other nodes, as far as their tunnels are concerned.
pub trait Others: Send + Sync + 'static {
    /// Who is there, now and later; this node is among them.
    fn placement(&self) -> watch::Receiver<Arc<Placement>>;

    /// The other nodes by their names: those that are there as far as etcd knows, and those that have tunnels though they are not, as where a
    /// lease has run out. Those are heard, or own a slot.
    fn names(&self) -> BTreeSet<String>;

    /// Whether something was heard of a node late enough to ask it.
    fn hears(&self, node: &str) -> bool;

    /// A way to the API of a node, a connection of its own. The endpoint says how; where to, the name does.
    fn channel(&self, node: &str, endpoint: &Endpoint) -> Channel;

    /// Where the others ask this node, for the first who wants to know.
    fn incoming(&self) -> Option<Incoming>;
}

/// The tunnels of all nodes. Clones are the same.
#[derive(Clone)]
pub struct Wide(Arc<Inner>);

struct Inner {
    local: Arc<dyn Runtime>,
    others: Option<Arc<dyn Others>>,
    ways: Mutex<BTreeMap<String, Ways>>,
    lists: Lists,
}

/// What is known, and who could not be asked for more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Known<T> {
    /// What those know who answered.
    pub what: T,
    /// Names of the nodes that did not.
    pub away: Vec<String>,
}

impl Wide {
    /// The tunnels of this node, and of these others.
    pub fn among(local: Arc<dyn Runtime>, others: Option<Arc<dyn Others>>) -> Self {
        Self(Arc::new(Inner { local, others, ways: Mutex::default(), lists: Lists::default() }))
    }

    /// The tunnels of this node alone.
    pub fn alone(local: Arc<dyn Runtime>) -> Self {
        Self::among(local, None)
    }

    /// What is about this node alone.
    pub fn local(&self) -> &Arc<dyn Runtime> {
        &self.0.local
    }

    /// Where the others ask this node.
    pub(crate) fn incoming(&self) -> Option<Incoming> {
        self.0.others.as_ref()?.incoming()
    }

    /// Whether nobody else is asked: there is nobody else, or it is another node that asks.
    pub(crate) fn is_single(&self) -> bool {
        self.0.others.is_none()
    }

    /// The other nodes by their names, as [`Others::names`].
    pub(crate) fn names(&self) -> BTreeSet<String> {
        self.0.others.as_ref().map(|others| others.names()).unwrap_or_default()
    }

    /// Whether a node of the cluster is heard: this one always is.
    pub(crate) fn hears(&self, node: &str) -> bool {
        self.0.others.as_ref().is_none_or(|others| {
            let own = others.placement().latest().own == node;
            own || others.hears(node)
        })
    }
}

impl<R: Runtime> From<Arc<R>> for Wide {
    fn from(local: Arc<R>) -> Self {
        Self::alone(local)
    }
}

impl From<Arc<dyn Runtime>> for Wide {
    fn from(local: Arc<dyn Runtime>) -> Self {
        Self::alone(local)
    }
}
