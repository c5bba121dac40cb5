//! What goes by at the balancer, as somebody with a capture and no key sees it: sequence numbers, gaps, and negotiations.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ike::config::Opening;
use ike::reception::{Class, classify};
use loadtest::Ledger;

/// SPIs whose numbers are kept: a run has some hundred, with a rekeying every two seconds and branch for minutes.
const MAX_SPIS: usize = 4096;
/// Negotiations that are told apart.
const MAX_NEGOTIATIONS: usize = 4096;

/// The two ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    Ike,
    Natt,
}

/// What was seen so far.
#[derive(Default)]
pub(super) struct Sightings {
    /// Of ESP towards the branches: which numbers were there, by branch and SPI.
    numbers: HashMap<(SocketAddr, u32), Ledger>,
    rhythms: HashMap<SocketAddr, Rhythm>,
    /// SPIs of initiators, in IKE_SA_INIT.
    negotiations: HashSet<[u8; 8]>,
}

/// When ESP came towards a branch.
struct Rhythm {
    last: Instant,
    /// Since the last look.
    longest: Duration,
}

impl Sightings {
    /// A packet of a branch.
    pub(super) fn of_branch(&mut self, lane: Lane, packet: &[u8]) {
        self.look_for_a_negotiation(lane, packet);
    }

    /// A packet of a node for `branch`.
    pub(super) fn of_node(&mut self, lane: Lane, branch: SocketAddr, packet: &[u8]) {
        self.look_for_a_negotiation(lane, packet);
        let Some((spi, number)) = esp(lane, packet) else { return };
        let now = Instant::now();
        let rhythm = self.rhythms.entry(branch).or_insert(Rhythm { last: now, longest: Duration::ZERO });
        rhythm.longest = rhythm.longest.max(now - rhythm.last);
        rhythm.last = now;
        if self.numbers.len() < MAX_SPIS || self.numbers.contains_key(&(branch, spi)) {
            self.numbers.entry((branch, spi)).or_default().note(number.into());
        }
    }

    /// The longest time without ESP towards a branch since the last look, the time up to now included.
    pub(super) fn longest_gap(&mut self) -> Duration {
        let now = Instant::now();
        let gaps = self.rhythms.values_mut().map(|rhythm| {
            let gap = rhythm.longest.max(now - rhythm.last);
            rhythm.longest = Duration::ZERO;
            gap
        });
        gaps.max().unwrap_or_default()
    }

    /// Numbers of ESP that came a second time under one SPI.
    pub(super) fn doubled(&self) -> u64 {
        self.numbers.values().map(|ledger| ledger.duplicates).sum()
    }

    /// IKE_SAs that somebody has begun to negotiate.
    pub(super) fn negotiations(&self) -> usize {
        self.negotiations.len()
    }

    fn look_for_a_negotiation(&mut self, lane: Lane, packet: &[u8]) {
        let message = match (lane, packet.split_first_chunk::<4>()) {
            (Lane::Ike, _) => packet,
            // The non-ESP marker (RFC 3948 section 2.2).
            (Lane::Natt, Some(([0, 0, 0, 0], message))) => message,
            (Lane::Natt, _) => return,
        };
        if let (Ok(Class::First(Opening::Init)), Some(spi)) = (classify(message), message.first_chunk())
            && self.negotiations.len() < MAX_NEGOTIATIONS
        {
            self.negotiations.insert(*spi);
        }
    }
}

/// SPI and sequence number of ESP (RFC 4303 section 2), of the number the lower half.
fn esp(lane: Lane, packet: &[u8]) -> Option<(u32, u32)> {
    let (spi, rest) = packet.split_first_chunk::<4>()?;
    let spi = u32::from_be_bytes(*spi);
    let number = u32::from_be_bytes(*rest.first_chunk::<4>()?);
    (lane == Lane::Natt && spi != 0).then_some((spi, number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn branch(port: u16) -> SocketAddr {
        ([127, 0, 0, 1], port).into()
    }

    fn packet(spi: u32, number: u32) -> Vec<u8> {
        [spi.to_be_bytes(), number.to_be_bytes(), [0; 4]].concat()
    }

    #[test]
    fn a_number_counts_twice_only_under_the_same_spi_of_the_same_branch() {
        let mut seen = Sightings::default();
        for (port, spi, number) in [(1, 7, 1), (1, 7, 2), (2, 7, 1), (1, 8, 1), (1, 7, 1 << 20)] {
            seen.of_node(Lane::Natt, branch(port), &packet(spi, number));
        }
        assert_eq!(seen.doubled(), 0);
        seen.of_node(Lane::Natt, branch(1), &packet(7, 2));
        assert_eq!(seen.doubled(), 1);
        // IKE has the marker in the place of the SPI.
        seen.of_node(Lane::Natt, branch(1), &packet(0, 2));
        seen.of_node(Lane::Ike, branch(1), &packet(7, 2));
        assert_eq!(seen.doubled(), 1);
    }

    #[test]
    fn a_negotiation_that_is_repeated_is_one() {
        let mut seen = Sightings::default();
        // Header of IKE_SA_INIT (RFC 7296 section 3.1), its length alone.
        let init = |spi: u8| {
            let mut message = vec![0; 28];
            message[..8].copy_from_slice(&[spi; 8]);
            message[17..20].copy_from_slice(&[0x20, 34, 0x08]);
            message[27] = 28;
            message
        };
        seen.of_branch(Lane::Ike, &init(1));
        seen.of_branch(Lane::Natt, &[vec![0; 4], init(1)].concat());
        assert_eq!(seen.negotiations(), 1);
        seen.of_node(Lane::Natt, branch(1), &[vec![0; 4], init(2)].concat());
        assert_eq!(seen.negotiations(), 2);
    }
}
