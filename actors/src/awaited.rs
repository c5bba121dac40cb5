//! IKE messages for connections that are on their way here from another node.
//!
//! Their owner has let go of them, and nobody has them until they go on here: tens of milliseconds, in which a peer's request would be lost.
//! Peers repeat it, but some after seconds, which may be longer than what they renew lives.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ike::reception::Receivers;
use router::IkeDatagram;

use crate::host::slot_of;

/// Messages that wait for slots that come.
#[derive(Default)]
pub(crate) struct Awaited(Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    /// Slots that come, and until when that is to be expected.
    slots: HashMap<u8, Instant>,
    /// When slots went to another node.
    given: HashMap<u8, Instant>,
    /// The oldest first.
    messages: VecDeque<Message>,
}

struct Message {
    slot: u8,
    since: Instant,
    receivers: Receivers,
    datagram: IkeDatagram,
}

/// What has become of a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Kept {
    Waits,
    /// There is no room for it; its sender repeats it.
    Full,
    /// No slot comes that it could be for.
    NotAwaited(IkeDatagram),
}

/// A slot of ten thousand connections comes within some two seconds, and where etcd elects a leader meanwhile within some more.
const COMES: Duration = Duration::from_secs(10);
/// All nodes know within this where a slot has gone.
const GIVEN: Duration = Duration::from_secs(2);
/// Whoever has sent a message has repeated it by then.
const PATIENCE: Duration = Duration::from_secs(3);
/// Where all 10,000 connections of a slot renew within a minute they say some two hundred things a second: as many as come within its patience,
/// and some.
const MESSAGES: usize = 1_024;

impl Awaited {
    /// A slot is about to come.
    pub(crate) fn open(&self, slot: u8, now: Instant) {
        self.lock().slots.insert(slot, now + COMES);
    }

    /// All of a slot goes on here, or does not come: what waits for it.
    pub(crate) fn close(&self, slot: u8, now: Instant) -> Vec<(Receivers, IkeDatagram)> {
        let mut waiting = self.lock();
        waiting.slots.remove(&slot);
        let (these, others): (VecDeque<_>, _) =
            std::mem::take(&mut waiting.messages).into_iter().partition(|message| message.slot == slot);
        waiting.messages = others;
        let fresh = these.into_iter().filter(|message| now < message.since + PATIENCE);
        fresh.map(|message| (message.receivers, message.datagram)).collect()
    }

    /// A slot goes to another node.
    pub(crate) fn give(&self, slot: u8, now: Instant) {
        self.lock().given.insert(slot, now);
    }

    /// Whether a slot has gone to another node so short a while ago that others may still send here what is for it.
    pub(crate) fn was_given(&self, slot: u8, now: Instant) -> bool {
        self.lock().given.get(&slot).is_some_and(|at| now < *at + GIVEN)
    }

    /// A message for a connection that is not here.
    pub(crate) fn keep(&self, receivers: Receivers, datagram: IkeDatagram, now: Instant) -> Kept {
        let mut waiting = self.lock();
        let comes = |slot: &u8| waiting.slots.get(slot).is_some_and(|until| now < *until);
        let Some(slot) = receivers.spis().map(slot_of).find(comes) else { return Kept::NotAwaited(datagram) };
        while waiting.messages.front().is_some_and(|oldest| now >= oldest.since + PATIENCE) {
            waiting.messages.pop_front();
        }
        if waiting.messages.len() >= MESSAGES {
            return Kept::Full;
        }
        waiting.messages.push_back(Message { slot, since: now, receivers, datagram });
        Kept::Waits
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing is behind it that a panic could leave in disorder.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use ike::reception::{Class, classify};

    use super::*;

    /// A request of IKEv2 to this SPI of ours, as responder.
    fn request(spi: u64, number: u8) -> (Receivers, IkeDatagram) {
        let header =
            [&7u64.to_be_bytes()[..], &spi.to_be_bytes(), &[46, 0x20, 37, 8, 0, 0, 0, number, 0, 0, 0, 28]];
        let bytes = header.concat();
        let Ok(Class::Existing(receivers)) = classify(&bytes) else { panic!("it is no request") };
        let end = "192.0.2.1:4500".parse().unwrap();
        (receivers, IkeDatagram { local: end, remote: end, bytes })
    }

    fn spi(slot: u8) -> u64 {
        let spi = u64::from(slot) << 58 | 9;
        assert_eq!(slot_of(spi), slot);
        spi
    }

    #[test]
    fn what_is_for_a_slot_that_comes_waits_for_it_in_order() {
        let (awaited, now) = (Awaited::default(), Instant::now());
        let keep = |slot, number, now| {
            let (receivers, datagram) = request(spi(slot), number);
            awaited.keep(receivers, datagram, now)
        };
        assert!(matches!(keep(3, 1, now), Kept::NotAwaited(_)));
        awaited.open(3, now);
        awaited.open(4, now);
        for number in [1, 2] {
            assert_eq!(keep(3, number, now), Kept::Waits);
            assert_eq!(keep(4, number, now), Kept::Waits);
        }
        assert!(matches!(keep(5, 1, now), Kept::NotAwaited(_)));
        let come = awaited.close(3, now);
        assert_eq!(come.iter().map(|(_, datagram)| datagram.bytes[23]).collect::<Vec<_>>(), [1, 2]);
        assert!(matches!(keep(3, 3, now), Kept::NotAwaited(_)), "it is there");
        assert_eq!(awaited.close(3, now), []);
        assert_eq!(awaited.close(4, now).len(), 2);
    }

    #[test]
    fn others_have_a_moment_to_learn_that_a_slot_has_gone() {
        let (awaited, now) = (Awaited::default(), Instant::now());
        awaited.give(3, now);
        assert!(
            awaited.was_given(3, now) && !awaited.was_given(4, now) && !awaited.was_given(3, now + GIVEN)
        );
    }

    #[test]
    fn nothing_waits_for_long_and_no_more_than_so_many() {
        let (awaited, now) = (Awaited::default(), Instant::now());
        let keep = |now| {
            let (receivers, datagram) = request(spi(3), 1);
            awaited.keep(receivers, datagram, now)
        };
        awaited.open(3, now);
        assert!((0..MESSAGES).all(|_| keep(now) == Kept::Waits));
        assert_eq!(keep(now), Kept::Full);
        // Those that are too old make room, and go nowhere.
        assert_eq!(keep(now + PATIENCE), Kept::Waits);
        assert_eq!(awaited.close(3, now + PATIENCE).len(), 1);
        awaited.open(3, now);
        assert!(matches!(keep(now + COMES), Kept::NotAwaited(_)), "it has not come");
    }
}
