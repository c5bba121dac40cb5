//! Packets that meet a slot which changes hands: they wait until it is known whose it is.
//!
//! The node that gives the slot away has taken its pairs out, and the node that gets it has not put them in yet. That takes
//! milliseconds, and what arrives meanwhile is neither lost nor sent to and fro.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::port::Origin;
use crate::tenant::Tenant;

/// The packets of one shard that wait, in the order they came.
pub(super) struct Waiting {
    wait: Duration,
    packets: VecDeque<Packet>,
    octets: usize,
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
    /// A tenant's packet that another node passed on. It is for a tunnel of some slot, which one shows when it is there.
    Inner(Arc<Tenant>),
}

impl Waiting {
    /// For so long at most ([`crate::RouterConfig::slot_wait`]).
    pub(super) fn new(wait: Duration) -> Self {
        Self { wait, packets: VecDeque::new(), octets: 0 }
    }

    /// Takes a packet in; false when there is no room.
    pub(super) fn push(&mut self, now: Instant, kind: Kind, packet: &[u8]) -> bool {
        let room = self.packets.len() < PACKETS && self.octets + packet.len() <= OCTETS;
        if room {
            self.octets += packet.len();
            self.packets.push_back(Packet { until: now + self.wait, kind, octets: packet.to_vec() });
        }
        room
    }

    /// ESP of a slot, and all inner packets: any of them may be for it.
    pub(super) fn take(&mut self, slot: u8) -> VecDeque<Packet> {
        let (taken, left) =
            std::mem::take(&mut self.packets).into_iter().partition(|packet| match packet.kind {
                Kind::Esp(of, _) => of == slot,
                Kind::Inner(_) => true,
            });
        self.packets = left;
        self.count();
        taken
    }

    /// Those that have waited too long.
    pub(super) fn expire(&mut self, now: Instant) -> VecDeque<Packet> {
        let over = self.packets.iter().take_while(|packet| packet.until <= now).count();
        let left = self.packets.split_off(over);
        let taken = std::mem::replace(&mut self.packets, left);
        self.count();
        taken
    }

    /// When to call [`Waiting::expire`] again; `None` when nothing waits.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.packets.front().map(|packet| packet.until)
    }

    fn count(&mut self) {
        self.octets = self.packets.iter().map(|packet| packet.octets.len()).sum();
    }
}

/// 400,000 packets a second for the ten milliseconds of a usual move, 20,000 for the longest.
const PACKETS: usize = 4096;
/// As many full packets.
const OCTETS: usize = PACKETS * 1500;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;
    use crate::options::Encapsulation;

    const WAIT: Duration = Duration::from_millis(200);

    fn origin() -> Origin {
        let nobody = "127.0.0.1:4500".parse().unwrap();
        Origin { from: nobody, local: nobody, class: 0, encapsulation: Encapsulation::Udp, relayed: false }
    }

    fn octets(packets: VecDeque<Packet>) -> Vec<Vec<u8>> {
        packets.into_iter().map(|packet| packet.octets).collect()
    }

    #[test]
    fn slots_wait_apart_and_in_order() {
        let (mut waiting, now) = (Waiting::new(WAIT), Instant::now());
        for number in 0..6 {
            assert!(waiting.push(now, Kind::Esp(1 + number % 2, origin()), &[number]));
        }
        assert_eq!(octets(waiting.take(2)), [[1], [3], [5]]);
        assert_eq!(octets(waiting.take(3)), Vec::<Vec<u8>>::new());
        assert_eq!(octets(waiting.take(1)), [[0], [2], [4]]);
        assert_eq!((waiting.next_expiry(), waiting.octets), (None, 0));
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
        assert_eq!((waiting.next_expiry(), waiting.octets), (Some(later + WAIT), 1));
    }

    #[test]
    fn room_has_two_bounds() {
        let (mut waiting, now) = (Waiting::new(WAIT), Instant::now());
        assert_eq!(
            (0..=PACKETS).filter(|_| waiting.push(now, Kind::Esp(1, origin()), &[0; 100])).count(),
            PACKETS
        );
        waiting.take(1);
        assert_eq!(
            (0..200).filter(|_| waiting.push(now, Kind::Esp(1, origin()), &[0; 60_000])).count(),
            OCTETS / 60_000
        );
    }
}
