//! How a slot of ours gets a standby: it is told everything, and then etcd is told that it could take over.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::feed::{Feed, Trouble};
use super::inner::AGAIN;
use super::pending::{Item, Pending};
use super::record::{Changed, Slot};
use super::replica::Replica;
use super::{Inner, Kept};
use crate::task::of_node;

/// A standby has acknowledged what was told up to a moment.
pub(super) struct Taken(());

/// Begins to tell the standby of `record`, of which etcd knows already.
pub(super) fn begin(inner: &Arc<Inner>, record: Slot) {
    let (replica, ends) = Replica::filling(record.term);
    let since = match inner.mine().get_mut(&record.number) {
        Some(own) => {
            own.replica = replica;
            own.since
        }
        None => return,
    };
    let feed = Feed {
        inner: Arc::clone(inner),
        record: record.clone(),
        since,
        wish: ends.wish,
        waiting: ends.waiting,
        pending: Pending::default(),
        told: Item::default(),
        batch: 0,
        whole: false,
        trouble: Trouble::default(),
        next: Instant::now(),
    };
    inner.wire.spawn(Box::pin(of_node(feed.run(ends.items))));
    tokio::spawn(of_node(fill(Arc::clone(inner), record)));
}

/// Tells a standby of everything, and makes it ready.
async fn fill(inner: Arc<Inner>, record: Slot) {
    inner.host.resync(record.number).await;
    // Nothing waits for a standby that takes nothing: that could not take over, and etcd does not say that it could.
    let Some(taken) = taken(&inner, &record, false).await else { return };
    // What is told from here on, others only learn when the standby knows it: before etcd says that it could take over.
    if !of_this_term(&inner, &record, |replica| replica.gate(&taken)) {
        return;
    }
    if taken_as_whole(&inner, &record).await {
        make_ready(&inner, &record).await;
    }
}

async fn taken_as_whole(inner: &Inner, record: &Slot) -> bool {
    taken(inner, record, true).await.is_some()
}

/// Waits until the standby has all that was put until now.
async fn taken(inner: &Inner, record: &Slot, whole: bool) -> Option<Taken> {
    let (done, known) = oneshot::channel();
    let done = Box::new(move |kept| {
        // Whoever asked may be gone.
        let _ = done.send(kept);
    });
    if !of_this_term(inner, record, |replica| replica.mark(done, whole)) {
        return None;
    }
    (known.await == Ok(Kept::Known)).then_some(Taken(()))
}

/// Does something as long as somebody is told in this term: whether that is so.
fn of_this_term(inner: &Inner, record: &Slot, act: impl FnOnce(&mut Replica)) -> bool {
    let mut mine = inner.mine();
    let own = mine.get_mut(&record.number).filter(|own| own.replica.term() == Some(record.term));
    own.map(|own| act(&mut own.replica)).is_some()
}

/// Tells etcd that the standby could take over, for as long as that is so: it goes on being told also where etcd does not answer.
async fn make_ready(inner: &Arc<Inner>, record: &Slot) {
    let mut now = record.clone();
    while of_this_term(inner, record, |_| ()) {
        match inner.change(&now.made_ready()).await {
            Ok(Changed::Done(slot)) => {
                if let (Some(own), Some(standby)) = (inner.mine().get_mut(&slot.number), &slot.standby) {
                    own.rests.taken(standby);
                }
                let standby = slot.standby.as_ref().map_or("", |standby| standby.node.as_str());
                // It is to take over by this, and its watch of etcd may tell it nothing.
                inner.tell(standby, &slot);
                tracing::info!(slot = slot.number, standby, "the slot has a standby");
                return;
            }
            // Written anew as it was.
            Ok(Changed::Other(Some(slot))) if slot.owner == inner.own && slot.term == record.term => {
                now = slot
            }
            Ok(Changed::Other(_)) => return inner.wake.notify_one(),
            Err(error) => {
                tracing::debug!(%error, slot = record.number, "etcd is not told of a standby");
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}
