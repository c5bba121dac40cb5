//! What the router says of a pair that has no actor yet.
//!
//! A pair carries packets before anybody supervises it: its peer has our answer, or the slot that came is open, while its actor
//! still waits for its turn to be started. The router says the first packet, a soft limit and a move but once, so what it says
//! meanwhile is kept for the actor. Of a pair that is gone nobody takes it: it goes with the pair, or after a while.

use std::collections::{HashMap, VecDeque};
use std::mem::discriminant;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::table::Table;
use crate::vocabulary::ChildNotice;

/// Notices of pairs without an actor, by inbound SPI.
#[derive(Debug, Default)]
pub(crate) struct Early(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    pairs: HashMap<u32, Notices>,
    /// Which came when, the oldest first; those among them that have been taken are passed over.
    order: VecDeque<(Instant, u32)>,
}

#[derive(Debug)]
struct Notices {
    since: Instant,
    /// The last one of each kind.
    notices: Vec<ChildNotice>,
}

/// A slot of ten thousand connections goes on within two seconds, and a node that is so much behind has other troubles.
const PATIENCE: Duration = Duration::from_secs(30);
/// Pairs that are kept something of: as many events as a thread of the router keeps, a hundred octets each.
const PAIRS: usize = 16_384;

impl Early {
    /// To whom this goes, and what was kept with it; `None` if it is kept. How many notices nobody has taken in time is the second.
    pub(crate) fn tell<T: Clone>(
        &self,
        now: Instant,
        actors: &Table<u32, T>,
        spi: u32,
        notice: ChildNotice,
    ) -> (Option<(T, Vec<ChildNotice>)>, u64) {
        if let Some(to) = actors.get(&spi) {
            return (Some((to, vec![notice])), 0);
        }
        let stale = self.lock().keep(now, spi, notice);
        // Who has come in between may have looked before this was here. Whichever looks last takes it.
        (actors.get(&spi).map(|to| (to, self.take(now, spi))), stale)
    }

    /// What was said of a pair whose actor is registered by now, or that is gone. Not of one that had its number long ago.
    pub(crate) fn take(&self, now: Instant, spi: u32) -> Vec<ChildNotice> {
        let kept = self.lock().pairs.remove(&spi);
        let kept = kept.filter(|kept| now.saturating_duration_since(kept.since) < PATIENCE);
        kept.map(|kept| kept.notices).unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing is behind it that a panic could leave in disorder.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Kept {
    fn keep(&mut self, now: Instant, spi: u32, notice: ChildNotice) -> u64 {
        let mut stale = 0;
        while let Some((since, oldest)) = self.order.front().copied()
            && (self.order.len() >= PAIRS || now.saturating_duration_since(since) >= PATIENCE)
        {
            self.order.pop_front();
            // Its number may be another pair's by now.
            if self.pairs.get(&oldest).is_some_and(|kept| kept.since == since)
                && let Some(kept) = self.pairs.remove(&oldest)
            {
                stale += kept.notices.len() as u64;
            }
        }
        let order = &mut self.order;
        let kept = self.pairs.entry(spi).or_insert_with(|| {
            order.push_back((now, spi));
            Notices { since: now, notices: Vec::new() }
        });
        kept.notices.retain(|other| discriminant(other) != discriminant(&notice));
        kept.notices.push(notice);
        stale
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::table::Turn;

    fn moved(port: u16) -> ChildNotice {
        ChildNotice::Moved(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    #[test]
    fn who_comes_later_hears_the_last_of_each_kind() {
        let (early, actors, now) = (Early::default(), Table::default(), Instant::now());
        for notice in [moved(1), ChildNotice::FirstInbound, moved(2), ChildNotice::Soft] {
            assert_eq!(early.tell(now, &actors, 7, notice), (None, 0));
        }
        let _place = actors.register(7, Turn::next(), "its actor");
        assert_eq!(early.take(now, 7), [ChildNotice::FirstInbound, moved(2), ChildNotice::Soft]);
        assert_eq!(early.take(now, 7), []);
        let told = early.tell(now, &actors, 7, ChildNotice::Hard);
        assert_eq!(told, (Some(("its actor", vec![ChildNotice::Hard])), 0));
    }

    #[test]
    fn what_nobody_takes_goes_after_a_while_and_has_a_bound() {
        let (early, actors, start) = (Early::default(), Table::<u32, ()>::default(), Instant::now());
        let tell = |now, spi| early.tell(now, &actors, spi, ChildNotice::FirstInbound).1;
        assert_eq!(tell(start, 1), 0);
        // A pair that goes, and another one by its number.
        assert_eq!(early.take(start, 1).len(), 1);
        assert_eq!(tell(start + PATIENCE / 2, 1), 0);
        assert_eq!(tell(start + PATIENCE, 2), 0, "the other one is younger");
        assert_eq!(tell(start + PATIENCE * 2, 3), 2);
        assert_eq!(early.take(start + PATIENCE * 3, 3), [], "of another one");
        assert_eq!(tell(start + PATIENCE * 2, 3), 0);
        let stale: u64 = (10..10 + PAIRS as u32).map(|spi| tell(start + PATIENCE * 2, spi)).sum();
        let kept = early.lock();
        assert_eq!((stale, kept.pairs.len(), kept.order.len()), (1, PAIRS, PAIRS));
    }

    /// The router's events on one thread, the start of actors on another.
    #[test]
    fn whoever_comes_first_nothing_is_lost_and_nothing_told_twice() {
        const PAIRS: u32 = 5_000;
        let (early, actors, now) = (Early::default(), Table::default(), Instant::now());
        let (told, heard) = std::thread::scope(|scope| {
            let router = scope.spawn(|| {
                let tell = |spi| early.tell(now, &actors, spi, ChildNotice::FirstInbound).0;
                (0..PAIRS).filter_map(|spi| tell(spi).map(|(_, notices)| notices.len())).sum::<usize>()
            });
            let starts = scope.spawn(|| {
                let start = |spi| {
                    let place = actors.register(spi, Turn::next(), ());
                    (place, early.take(now, spi).len())
                };
                // They stay until both are done.
                (0..PAIRS).map(start).collect::<Vec<_>>()
            });
            let (told, started) = (router.join().unwrap(), starts.join().unwrap());
            (told, started.iter().map(|(_, heard)| heard).sum::<usize>())
        });
        assert_eq!(told + heard, PAIRS as usize);
        assert!(early.lock().pairs.is_empty());
    }
}
