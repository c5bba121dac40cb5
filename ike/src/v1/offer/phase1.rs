//! Offers of phase 1 (RFC 2409 section 5 and appendix A).

use super::life::{OfferedLife, PHASE_1, Reading, phase1_life};
use super::{MAX_OFFERED, Method, numbers};
use crate::config::Life;
use crate::proposal::IkeProposal;
use crate::v1::wire::{Attribute, Sa, SaProposal, SaTransform};
use crate::wire::numbers::{ProtocolId, TransformType};
use crate::wire::sa::{Proposal, Transform};

/// The one transform of ISAKMP (RFC 2407 section 4.4.2).
const KEY_IKE: u8 = 1;
const ENCRYPTION: u16 = 1;
const HASH: u16 = 2;
const METHOD: u16 = 3;
const GROUP: u16 = 4;
const KEY_LENGTH: u16 = 14;

/// One transform that a peer offers for phase 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Phase1Offer {
    /// The transform's number.
    pub(crate) number: u8,
    /// How to authenticate, as [`Method::value`].
    pub(crate) method: u16,
    /// How long the SA is to last.
    pub(crate) life: OfferedLife,
    /// The algorithms, by IKEv2's numbers, as a proposal with the transform's number.
    pub(crate) proposal: Proposal,
}

/// The offer of these proposals: a transform for each combination of cipher, hash and group, in the order of preference. The
/// hash stands for PRF and integrity algorithm together, so a proposal must have both; AEADs have no number in IKEv1.
pub(crate) fn phase1(proposals: &[IkeProposal], life: Life, method: Method) -> Sa {
    let mut suites: Vec<Vec<Attribute>> = Vec::new();
    for proposal in proposals {
        let of = |kind| proposal.transforms().iter().filter(move |t| t.kind == kind);
        for encr in of(TransformType::ENCR) {
            let Some(cipher) = numbers::of_cipher(encr.id) else { continue };
            for hash in of(TransformType::PRF).filter_map(|t| hash_of(proposal, t)) {
                for group in of(TransformType::KE).map(|t| t.id) {
                    let mut suite = vec![Attribute::short(ENCRYPTION, cipher)];
                    suite.extend(encr.key_bits.map(|bits| Attribute::short(KEY_LENGTH, bits)));
                    suite.extend([Attribute::short(HASH, hash), Attribute::short(METHOD, method.value())]);
                    suite.push(Attribute::short(GROUP, group));
                    suite.extend(phase1_life(life));
                    if !suites.contains(&suite) && suites.len() < MAX_OFFERED {
                        suites.push(suite);
                    }
                }
            }
        }
    }
    let transforms =
        (1..).zip(suites).map(|(number, attributes)| SaTransform { number, id: KEY_IKE, attributes });
    Sa::new(vec![SaProposal {
        number: 1,
        protocol: ProtocolId::IKE,
        spi: Vec::new(),
        transforms: transforms.collect(),
    }])
}

/// The number of the hash of a PRF whose integrity algorithm is in the proposal too.
fn hash_of(proposal: &IkeProposal, prf: &Transform) -> Option<u16> {
    let (hash, integ) = numbers::of_prf(prf.id)?;
    proposal.transforms().contains(&Transform::new(TransformType::INTEG, integ)).then_some(hash)
}

/// What an offer, or the answer to one, has in it. There is one proposal (RFC 2409 section 5); what follows it is not
/// looked at, nor is a transform with a number that was there before.
pub(crate) fn read_phase1(sa: &Sa) -> Vec<Phase1Offer> {
    let mut offers: Vec<Phase1Offer> = Vec::new();
    for (_, transform) in transforms(sa) {
        if !offers.iter().any(|offer| offer.number == transform.number) {
            offers.push(read(transform));
        }
    }
    offers
}

/// The transforms of the one proposal, each with its place.
fn transforms(sa: &Sa) -> impl Iterator<Item = (usize, &SaTransform)> {
    let proposal = sa.proposals.first().filter(|p| p.protocol == ProtocolId::IKE);
    let all = proposal.into_iter().flat_map(|p| p.transforms.iter().enumerate());
    all.filter(|(_, t)| t.id == KEY_IKE)
}

fn read(transform: &SaTransform) -> Phase1Offer {
    let mut reading = Reading::new(PHASE_1);
    let (mut encr, mut hash, mut group, mut method) = (None, None, None, None);
    let (mut key_bits, mut odd) = (None, false);
    for attribute in &transform.attributes {
        if reading.take(attribute) {
            continue;
        }
        let field = match attribute.kind {
            ENCRYPTION => &mut encr,
            HASH => &mut hash,
            METHOD => &mut method,
            GROUP => &mut group,
            KEY_LENGTH => &mut key_bits,
            _ => {
                odd = true;
                continue;
            }
        };
        let value = attribute.number().and_then(|n| u16::try_from(n).ok());
        // A value that cannot be one, or a second one, is none that could be agreed on.
        odd |= value.is_none() || field.is_some();
        *field = value;
    }
    let mut transforms = Vec::new();
    if let Some(number) = encr {
        let encr = numbers::cipher(number);
        transforms.push(Transform { key_bits, unknown_attribute: encr.unknown_attribute || odd, ..encr });
    }
    transforms.extend(hash.map(numbers::hash).unwrap_or_default());
    transforms.extend(group.map(|id| Transform::new(TransformType::KE, id)));
    Phase1Offer {
        number: transform.number,
        method: method.unwrap_or_default(),
        life: reading.life,
        proposal: Proposal {
            number: transform.number,
            protocol: ProtocolId::IKE,
            spi: Vec::new(),
            transforms,
        },
    }
}

/// The answer that takes the transform of this number, its attributes as received.
pub(crate) fn answer_phase1(sa: &Sa, number: u8) -> Option<Sa> {
    let (place, _) = transforms(sa).find(|(_, t)| t.number == number)?;
    sa.choose(0, place, Vec::new())
}
