//! Proposals as data, and the SA payloads of IKEv1: what is configured becomes an offer, and an offer becomes proposals
//! with IKEv2's numbers, so that there is one negotiation for both.

mod life;
mod numbers;
mod phase1;
mod quick;

pub(crate) use life::{OfferedLife, phase1_life, phase2_life};
pub(crate) use numbers::Method;
pub(crate) use phase1::{Phase1Offer, answer_phase1, phase1, read_phase1};
pub(crate) use quick::{Encapsulation, QuickOffer, answer_quick, quick, read_quick};

/// Transforms in one offer. A configuration that makes sense has under 30 combinations, which go in one packet; this many,
/// of some 40 octets each, go in two.
const MAX_OFFERED: usize = 64;

/// Adds a suite to those that are offered, unless it is there or there are enough.
fn add<T: PartialEq>(suites: &mut Vec<T>, suite: T) {
    if suites.len() < MAX_OFFERED && !suites.contains(&suite) {
        suites.push(suite);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suites_are_offered_once_each_and_not_without_end() {
        let mut suites = Vec::new();
        for suite in [1, 2, 1, 3].into_iter().chain(2..100) {
            add(&mut suites, suite);
        }
        assert_eq!(suites, (1..=64).collect::<Vec<_>>());
    }
}
