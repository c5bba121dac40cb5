//! How a node ends in which something has failed: as if it had been killed, for those tunnels that others can go on with.

use std::collections::BTreeSet;
use std::time::Duration;

use latest::Latest as _;

use super::Slots;

/// How long what has failed may take to put a slot away, and what is under way to come to its end: longer than a move takes, and no longer than
/// one waits for a node that is about to be started again.
const PATIENCE: Duration = Duration::from_secs(2);

impl Slots {
    /// This node ends, and not in order: it takes nothing over from now on, and does nothing more for the slots whose standby knows all of them.
    /// Neither that one nor anybody else is told, so it goes on with them once this node is not heard. Which ones they are. None where
    /// etcd has lost what it knew, for then nobody does.
    pub async fn abandon(&self) -> BTreeSet<u8> {
        let inner = &self.0;
        inner.course.end();
        if inner.etcd.went_back().latest().is_some() {
            return BTreeSet::new();
        }
        // What changes hands at this moment has done so then, unless etcd is away.
        let turn = tokio::time::timeout(PATIENCE, inner.turn.lock()).await;
        let left: BTreeSet<u8> = self.mine().into_iter().filter(|slot| self.is_protected(*slot)).collect();
        // Before anything is put away, so that nothing of it is told.
        inner.mine().retain(|slot, _| !left.contains(slot));
        let put_away = async {
            for slot in &left {
                inner.host.lose(*slot, None).await;
            }
        };
        if tokio::time::timeout(PATIENCE, put_away).await.is_err() {
            tracing::warn!("what has failed does not put its tunnels away");
        }
        drop(turn);
        left
    }
}
