//! Puts packets together whose parts came by themselves.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::datagram::Part;

/// Octets of a packet at most: as many as IP has.
pub const MAX_PACKET: usize = 65_535;
/// Packets that wait for parts at a time. Parts are sent one after the other, so that several wait only if some are lost or overtaken.
const MAX_WAITING: usize = 32;
/// Octets that they have together at most: as much as they are long if all are of the largest kind.
const MAX_OCTETS: usize = MAX_WAITING * MAX_PACKET;
/// How long one waits. What is later than that nobody waits for any more.
const PATIENCE: Duration = Duration::from_millis(500);

/// Packets of which some parts are there.
#[derive(Default)]
pub(super) struct Joiner {
    /// The oldest first.
    waiting: VecDeque<Waiting>,
    octets: usize,
    dropped: usize,
}

struct Waiting {
    number: u32,
    kind: u8,
    parts: Vec<Option<Bytes>>,
    missing: usize,
    octets: usize,
    since: Instant,
}

impl Joiner {
    /// A part came: the packet, if it is whole by it.
    pub(super) fn join(&mut self, part: Part, now: Instant) -> Option<(u8, Bytes)> {
        let Part { kind, number, index, count, octets } = part;
        while self.waiting.front().is_some_and(|oldest| now >= oldest.since + PATIENCE) {
            self.drop_oldest();
        }
        let at = self.waiting.iter().position(|waiting| waiting.number == number).unwrap_or_else(|| {
            let parts = vec![None; usize::from(count)];
            let missing = parts.len();
            self.waiting.push_back(Waiting { number, kind, parts, missing, octets: 0, since: now });
            self.waiting.len() - 1
        });
        let waiting = self.waiting.get_mut(at)?;
        let fits = waiting.parts.len() == usize::from(count);
        let doubled = waiting.parts.get(usize::from(index)).is_some_and(Option::is_some);
        if fits && doubled {
            return None;
        }
        if !fits || waiting.octets + octets.len() > MAX_PACKET {
            self.remove(at);
            self.dropped += 1;
            return None;
        }
        let place = waiting.parts.get_mut(usize::from(index))?;
        waiting.octets += octets.len();
        self.octets += octets.len();
        waiting.missing -= 1;
        // A part would keep the whole buffer that it was received in.
        *place = Some(Bytes::copy_from_slice(&octets));
        if waiting.missing > 0 {
            while self.waiting.len() > MAX_WAITING || self.octets > MAX_OCTETS {
                self.drop_oldest();
            }
            return None;
        }
        let whole = self.remove(at)?;
        let mut packet = Vec::with_capacity(whole.octets);
        whole.parts.iter().flatten().for_each(|part| packet.extend_from_slice(part));
        Some((whole.kind, packet.into()))
    }

    /// How many packets were given up since this was asked last.
    pub(super) fn dropped(&mut self) -> usize {
        std::mem::take(&mut self.dropped)
    }

    fn drop_oldest(&mut self) {
        self.dropped += 1;
        self.remove(0);
    }

    fn remove(&mut self, at: usize) -> Option<Waiting> {
        let removed = self.waiting.remove(at)?;
        self.octets -= removed.octets;
        Some(removed)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::datagram::{Datagram, read, split, whole};
    use super::*;

    fn parts(number: u32, length: usize) -> (Bytes, Vec<Part>) {
        let packet: Bytes = (0..length).map(|n| (n as u32 + number) as u8).collect::<Vec<_>>().into();
        let part = |datagram| match read(datagram) {
            Some(Datagram::Part(part)) => Some(part),
            _ => None,
        };
        let parts = split(&whole(4, &packet), number, 1_200).unwrap();
        (packet, parts.into_iter().map(|datagram| part(datagram).unwrap()).collect())
    }

    #[test]
    fn parts_that_are_mixed_and_doubled_come_out_as_they_were() {
        let (now, mut joiner) = (Instant::now(), Joiner::default());
        let ((a, of_a), (b, mut of_b)) = (parts(1, MAX_PACKET), parts(2, MAX_PACKET));
        of_b.reverse();
        let mut out = Vec::new();
        for (one, other) in of_a.into_iter().zip(of_b) {
            let again = Part { octets: one.octets.clone(), ..one };
            out.extend([one, again, other].into_iter().filter_map(|part| joiner.join(part, now)));
        }
        assert_eq!(out, [(4, a), (4, b)]);
        // The second of what made it whole begins one that never is.
        assert!(joiner.waiting.len() <= 1 && joiner.octets <= 1_200);
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_time() {
        let (now, mut joiner) = (Instant::now(), Joiner::default());
        for number in 0..100 {
            let (_, mut of_one) = parts(number, 3_000);
            assert_eq!(joiner.join(of_one.remove(0), now), None);
        }
        assert_eq!((joiner.waiting.len(), joiner.dropped()), (MAX_WAITING, 100 - MAX_WAITING));
        let (packet, all) = parts(1_000, 3_000);
        let later = now + PATIENCE;
        let out: Vec<_> = all.into_iter().filter_map(|part| joiner.join(part, later)).collect();
        assert_eq!(out, [(4, packet)]);
        assert_eq!((joiner.waiting.len(), joiner.octets, joiner.dropped()), (0, 0, MAX_WAITING));
    }

    #[test]
    fn parts_that_contradict_each_other_are_dropped() {
        let (now, mut joiner) = (Instant::now(), Joiner::default());
        let part =
            |count, length| Part { kind: 1, number: 5, index: 0, count, octets: vec![0; length].into() };
        assert_eq!(joiner.join(part(3, 10), now), None);
        assert_eq!(joiner.join(part(4, 10), now), None);
        assert_eq!(joiner.join(part(3, MAX_PACKET + 1), now), None);
        assert_eq!((joiner.waiting.len(), joiner.octets, joiner.dropped()), (0, 0, 2));
    }
}
