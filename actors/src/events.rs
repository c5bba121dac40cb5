//! What happened on the node, numbered, for watchers. The last ones are kept so that a watcher can resume.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use culvert_proto::v1;
use prost::Message;
use tenants::Peer;
use tokio::sync::broadcast;

/// Events kept for a watcher that comes back: some minutes of a busy node, a MB or two.
const KEPT: usize = 8_192;
/// Events a slow watcher may be behind before it is told that it lost some.
const BACKLOG: usize = 4_096;

/// Whose something is, by numbers that nobody is given twice: of two that have had a name one after the other they say which. Who came later
/// has the greater one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// [`tenants::Tenant::number`]; zero for what is of no tenant.
    pub tenant: u32,
    /// [`tenants::Peer::uid`]; zero for what is of no peer.
    pub peer: u64,
}

impl Whose {
    pub(crate) const fn of(peer: &Peer) -> Self {
        Self { tenant: peer.tenant, peer: peer.uid }
    }
}

/// An event, and whose it is: that has names alone.
#[derive(Clone, Debug, Default)]
pub struct Happened {
    /// As watchers are told of it.
    pub event: v1::Event,
    /// Whom they have to watch for that.
    pub whose: Whose,
}

/// Numbers and hands out events.
#[derive(Debug)]
pub struct EventHub {
    kept: Mutex<Kept>,
    live: broadcast::Sender<Happened>,
}

#[derive(Debug)]
struct Kept {
    next: u64,
    /// By number, and encoded: a third of the memory, and hardly ever read.
    events: VecDeque<(u64, Whose, Arc<[u8]>)>,
}

/// Why events cannot be given from a number on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchError {
    /// They are no longer kept; the number is that of the last one lost.
    Gone(u64),
    /// There was no event of that number in this process: it is of another node, or the clock was set back.
    NeverWas {
        /// The number of the last event.
        last: u64,
    },
}

impl Default for EventHub {
    /// Numbers from the time on, so that those of an earlier process are told from ours: it would have to have made more
    /// than a thousand events in every millisecond of its life to reach them. Below 2^53, which JSON can carry, for
    /// centuries.
    fn default() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self::starting_at(u64::try_from(now.as_millis()).unwrap_or(0).saturating_mul(1024).max(1))
    }
}

impl EventHub {
    fn starting_at(next: u64) -> Self {
        let kept = Mutex::new(Kept { next, events: VecDeque::new() });
        Self { kept, live: broadcast::channel(BACKLOG).0 }
    }

    /// Numbers an event and hands it out.
    pub(crate) fn publish(&self, mut event: v1::Event, whose: Whose) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        event.sequence = kept.next;
        event.time = Some(SystemTime::now().into());
        kept.next += 1;
        let encoded = event.encode_to_vec().into();
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back((event.sequence, whose, encoded));
        // Nobody may be watching.
        let _ = self.live.send(Happened { event, whose });
    }

    /// The number of the last event, or the one before the first: whoever watches after it misses nothing that comes from now on.
    pub fn last(&self) -> u64 {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.next.saturating_sub(1)
    }

    /// The kept events after number `after` and a receiver of all later ones. With `after` zero only later ones.
    ///
    /// # Errors
    /// When events after that number are no longer kept, or there is none of it.
    pub fn watch(&self, after: u64) -> Result<(Vec<Happened>, broadcast::Receiver<Happened>), WatchError> {
        // Under the lock, so that none falls between the two.
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        if after == 0 {
            return Ok((Vec::new(), live));
        }
        let oldest = kept.events.front().map_or(kept.next, |(number, ..)| *number);
        if after >= kept.next {
            return Err(WatchError::NeverWas { last: kept.next.saturating_sub(1) });
        }
        if after.saturating_add(1) < oldest {
            return Err(WatchError::Gone(oldest.saturating_sub(1)));
        }
        let wanted: Vec<_> = kept.events.iter().filter(|(number, ..)| *number > after).cloned().collect();
        // Whoever publishes waits for the lock, and decoding thousands takes its time.
        drop(kept);
        // What we encoded can be decoded.
        let decoded = wanted.into_iter().filter_map(|(_, whose, encoded)| {
            Some(Happened { event: v1::Event::decode(&*encoded).ok()?, whose })
        });
        Ok((decoded.collect(), live))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_resumes_without_loss_or_is_told() {
        let hub = EventHub::starting_at(1);
        let quiet = EventHub::starting_at(1 << 20);
        assert!(quiet.watch(quiet.last()).unwrap().0.is_empty());
        quiet.publish(v1::Event::default(), Whose::default());
        assert_eq!(quiet.watch(quiet.last() - 1).unwrap().0.len(), 1);
        for _ in 0..10 {
            hub.publish(v1::Event::default(), Whose::default());
        }
        let (old, mut live) = hub.watch(7).unwrap();
        assert_eq!(old.iter().map(|e| e.event.sequence).collect::<Vec<_>>(), [8, 9, 10]);
        hub.publish(v1::Event::default(), Whose::default());
        assert_eq!(live.try_recv().unwrap().event.sequence, 11);
        assert!(hub.watch(0).unwrap().0.is_empty());
        for _ in 0..KEPT {
            hub.publish(v1::Event::default(), Whose::default());
        }
        assert_eq!(hub.watch(5).unwrap_err(), WatchError::Gone(11));
    }

    #[test]
    fn a_number_of_another_process_is_told() {
        let before = EventHub::starting_at(1 << 20);
        for _ in 0..10 {
            before.publish(v1::Event::default(), Whose::default());
        }
        let last = (1 << 20) + 9;
        assert!(before.watch(last).unwrap().0.is_empty());
        assert_eq!(before.watch(last + 1).unwrap_err(), WatchError::NeverWas { last });
        // A process that started later: nothing of the earlier one is kept, and nothing of it is taken for its own.
        let after = EventHub::starting_at(2 << 20);
        assert_eq!(after.watch(last).unwrap_err(), WatchError::Gone((2 << 20) - 1));
        assert!(after.watch((2 << 20) - 1).unwrap().0.is_empty());
        assert!(EventHub::default().watch(5).is_err());
    }
}
