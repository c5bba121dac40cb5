//! What happened on the node, numbered, for watchers. The last ones are kept so that a watcher can resume.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use culvert_proto::v1;
use prost::Message;
use tokio::sync::broadcast;

/// Events kept for a watcher that comes back: some minutes of a busy node, a MB or two.
const KEPT: usize = 8_192;
/// Events a slow watcher may be behind before it is told that it lost some.
const BACKLOG: usize = 4_096;

/// Numbers and hands out events.
#[derive(Debug)]
pub struct EventHub {
    kept: Mutex<Kept>,
    live: broadcast::Sender<v1::Event>,
}

#[derive(Debug)]
struct Kept {
    next: u64,
    /// By number, and encoded: a third of the memory, and hardly ever read.
    events: VecDeque<(u64, Box<[u8]>)>,
}

/// The events asked for are no longer kept; the number is that of the oldest one lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lagged(pub u64);

impl Default for EventHub {
    fn default() -> Self {
        let kept = Mutex::new(Kept { next: 1, events: VecDeque::new() });
        Self { kept, live: broadcast::channel(BACKLOG).0 }
    }
}

impl EventHub {
    /// Numbers an event and hands it out.
    pub(crate) fn publish(&self, mut event: v1::Event) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        event.sequence = kept.next;
        event.time = Some(SystemTime::now().into());
        kept.next += 1;
        let encoded = event.encode_to_vec().into_boxed_slice();
        if kept.events.len() == KEPT {
            kept.events.pop_front();
        }
        kept.events.push_back((event.sequence, encoded));
        // Nobody may be watching.
        let _ = self.live.send(event);
    }

    /// The kept events after number `after` and a receiver of all later ones. With `after` zero only later ones.
    ///
    /// # Errors
    /// When events after that number are no longer kept.
    pub fn watch(&self, after: u64) -> Result<(Vec<v1::Event>, broadcast::Receiver<v1::Event>), Lagged> {
        // Under the lock, so that none falls between the two.
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let live = self.live.subscribe();
        if after == 0 {
            return Ok((Vec::new(), live));
        }
        let oldest = kept.events.front().map_or(kept.next, |(number, _)| *number);
        if after.saturating_add(1) < oldest {
            return Err(Lagged(oldest.saturating_sub(1)));
        }
        let wanted = kept.events.iter().filter(|(number, _)| *number > after);
        // What we encoded can be decoded.
        Ok((wanted.filter_map(|(_, encoded)| v1::Event::decode(&**encoded).ok()).collect(), live))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watcher_resumes_without_loss_or_is_told() {
        let hub = EventHub::default();
        for _ in 0..10 {
            hub.publish(v1::Event::default());
        }
        let (old, mut live) = hub.watch(7).unwrap();
        assert_eq!(old.iter().map(|e| e.sequence).collect::<Vec<_>>(), [8, 9, 10]);
        hub.publish(v1::Event::default());
        assert_eq!(live.try_recv().unwrap().sequence, 11);
        assert!(hub.watch(0).unwrap().0.is_empty());
        for _ in 0..KEPT {
            hub.publish(v1::Event::default());
        }
        assert_eq!(hub.watch(5).unwrap_err(), Lagged(11));
    }
}
