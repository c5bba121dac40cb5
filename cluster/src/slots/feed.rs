//! Tells a slot's standby, for as long as it is that.
//!
//! What waits leaves when the standby of this term has it, or when etcd says that the term is over, and by nothing else. So a standby that has
//! not answered is told again under the same term, for as long as etcd does not say that it is struck out: either may come first, and it does not
//! matter which. If the strike-out is made all the same, late or by a question that nobody waits for any more, nobody takes over by this term;
//! if the standby takes over, it goes on with all that it has acknowledged.

use std::collections::VecDeque;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use latest::Latest as _;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::inner::AGAIN;
use super::pending::{Item, Pending};
use super::record::{Changed, Process, Slot};
use super::replica::{Own, PATIENCE, Replica, Wish};
use super::row::{Telling, cut};
use super::vault::{MAX_OCTETS, TOO_LARGE};
use super::{Ask, Inner, Kept, Later, Row};
use crate::etcd::EtcdError;

/// Calls that are told together.
const TOGETHER: usize = 1_024;
/// From one message to a standby to the next: what comes meanwhile is told together, for each message costs both nodes system calls
/// and changes of thread ("What it costs" in `docs/src/cluster.md`). What comes after a while in which there was nothing does not wait.
const PACE: Duration = Duration::from_millis(10);
/// Before a standby that has not taken something is told it again, and twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// At most: what waits is to leave soon once a network is mended.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Tells in a row that fail before a standby that has not taken all yet is given up: nothing waits for it, and what it has taken need not be told
/// again. With the pauses in between some two seconds, of one that refuses at once a third of one.
const TRIES: u32 = 4;
/// So often a standby may fail within [`STEADY`], whatever it answers in between, as long as another could take its place. Each time all that is said
/// waits for up to [`PATIENCE`] and a pause. A node that is late for a moment, or loses a segment of TCP, fails once or twice.
const FAILURES: usize = 5;
const STEADY: Duration = Duration::from_secs(10);
/// How long a standby that does not answer is left its turn: as long as it takes to notice that nobody is heard, and some.
const YIELD: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_millis(800) };

/// What came of telling, with the rows that were told.
type Told = (Vec<Row>, Result<(), String>);

pub(super) struct Feed {
    pub(super) inner: Arc<Inner>,
    /// As etcd knew of it last.
    pub(super) record: Slot,
    /// With which revision the slot began to be ours: if it has been another's meanwhile, what waits here is of a life that is over.
    pub(super) since: i64,
    pub(super) wish: watch::Receiver<Wish>,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) pending: Pending,
    /// What is under way; its rows are with the question.
    pub(super) told: Item,
    /// The number of the last of them.
    pub(super) batch: u64,
    /// The standby has acknowledged everything: from then on etcd may have been told that it could take over.
    pub(super) whole: bool,
    pub(super) trouble: Trouble,
    /// Before it nothing is told.
    pub(super) next: Instant,
}

/// That a standby does not do its part.
#[derive(Default)]
pub(super) struct Trouble {
    /// It has not taken what it was told last.
    failing: bool,
    /// So often in a row.
    tries: u32,
    /// When it began to fail, the last [`FAILURES`] times.
    failed: VecDeque<Instant>,
    /// It keeps nothing of the slot any more, or not all of what waits: it is told nothing.
    hopeless: bool,
    /// Since when it is left its turn.
    since: Option<Instant>,
    /// Before it is told again.
    pause: Duration,
    /// Before it etcd is not asked again.
    strike: Option<Instant>,
    /// That etcd does not answer either is logged.
    logged: bool,
}

impl Feed {
    pub(super) async fn run(mut self, mut items: mpsc::UnboundedReceiver<Item>) {
        let mut some = Vec::new();
        let mut telling: Option<Later<'static, Told>> = None;
        let mut striking: Option<Later<'static, Result<Changed, EtcdError>>> = None;
        loop {
            let (wish, now) = (self.wish.latest(), Instant::now());
            let failing = self.trouble.failing && (self.trouble.tries >= TRIES || !self.is_patient());
            let active =
                failing || self.trouble.hopeless || wish.unwanted || wish.overrun || self.is_unsteady(now);
            if wish.overrun && !self.whole {
                self.refused("more waits for it than may");
            }
            if wish.over || (active && !self.whole) {
                // Etcd says so, or was never told that the standby could take over.
                return self.end(items, Kept::Free);
            }
            self.trouble.since = active.then(|| self.trouble.since.unwrap_or(now));
            let ready = !self.pending.is_empty() && telling.is_none() && !self.trouble.hopeless;
            if ready && now >= self.next {
                telling = Some(self.tell(now));
            }
            let strike = active.then(|| self.strikes_at(wish, now));
            if strike.is_none() {
                // It may be made all the same: etcd says that the term is over then.
                striking = None;
            }
            if striking.is_none() && strike.is_some_and(|at| now >= at) {
                if !self.is_ours() {
                    // One that is on its way to another node is that one's to write.
                    return;
                }
                striking = Some(strike_out(Arc::clone(&self.inner), self.record.clone()));
            }
            let tells = (ready && telling.is_none()).then_some(self.next);
            let wakes = tells.into_iter().chain(strike.filter(|_| striking.is_none())).min();
            tokio::select! {
                // What a simulation does depends on its seed alone.
                biased;
                changed = self.wish.changed() => {
                    if changed.is_err() {
                        // The slot is not ours any more, or has another standby.
                        return;
                    }
                }
                (rows, answer) = outcome(&mut telling) => self.answered(rows, answer),
                made = outcome(&mut striking) => {
                    if let Some(kept) = self.struck(made) {
                        return self.end(items, kept);
                    }
                }
                got = items.recv_many(&mut some, TOGETHER) => {
                    if got == 0 {
                        return;
                    }
                    self.add(&mut some);
                }
                () = at(wakes) => {}
            }
        }
    }

    fn add(&mut self, some: &mut Vec<Item>) {
        some.drain(..).for_each(|item| self.pending.add(item));
        if self.pending.octets() > MAX_OCTETS && !self.trouble.hopeless {
            self.trouble.hopeless = true;
            self.refused(&format!("slot {}: more than {MAX_OCTETS} {TOO_LARGE}", self.record.number));
        }
        if self.trouble.hopeless {
            self.pending.forget_rows();
        }
    }

    fn is_ours(&self) -> bool {
        let mine = self.inner.mine();
        mine.get(&self.record.number).is_some_and(|own| own.replica.term() == Some(self.record.term))
    }

    /// Whether nothing waits for the standby yet.
    fn is_patient(&self) -> bool {
        let gated = || self.inner.mine().get(&self.record.number).is_some_and(|own| own.replica.is_gated());
        !self.whole && !gated()
    }

    /// Whether the standby has failed so often of late, though it answers in between, that another one is to have the slot, and there is one.
    fn is_unsteady(&self, now: Instant) -> bool {
        let failed = &self.trouble.failed;
        let often = failed.len() >= FAILURES && failed.front().is_some_and(|first| now < *first + STEADY);
        let standby = self.record.standby.as_ref().filter(|_| self.whole && often);
        standby.is_some_and(|standby| self.inner.replacement(self.record.number, standby).is_some())
    }

    fn tell(&mut self, now: Instant) -> Later<'static, Told> {
        self.next = now + PACE;
        self.batch += 1;
        self.told = self.pending.take(TOGETHER);
        let rows = std::mem::take(&mut self.told.rows);
        Box::pin(tell(Arc::clone(&self.inner), self.record.clone(), self.batch, rows))
    }

    fn answered(&mut self, rows: Vec<Row>, answer: Result<(), String>) {
        let mut told = std::mem::take(&mut self.told);
        let Err(reason) = answer else {
            self.trouble.tries = 0;
            if std::mem::take(&mut self.trouble.failing) && self.whole {
                tracing::info!(slot = self.record.number, "the standby keeps up again");
                self.trouble.logged = false;
            }
            self.trouble.pause = Duration::ZERO;
            self.waiting.fetch_sub(told.calls, Ordering::Relaxed);
            // Before whoever waits for it may tell etcd.
            self.whole |= told.whole;
            return told.answer(Kept::Known);
        };
        told.rows = rows;
        self.pending.put_back(told);
        let now = Instant::now();
        let is_too_large = reason.ends_with(TOO_LARGE);
        self.trouble.tries = self.trouble.tries.saturating_add(1);
        let first = !std::mem::replace(&mut self.trouble.failing, true);
        if first && self.whole {
            self.trouble.failed.push_back(now);
            if self.trouble.failed.len() > FAILURES {
                self.trouble.failed.pop_front();
            }
        }
        let gives_up = if self.is_patient() { is_too_large || self.trouble.tries == TRIES } else { first };
        if gives_up {
            self.refused(&reason);
        }
        if is_too_large {
            // Nothing of this term is taken there any more.
            self.trouble.hopeless = true;
            self.pending.forget_rows();
        }
        self.trouble.pause = (self.trouble.pause * 2).clamp(FIRST_PAUSE, LONGEST_PAUSE);
        self.next = now + self.trouble.pause;
    }

    /// The standby has not taken what it was told.
    fn refused(&self, reason: &str) {
        let (inner, slot) = (&self.inner, self.record.number);
        let Some(standby) = &self.record.standby else { return };
        let node = standby.node.as_str();
        let rest = |of| inner.mine().get_mut(&slot).map(|own: &mut Own| own.rests.refused(of));
        if reason.ends_with(TOO_LARGE) {
            // Any other would refuse it as well.
            if let Some((again, true)) = rest(None) {
                tracing::warn!(slot, standby = node, reason, ?again, "a slot goes without a standby");
            }
        } else if self.whole {
            tracing::warn!(slot, standby = node, reason, "the standby does not keep up");
        } else {
            inner.is_unfit(node);
            if let Some((again, first)) = rest(Some(standby.clone())) {
                if first {
                    tracing::warn!(
                        slot,
                        standby = node,
                        reason,
                        ?again,
                        "the standby does not take the slot"
                    );
                } else {
                    tracing::debug!(
                        slot,
                        standby = node,
                        reason,
                        ?again,
                        "the standby does not take the slot"
                    );
                }
            }
        }
    }

    /// Another one is to be the standby.
    fn give_way(&self, standby: &Process) {
        let (slot, node) = (self.record.number, standby.node.as_str());
        tracing::warn!(slot, standby = node, "the standby fails again and again: another one is asked");
        if let Some(own) = self.inner.mine().get_mut(&slot) {
            own.rests.is_unsteady(standby.clone());
        }
    }

    /// From when on etcd is asked to strike the standby out.
    fn strikes_at(&self, wish: Wish, now: Instant) -> Instant {
        let since = self.trouble.since.unwrap_or(now);
        // If it is this node that the others do not hear, the standby is about to take over, and is to have its turn.
        let standby = self.record.standby.as_ref();
        let may_take_over = standby.is_some_and(|standby| self.inner.is_there(standby));
        let yields = may_take_over && !self.trouble.hopeless && !wish.overrun;
        let turn = if yields { since + YIELD } else { since };
        self.trouble.strike.map_or(turn, |again| again.max(turn))
    }

    /// What etcd has made of striking the standby out: what has become of all that waits, if that is known by it.
    fn struck(&mut self, made: Result<Changed, EtcdError>) -> Option<Kept> {
        self.trouble.strike = None;
        match made {
            Ok(Changed::Done(_)) => {
                let is_unsteady = self.is_unsteady(Instant::now());
                let is_no_help = is_unsteady || self.trouble.failing || self.wish.latest().overrun;
                let standby = self.record.standby.as_ref().filter(|_| is_no_help && !self.trouble.hopeless);
                standby.into_iter().for_each(|standby| self.inner.is_unfit(&standby.node));
                if let (true, Some(standby)) = (is_unsteady, standby) {
                    self.give_way(standby);
                }
                Some(Kept::Free)
            }
            Ok(Changed::Other(Some(slot))) if slot.owner != self.inner.own => Some(Kept::Lost),
            // It has another one already, or none.
            Ok(Changed::Other(Some(slot))) if slot.term != self.record.term => Some(Kept::Free),
            Ok(Changed::Other(Some(slot))) => {
                self.record = slot;
                None
            }
            // Nobody knows who has had it meanwhile.
            Ok(Changed::Other(None)) => Some(Kept::Lost),
            Err(error) => {
                if !std::mem::replace(&mut self.trouble.logged, true) {
                    tracing::warn!(%error, slot = self.record.number, "etcd does not strike a standby out: until it does, or the standby keeps up, nothing is sent");
                }
                self.trouble.strike = Some(Instant::now() + AGAIN);
                None
            }
        }
    }

    /// Nobody is told any more.
    fn end(self, mut items: mpsc::UnboundedReceiver<Item>, kept: Kept) {
        let kept = {
            let mut mine = self.inner.mine();
            match mine.get_mut(&self.record.number).filter(|own| own.since == self.since) {
                Some(own) => {
                    // Of what is another's nothing is said, also before that is put away.
                    if kept != Kept::Lost && own.replica.term() == Some(self.record.term) {
                        own.replica = Replica::Alone;
                    }
                    kept
                }
                None => Kept::Lost,
            }
        };
        // In the order in which they came.
        self.told.answer(kept);
        self.pending.all().answer(kept);
        items.close();
        while let Ok(item) = items.try_recv() {
            item.answer(kept);
        }
        self.inner.wake.notify_one();
    }
}

/// What comes of something, if it is under way.
async fn outcome<T>(of: &mut Option<Later<'static, T>>) -> T {
    let Some(under_way) = of else { return pending().await };
    let outcome = under_way.await;
    *of = None;
    outcome
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => pending().await,
    }
}

fn strike_out(inner: Arc<Inner>, record: Slot) -> Later<'static, Result<Changed, EtcdError>> {
    Box::pin(async move { inner.change(&record.with_standby(None)).await })
}

async fn tell(inner: Arc<Inner>, record: Slot, batch: u64, rows: Vec<Row>) -> Told {
    let told = tell_rows(&inner, &record, batch, &rows).await;
    (rows, told)
}

async fn tell_rows(inner: &Inner, record: &Slot, batch: u64, rows: &[Row]) -> Result<(), String> {
    let Some(standby) = &record.standby else { return Err("there is none".to_owned()) };
    let (instance, messages) = (standby.instance.as_slice(), cut(rows));
    let count = messages.len();
    for (part, rows) in (0..).zip(messages) {
        let telling =
            Telling { slot: record.number, term: record.term, ordered: false, instance, batch, part };
        let last = usize::try_from(part).is_ok_and(|part| part + 1 == count);
        let body = telling.write(rows, last, Instant::now().into_std());
        inner.wire.ask(&standby.node, Ask::Put, body, PATIENCE).await?;
    }
    Ok(())
}
