//! IKE messages for connections that are on their way here from another node.
//!
//! Their owner has let go of them, and nobody has them until they go on here: tens of milliseconds, in which a peer's request would be lost.
//! Peers repeat it, but some after seconds, which may be longer than what they renew lives.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ike::reception::{Prefix, Receivers};
use router::IkeDatagram;

use crate::counters::Count;
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
    /// What these take, of each slot, and of each slot from each prefix. Without a message there is no entry.
    all: Load,
    of_slots: HashMap<u8, Load>,
    of_sources: HashMap<(u8, Prefix), Load>,
}

struct Message {
    slot: u8,
    since: Instant,
    receivers: Receivers,
    datagram: IkeDatagram,
}

/// Places that are taken.
#[derive(Clone, Copy, Default, Debug, PartialEq)]
struct Load {
    messages: usize,
    octets: usize,
}

/// What has become of a message.
#[derive(Debug, PartialEq)]
pub(crate) enum Kept {
    Waits,
    /// There is no room for it, of its slot or at all; its sender repeats it.
    Full,
    /// There is none for where it comes from.
    Share,
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
/// and some. A request that renews has a few hundred octets, and with a key exchange by ML-KEM some 1,500, so that a slot's six hundred fit.
const OF_SLOT: Load = Load { messages: 1_024, octets: 1 << 20 };
/// So many slots wait with all of that: one has six bits in a number that anybody can write, and whoever guesses one that comes is not to
/// take the places of the others. A node that is gone leaves others a slot or two each.
const SLOTS: usize = 4;
/// What one prefix may have of a slot's: an eighth, so that nobody fills it alone, and a hundred peers behind one NAT have their say.
const SHARE: usize = 8;

impl Load {
    const fn of(datagram: &IkeDatagram) -> Self {
        Self { messages: 1, octets: datagram.bytes.len() }
    }

    /// Whether one more goes into a bound, given as so many times a part of [`OF_SLOT`].
    const fn has_room(self, more: Self, times: usize, part: usize) -> bool {
        self.messages + more.messages <= OF_SLOT.messages * times / part
            && self.octets + more.octets <= OF_SLOT.octets * times / part
    }

    const fn add(&mut self, more: Self) {
        self.messages += more.messages;
        self.octets += more.octets;
    }

    const fn subtract(&mut self, less: Self) {
        self.messages -= less.messages;
        self.octets -= less.octets;
    }
}

/// Takes something from the load of a key, which goes with the last of it.
fn lighten<K: Hash + Eq>(loads: &mut HashMap<K, Load>, key: K, less: Load) {
    if let Entry::Occupied(mut load) = loads.entry(key) {
        load.get_mut().subtract(less);
        if load.get().messages == 0 {
            load.remove();
        }
    }
}

impl Message {
    fn source(&self) -> (u8, Prefix) {
        (self.slot, Prefix::of(self.datagram.remote.ip()))
    }
}

impl Waiting {
    fn enter(&mut self, message: Message) {
        let load = Load::of(&message.datagram);
        self.all.add(load);
        self.of_slots.entry(message.slot).or_default().add(load);
        self.of_sources.entry(message.source()).or_default().add(load);
        self.messages.push_back(message);
    }

    /// A message waits no longer.
    fn left(&mut self, message: &Message) {
        let load = Load::of(&message.datagram);
        self.all.subtract(load);
        lighten(&mut self.of_slots, message.slot, load);
        lighten(&mut self.of_sources, message.source(), load);
    }

    /// Those go that have waited in vain.
    fn forget(&mut self, now: Instant, late: &Count) {
        while self.messages.front().is_some_and(|oldest| now >= oldest.since + PATIENCE) {
            if let Some(oldest) = self.messages.pop_front() {
                self.left(&oldest);
                late.up();
            }
        }
    }
}

impl Awaited {
    /// A slot is about to come.
    pub(crate) fn open(&self, slot: u8, now: Instant) {
        self.lock().slots.insert(slot, now + COMES);
    }

    /// All of a slot goes on here, or does not come: what waits for it. `late` counts what has waited in vain.
    pub(crate) fn close(&self, slot: u8, now: Instant, late: &Count) -> Vec<(Receivers, IkeDatagram)> {
        let mut waiting = self.lock();
        waiting.slots.remove(&slot);
        waiting.forget(now, late);
        let (these, others): (VecDeque<_>, _) =
            std::mem::take(&mut waiting.messages).into_iter().partition(|message| message.slot == slot);
        waiting.messages = others;
        these.iter().for_each(|message| waiting.left(message));
        these.into_iter().map(|message| (message.receivers, message.datagram)).collect()
    }

    /// A slot goes to another node.
    pub(crate) fn give(&self, slot: u8, now: Instant) {
        self.lock().given.insert(slot, now);
    }

    /// Whether a slot has gone to another node so short a while ago that others may still send here what is for it.
    pub(crate) fn was_given(&self, slot: u8, now: Instant) -> bool {
        self.lock().given.get(&slot).is_some_and(|at| now < *at + GIVEN)
    }

    /// A message for a connection that is not here. `late` counts those that have waited in vain.
    pub(crate) fn keep(
        &self,
        receivers: Receivers,
        datagram: IkeDatagram,
        now: Instant,
        late: &Count,
    ) -> Kept {
        let mut waiting = self.lock();
        let comes = |slot: &u8| waiting.slots.get(slot).is_some_and(|until| now < *until);
        let Some(slot) = receivers.spis().map(slot_of).find(comes) else { return Kept::NotAwaited(datagram) };
        waiting.forget(now, late);
        let message = Message { slot, since: now, receivers, datagram };
        let load = Load::of(&message.datagram);
        let of_slot = waiting.of_slots.get(&slot).copied().unwrap_or_default();
        let of_source = waiting.of_sources.get(&message.source()).copied().unwrap_or_default();
        if !of_source.has_room(load, 1, SHARE) {
            return Kept::Share;
        }
        if !of_slot.has_room(load, 1, 1) || !waiting.all.has_room(load, SLOTS, 1) {
            return Kept::Full;
        }
        waiting.enter(message);
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

    /// The same from a prefix of this number, and so long.
    fn long(spi: u64, prefix: u8, len: usize) -> (Receivers, IkeDatagram) {
        let (receivers, mut datagram) = request(spi, 1);
        datagram.remote.set_ip([198, 51, prefix, 7].into());
        datagram.bytes.resize(len, 0);
        (receivers, datagram)
    }

    /// Nothing has a load that does not wait.
    fn is_empty(awaited: &Awaited) -> bool {
        let waiting = awaited.lock();
        waiting.all == Load::default() && waiting.of_slots.is_empty() && waiting.of_sources.is_empty()
    }

    fn spi(slot: u8) -> u64 {
        let spi = u64::from(slot) << 58 | 9;
        assert_eq!(slot_of(spi), slot);
        spi
    }

    #[test]
    fn what_is_for_a_slot_that_comes_waits_for_it_in_order() {
        let (awaited, late, now) = (Awaited::default(), Count::default(), Instant::now());
        let keep = |slot, number, now| {
            let (receivers, datagram) = request(spi(slot), number);
            awaited.keep(receivers, datagram, now, &late)
        };
        assert!(matches!(keep(3, 1, now), Kept::NotAwaited(_)));
        awaited.open(3, now);
        awaited.open(4, now);
        for number in [1, 2] {
            assert_eq!(keep(3, number, now), Kept::Waits);
            assert_eq!(keep(4, number, now), Kept::Waits);
        }
        assert!(matches!(keep(5, 1, now), Kept::NotAwaited(_)));
        let come = awaited.close(3, now, &late);
        assert_eq!(come.iter().map(|(_, datagram)| datagram.bytes[23]).collect::<Vec<_>>(), [1, 2]);
        assert!(matches!(keep(3, 3, now), Kept::NotAwaited(_)), "it is there");
        assert_eq!(awaited.close(3, now, &late), []);
        assert_eq!(awaited.close(4, now, &late).len(), 2);
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
    fn nothing_waits_for_long_and_what_has_waited_in_vain_is_counted() {
        let (awaited, late, now) = (Awaited::default(), Count::default(), Instant::now());
        let keep = |now| {
            let (receivers, datagram) = request(spi(3), 1);
            awaited.keep(receivers, datagram, now, &late)
        };
        awaited.open(3, now);
        let most = OF_SLOT.messages / SHARE;
        assert!((0..most).all(|_| keep(now) == Kept::Waits));
        assert_eq!((keep(now), late.get()), (Kept::Share, 0));
        // Those that are too old make room, and go nowhere.
        assert_eq!((keep(now + PATIENCE), late.get()), (Kept::Waits, most as u64));
        assert_eq!(awaited.close(3, now + PATIENCE, &late).len(), 1);
        awaited.open(3, now);
        assert!(matches!(keep(now + COMES), Kept::NotAwaited(_)), "it has not come");
        assert_eq!(keep(now), Kept::Waits);
        assert!(awaited.close(3, now + PATIENCE, &late).is_empty());
        assert_eq!(late.get(), most as u64 + 1);
        assert!(is_empty(&awaited));
    }

    /// Fills what it can, from so many prefixes, with messages of this length: how much waits of it.
    fn filled(awaited: &Awaited, slot: u8, prefixes: std::ops::Range<u8>, len: usize, now: Instant) -> Load {
        let before = awaited.lock().all;
        for prefix in prefixes {
            loop {
                let (receivers, datagram) = long(spi(slot), prefix, len);
                if awaited.keep(receivers, datagram, now, &Count::default()) != Kept::Waits {
                    break;
                }
            }
        }
        let after = awaited.lock().all;
        Load { messages: after.messages - before.messages, octets: after.octets - before.octets }
    }

    #[test]
    fn what_waits_has_a_bound_of_octets_as_well() {
        for len in [28, 500, 1_500, 16_384, 65_507] {
            let (awaited, now) = (Awaited::default(), Instant::now());
            (1..10).for_each(|slot| awaited.open(slot, now));
            for slot in 1..10 {
                filled(&awaited, slot, 0..100, len, now);
            }
            let all = awaited.lock().all;
            assert!(all.messages <= SLOTS * OF_SLOT.messages, "{len}: {all:?}");
            assert!(all.octets <= SLOTS * OF_SLOT.octets, "{len}: {all:?}");
            (1..10).for_each(|slot| drop(awaited.close(slot, now, &Count::default())));
            assert!(is_empty(&awaited));
        }
    }

    #[test]
    fn neither_a_source_nor_a_slot_takes_the_places_of_the_others() {
        for len in [28, 500, 1_500, 16_384] {
            let (awaited, now) = (Awaited::default(), Instant::now());
            awaited.open(3, now);
            awaited.open(4, now);
            let one = filled(&awaited, 3, 0..1, len, now);
            assert!(one.messages <= OF_SLOT.messages / SHARE && one.octets <= OF_SLOT.octets / SHARE);
            let (receivers, datagram) = long(spi(3), 0, len);
            assert_eq!(awaited.keep(receivers, datagram, now, &Count::default()), Kept::Share);
            // Another source has its own, until the slot is full.
            assert_eq!(filled(&awaited, 3, 1..2, len, now), one);
            filled(&awaited, 3, 2..100, len, now);
            let (receivers, datagram) = long(spi(3), 200, len);
            assert_eq!(awaited.keep(receivers, datagram, now, &Count::default()), Kept::Full);
            // And another slot its own.
            assert_eq!(filled(&awaited, 4, 0..1, len, now), one);
        }
    }
}
