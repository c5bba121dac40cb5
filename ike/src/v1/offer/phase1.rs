//! Offers of phase 1 (RFC 2409 section 5 and appendix A).

use super::life::{OfferedLife, PHASE_1, Reading, phase1_life};
use super::{Method, add, numbers};
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
                    add(&mut suites, suite);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::proposal::Candidates;
    use crate::proposal::negotiate::{accept_ike, choose_ike, describe};

    const LIFE: Life = Life { time: Duration::from_secs(3_600), kilobytes: Some(1_000) };

    fn ike(texts: &[&str]) -> Vec<IkeProposal> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    fn offered(texts: &[&str]) -> Sa {
        phase1(&ike(texts), LIFE, Method::PreSharedKey)
    }

    fn proposals(sa: &Sa) -> Vec<Proposal> {
        read_phase1(sa).into_iter().map(|offer| offer.proposal).collect()
    }

    /// An offer of one transform with these attributes, its number 1.
    fn of(attributes: &[(u16, u16)]) -> Sa {
        let attributes = attributes.iter().map(|&(kind, value)| Attribute::short(kind, value)).collect();
        of_transforms(vec![SaTransform { number: 1, id: KEY_IKE, attributes }])
    }

    fn of_transforms(transforms: Vec<SaTransform>) -> Sa {
        Sa::new(vec![SaProposal { number: 1, protocol: ProtocolId::IKE, spi: Vec::new(), transforms }])
    }

    #[test]
    fn each_combination_is_a_transform_in_the_order_of_preference() {
        let sa = offered(&["aes256-aes128-sha256-sha384-ecp256-modp2048", "aes128-sha512-modp2048"]);
        let words = describe(&proposals(&sa));
        let expected: Vec<String> = ["aes256", "aes128"]
            .iter()
            .flat_map(|encr| ["256", "384"].map(|hash| (encr, hash)))
            .flat_map(|(encr, hash)| {
                ["ecp256", "modp2048"].map(|group| format!("{encr}-sha{hash}-prfsha{hash}-{group}"))
            })
            .chain(["aes128-sha512-prfsha512-modp2048".to_owned()])
            .collect();
        assert_eq!(words, expected.join(", "));
        let numbers: Vec<u8> = read_phase1(&sa).iter().map(|offer| offer.number).collect();
        assert_eq!(numbers, (1..=9).collect::<Vec<u8>>());
        for offer in read_phase1(&sa) {
            assert_eq!((offer.method, offer.proposal.number), (1, offer.number));
            assert_eq!(offer.life, OfferedLife { seconds: Some(3_600), kilobytes: Some(1_000) });
        }
    }

    #[test]
    fn a_transform_has_the_attributes_of_rfc_2409() {
        let sa = offered(&["aes256-sha256-modp2048"]);
        let attributes = [
            &[0x80, 1, 0, 7, 0x80, 14, 1, 0, 0x80, 2, 0, 4, 0x80, 3, 0, 1, 0x80, 4, 0, 14][..],
            &[0x80, 11, 0, 1, 0, 12, 0, 4, 0, 0, 0x0e, 0x10],
            &[0x80, 11, 0, 2, 0, 12, 0, 4, 0, 0, 0x03, 0xe8],
        ];
        let body = [&[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 60, 1, 1, 0, 1, 0, 0, 0, 52, 1, 1, 0, 0][..]];
        assert_eq!(sa.body, [&body[..], &attributes[..]].concat().concat());
    }

    #[test]
    fn what_has_no_number_is_left_out() {
        assert_eq!(proposals(&offered(&["aes128gcm16-prfsha256-ecp256"])), []);
        assert_eq!(proposals(&offered(&["aes128-aesxcbc-ecp256"])), []);
        // A hash stands for both purposes.
        assert_eq!(proposals(&offered(&["aes128-sha256-prfsha384-ecp256"])), []);
        let twice = offered(&["aes128-sha256-ecp256", "aes128-sha256-ecp256"]);
        assert_eq!(proposals(&twice).len(), 1);
    }

    #[test]
    fn an_answer_is_the_chosen_transform_and_is_accepted() {
        let configured = ike(&["aes256-aes128-sha256-ecp256-modp2048"]);
        let sa = offered(&["aes256-aes128-sha256-ecp256-modp2048"]);
        let (chosen, choice) =
            Candidates::only(&ike(&["aes128-sha256-modp2048"])).choose(&proposals(&sa)).unwrap();
        assert_eq!((chosen.number, choice.to_string().as_str()), (4, "aes128-sha256-prfsha256-modp2048"));
        let answer = answer_phase1(&sa, chosen.number).unwrap();
        let theirs = proposals(&answer);
        assert_eq!(accept_ike(&configured, &theirs), Some(choice));
        assert_eq!(answer.proposals[0].transforms, sa.proposals[0].transforms[3..4]);
        // Not what was not offered, nor two of what was.
        assert_eq!(accept_ike(&ike(&["aes256-sha256-modp2048"]), &theirs), None);
        assert_eq!(accept_ike(&configured, &proposals(&sa)), None);
        assert_eq!(answer_phase1(&sa, 5), None);
    }

    #[test]
    fn what_is_not_understood_is_told_and_never_chosen() {
        let configured = ike(&["aes128-sha256-modp2048"]);
        let good = [(1, 7), (14, 128), (2, 4), (3, 1), (4, 14)];
        let (accepted, _) = choose_ike(&configured, &proposals(&of(&good))).unwrap();
        assert_eq!(accepted.number, 1);
        for (more, words) in [
            // Two ciphers, two lengths, a PRF of its own, the size of a field, something private.
            (&[(1, 7)][..], "aes128-sha256-prfsha256-modp2048"),
            (&[(14, 128)], "aes128-sha256-prfsha256-modp2048"),
            (&[(13, 1)], "aes128-sha256-prfsha256-modp2048"),
            (&[(6, 1)], "aes128-sha256-prfsha256-modp2048"),
            (&[(0x4001, 1)], "aes128-sha256-prfsha256-modp2048"),
            (&[(2, 1)], "aes128-md5-prfmd5-modp2048"),
        ] {
            let proposals = proposals(&of(&[&good[..], more].concat()));
            assert_eq!(choose_ike(&configured, &proposals), None, "{more:?}");
            let told = describe(&proposals);
            assert_eq!(told.replace("ENCR_AES_CBC_128", "aes128"), words);
        }
        for (at, value) in [(0, 9), (1, 0), (2, 9), (4, 999)] {
            let mut other = good;
            other[at].1 = value;
            let proposals = proposals(&of(&other));
            assert_eq!(choose_ike(&configured, &proposals), None, "{at}");
            assert!(!describe(&proposals).is_empty());
        }
        for at in [0, 1, 2, 4] {
            let mut fewer = good.to_vec();
            fewer.remove(at);
            assert_eq!(choose_ike(&configured, &proposals(&of(&fewer))), None, "{at}");
        }
        assert_eq!(read_phase1(&of(&[]))[0].method, 0);
        // A length of four octets is not one that is absent, as it is with 3DES.
        let mut des = of(&[(1, 5), (2, 2), (4, 14)]).proposals.remove(0).transforms;
        assert!(!proposals(&of_transforms(des.clone()))[0].transforms[0].unknown_attribute);
        des[0].attributes.push(Attribute::long(KEY_LENGTH, 0x1_0000));
        assert!(proposals(&of_transforms(des))[0].transforms[0].unknown_attribute);
    }

    /// A group of the numbers for private use brought strongSwan down (CVE-2014-9221).
    #[test]
    fn a_private_group_is_told_and_never_chosen() {
        let sa = of(&[(1, 7), (14, 128), (2, 4), (3, 1), (4, 0x8001)]);
        assert_eq!(describe(&proposals(&sa)), "aes128-sha256-prfsha256-KE(32769)");
        assert_eq!(choose_ike(&IkeProposal::defaults(), &proposals(&sa)), None);
        // One of four octets is none.
        let transform = SaTransform { number: 1, id: 1, attributes: vec![Attribute::long(4, 0x1_000e)] };
        assert_eq!(describe(&proposals(&of_transforms(vec![transform]))), "");
    }

    #[test]
    fn one_proposal_counts_and_each_number_once() {
        let good = of(&[(1, 7), (14, 128), (2, 4), (3, 1), (4, 14)]).proposals.remove(0);
        let transform = good.transforms[0].clone();
        let other = SaTransform { attributes: Vec::new(), ..transform.clone() };
        let foreign = SaTransform { id: 2, ..transform.clone() };
        let sa = of_transforms(vec![foreign, transform.clone(), other]);
        assert_eq!(read_phase1(&sa).len(), 1);
        assert_eq!(answer_phase1(&sa, 1).unwrap().proposals[0].transforms, [transform]);
        let esp = SaProposal { protocol: ProtocolId::ESP, spi: vec![1; 4], ..good.clone() };
        assert_eq!(read_phase1(&Sa::new(vec![esp, good.clone()])), []);
        assert_eq!(read_phase1(&Sa::new(vec![good.clone(), good])).len(), 1);
        assert_eq!(read_phase1(&Sa::new(Vec::new())), []);
    }
}
