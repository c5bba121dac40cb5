//! What etcd need not remember any more. It keeps each value that was ever written until somebody tells it not to, and takes no writes once it has
//! more than its quota, 2 GiB by default: three nodes whose connections come and go write that within hours (`held.rs`).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use latest::Latest as _;
use tokio::sync::watch;

use super::Placement;
use crate::etcd::{Etcd, EtcdError};

/// Between rounds.
pub(super) const ROUND: Duration = Duration::from_secs(60);
/// Rounds that a write is remembered for: five minutes, in which 63 nodes write no more than 1 GiB. Whoever has missed what is forgotten, such as a watch
/// that was away for longer, reads all keys anew.
const KEPT: usize = 5;

/// Makes etcd forget what is old, for as long as it is polled. Every node knows how far etcd was, and the first of those that are there
/// says so: that two of them may do it does no harm.
pub(super) async fn run(etcd: Etcd, placement: watch::Receiver<Arc<Placement>>, round: Duration) {
    let (mut before, mut last) = (VecDeque::new(), 0);
    loop {
        tokio::time::sleep(round).await;
        before.push_back(etcd.revision());
        if before.len() <= KEPT {
            continue;
        }
        let revision = before.pop_front().unwrap_or(0);
        let placement = placement.latest();
        let first = placement.nodes.iter().map(|node| &node.name).min();
        if revision == last || first != Some(&placement.own) {
            continue;
        }
        last = revision;
        match etcd.compact(revision).await {
            // Or it was told by another.
            Ok(()) | Err(EtcdError::Compacted(_)) => {}
            Err(error) => tracing::debug!(%error, revision, "etcd keeps what is old for another round"),
        }
    }
}
