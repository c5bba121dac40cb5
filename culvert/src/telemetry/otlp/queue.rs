//! Where spans and records of logs wait to be sent. Putting one there is a few stores to memory, whatever becomes of the collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::mpsc;

use crate::telemetry::exports::{Exports, Lost, Signal};

/// Takes what is to be sent.
#[derive(Debug)]
pub(super) struct Queue<T> {
    to: mpsc::UnboundedSender<Vec<T>>,
    account: Account,
}

/// The other end.
pub(super) struct Waiting<T> {
    pub(super) from: mpsc::UnboundedReceiver<Vec<T>>,
    account: Account,
}

/// How many wait, which a channel of several at a time does not know.
#[derive(Clone, Debug)]
struct Account {
    signal: Signal,
    limit: usize,
    waiting: Arc<AtomicUsize>,
    exports: Exports,
}

/// A queue for so many at most.
pub(super) fn queue<T>(signal: Signal, limit: usize, exports: Exports) -> (Queue<T>, Waiting<T>) {
    // Bounded by the account.
    let (to, from) = mpsc::unbounded_channel();
    exports.waiting(signal, 0, limit);
    let account = Account { signal, limit, waiting: Arc::default(), exports };
    (Queue { to, account: account.clone() }, Waiting { from, account })
}

impl<T> Queue<T> {
    /// All of these or none, which is counted.
    pub(super) fn put(&self, items: Vec<T>) {
        let Account { signal, limit, waiting, exports } = &self.account;
        let count = items.len();
        let before = waiting.fetch_add(count, Ordering::Relaxed);
        if before + count > *limit || self.to.send(items).is_err() {
            waiting.fetch_sub(count, Ordering::Relaxed);
            exports.lost(*signal, Lost::QueueFull, count as u64);
        } else {
            exports.waiting(*signal, before + count, *limit);
        }
    }
}

impl<T> Waiting<T> {
    /// These have left the queue.
    pub(super) fn taken(&self, items: &[T]) {
        let Account { signal, limit, waiting, exports } = &self.account;
        let before = waiting.fetch_sub(items.len(), Ordering::Relaxed);
        exports.waiting(*signal, before.saturating_sub(items.len()), *limit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_no_more_is_held() {
        const LIMIT: usize = 100;
        let exports = Exports::default();
        let (queue, mut waiting) = queue(Signal::Traces, LIMIT, exports.clone());
        for n in 0..LIMIT {
            queue.put(vec![n, n]);
        }
        let figures = exports.read();
        assert_eq!(figures.queues[0].depth, LIMIT as u64);
        assert!(figures.dropped.contains(&("traces", "queue_full", LIMIT as u64)), "{figures:?}");
        let mut held = 0;
        while let Ok(items) = waiting.from.try_recv() {
            waiting.taken(&items);
            held += items.len();
        }
        assert_eq!(held, LIMIT);
        assert_eq!(exports.read().queues[0].depth, 0);
        queue.put(vec![1]);
        assert_eq!(waiting.from.try_recv().unwrap(), [1]);
    }
}
