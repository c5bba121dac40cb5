//! Offers of Quick Mode (RFC 2409 section 5.5, RFC 2407 section 4.5).

use super::life::{OfferedLife, PHASE_2, Reading, phase2_life};
use super::{add, numbers};
use crate::config::{Life, Mode};
use crate::proposal::EspProposal;
use crate::v1::wire::{Attribute, Sa, SaProposal, SaTransform};
use crate::wire::numbers::{ProtocolId, TransformType};
use crate::wire::sa::{Proposal, Transform};

const GROUP: u16 = 3;
const ENCAPSULATION: u16 = 4;
const AUTH: u16 = 5;
const KEY_LENGTH: u16 = 6;
/// RFC 4304 section 2, with its only value.
const ESN: (u16, u16) = (11, 1);

/// In what ESP is carried (RFC 3947 section 5.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encapsulation {
    /// In IP.
    Raw,
    /// In UDP, by the numbers of the RFC.
    Rfc,
    /// In UDP, by the numbers of the drafts.
    Draft,
}

/// The values of the attribute.
const MODES: [(u16, Mode, Encapsulation); 6] = [
    (1, Mode::Tunnel, Encapsulation::Raw),
    (2, Mode::Transport, Encapsulation::Raw),
    (3, Mode::Tunnel, Encapsulation::Rfc),
    (4, Mode::Transport, Encapsulation::Rfc),
    (61_443, Mode::Tunnel, Encapsulation::Draft),
    (61_444, Mode::Transport, Encapsulation::Draft),
];

/// One transform that a peer offers for an SA of ESP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct QuickOffer {
    /// The number of the proposal that it is in.
    pub(crate) proposal_number: u8,
    /// Its own.
    pub(crate) number: u8,
    /// The SPI of what we send.
    pub(crate) spi_out: u32,
    /// Tunnel or transport, if it says so.
    pub(crate) mode: Option<Mode>,
    /// In what ESP is carried.
    pub(crate) encapsulation: Encapsulation,
    /// How long the SA is to last.
    pub(crate) life: OfferedLife,
    /// The group of a key exchange of its own (PFS).
    pub(crate) group: Option<u16>,
    /// The algorithms, by IKEv2's numbers.
    pub(crate) proposal: Proposal,
}

/// The offer of these proposals: a transform for each combination of cipher and integrity algorithm, in the order of
/// preference. With a group it is on each, as all of an offer must have the same (RFC 2409 section 5.5), and proposals that
/// do not allow it are left out, as are algorithms that have no number in IKEv1.
pub(crate) fn quick(
    proposals: &[EspProposal],
    spi: u32,
    group: Option<u16>,
    life: Life,
    mode: Mode,
    encapsulation: Encapsulation,
) -> Sa {
    let wanted = MODES.iter().find(|(_, m, e)| (*m, *e) == (mode, encapsulation));
    let mut common = phase2_life(life);
    common.extend(wanted.map(|(value, ..)| Attribute::short(ENCAPSULATION, *value)));
    common.extend(group.map(|id| Attribute::short(GROUP, id)));
    let mut suites: Vec<(u8, Vec<Attribute>)> = Vec::new();
    for proposal in proposals {
        let of = |kind| proposal.transforms().iter().filter(move |t| t.kind == kind);
        if group.is_some_and(|id| !of(TransformType::KE).any(|t| t.id == id)) {
            continue;
        }
        // Without the attribute numbers have 32 bits, which is what a proposal that allows both is content with.
        let esn = of(TransformType::ESN).all(|t| t.id == 1).then(|| Attribute::short(ESN.0, ESN.1));
        let integ: Vec<Option<u16>> = match of(TransformType::INTEG).count() {
            0 => vec![None],
            _ => of(TransformType::INTEG).filter_map(|t| numbers::of_auth(t.id)).map(Some).collect(),
        };
        for encr in of(TransformType::ENCR) {
            let Some(id) = numbers::of_esp(encr.id) else { continue };
            for auth in &integ {
                let mut suite = common.clone();
                suite.extend(encr.key_bits.map(|bits| Attribute::short(KEY_LENGTH, bits)));
                suite.extend(auth.map(|auth| Attribute::short(AUTH, auth)));
                suite.extend(esn.clone());
                add(&mut suites, (id, suite));
            }
        }
    }
    let transforms =
        (1..).zip(suites).map(|(number, (id, attributes))| SaTransform { number, id, attributes });
    Sa::new(vec![SaProposal {
        number: 1,
        protocol: ProtocolId::ESP,
        spi: spi.to_be_bytes().to_vec(),
        transforms: transforms.collect(),
    }])
}

/// What an offer, or the answer to one, has in it for ESP alone. Proposals that share their number with another are to be
/// taken together (RFC 2408 section 4.2), as ESP within AH, and are left out.
pub(crate) fn read_quick(sa: &Sa, short_sha256: bool) -> Vec<QuickOffer> {
    let mut offers: Vec<QuickOffer> = Vec::new();
    for (_, proposal) in alone(sa) {
        let spi = proposal.spi.as_slice().try_into().ok().map(u32::from_be_bytes).filter(|&spi| spi != 0);
        let Some(spi_out) = spi else { continue };
        let start = offers.len();
        for transform in &proposal.transforms {
            // A number that was there before names the first one.
            if !offers.iter().skip(start).any(|offer| offer.number == transform.number) {
                offers.push(read(proposal, spi_out, transform, short_sha256));
            }
        }
    }
    offers
}

/// The proposals for ESP alone, each with its place.
fn alone(sa: &Sa) -> impl Iterator<Item = (usize, &SaProposal)> {
    let same = |number| sa.proposals.iter().filter(|p| p.number == number).count();
    let all = sa.proposals.iter().enumerate();
    all.filter(move |(_, p)| p.protocol == ProtocolId::ESP && same(p.number) == 1)
}

fn read(proposal: &SaProposal, spi_out: u32, transform: &SaTransform, short_sha256: bool) -> QuickOffer {
    let mut reading = Reading::new(PHASE_2);
    let (mut group, mut encapsulation, mut auth, mut key_bits, mut esn) = (None, None, None, None, None);
    let mut odd = false;
    for attribute in &transform.attributes {
        if reading.take(attribute) {
            continue;
        }
        let field = match attribute.kind {
            GROUP => &mut group,
            ENCAPSULATION => &mut encapsulation,
            AUTH => &mut auth,
            KEY_LENGTH => &mut key_bits,
            kind if kind == ESN.0 => &mut esn,
            _ => {
                odd = true;
                continue;
            }
        };
        let value = attribute.number().and_then(|n| u16::try_from(n).ok());
        odd |= value.is_none() || field.is_some();
        *field = value;
    }
    let known = encapsulation.map(|value| MODES.iter().find(|(number, ..)| *number == value));
    odd |= known == Some(None) || esn.is_some_and(|value| value != ESN.1);
    let encr = numbers::esp(transform.id);
    let encr = Transform { key_bits, unknown_attribute: encr.unknown_attribute || odd, ..encr };
    let esn = Transform::new(TransformType::ESN, u16::from(esn == Some(ESN.1)));
    let ke = group.map(|id| Transform::new(TransformType::KE, id));
    let integ = auth.map(|number| numbers::auth(number, short_sha256));
    QuickOffer {
        proposal_number: proposal.number,
        number: transform.number,
        spi_out,
        mode: known.flatten().map(|(_, mode, _)| *mode),
        encapsulation: known.flatten().map_or(Encapsulation::Raw, |(.., encapsulation)| *encapsulation),
        life: reading.life,
        group,
        proposal: Proposal {
            number: proposal.number,
            protocol: ProtocolId::ESP,
            spi: proposal.spi.clone(),
            transforms: [Some(encr), integ, ke, Some(esn)].into_iter().flatten().collect(),
        },
    }
}

/// The answer that takes an offer, with our SPI and the attributes as received.
pub(crate) fn answer_quick(sa: &Sa, offer: &QuickOffer, spi: u32) -> Option<Sa> {
    let (place, proposal) = alone(sa).find(|(_, p)| p.number == offer.proposal_number)?;
    let transform = proposal.transforms.iter().position(|t| t.number == offer.number)?;
    sa.choose(place, transform, spi.to_be_bytes().to_vec())
}

#[cfg(test)]
mod tests;
