//! That this node was drained: the others are told, so that no peer is at home with it and nobody gives it a slot.

use std::sync::Arc;
use std::time::Duration;

use latest::Follow as _;
use tokio::sync::watch;

use super::{Node, join};
use crate::etcd::Etcd;

/// Before what etcd did not take is told again.
const PAUSE: Duration = Duration::from_millis(500);

/// Whether this node was drained. It stays so for as long as its process runs.
#[derive(Clone, Debug)]
pub struct Drained(Arc<watch::Sender<bool>>);

impl Default for Drained {
    fn default() -> Self {
        Self(Arc::new(watch::channel(false).0))
    }
}

impl Drained {
    /// It is, from now on.
    pub fn set(&self) {
        self.0.send_if_modified(|drained| !std::mem::replace(drained, true));
    }
}

/// Tells the others, once it is so, and whenever the lease is another one: who takes a new one writes the node as it has joined.
pub(super) async fn publish(etcd: Etcd, node: Node, drained: Drained, mut lease: watch::Receiver<i64>) {
    if drained.0.subscribe().until(|drained| *drained).await.is_err() {
        return;
    }
    let node = Node { drained: true, ..node };
    loop {
        let current = lease.take_latest();
        match join::enter_again(&etcd, &node, current).await {
            // If the name is another's there is nothing to tell of this node.
            Ok(_) => {
                if lease.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "the others do not know yet that this node is drained");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}
