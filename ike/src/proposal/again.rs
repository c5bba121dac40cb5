//! What is agreed on where something is there already: algorithms in use, or a public value of some group.
//!
//! A rekeying is no occasion to change algorithms. One whose PRF changes is read in two ways: by RFC 7296 section 2.18 the old PRF makes
//! SKEYSEED of the new IKE_SA, and peers have taken it for the rest as well, so that nothing opens any more. And a peer that sends a public
//! value of a group that we take needs no INVALID_KE_PAYLOAD, which some do not know how to go on from.

use super::negotiate::{EspChoice, IkeChoice, choose_esp_of, choose_ike_of};
use super::{EspProposal, IkeProposal};
use crate::wire::numbers::TransformType;
use crate::wire::sa::{Proposal, Transform};

/// The answer to an offer that rekeys an IKE_SA of these algorithms, with a public value of `group`. The algorithms stay as far as both
/// sides have them, the PRF before the others, and the group is the one that was sent if it may be.
pub(crate) fn choose_ike(
    configured: &[IkeProposal],
    offered: &[Proposal],
    current: &IkeChoice,
    group: u16,
) -> Option<(Proposal, IkeChoice)> {
    let prf = |t: &Transform| t.kind != TransformType::PRF || *t == current.prf;
    let rest = |t: &Transform| match t.kind {
        TransformType::ENCR => *t == current.encr,
        TransformType::INTEG => current.integ.map_or(t.id == 0, |integ| *t == integ),
        _ => true,
    };
    let sent = |t: &Transform| t.kind != TransformType::KE || t.id == group;
    let rules: [&dyn Fn(&Transform) -> bool; 6] = [
        &|t| prf(t) && rest(t) && sent(t),
        &|t| prf(t) && rest(t),
        &|t| prf(t) && sent(t),
        &prf,
        &sent,
        &|_| true,
    ];
    rules.into_iter().find_map(|rule| {
        let mine: Vec<_> = configured.iter().filter_map(|p| only(p.transforms(), rule)).collect();
        choose_ike_of(mine.iter().map(Vec::as_slice), offered)
    })
}

/// The answer to an ESP offer in CREATE_CHILD_SA, with a public value of `group` or none.
pub(crate) fn choose_esp(
    configured: &[EspProposal],
    offered: &[Proposal],
    group: Option<u16>,
) -> Option<(Proposal, EspChoice)> {
    let sent = |t: &Transform| t.kind != TransformType::KE || t.id == group.unwrap_or(0);
    let rules: [&dyn Fn(&Transform) -> bool; 2] = [&sent, &|_| true];
    rules.into_iter().find_map(|rule| {
        let mine: Vec<_> = configured.iter().filter_map(|p| only(p.transforms(), rule)).collect();
        choose_esp_of(mine.iter().map(Vec::as_slice), offered)
    })
}

/// What is offered to rekey an IKE_SA of these algorithms, and the group of the public value: nothing that would change the PRF, if that
/// leaves anything; all where that was `refused`, or the peer wants a `group` that is not among it.
pub(crate) fn offer_ike(
    configured: &[IkeProposal],
    current: &IkeChoice,
    group: Option<u16>,
    refused: bool,
) -> (Vec<Vec<Transform>>, u16) {
    let same = |t: &Transform| t.kind != TransformType::PRF || *t == current.prf;
    let mut offered: Vec<_> = configured.iter().filter_map(|p| only(p.transforms(), &same)).collect();
    if offered.is_empty() || refused || group.is_some_and(|group| !groups(&offered).contains(&group)) {
        offered = configured.iter().map(|p| p.transforms().to_vec()).collect();
    }
    let all = groups(&offered);
    let is_offered = |group: &u16| all.contains(group);
    let wanted = [group, Some(current.group)].into_iter().flatten().find(is_offered);
    let group = wanted.or(all.first().copied()).unwrap_or(current.group);
    (offered, group)
}

fn groups(offered: &[Vec<Transform>]) -> Vec<u16> {
    offered.iter().flatten().filter(|t| t.kind == TransformType::KE).map(|t| t.id).collect()
}

/// The transforms that a rule leaves; nothing where it leaves none of some type.
fn only(transforms: &[Transform], rule: &dyn Fn(&Transform) -> bool) -> Option<Vec<Transform>> {
    let kept: Vec<Transform> = transforms.iter().filter(|t| rule(t)).copied().collect();
    transforms.iter().all(|t| kept.iter().any(|k| k.kind == t.kind)).then_some(kept)
}

#[cfg(test)]
mod tests {
    use super::super::negotiate::offer;
    use super::*;
    use crate::wire::numbers::ProtocolId;

    fn ike(texts: &[&str]) -> Vec<IkeProposal> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn esp(texts: &[&str]) -> Vec<EspProposal> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn again(mine: &[&str], theirs: &[&str], current: &str, group: u16) -> Option<String> {
        let theirs = ike(theirs);
        let offered = offer(ProtocolId::IKE, &[1; 8], theirs.iter().map(IkeProposal::transforms), true);
        let current = IkeChoice::from_transforms(ike(&[current])[0].transforms()).unwrap();
        choose_ike(&ike(mine), &offered, &current, group).map(|(_, choice)| choice.to_string())
    }

    #[test]
    fn what_is_in_use_stays() {
        let mine = ["aes128-aes256-sha256-sha512-x25519-ecp256"];
        let theirs = ["aes256-aes128-sha512-sha256-ecp256-x25519"];
        let current = "aes256-sha512-ecp256";
        assert_eq!(again(&mine, &theirs, current, 19).unwrap(), "aes256-sha512-prfsha512-ecp256");
        // Another group for the value that was sent, all else as it is.
        assert_eq!(again(&mine, &theirs, current, 31).unwrap(), "aes256-sha512-prfsha512-x25519");
        // A group that we do not have: the one in use is asked for by whoever calls.
        assert_eq!(again(&mine, &theirs, current, 14).unwrap(), "aes256-sha512-prfsha512-x25519");
        // What is not configured any more goes, and the PRF stays.
        assert_eq!(
            again(&["aes128-sha512-x25519"], &theirs, current, 31).unwrap(),
            "aes128-sha512-prfsha512-x25519"
        );
        assert_eq!(
            again(&["aes128-sha256-x25519"], &theirs, current, 31).unwrap(),
            "aes128-sha256-prfsha256-x25519"
        );
        assert_eq!(again(&["aes192-sha256-x25519"], &theirs, current, 31), None);
    }

    #[test]
    fn a_proposal_further_back_is_taken_for_its_prf() {
        let mine = ["aes128gcm16-prfsha256-x25519", "aes256gcm16-prfsha384-ecp384"];
        let theirs = ["aes256gcm16-prfsha384-ecp384", "aes128gcm16-prfsha256-x25519"];
        let current = "aes256gcm16-prfsha384-ecp384";
        assert_eq!(again(&mine, &theirs, current, 20).unwrap(), "aes256gcm16-prfsha384-ecp384");
        assert_eq!(
            again(&mine, &theirs, "aes128gcm16-prfsha256-x25519", 20).unwrap(),
            "aes128gcm16-prfsha256-x25519"
        );
    }

    #[test]
    fn offers_keep_the_prf_if_there_is_one_that_does() {
        let mine = ike(&["aes128gcm16-prfsha256-prfsha512-x25519", "aes256gcm16-prfsha384-ecp384"]);
        let offer = |prf: &str, group, refused| {
            let current = ike(&[&format!("aes128gcm16-{prf}-x25519")]);
            let current = IkeChoice::from_transforms(current[0].transforms()).unwrap();
            let (offered, group) = offer_ike(&mine, &current, group, refused);
            (offered.iter().map(|t| super::super::text::words(t)).collect::<Vec<_>>(), group)
        };
        let kept = |words: &str, group| (vec![words.to_owned()], group);
        assert_eq!(offer("prfsha512", None, false), kept("aes128gcm16-prfsha512-x25519", 31));
        assert_eq!(offer("prfsha384", None, false), kept("aes256gcm16-prfsha384-ecp384", 20));
        let all = offer("prfsha1", None, false);
        assert_eq!((all.0.len(), all.1), (2, 31), "all, where it is not configured any more");
        // A group of the other one is what the peer wants, as where it may use that one alone.
        assert_eq!(offer("prfsha512", Some(20), false), (all.0.clone(), 20));
        assert_eq!(offer("prfsha512", Some(14), false), (all.0.clone(), 31), "never one that is not offered");
        assert_eq!(offer("prfsha512", None, true), all);
    }

    #[test]
    fn a_child_sa_has_the_group_that_was_sent() {
        let mine = esp(&["aes128gcm16-x25519-ecp256-nopfs"]);
        let theirs = esp(&["aes128gcm16-ecp256-x25519-nopfs"]);
        let offered = offer(ProtocolId::ESP, &[1; 4], theirs.iter().map(EspProposal::transforms), true);
        let group = |sent| choose_esp(&mine, &offered, sent).unwrap().1.group;
        assert_eq!(group(Some(19)), Some(19));
        assert_eq!(group(Some(31)), Some(31));
        assert_eq!(group(None), None);
        assert_eq!(group(Some(14)), Some(31), "the first of ours");
    }
}
