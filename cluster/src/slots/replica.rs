//! The owner's side: what waits for a slot's standby, and what is told of it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use latest::Follow as _;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::Row;
use super::inner::AGAIN;
use super::record::{Changed, Slot};
use super::row::{Telling, cut};
use super::vault::TOO_LARGE;
use super::{Ask, Done, Inner, Kept};
use crate::task::of_node;

/// Calls that wait at most: all 10,000 tunnels of a node that say something at once, several times. Beyond it the standby is struck
/// out.
const MAX_WAITING: usize = 65_536;
/// Calls that are told together.
const TOGETHER: usize = 1_024;
/// A standby on the same network answers within a millisecond; one that does not within this is no help.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);
/// From one message to a standby to the next: what comes meanwhile is told together, for each message costs both nodes system calls
/// and changes of thread ("What it costs" in `docs/src/cluster.md`). What comes after a while in which there was nothing does not wait.
const PACE: Duration = Duration::from_millis(10);
/// How long a standby that does not answer is left its turn: as long as it takes to notice that nobody is heard, and some.
const YIELD: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_millis(800) };

/// From one try to find a standby for a slot that is larger than one keeps to the next, and twice as long each time: all of it is told each time.
const FIRST_REST: Duration = Duration::from_secs(10);
/// At most. Whoever was not refused for so long begins with the first again.
const LONGEST_REST: Duration = Duration::from_secs(600);

/// A slot of ours.
pub(super) struct Own {
    /// The revision of etcd with which it began to be ours. What is known from before is no news of it.
    pub(super) since: i64,
    pub(super) replica: Replica,
    /// When it came from another node: what is in it may not have begun here yet.
    pub(super) came: Option<Instant>,
    /// Since when nothing was in it, each time that was looked at.
    pub(super) empty: Option<Instant>,
    /// Somebody has ordered that it is here: it is moved by another order alone, or when this node goes.
    pub(super) ordered: bool,
    /// It was larger than a standby keeps.
    pub(super) rest: Option<Rest>,
}

/// How long a slot goes without a standby.
pub(super) struct Rest {
    pause: Duration,
    until: Instant,
}

impl Own {
    /// One without a standby.
    pub(super) const fn alone(slot: &Slot) -> Self {
        Self {
            since: slot.revision,
            replica: Replica::Alone,
            came: None,
            empty: None,
            ordered: false,
            rest: None,
        }
    }

    /// Whether no standby is looked for, as the slot was too large for one a while ago.
    pub(super) fn rests(&self) -> bool {
        self.rest.as_ref().is_some_and(|rest| Instant::now() < rest.until)
    }

    /// It is larger than a standby keeps: how long it goes without one, and whether that is to be told.
    fn is_too_large(&mut self) -> (Duration, bool) {
        let now = Instant::now();
        let before = self.rest.as_ref().filter(|rest| now < rest.until + LONGEST_REST).map(|rest| rest.pause);
        let pause = before.map_or(FIRST_REST, |pause| (pause * 2).min(LONGEST_REST));
        self.rest = Some(Rest { pause, until: now + pause });
        (pause, before.is_none())
    }

    /// One that comes from another node now.
    pub(super) fn come(slot: &Slot) -> Self {
        Self { came: Some(Instant::now()), ..Self::alone(slot) }
    }
}

/// Who is told of a slot of ours.
pub(super) enum Replica {
    /// Nobody is told.
    Alone,
    /// Somebody is.
    Told(Told),
}

pub(super) struct Told {
    /// In which term.
    pub(super) term: u64,
    queue: mpsc::UnboundedSender<Item>,
    waiting: Arc<AtomicUsize>,
    failed: watch::Sender<bool>,
    /// What depends on a row waits until the standby knows it.
    gated: bool,
}

struct Item {
    rows: Vec<Row>,
    done: Option<Done>,
}

impl Replica {
    pub(super) const fn is_alone(&self) -> bool {
        matches!(self, Self::Alone)
    }

    /// In which term somebody is told, if whoever tells it has not ended.
    pub(super) fn term(&self) -> Option<u64> {
        match self {
            Self::Told(told) if !told.queue.is_closed() => Some(told.term),
            Self::Alone | Self::Told(_) => None,
        }
    }

    pub(super) fn waiting(&self) -> usize {
        match self {
            Self::Alone => 0,
            Self::Told(told) => told.waiting.load(Ordering::Relaxed),
        }
    }

    /// The standby is of no use any more.
    pub(super) fn fail(&self) {
        if let Self::Told(told) = self {
            told.failed.send_replace(true);
        }
    }

    /// From now on the standby has to know.
    fn gate(&mut self) {
        if let Self::Told(told) = self {
            told.gated = true;
        }
    }

    /// What has become of it, if that is known at once.
    pub(super) fn put(&self, rows: Vec<Row>, done: Done) -> Option<(Kept, Done)> {
        let Self::Told(told) = self else { return Some((Kept::Free, done)) };
        if told.waiting.load(Ordering::Relaxed) >= MAX_WAITING {
            told.failed.send_replace(true);
            // Whoever waits for a standby that is struck out repeats itself.
            return Some((if told.gated { Kept::Lost } else { Kept::Free }, done));
        }
        told.waiting.fetch_add(1, Ordering::Relaxed);
        let (item, at_once) = if told.gated {
            (Item { rows, done: Some(done) }, None)
        } else {
            (Item { rows, done: None }, Some((Kept::Free, done)))
        };
        // Without a receiver the slot is not ours any more, and this is dropped with its sender.
        let _ = told.queue.send(item);
        at_once
    }
}

/// Begins to tell the standby of `record`, of which etcd knows already.
pub(super) fn begin(inner: &Arc<Inner>, record: Slot) {
    let (queue, items) = mpsc::unbounded_channel();
    let (failed, failing) = watch::channel(false);
    let waiting = Arc::new(AtomicUsize::new(0));
    let term = record.term;
    let told = Told { term, queue, waiting: Arc::clone(&waiting), failed, gated: false };
    let since = match inner.mine().get_mut(&record.number) {
        Some(own) => {
            own.replica = Replica::Told(told);
            own.since
        }
        None => return,
    };
    let feed = Feed { record: record.clone(), since, failing, waiting };
    inner.wire.spawn(Box::pin(of_node(feed.run(Arc::clone(inner), items))));
    tokio::spawn(of_node(fill(Arc::clone(inner), record)));
}

/// Tells a standby of everything, and makes it ready.
async fn fill(inner: Arc<Inner>, record: Slot) {
    inner.host.resync(record.number).await;
    // What is told from here on, others only learn when the standby knows it: before etcd says that it could take over.
    let of_this_term = match inner.mine().get_mut(&record.number) {
        Some(own) if own.replica.term() == Some(record.term) => {
            own.replica.gate();
            true
        }
        _ => false,
    };
    if !of_this_term {
        return;
    }
    let (done, known) = oneshot::channel();
    let done = Box::new(move |kept| {
        // Whoever asked may be gone.
        let _ = done.send(kept);
    });
    inner.put(record.number, Vec::new(), done);
    if known.await != Ok(Kept::Known) {
        return;
    }
    let mut now = record.clone();
    loop {
        match inner.change(&now.made_ready()).await {
            Ok(Changed::Done(slot)) => {
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
                return fail(&inner, &record);
            }
        }
    }
}

/// The standby of this term is of no use any more.
fn fail(inner: &Inner, record: &Slot) {
    let mine = inner.mine();
    if let Some(own) = mine.get(&record.number).filter(|own| own.replica.term() == Some(record.term)) {
        own.replica.fail();
    }
}

/// Tells a standby for as long as it answers.
struct Feed {
    record: Slot,
    /// With which revision the slot began to be ours: if it has been another's meanwhile, what waits here is of a life that is over.
    since: i64,
    failing: watch::Receiver<bool>,
    waiting: Arc<AtomicUsize>,
}

impl Feed {
    async fn run(self, inner: Arc<Inner>, mut items: mpsc::UnboundedReceiver<Item>) {
        let Self { record, since, mut failing, waiting } = self;
        let (mut some, mut untold) = (Vec::new(), Vec::new());
        let mut next = Instant::now();
        loop {
            let gathered = async {
                tokio::time::sleep_until(next).await;
                items.recv_many(&mut some, TOGETHER).await
            };
            let got = tokio::select! {
                // What a simulation does depends on its seed alone.
                biased;
                // First: where there is always something to tell, nothing else would ever be looked at, and rows were dropped.
                // An error says that the slot is not ours any more.
                failed = failing.until(|failed| *failed) => {
                    if failed.is_err() {
                        return;
                    }
                    break;
                }
                got = gathered => got,
            };
            if got == 0 {
                // The slot is not ours any more, or has another standby.
                return;
            }
            next = Instant::now() + PACE;
            waiting.fetch_sub(got, Ordering::Relaxed);
            let (mut rows, mut told) = (Vec::new(), Vec::new());
            for item in some.drain(..) {
                rows.extend(item.rows);
                told.extend(item.done);
            }
            if let Err(reason) = tell(&inner, &record, rows).await {
                refused(&inner, &record, &reason);
                untold = told;
                break;
            }
            told.into_iter().for_each(|done| done(Kept::Known));
        }
        if record.standby.as_ref().is_some_and(|standby| inner.is_there(standby)) {
            // If it is this node that the others do not hear, the standby is about to take over, and is to have its turn.
            tokio::time::sleep(YIELD).await;
        }
        let kept = without_rows(let_go(&inner, &record, since), &mut items, &mut untold).await;
        // In the order in which they came.
        items.close();
        while let Ok(item) = items.try_recv() {
            untold.extend(item.done);
        }
        untold.into_iter().for_each(|done| done(kept));
        inner.wake.notify_one();
    }
}

/// Waits for the end of a standby. While etcd is away that may take long, and rows that are put meanwhile are told to nobody any more: they
/// are not kept, for pairs that carry packets have new ones many times a second.
async fn without_rows(
    end: impl Future<Output = Kept>,
    items: &mut mpsc::UnboundedReceiver<Item>,
    untold: &mut Vec<Done>,
) -> Kept {
    let mut end = pin!(end);
    loop {
        tokio::select! {
            biased;
            kept = &mut end => return kept,
            Some(item) = items.recv() => untold.extend(item.done),
        }
    }
}

/// A standby has not taken what it was told.
fn refused(inner: &Inner, record: &Slot, reason: &str) {
    let standby = record.standby.as_ref().map_or("", |standby| standby.node.as_str());
    if !reason.ends_with(TOO_LARGE) {
        tracing::warn!(slot = record.number, standby, reason, "the standby does not keep up");
        return inner.is_unfit(standby);
    }
    // Any other would refuse it as well.
    let rest = inner.mine().get_mut(&record.number).map(Own::is_too_large);
    if let Some((pause, true)) = rest {
        tracing::warn!(slot = record.number, standby, reason, again = ?pause, "a slot goes without a standby");
    }
}

async fn tell(inner: &Inner, record: &Slot, rows: Vec<Row>) -> Result<(), String> {
    let Some(standby) = &record.standby else { return Err("there is none".to_owned()) };
    let instance = &standby.instance;
    let telling = Telling { slot: record.number, term: record.term, ordered: false, instance };
    for rows in cut(&rows) {
        let body = telling.write(rows, false, Instant::now().into_std());
        inner.wire.ask(&standby.node, Ask::Put, body, PATIENCE).await?;
    }
    Ok(())
}

/// Strikes a standby out that does not answer: as long as etcd says that it may take over, nothing is done that it does not know.
async fn let_go(inner: &Inner, record: &Slot, since: i64) -> Kept {
    let mut now = record.clone();
    let mut told = false;
    loop {
        // One that is on its way to another node is that one's to write.
        if inner.mine().get(&record.number).is_none_or(|own| own.replica.term() != Some(record.term)) {
            break;
        }
        match inner.change(&now.with_standby(None)).await {
            Ok(Changed::Done(_)) => break,
            Ok(Changed::Other(Some(slot))) if slot.owner != inner.own => return Kept::Lost,
            // It has another one already, or none.
            Ok(Changed::Other(Some(slot))) if slot.term != record.term => break,
            Ok(Changed::Other(Some(slot))) => now = slot,
            // Nobody knows who has had it meanwhile.
            Ok(Changed::Other(None)) => return Kept::Lost,
            Err(error) => {
                if !std::mem::replace(&mut told, true) {
                    tracing::warn!(%error, slot = record.number, "neither the standby nor etcd does its part: nothing is sent");
                }
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
    let mut mine = inner.mine();
    match mine.get_mut(&record.number).filter(|own| own.since == since) {
        Some(own) => {
            if own.replica.term() == Some(record.term) {
                own.replica = Replica::Alone;
            }
            Kept::Free
        }
        None => Kept::Lost,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn rows_are_not_kept_for_who_is_told_nothing_any_more() {
        let (queue, mut items) = mpsc::unbounded_channel();
        let mut untold: Vec<Done> = Vec::new();
        let etcd_is_back = async {
            for _ in 0..100 {
                let _ = queue.send(Item { rows: Vec::new(), done: Some(Box::new(|_| ())) });
                tokio::task::yield_now().await;
            }
            Kept::Free
        };
        assert_eq!(without_rows(etcd_is_back, &mut items, &mut untold).await, Kept::Free);
        assert!(items.len() <= 1, "{} wait", items.len());
        assert_eq!(untold.len() + items.len(), 100, "whoever waits for them is answered");
    }
}
