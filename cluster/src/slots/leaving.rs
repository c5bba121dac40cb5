//! How a node gives away what it has: on an order, and at its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use latest::Latest as _;
use tokio::time::Instant;

use super::moving::Why;
use super::record::Slot;
use super::{Inner, Slots, moving, share};
use crate::task::carried_out;

/// How often a slot is offered by a node that leaves, at least: what etcd knows of it may change meanwhile, for its standby becomes ready. And as often
/// as there are others, all but one of which may leave as well.
pub(super) const DRAIN_TRIES: usize = 3;
/// How long a node that ends waits for what is under way, and once more to tell that its slots are nobody's: longer than etcd is waited for
/// once. Both together, and what comes before and between them (slots that change hands in up to 15 s, the goodbye to the peers), are less than
/// what a node that ends is given in a cluster (`shutdown.graceSeconds` of the chart, 60 s).
pub(super) const LAST_TURN: Duration = Duration::from_secs(12);
/// So long the slots of a node that leaves are waited for until what peers have begun in them has come to something, however many peers only
/// begin: a pod has half a minute to end in.
const SETTLED: Duration = Duration::from_secs(4);

const LEAVES: u8 = 1;
const ENDS: u8 = 2;

/// How much longer a node has slots. It only goes on, never back.
#[derive(Debug, Default)]
pub(super) struct Course(AtomicU8);

impl Course {
    /// It wants no more slots: it was drained, or ends.
    pub(super) fn leaves(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= LEAVES
    }

    /// It is about to end: it is no standby, and takes nothing over.
    pub(super) fn ends(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= ENDS
    }

    /// It ends at once.
    pub(super) fn end(&self) {
        self.go_on(ENDS);
    }

    fn go_on(&self, to: u8) {
        self.0.fetch_max(to, Ordering::Relaxed);
    }
}

impl Slots {
    /// Moves all slots of this node to others, and takes no more. Those that nobody takes stay, with the reason; those that nothing is in
    /// are nobody's from now on. It is carried out whether or not somebody waits for it. Where it ends before that, all that are left stay.
    pub async fn drain(&self) -> Vec<(u8, String)> {
        self.0.course.go_on(LEAVES);
        let inner = Arc::clone(&self.0);
        let stay = carried_out(async move { give_all(&inner, DRAIN_TRIES.max(inner.others())).await }).await;
        stay.unwrap_or_else(|| {
            let reason = "the order has come to an end; the log says why";
            self.mine().into_iter().map(|slot| (slot, reason.to_owned())).collect()
        })
    }

    /// This node is about to end: it takes nothing over from now on, and what has come since it was drained goes to others, for it may have
    /// been the only standby of a node that is gone. To be called while the tunnels are still there.
    pub async fn stop_taking(&self) {
        if self.0.course.ends() {
            return;
        }
        if tokio::time::timeout(LAST_TURN, self.take_last_turn()).await.is_err() {
            tracing::warn!("not all slots have changed hands while this node ends");
        }
        self.0.course.go_on(ENDS);
    }

    async fn take_last_turn(&self) {
        self.give_what_came().await;
        self.0.course.go_on(ENDS);
        if self.etcd_is_away() {
            return;
        }
        // What is being taken over at this moment has come then, or does not.
        drop(self.0.turn.lock().await);
        self.0.coming.until_none().await;
        self.give_what_came().await;
    }

    async fn give_what_came(&self) {
        // While etcd is away nothing changes hands.
        let came = || self.mine().into_iter().any(|slot| !share::is_empty(&self.0, slot));
        if !self.etcd_is_away() && came() {
            self.drain().await;
        }
    }

    /// Nothing is done for the slots of this node any more: they are nobody's. Who is not told of that in time learns it later.
    pub async fn leave(&self) {
        self.stop_taking().await;
        let left: Vec<Slot> = {
            let mut mine = self.0.mine();
            let slots = std::mem::take(&mut *mine).into_keys().filter_map(|number| self.0.slot(number));
            slots.filter(|slot| slot.owner == self.0.own).collect()
        };
        let told = async {
            for slot in left {
                if let Err(error) = slot.give_up(&self.0.etcd).await {
                    tracing::debug!(%error, slot = slot.number, "the others learn later that a slot is nobody's");
                }
            }
        };
        // One time for all of them: each call may take as long as etcd is waited for.
        if !self.etcd_is_away() && tokio::time::timeout(LAST_TURN, told).await.is_err() {
            tracing::debug!("the others learn later that the slots of this node are nobody's");
        }
    }
}

/// Gives away what a node that was drained has nevertheless, if there is somebody to take it. False if something was offered and stays: its tunnels
/// may have stood still meanwhile.
pub(super) async fn give_what_stayed(inner: &Arc<Inner>) -> bool {
    let first = inner.mine().keys().next().copied();
    let first = first.filter(|_| !inner.course.ends() && !inner.etcd_is_away.latest());
    if first.is_none_or(|first| inner.heir(first.into()).is_none()) {
        return true;
    }
    let stay = give_all(inner, 1).await;
    for (slot, reason) in &stay {
        tracing::debug!(slot, reason, "a slot stays at a node that was drained, for now");
    }
    stay.is_empty()
}

async fn give_all(inner: &Arc<Inner>, tries: usize) -> Vec<(u8, String)> {
    let mut stay = Vec::new();
    let mine: Vec<u8> = inner.mine().keys().copied().collect();
    let since = Instant::now();
    for slot in mine {
        // Also of one that is empty: peers may have just begun in it.
        if since.elapsed() < SETTLED {
            inner.host.settle(slot).await;
        }
        if share::is_empty(inner, slot) && share::give_up(inner, slot).await {
            continue;
        }
        let mut moved = Err(String::new());
        for _ in 0..tries {
            moved = match inner.heir(slot.into()) {
                Some(to) => {
                    let moved = moving::give(inner, slot, &to.node, Why::Leaves).await;
                    if moved.is_err() {
                        // It may leave as well: another one then, if there is one.
                        inner.is_unfit(&to.node);
                    }
                    moved
                }
                None => Err("there is no other node".to_owned()),
            };
            if moved.is_ok() {
                break;
            }
        }
        // It may have gone another way meanwhile.
        if let Err(reason) = moved
            && inner.mine().contains_key(&slot)
        {
            stay.push((slot, reason));
        }
    }
    stay
}
