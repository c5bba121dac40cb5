//! Choosing from an offer (RFC 7296 sections 2.7 and 3.3.6), the same lines for IKE and ESP.

use std::fmt;

use super::table;
use super::text::{EspProposal, IkeProposal, words};
use crate::wire::numbers::{ProtocolId, TransformType};
use crate::wire::sa::{Proposal, Transform};

/// What was agreed for an IKE SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IkeChoice {
    /// Encryption.
    pub encr: Transform,
    /// Integrity, `None` with an AEAD.
    pub integ: Option<Transform>,
    /// Pseudorandom function.
    pub prf: Transform,
    /// Key exchange group.
    pub group: u16,
}

impl fmt::Display for IkeChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(&self.transforms()))
    }
}

impl IkeChoice {
    /// The chosen transforms, as an answer carries them.
    pub fn transforms(&self) -> Vec<Transform> {
        let group = Transform::new(TransformType::KE, self.group);
        [Some(self.encr), self.integ, Some(self.prf), Some(group)].into_iter().flatten().collect()
    }

    /// The words of the legacy algorithms in it.
    pub fn legacy(&self) -> Vec<&'static str> {
        table::legacy(&self.transforms())
    }

    pub(crate) fn from_transforms(chosen: &[Transform]) -> Option<Self> {
        let encr = find(chosen, TransformType::ENCR)?;
        let integ = find(chosen, TransformType::INTEG).filter(|t| t.id != 0);
        (integ.is_some() != table::is_aead(encr.id)).then_some(Self {
            encr,
            integ,
            prf: find(chosen, TransformType::PRF)?,
            group: find(chosen, TransformType::KE)?.id,
        })
    }
}

/// What was agreed for a Child SA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspChoice {
    /// Encryption.
    pub encr: Transform,
    /// Integrity, `None` with an AEAD.
    pub integ: Option<Transform>,
    /// 64-bit sequence numbers.
    pub esn: bool,
    /// Key exchange group when the SA has its own (PFS).
    pub group: Option<u16>,
}

impl fmt::Display for EspChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(&self.transforms()))
    }
}

impl EspChoice {
    /// The chosen transforms, as an answer carries them.
    pub fn transforms(&self) -> Vec<Transform> {
        let esn = Transform::new(TransformType::ESN, u16::from(self.esn));
        let group = self.group.map(|id| Transform::new(TransformType::KE, id));
        [Some(self.encr), self.integ, group, Some(esn)].into_iter().flatten().collect()
    }

    /// The words of the legacy algorithms in it.
    pub fn legacy(&self) -> Vec<&'static str> {
        table::legacy(&self.transforms())
    }

    fn from_transforms(chosen: &[Transform]) -> Option<Self> {
        let encr = find(chosen, TransformType::ENCR)?;
        let integ = find(chosen, TransformType::INTEG).filter(|t| t.id != 0);
        (integ.is_some() != table::is_aead(encr.id)).then_some(Self {
            encr,
            integ,
            // An offer without the transform means 32-bit numbers.
            esn: find(chosen, TransformType::ESN).is_some_and(|t| t.id == 1),
            group: find(chosen, TransformType::KE).map(|t| t.id).filter(|&id| id != 0),
        })
    }
}

/// Transform types of additional key exchanges (RFC 9370 section 2.2.2), of which we do none.
const ADDITIONAL_KE: std::ops::RangeInclusive<u8> = 6..=12;

/// Whether an offer leaves it to us to do without this additional key exchange: NONE is among its transforms.
fn may_be_left_out(kind: TransformType, offered: &[Transform]) -> bool {
    let none = Transform::new(kind, 0);
    ADDITIONAL_KE.contains(&kind.0) && offered.contains(&none)
}

/// The transforms of the answer to a proposal: one of each type that was offered, and none of another (RFC 7296 sections 2.7 and 3.3.6,
/// RFC 9370 section 2.2.2). Where nothing was chosen of a type, that is its NONE, without which the proposal would not have been accepted.
pub fn answer(accepted: &Proposal, mut chosen: Vec<Transform>) -> Vec<Transform> {
    let has = |transforms: &[Transform], kind| transforms.iter().any(|t: &Transform| t.kind == kind);
    // 32-bit numbers are what an offer without the type means.
    chosen.retain(|t| t.kind != TransformType::ESN || has(&accepted.transforms, t.kind));
    let may_be_none = [TransformType::INTEG, TransformType::KE].into_iter();
    for kind in may_be_none.chain(ADDITIONAL_KE.map(TransformType)) {
        if has(&accepted.transforms, kind) && !has(&chosen, kind) {
            chosen.push(Transform::new(kind, 0));
        }
    }
    chosen
}

fn find(transforms: &[Transform], kind: TransformType) -> Option<Transform> {
    transforms.iter().find(|t| t.kind == kind).copied()
}

/// Whether an offer's absent transform of this type stands for "none" (RFC 7296 section 3.3.3).
const fn optional(kind: TransformType) -> bool {
    matches!(kind, TransformType::INTEG | TransformType::KE | TransformType::ESN)
}

/// Whose order decides where several transforms of a type are common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// That of the configuration.
    Ours,
    /// That of the offer.
    Theirs,
}

/// Chooses one transform of every type, or `None` when a type has no common one.
fn intersect(configured: &[Transform], offered: &[Transform], order: Order) -> Option<Vec<Transform>> {
    let kinds = [
        TransformType::ENCR,
        TransformType::PRF,
        TransformType::INTEG,
        TransformType::KE,
        TransformType::ESN,
    ];
    // A type that is not understood makes the whole proposal unacceptable (RFC 7296 section 3.3.6).
    if offered.iter().any(|t| !kinds.contains(&t.kind) && !may_be_left_out(t.kind, offered)) {
        return None;
    }
    let mut chosen = Vec::new();
    for kind in kinds {
        let mine: Vec<&Transform> = configured.iter().filter(|t| t.kind == kind).collect();
        let theirs: Vec<&Transform> =
            offered.iter().filter(|t| t.kind == kind && !t.unknown_attribute).collect();
        let absent = !offered.iter().any(|t| t.kind == kind);
        if absent && mine.is_empty() {
            continue;
        }
        let theirs_optional = optional(kind) && (absent || theirs.iter().any(|t| t.id == 0));
        let common = match order {
            Order::Ours => mine.iter().find(|t| theirs.contains(t)),
            Order::Theirs => theirs.iter().find(|t| mine.contains(t)),
        };
        match common {
            Some(t) => chosen.push(**t),
            None if mine.is_empty() && theirs_optional => {}
            // A configured "0" (no ESN, no PFS) meets an offer without the type.
            None if theirs_optional && mine.iter().any(|t| t.id == 0) => {}
            None => return None,
        }
    }
    Some(chosen)
}

/// What is chosen for an IKE SA from one proposal of either side.
pub(crate) fn choose_one(configured: &[Transform], offered: &[Transform], order: Order) -> Option<IkeChoice> {
    intersect(configured, offered, order).as_deref().and_then(IkeChoice::from_transforms)
}

/// The answer to an IKE offer: the number and SPI of the accepted proposal and what was chosen from it.
pub fn choose_ike(configured: &[IkeProposal], offered: &[Proposal]) -> Option<(Proposal, IkeChoice)> {
    choose_ike_of(configured.iter().map(IkeProposal::transforms), offered)
}

/// [`choose_ike`] with these transforms for each proposal of ours.
pub(super) fn choose_ike_of<'a>(
    configured: impl Iterator<Item = &'a [Transform]>,
    offered: &[Proposal],
) -> Option<(Proposal, IkeChoice)> {
    choose(configured, offered, ProtocolId::IKE, IkeChoice::from_transforms)
}

/// [`choose_esp`] with these transforms for each proposal of ours, groups included.
pub(super) fn choose_esp_of<'a>(
    configured: impl Iterator<Item = &'a [Transform]>,
    offered: &[Proposal],
) -> Option<(Proposal, EspChoice)> {
    choose(configured, offered, ProtocolId::ESP, EspChoice::from_transforms)
}

/// The answer to an ESP offer. Without `with_group` the key exchange transforms of both sides are left out but for NONE, as in
/// IKE_AUTH, which has no KE payload of its own (RFC 7296 section 1.2).
pub fn choose_esp(
    configured: &[EspProposal],
    offered: &[Proposal],
    with_group: bool,
) -> Option<(Proposal, EspChoice)> {
    if with_group {
        return choose_esp_of(configured.iter().map(EspProposal::transforms), offered);
    }
    let strip = |t: &[Transform]| -> Vec<Transform> {
        let exchange = |t: &Transform| t.kind == TransformType::KE || ADDITIONAL_KE.contains(&t.kind.0);
        t.iter().filter(|t| t.id == 0 || !exchange(t)).copied().collect()
    };
    let mine: Vec<Vec<Transform>> = configured.iter().map(|p| strip(p.transforms())).collect();
    let theirs: Vec<Proposal> =
        offered.iter().map(|p| Proposal { transforms: strip(&p.transforms), ..p.clone() }).collect();
    choose(mine.iter().map(Vec::as_slice), &theirs, ProtocolId::ESP, EspChoice::from_transforms)
}

fn choose<'a, C>(
    configured: impl Iterator<Item = &'a [Transform]>,
    offered: &[Proposal],
    protocol: ProtocolId,
    build: fn(&[Transform]) -> Option<C>,
) -> Option<(Proposal, C)> {
    for mine in configured {
        for theirs in offered.iter().filter(|p| p.protocol == protocol) {
            if let Some(choice) = intersect(mine, &theirs.transforms, Order::Ours).as_deref().and_then(build)
            {
                return Some((theirs.clone(), choice));
            }
        }
    }
    None
}

/// Checks an answer against what was offered: exactly one proposal, exactly one transform of each type, all of them
/// from the offer (RFC 7296 section 2.7).
pub fn accept_ike(configured: &[IkeProposal], answer: &[Proposal]) -> Option<IkeChoice> {
    single(answer).and_then(|p| choose_ike(configured, p)).map(|(_, choice)| choice)
}

/// [`accept_ike`] for ESP.
pub fn accept_esp(configured: &[EspProposal], answer: &[Proposal], with_group: bool) -> Option<EspChoice> {
    // Without a group in the offer, one in the answer was never offered.
    let grouped = |p: &Proposal| p.transforms.iter().any(|t| t.kind == TransformType::KE && t.id != 0);
    if !with_group && answer.iter().any(grouped) {
        return None;
    }
    single(answer).and_then(|p| choose_esp(configured, p, with_group)).map(|(_, choice)| choice)
}

fn single(answer: &[Proposal]) -> Option<&[Proposal]> {
    let [only] = answer else { return None };
    // None was offered by us.
    if only.transforms.iter().any(|t| ADDITIONAL_KE.contains(&t.kind.0)) {
        return None;
    }
    let mut kinds: Vec<TransformType> = only.transforms.iter().map(|t| t.kind).collect();
    kinds.sort_unstable();
    kinds.windows(2).all(|w| w.first() != w.last()).then_some(answer)
}

/// The groups of the configured proposals, in order of preference, each once.
pub fn groups(configured: &[IkeProposal]) -> Vec<u16> {
    let mut groups = Vec::new();
    for t in configured.iter().flat_map(IkeProposal::transforms).filter(|t| t.kind == TransformType::KE) {
        if !groups.contains(&t.id) {
            groups.push(t.id);
        }
    }
    groups
}

/// The groups among an ESP proposal's transforms in words, each once; `nopfs` where there is none.
pub(crate) fn groups_of<'a>(transforms: impl Iterator<Item = &'a Transform>) -> String {
    let mut words: Vec<String> = Vec::new();
    for t in transforms.filter(|t| t.kind == TransformType::KE) {
        let word = table::word(t);
        if !words.contains(&word) {
            words.push(word);
        }
    }
    if words.is_empty() { "nopfs".to_owned() } else { words.join(", ") }
}

/// The offer of these proposals on the wire, numbered from 1, all with the same SPI.
pub fn offer<'a>(
    protocol: ProtocolId,
    spi: &[u8],
    configured: impl Iterator<Item = &'a [Transform]>,
    with_group: bool,
) -> Vec<Proposal> {
    let keep = |t: &&Transform| with_group || protocol == ProtocolId::IKE || t.kind != TransformType::KE;
    (1u8..=u8::MAX)
        .zip(configured)
        .map(|(number, transforms)| Proposal {
            number,
            protocol,
            spi: spi.to_vec(),
            transforms: transforms.iter().filter(keep).copied().collect(),
        })
        .collect()
}

/// Octets of an offer's description. The longest honest ones have some 1,500; what is beyond was made up to be work.
const MAX_DESCRIPTION: usize = 2_048;

/// An offer as text, for diagnostics: proposals joined by commas.
pub fn describe(offered: &[Proposal]) -> String {
    join(offered.iter().map(|p| words(&p.transforms)))
}

/// Configured proposals as text, for diagnostics.
pub fn describe_configured<P: fmt::Display>(configured: &[P]) -> String {
    join(configured.iter().map(ToString::to_string))
}

fn join(proposals: impl ExactSizeIterator<Item = String>) -> String {
    let count = proposals.len();
    let mut text = String::new();
    for (at, proposal) in proposals.enumerate() {
        if text.len() + proposal.len() > MAX_DESCRIPTION {
            text.push_str(&format!("{}and {} more", if at == 0 { "" } else { ", " }, count - at));
            break;
        }
        if at > 0 {
            text.push_str(", ");
        }
        text.push_str(&proposal);
    }
    text
}

#[cfg(test)]
mod tests;
