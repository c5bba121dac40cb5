//! The half-open table: what is known of negotiations until their peers are, with its bounds and its deadlines. No actor and no
//! clock.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Instant;

use ike::reception::{FirstMessage, Prefix};

/// Half-open negotiations of one reception, for up to 30 s each. At the pace at which key exchanges are paid for there are
/// fewer.
pub(super) const MAX_HALF_OPEN: usize = 8_192;
/// Octets that they hold: 4 KiB for each.
pub(super) const MAX_OCTETS: usize = MAX_HALF_OPEN * 4_096;
/// What one prefix may have of both: an eighth, so that nobody fills the table alone, and a thousand peers behind one NAT
/// return at once.
pub(super) const SHARE: usize = 8;

/// How a negotiation is found by what its initiator sends again.
pub(super) type Key = (SocketAddr, u64);

/// What is known of one.
pub(super) struct Slot<C> {
    pub(super) conn: C,
    pub(super) key: Key,
    pub(super) first: FirstMessage,
    /// It has returned a cookie, or what our answer has: its address is its own.
    proved: bool,
    octets: usize,
    due: Option<Instant>,
    /// In the order of arrival.
    number: u64,
    /// When its first message was last answered again.
    pub(super) again: Option<Instant>,
}

impl<C> Slot<C> {
    /// Whether its address is known to be its own.
    pub(super) const fn is_proved(&self) -> bool {
        self.proved
    }
}

#[derive(Clone, Copy, Default)]
struct Share {
    count: usize,
    octets: usize,
}

/// Half-open negotiations by our SPI.
pub(super) struct HalfOpens<C> {
    slots: HashMap<u64, Slot<C>>,
    by_initiator: HashMap<Key, u64>,
    /// One queue of deadlines, whatever arrives.
    deadlines: BTreeSet<(Instant, u64)>,
    shares: HashMap<Prefix, Share>,
    /// Those without a cookie, by arrival.
    unproved: BTreeMap<u64, u64>,
    octets: usize,
    next: u64,
}

impl<C> Default for HalfOpens<C> {
    fn default() -> Self {
        Self {
            slots: HashMap::new(),
            by_initiator: HashMap::new(),
            deadlines: BTreeSet::new(),
            shares: HashMap::new(),
            unproved: BTreeMap::new(),
            octets: 0,
            next: 0,
        }
    }
}

impl<C> HalfOpens<C> {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Our SPI of the negotiation that this initiator has begun.
    pub(super) fn find(&self, key: &Key) -> Option<u64> {
        self.by_initiator.get(key).copied()
    }

    pub(super) fn get_mut(&mut self, spi: u64) -> Option<&mut Slot<C>> {
        self.slots.get_mut(&spi)
    }

    /// Makes room for one of so many octets, whose address is of this prefix: where there is none one that has not proved its
    /// address goes, if the new one may claim that. False if there is none all the same. What went is returned.
    pub(super) fn make_room(
        &mut self,
        prefix: Prefix,
        claim: Claim,
        octets: usize,
    ) -> Result<Option<Slot<C>>, Full> {
        let share = self.shares.get(&prefix).copied().unwrap_or_default();
        if share.count >= MAX_HALF_OPEN / SHARE || share.octets + octets > MAX_OCTETS / SHARE {
            return Err(Full::Share);
        }
        if self.slots.len() < MAX_HALF_OPEN && self.octets + octets <= MAX_OCTETS {
            return Ok(None);
        }
        let victim = match claim {
            Claim::Waits => None,
            // The newest: who was there before may be on its way.
            Claim::Proved => self.unproved.last_key_value(),
            // The oldest: an honest one has made use of its answer within a round trip.
            Claim::Displaces => self.unproved.first_key_value(),
        };
        let victim = victim.map(|(_, spi)| *spi);
        victim.and_then(|spi| self.remove(spi)).map(Some).ok_or(Full::Table)
    }

    /// Puts one in.
    pub(super) fn insert(&mut self, spi: u64, conn: C, key: Key, first: FirstMessage, proved: bool) {
        let number = self.next;
        self.next += 1;
        if !proved {
            self.unproved.insert(number, spi);
        }
        self.by_initiator.insert(key, spi);
        self.shares.entry(Prefix::of(key.0.ip())).or_default().count += 1;
        let slot = Slot { conn, key, first, proved, octets: 0, due: None, number, again: None };
        self.slots.insert(spi, slot);
    }

    /// Whether the address of one is known to be its own.
    pub(super) fn is_proved(&self, spi: u64) -> bool {
        self.slots.get(&spi).is_some_and(|slot| slot.proved)
    }

    /// A message came that has our SPI, so our answer has reached who sends it: its address is its own. A copy of the first message
    /// says nothing of the kind, whoever sends it.
    pub(super) fn answered(&mut self, spi: u64) {
        if let Some(slot) = self.slots.get_mut(&spi).filter(|slot| !slot.proved) {
            slot.proved = true;
            self.unproved.remove(&slot.number);
        }
    }

    /// Notes what one holds and when it wants to be looked at. False if that is more than there is room for.
    pub(super) fn note(&mut self, spi: u64, octets: usize, due: Option<Instant>) -> bool {
        let Some(slot) = self.slots.get_mut(&spi) else { return true };
        if let Some(at) = slot.due.take() {
            self.deadlines.remove(&(at, spi));
        }
        slot.due = due;
        self.deadlines.extend(due.map(|at| (at, spi)));
        let share = self.shares.entry(Prefix::of(slot.key.0.ip())).or_default();
        share.octets = share.octets + octets - slot.octets;
        self.octets = self.octets + octets - slot.octets;
        slot.octets = octets;
        self.octets <= MAX_OCTETS && share.octets <= MAX_OCTETS / SHARE
    }

    /// Takes one out.
    pub(super) fn remove(&mut self, spi: u64) -> Option<Slot<C>> {
        let slot = self.slots.remove(&spi)?;
        if let Some(at) = slot.due {
            self.deadlines.remove(&(at, spi));
        }
        if self.by_initiator.get(&slot.key) == Some(&spi) {
            self.by_initiator.remove(&slot.key);
        }
        if !slot.proved {
            self.unproved.remove(&slot.number);
        }
        self.octets -= slot.octets;
        let prefix = Prefix::of(slot.key.0.ip());
        if let Some(share) = self.shares.get_mut(&prefix) {
            share.count -= 1;
            share.octets -= slot.octets;
            if share.count == 0 {
                self.shares.remove(&prefix);
            }
        }
        Some(slot)
    }

    /// When the next wants to be looked at.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.deadlines.first().map(|(at, _)| *at)
    }

    /// One that wants to be looked at now, and has to say anew when it wants to be the next time.
    pub(super) fn take_due(&mut self, now: Instant) -> Option<u64> {
        let due = self.deadlines.first().filter(|(at, _)| *at <= now).copied()?;
        self.deadlines.remove(&due);
        if let Some(slot) = self.slots.get_mut(&due.1) {
            slot.due = None;
        }
        Some(due.1)
    }
}

/// What a first message may claim where there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Nothing: it could prove its address, and has not.
    Waits,
    /// A place of one that has not proved its address: it has.
    Proved,
    /// The same, though it has not: nobody has asked it to, for its protocol has no way to.
    Displaces,
}

/// What there is no room in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// What the prefix may have.
    Share,
    /// What all may have.
    Table,
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    fn first(n: u64) -> FirstMessage {
        // A header and a nonce payload.
        let mut bytes = n.to_be_bytes().to_vec();
        bytes.extend([0; 8]);
        bytes.extend([40, 0x20, 34, 8, 0, 0, 0, 0, 0, 0, 0, 48, 0, 0, 0, 20]);
        bytes.extend([7; 16]);
        FirstMessage::of(ike::config::Opening::Init, &bytes).unwrap()
    }

    fn key(n: u32) -> Key {
        ((std::net::Ipv4Addr::from(n), 500).into(), u64::from(n))
    }

    fn prefix(n: u32) -> Prefix {
        Prefix::of(key(n).0.ip())
    }

    fn put(table: &mut HalfOpens<u32>, n: u32, proved: bool) -> Result<Option<u32>, Full> {
        let claim = if proved { Claim::Proved } else { Claim::Waits };
        let gone = table.make_room(prefix(n), claim, 3_000)?;
        table.insert(n.into(), n, key(n), first(n.into()), proved);
        assert!(table.note(n.into(), 3_000, None));
        Ok(gone.map(|slot| slot.conn))
    }

    #[test]
    fn one_prefix_has_a_share_and_the_newest_without_proof_makes_room_for_one_with() {
        let mut table = HalfOpens::default();
        let share = (MAX_HALF_OPEN / SHARE) as u32;
        // A host of each of many addresses of four prefixes of one size: the fifth prefix is not concerned by them.
        for n in 0..256 {
            put(&mut table, n, false).unwrap();
        }
        assert_eq!(table.len(), 256);
        let mut n = 256;
        while table.len() < MAX_HALF_OPEN {
            put(&mut table, n, n % 2 == 0).unwrap();
            n += 1;
        }
        assert_eq!(put(&mut table, 1 << 24, false), Err(Full::Table));
        assert_eq!(put(&mut table, 1 << 24, true), Ok(Some(n - 1)), "the newest without proof");
        assert_eq!(table.find(&key(n - 1)), None);
        // One without a way to prove anything takes the oldest, unless that has proved itself meanwhile.
        table.answered(0);
        let gone =
            table.make_room(prefix(1 << 25), Claim::Displaces, 3_000).unwrap_or_else(|_| panic!("full"));
        assert_eq!(gone.map(|slot| slot.conn), Some(1));
        let mut alone: HalfOpens<u32> = HalfOpens::default();
        for n in 0..share {
            let key: Key = (([192, 0, 2, 1], n as u16).into(), n.into());
            alone.make_room(Prefix::of(key.0.ip()), Claim::Proved, 100).ok().unwrap();
            alone.insert(n.into(), n, key, first(n.into()), true);
        }
        let same = Prefix::of("192.0.2.99".parse().unwrap());
        assert_eq!(alone.make_room(same, Claim::Proved, 100).err(), Some(Full::Share));
        assert!(alone.make_room(prefix(1), Claim::Waits, 100).is_ok());
    }

    #[test]
    fn octets_count_also_when_they_grow() {
        let mut table = HalfOpens::default();
        put(&mut table, 1, true).unwrap();
        assert!(table.note(1, MAX_OCTETS / SHARE, None));
        assert!(!table.note(1, MAX_OCTETS / SHARE + 1, None));
        assert_eq!(table.make_room(prefix(2), Claim::Proved, 1).err(), Some(Full::Share));
        table.remove(1);
        assert!(table.make_room(prefix(2), Claim::Proved, 1).is_ok());
    }

    proptest! {
        /// Whatever is done in whatever order: every entry has one deadline at most, the sums are those of the entries, and what
        /// is due comes out in order.
        #[test]
        fn the_books_are_right(steps in prop::collection::vec((0u8..4, 0u32..40, 0usize..9_000, 0u64..50), 1..300)) {
            let start = Instant::now();
            let mut table: HalfOpens<u32> = HalfOpens::default();
            for (what, n, octets, after) in steps {
                let n = n * 100;
                match what {
                    0 if table.get_mut(n.into()).is_none() => { let _ = put(&mut table, n, octets % 2 == 0); }
                    0 | 1 => { table.note(n.into(), octets, Some(start + Duration::from_millis(after))); }
                    2 => { table.note(n.into(), octets, None); }
                    _ => { table.remove(n.into()); }
                }
                prop_assert_eq!(table.octets, table.slots.values().map(|s| s.octets).sum::<usize>());
                prop_assert_eq!(table.shares.values().map(|s| s.octets).sum::<usize>(), table.octets);
                prop_assert_eq!(table.shares.values().map(|s| s.count).sum::<usize>(), table.len());
                prop_assert_eq!(table.deadlines.len(), table.slots.values().filter(|s| s.due.is_some()).count());
                prop_assert_eq!(table.by_initiator.len(), table.len());
                prop_assert_eq!(table.unproved.len(), table.slots.values().filter(|s| !s.proved).count());
                let earliest = table.slots.values().filter_map(|s| s.due).min();
                prop_assert_eq!(table.next_due(), earliest);
            }
            let mut last = None;
            while let (at, Some(spi)) = (table.next_due(), table.take_due(start + Duration::from_secs(1))) {
                prop_assert!(last <= at && table.get_mut(spi).is_some());
                last = at;
            }
            prop_assert_eq!(table.next_due(), None);
        }
    }
}
