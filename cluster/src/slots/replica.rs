//! The owner's side: who is told of a slot of ours, and what is put meanwhile. `feed.rs` tells it, `filling.rs` tells it everything first.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use super::filling::Taken;
use super::pending::Item;
use super::record::Slot;
use super::rest::Rests;
use super::{Done, Kept, Row};

/// Calls that wait for a standby at most: all 10,000 tunnels of a node that say something at once, several times. Beyond it the standby is struck
/// out.
const MAX_WAITING: usize = 65_536;
/// A standby on the same network answers within a millisecond; one that does not within this is no help.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);

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
    /// Who has refused it.
    pub(super) rests: Rests,
}

impl Own {
    /// One without a standby.
    pub(super) fn alone(slot: &Slot) -> Self {
        Self {
            since: slot.revision,
            replica: Replica::Alone,
            came: None,
            empty: None,
            ordered: false,
            rests: Rests::default(),
        }
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
    /// Somebody is told of everything first. Etcd does not say that he could take over, and nothing waits for him.
    Filling(Told),
    /// What depends on a row waits until the standby has it.
    Gated(Told),
}

pub(super) struct Told {
    /// In which term.
    term: u64,
    queue: mpsc::UnboundedSender<Item>,
    waiting: Arc<AtomicUsize>,
    wish: watch::Sender<Wish>,
}

/// What is known of a standby besides its answers.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Wish {
    /// It is not there any more, or another would be better.
    pub(super) unwanted: bool,
    /// More waits for it than may.
    pub(super) overrun: bool,
    /// Etcd says that its term is over, and that the slot is this node's.
    pub(super) over: bool,
}

/// The other ends of it, of what tells the standby.
pub(super) struct Ends {
    pub(super) items: mpsc::UnboundedReceiver<Item>,
    pub(super) waiting: Arc<AtomicUsize>,
    pub(super) wish: watch::Receiver<Wish>,
}

impl Replica {
    /// Somebody is told of everything from now on, in this term.
    pub(super) fn filling(term: u64) -> (Self, Ends) {
        let (queue, items) = mpsc::unbounded_channel();
        let (wish, wished) = watch::channel(Wish::default());
        let waiting = Arc::new(AtomicUsize::new(0));
        let told = Told { term, queue, waiting: Arc::clone(&waiting), wish };
        (Self::Filling(told), Ends { items, waiting, wish: wished })
    }

    const fn told(&self) -> Option<&Told> {
        match self {
            Self::Alone => None,
            Self::Filling(told) | Self::Gated(told) => Some(told),
        }
    }

    pub(super) const fn is_alone(&self) -> bool {
        matches!(self, Self::Alone)
    }

    pub(super) const fn is_gated(&self) -> bool {
        matches!(self, Self::Gated(_))
    }

    /// In which term somebody is told, if whoever tells it has not ended.
    pub(super) fn term(&self) -> Option<u64> {
        self.told().filter(|told| !told.queue.is_closed()).map(|told| told.term)
    }

    pub(super) fn waiting(&self) -> usize {
        self.told().map_or(0, |told| told.waiting.load(Ordering::Relaxed))
    }

    /// What is known of the standby of a term now.
    pub(super) fn know(&self, term: u64, over: bool, unwanted: bool) {
        let Some(told) = self.told().filter(|told| told.term == term) else { return };
        told.wish.send_if_modified(|wish| {
            let now = Wish { over: wish.over || over, unwanted, ..*wish };
            std::mem::replace(wish, now) != now
        });
    }

    /// From now on the standby has to know: it takes what it is told.
    pub(super) fn gate(&mut self, _: &Taken) {
        *self = match std::mem::replace(self, Self::Alone) {
            Self::Filling(told) => Self::Gated(told),
            other => other,
        };
    }

    /// `done` learns when the standby has all that was put until now, which is everything if it is said to be `whole`.
    pub(super) fn mark(&self, done: Done, whole: bool) {
        if let Some(told) = self.told() {
            told.put(Item { rows: Vec::new(), done: vec![done], calls: 1, whole });
        }
    }

    /// What has become of it, if that is known at once.
    pub(super) fn put(&self, rows: Vec<Row>, done: Done) -> Option<(Kept, Done)> {
        let (told, waits, at_once) = match self {
            Self::Alone => return Some((Kept::Free, done)),
            Self::Filling(told) => (told, Vec::new(), Some((Kept::Free, done))),
            Self::Gated(told) if told.is_overrun() => (told, Vec::new(), Some((Kept::Lost, done))),
            Self::Gated(told) => (told, vec![done], None),
        };
        // Whatever is said of it: a standby that went on without a row would not have what was told after it as it was.
        told.put(Item { rows, done: waits, calls: 1, whole: false });
        at_once
    }
}

impl Told {
    fn put(&self, item: Item) {
        self.waiting.fetch_add(item.calls, Ordering::Relaxed);
        // Without a receiver the slot is not ours any more, and this is dropped with its sender.
        let _ = self.queue.send(item);
    }

    /// Whether more waits than may: whoever waits for a standby that is struck out repeats itself.
    fn is_overrun(&self) -> bool {
        let overrun = self.waiting.load(Ordering::Relaxed) >= MAX_WAITING;
        if overrun {
            self.wish.send_if_modified(|wish| !std::mem::replace(&mut wish.overrun, true));
        }
        overrun
    }
}
