//! Proposals as data, and the SA payloads of IKEv1: what is configured becomes an offer, and an offer becomes proposals
//! with IKEv2's numbers, so that there is one negotiation for both.

mod life;
mod numbers;
mod phase1;
mod quick;

pub(crate) use life::{OfferedLife, phase2_life};
pub(crate) use numbers::Method;
pub(crate) use phase1::{answer_phase1, phase1, read_phase1};
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
    use proptest::prelude::*;

    use super::*;
    use crate::proposal::negotiate::describe;
    use crate::v1::wire::{Attribute, Sa, SaProposal, SaTransform};
    use crate::wire::numbers::ProtocolId;

    #[test]
    fn suites_are_offered_once_each_and_not_without_end() {
        let mut suites = Vec::new();
        for suite in [1, 2, 1, 3].into_iter().chain(2..100) {
            add(&mut suites, suite);
        }
        assert_eq!(suites, (1..=64).collect::<Vec<_>>());
    }

    /// An SA of numbers that mean something often enough.
    fn sa() -> impl Strategy<Value = Sa> {
        let value = prop_oneof![
            (0u16..16).prop_map(|value| value.to_be_bytes().to_vec()),
            prop::sample::select(vec![128u16, 256, 61_443]).prop_map(|value| value.to_be_bytes().to_vec()),
            prop::collection::vec(any::<u8>(), 0..10),
        ];
        let attribute = (0u16..16, value).prop_map(|(kind, value)| Attribute { kind, value });
        let transform = (0u8..4, 0u8..24, prop::collection::vec(attribute, 0..8))
            .prop_map(|(number, id, attributes)| SaTransform { number, id, attributes });
        let transforms = prop::collection::vec(transform, 0..5);
        let proposal = (0u8..3, 1u8..4, transforms).prop_map(|(number, protocol, transforms)| SaProposal {
            number,
            protocol: ProtocolId(protocol),
            spi: vec![0, 0, 1, 1],
            transforms,
        });
        prop::collection::vec(proposal, 1..4).prop_map(Sa::new)
    }

    proptest! {
        #[test]
        fn whatever_is_offered_prints_and_can_be_answered_as_it_is(sa in sa(), short in any::<bool>()) {
            for offer in read_phase1(&sa) {
                let answer = answer_phase1(&sa, offer.number).unwrap();
                prop_assert_eq!(read_phase1(&answer), std::slice::from_ref(&offer));
                describe(&[offer.proposal]);
            }
            for offer in read_quick(&sa, short) {
                let mut answered = read_quick(&answer_quick(&sa, &offer, 7).unwrap(), short).remove(0);
                prop_assert_eq!(answered.spi_out, 7);
                answered.spi_out = offer.spi_out;
                answered.proposal.spi.clone_from(&offer.proposal.spi);
                prop_assert_eq!(&answered, &offer);
                describe(&[offer.proposal]);
            }
        }
    }
}
