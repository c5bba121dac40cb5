//! Packets that meet a slot which changes hands: they wait until it is known whose it is.
//!
//! The node that gives the slot away has taken its pairs out, and the node that gets it has not put them in yet. That takes
//! milliseconds, and what arrives meanwhile is neither lost nor sent to and fro.

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use esp::Spi;

use crate::came_from::CameFrom;
use crate::port::Origin;
use crate::tenant::Tenant;

/// The packets of one shard that wait. Nobody has opened them, and anybody can make them up: those of one source stand in one line, in the
/// order they came, and where there is no room the longest line gives way.
pub(super) struct Waiting {
    wait: Duration,
    lines: [Line; LINES],
    places: usize,
    /// Packets of ESP by slot: whether there are any is asked for each packet that meets no pair while something waits.
    esp: [u16; SLOTS],
    /// Which line a source has is nobody's to choose.
    hash: RandomState,
}

#[derive(Default)]
struct Line {
    packets: VecDeque<Packet>,
    places: usize,
    /// Of the packets, those that are no ESP.
    inner: usize,
}

/// One that waits.
pub(super) struct Packet {
    until: Instant,
    pub(super) kind: Kind,
    pub(super) octets: Vec<u8>,
}

/// What it is.
pub(super) enum Kind {
    /// ESP of this slot.
    Esp(u8, Origin),
    /// A tenant's packet, from there. It is for a tunnel of some slot, which one shows when it is there.
    Inner(Arc<Tenant>, CameFrom),
}

impl Waiting {
    /// For so long at most ([`crate::RouterConfig::slot_wait`]).
    pub(super) fn new(wait: Duration) -> Self {
        Self {
            wait,
            lines: [const { Line::EMPTY }; LINES],
            places: 0,
            esp: [0; SLOTS],
            hash: RandomState::new(),
        }
    }

    /// Takes a packet in: whether it waits, and those that had to go for it.
    pub(super) fn push(&mut self, now: Instant, kind: Kind, packet: &[u8]) -> (bool, Vec<Packet>) {
        let places = places(packet.len());
        let number = self.line_of(&kind);
        let own = self.lines.get(number).map_or(0, |line| line.places) + places;
        let mut gone = Vec::new();
        while self.places + places > PLACES {
            // Not where the one that comes would have more than the one that goes.
            let longest =
                self.lines.iter_mut().max_by_key(|line| line.places).filter(|line| line.places > own);
            let Some(packet) = longest.and_then(Line::pop_last) else { return (false, gone) };
            self.uncount(&packet);
            gone.push(packet);
        }
        let Some(line) = self.lines.get_mut(number) else { return (false, gone) };
        match &kind {
            Kind::Esp(slot, _) => {
                self.esp.get_mut(usize::from(*slot)).into_iter().for_each(|count| *count += 1)
            }
            Kind::Inner(..) => line.inner += 1,
        }
        line.packets.push_back(Packet { until: now + self.wait, kind, octets: packet.to_vec() });
        line.places += places;
        self.places += places;
        (true, gone)
    }

    fn line_of(&self, kind: &Kind) -> usize {
        match kind {
            Kind::Esp(_, origin) => self.hash.hash_one(origin.from.ip()) as usize % LINES,
            Kind::Inner(tenant, _) => self.line_of_tenant(tenant),
        }
    }

    fn line_of_tenant(&self, tenant: &Tenant) -> usize {
        self.hash.hash_one(tenant.id.0) as usize % LINES
    }

    /// ESP of a slot, and all inner packets: any of them may be for it.
    pub(super) fn take(&mut self, slot: u8) -> VecDeque<Packet> {
        let mut all = VecDeque::new();
        for line in self.lines.iter_mut().filter(|line| !line.packets.is_empty()) {
            let (taken, left): (VecDeque<_>, _) =
                std::mem::take(&mut line.packets).into_iter().partition(|packet| match packet.kind {
                    Kind::Esp(of, _) => of == slot,
                    Kind::Inner(..) => true,
                });
            taken.iter().for_each(|packet| line.uncount(packet));
            line.packets = left;
            all.extend(taken);
        }
        all.iter().for_each(|packet| self.uncount(packet));
        all
    }

    fn uncount(&mut self, packet: &Packet) {
        self.places -= places_of(packet);
        if let Kind::Esp(slot, _) = packet.kind
            && let Some(count) = self.esp.get_mut(usize::from(slot))
        {
            *count -= 1;
        }
    }

    /// Those that have waited too long.
    pub(super) fn expire(&mut self, now: Instant) -> VecDeque<Packet> {
        let mut all = VecDeque::new();
        for line in &mut self.lines {
            while line.packets.front().is_some_and(|packet| packet.until <= now)
                && let Some(packet) = line.packets.pop_front()
            {
                line.uncount(&packet);
                all.push_back(packet);
            }
        }
        all.iter().for_each(|packet| self.uncount(packet));
        all
    }

    /// Whether ESP of the slot waits.
    pub(super) fn has_esp(&self, slot: u8) -> bool {
        self.esp.get(usize::from(slot)).is_some_and(|count| *count > 0)
    }

    /// Whether inner packets of the tenant wait.
    pub(super) fn has_inner(&self, tenant: &Tenant) -> bool {
        let is_one = |packet: &Packet| matches!(&packet.kind, Kind::Inner(of, _) if of.id == tenant.id);
        let line = self.lines.get(self.line_of_tenant(tenant)).filter(|line| line.inner > 0);
        line.is_some_and(|line| line.packets.iter().any(is_one))
    }

    /// When to call [`Waiting::expire`] again; `None` when nothing waits.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        if self.places == 0 {
            return None;
        }
        self.lines.iter().filter_map(|line| line.packets.front()).map(|packet| packet.until).min()
    }
}

impl Line {
    const EMPTY: Self = Self { packets: VecDeque::new(), places: 0, inner: 0 };

    fn pop_last(&mut self) -> Option<Packet> {
        let packet = self.packets.pop_back()?;
        self.uncount(&packet);
        Some(packet)
    }

    fn uncount(&mut self, packet: &Packet) {
        self.places -= places_of(packet);
        if matches!(packet.kind, Kind::Inner(..)) {
            self.inner -= 1;
        }
    }
}

fn places_of(packet: &Packet) -> usize {
    places(packet.octets.len())
}

/// A large packet takes the room of several.
fn places(octets: usize) -> usize {
    octets.div_ceil(PLACE).max(1)
}

/// 400,000 packets a second for the ten milliseconds of a usual move, 20,000 for the longest.
const PLACES: usize = 4096;
/// A full packet.
const PLACE: usize = 1500;
/// As many as an SPI can name, and slot 0.
const SLOTS: usize = Spi::MAX_SLOT as usize + 1;
/// Who floods from one address, or a network of few, shares a line with one in 64 of the others, and they alone are left without room. Whoever makes
/// up addresses without an end fills all lines alike.
const LINES: usize = 64;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::options::Encapsulation;

    const WAIT: Duration = Duration::from_millis(200);

    fn origin() -> Origin {
        from([127, 0, 0, 1])
    }

    fn from(address: [u8; 4]) -> Origin {
        let nobody = SocketAddr::from((address, 4500));
        Origin { from: nobody, local: nobody, class: 0, encapsulation: Encapsulation::Udp, relayed: false }
    }

    fn octets(packets: VecDeque<Packet>) -> Vec<Vec<u8>> {
        packets.into_iter().map(|packet| packet.octets).collect()
    }

    /// How many of so many packets of a source wait.
    fn push(waiting: &mut Waiting, now: Instant, origin: Origin, count: usize, len: usize) -> usize {
        (0..count).filter(|_| waiting.push(now, Kind::Esp(1, origin), &vec![0; len]).0).count()
    }

    #[test]
    fn slots_wait_apart_and_in_order() {
        let (mut waiting, now) = (Waiting::new(WAIT), Instant::now());
        for number in 0..6 {
            assert!(waiting.push(now, Kind::Esp(1 + number % 2, origin()), &[number]).0);
        }
        assert!(waiting.has_esp(2) && !waiting.has_esp(3));
        assert_eq!(octets(waiting.take(2)), [[1], [3], [5]]);
        assert_eq!(octets(waiting.take(3)), Vec::<Vec<u8>>::new());
        assert_eq!(octets(waiting.take(1)), [[0], [2], [4]]);
        assert_eq!((waiting.next_expiry(), waiting.places, waiting.esp), (None, 0, [0; SLOTS]));
    }

    #[test]
    fn nobody_waits_long() {
        let (mut waiting, now) = (Waiting::new(WAIT), Instant::now());
        let later = now + WAIT / 2;
        waiting.push(now, Kind::Esp(1, origin()), &[1]);
        waiting.push(later, Kind::Esp(2, origin()), &[2]);
        assert_eq!(waiting.next_expiry(), Some(now + WAIT));
        assert!(waiting.expire(later).is_empty());
        assert_eq!(octets(waiting.expire(now + WAIT)), [[1]]);
        assert_eq!((waiting.next_expiry(), waiting.places), (Some(later + WAIT), 1));
    }

    #[test]
    fn room_has_a_bound_and_large_packets_take_more_of_it() {
        let (mut waiting, now) = (Waiting::new(WAIT), Instant::now());
        assert_eq!(push(&mut waiting, now, origin(), PLACES + 1, 100), PLACES);
        waiting.take(1);
        assert_eq!(push(&mut waiting, now, origin(), 200, 60_000), PLACES / 40);
    }

    #[test]
    fn who_floods_gives_way_to_others() {
        let (mut waiting, now) = (Waiting::new(WAIT), Instant::now());
        let other = (2..=255).map(|n| from([127, 0, 0, n]));
        let lines = |waiting: &Waiting, origin| waiting.line_of(&Kind::Esp(1, origin));
        let other = other.into_iter().find(|o| lines(&waiting, *o) != lines(&waiting, origin())).unwrap();
        assert_eq!(push(&mut waiting, now, origin(), 2 * PLACES, 100), PLACES);
        for number in 0..100 {
            let (waits, gone) = waiting.push(now, Kind::Esp(2, other), &[number]);
            assert!(waits && matches!(gone.as_slice(), [packet] if packet.octets.len() == 100));
        }
        assert_eq!(octets(waiting.take(2)), (0..100).map(|number| [number]).collect::<Vec<_>>());
    }
}
