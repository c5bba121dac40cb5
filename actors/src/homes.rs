//! Which node of a cluster begins with which peer.
//!
//! Every node has an actor for each peer and answers whoever comes to it. Only one may begin by itself, or a peer would get a tunnel
//! from each: the node that the peer is at home with.

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Says where peers are at home, now and when nodes have come or gone.
#[derive(Clone, Default)]
pub struct Homes(Option<Inner>);

type Elsewhere = dyn Fn(u64) -> Option<String> + Send + Sync;

#[derive(Clone)]
struct Inner {
    elsewhere: Arc<Elsewhere>,
    moved: watch::Receiver<()>,
}

impl Homes {
    /// `elsewhere` names the node that a peer of this uid is at home with, if that is another one; `moved` tells that it may say
    /// something else now.
    pub fn new(
        elsewhere: impl Fn(u64) -> Option<String> + Send + Sync + 'static,
        moved: watch::Receiver<()>,
    ) -> Self {
        Self(Some(Inner { elsewhere: Arc::new(elsewhere), moved }))
    }

    /// The other node that the peer is at home with; `None` if that is this one.
    pub(crate) fn elsewhere(&self, uid: u64) -> Option<String> {
        (self.0.as_ref()?.elsewhere)(uid)
    }

    /// Tells when peers may have moved. `None` for a node that is alone.
    pub(crate) fn moved(&self) -> Option<watch::Receiver<()>> {
        self.0.as_ref().map(|inner| inner.moved.clone())
    }
}

impl fmt::Debug for Homes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Homes").field(&self.0.is_some()).finish()
    }
}
