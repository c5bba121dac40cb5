//! The choice from an offer, and the answer to it.

use super::*;

fn ike(texts: &[&str]) -> Vec<IkeProposal> {
    texts.iter().map(|t| t.parse().unwrap()).collect()
}

fn esp(texts: &[&str]) -> Vec<EspProposal> {
    texts.iter().map(|t| t.parse().unwrap()).collect()
}

fn ike_offer(texts: &[&str]) -> Vec<Proposal> {
    offer(ProtocolId::IKE, &[], ike(texts).iter().map(IkeProposal::transforms), true)
}

fn esp_offer(texts: &[&str], group: bool) -> Vec<Proposal> {
    offer(ProtocolId::ESP, &[1, 2, 3, 4], esp(texts).iter().map(EspProposal::transforms), group)
}

#[test]
fn groups_are_listed_once_each() {
    let configured = ike(&["aes128gcm16-prfsha256-x25519-ecp256", "aes256-sha256-ecp256-x25519-modp2048"]);
    assert_eq!(groups(&configured), [31, 19, 14]);
}

#[test]
fn the_first_common_proposal_wins_and_the_configured_order_decides() {
    let offered = ike_offer(&["aes256-sha256-modp2048", "aes128gcm16-aes256gcm16-prfsha256-x25519-ecp256"]);
    let (p, c) = choose_ike(&ike(&["aes256gcm16-aes128gcm16-prfsha256-ecp256-x25519"]), &offered).unwrap();
    assert_eq!((p.number, c.to_string().as_str()), (2, "aes256gcm16-prfsha256-ecp256"));
    assert!(choose_ike(&ike(&["aes128gcm16-prfsha512-x25519"]), &offered).is_none());
}

#[test]
fn an_unknown_transform_type_or_attribute_is_never_chosen() {
    let configured = ike(&["aes128gcm16-prfsha256-x25519"]);
    let mut offered = ike_offer(&["aes128gcm16-prfsha256-x25519"]);
    offered[0].transforms.push(Transform::new(TransformType(6), 36));
    assert!(choose_ike(&configured, &offered).is_none());
    let mut offered = ike_offer(&["aes128gcm16-prfsha256-x25519"]);
    offered[0].transforms[0].unknown_attribute = true;
    assert!(choose_ike(&configured, &offered).is_none());
}

/// One transform of each type that was offered, all of them from the offer.
#[track_caller]
fn assert_one_of_each(answer: &[Transform], offered: &Proposal) {
    let mut kinds: Vec<TransformType> = offered.transforms.iter().map(|t| t.kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    let mut answered: Vec<TransformType> = answer.iter().map(|t| t.kind).collect();
    answered.sort_unstable();
    assert_eq!(answered, kinds);
    assert!(answer.iter().all(|t| offered.transforms.contains(t)), "{answer:?}");
}

#[test]
fn what_may_be_none_is_answered_with_none_and_what_was_left_out_is_left_out() {
    let none = |kind| Transform::new(kind, 0);
    let integ = none(TransformType::INTEG);
    let mut offered = ike_offer(&["aes128gcm16-prfsha256-x25519"]);
    offered[0].transforms.push(integ);
    let (accepted, choice) = choose_ike(&ike(&["aes128gcm16-prfsha256-x25519"]), &offered).unwrap();
    assert_one_of_each(&answer(&accepted, choice.transforms()), &offered[0]);
    for with_group in [true, false] {
        for more in [&[][..], &[integ], &[none(TransformType::KE)], &[none(TransformType::KE), integ]] {
            for esn in [true, false] {
                let mut offered = esp_offer(&["aes128gcm16"], with_group);
                offered[0].transforms.retain(|t| esn || t.kind != TransformType::ESN);
                offered[0].transforms.extend(more);
                let (accepted, choice) = choose_esp(&esp(&["aes128gcm16"]), &offered, with_group).unwrap();
                let answered = answer(&accepted, choice.transforms());
                assert_one_of_each(&answered, &offered[0]);
                // And so it is taken.
                let answered = [Proposal { transforms: answered, ..accepted }];
                let taken = accept_esp(&esp(&["aes128gcm16"]), &answered, with_group);
                assert_eq!(taken, Some(choice));
            }
        }
    }
    // A group that nothing can be exchanged for is not none.
    let mut offered = esp_offer(&["aes128gcm16-x25519"], true);
    let (accepted, choice) = choose_esp(&esp(&["aes128gcm16"]), &offered, false).unwrap();
    assert_eq!(answer(&accepted, choice.transforms()), choice.transforms());
    // Where both can be had, none is answered if none was sent.
    offered[0].transforms.push(none(TransformType::KE));
    let (accepted, choice) = choose_esp(&esp(&["aes128gcm16"]), &offered, true).unwrap();
    assert_one_of_each(&answer(&accepted, choice.transforms()), &offered[0]);
}

#[test]
fn additional_key_exchanges_that_may_be_none_are_answered_with_none() {
    let configured = ike(&["aes128gcm16-prfsha256-x25519"]);
    let with = |transforms: &[(u8, u16)]| {
        let mut offered = ike_offer(&["aes128gcm16-prfsha256-x25519"]);
        let more = transforms.iter().map(|&(kind, id)| Transform::new(TransformType(kind), id));
        offered[0].transforms.extend(more);
        offered
    };
    for optional in [&[(6, 36), (6, 0)][..], &[(6, 0)], &[(6, 0), (6, 36), (12, 35), (12, 0)]] {
        let offered = with(optional);
        let (accepted, choice) = choose_ike(&configured, &offered).unwrap();
        let answer = answer(&accepted, choice.transforms());
        assert_one_of_each(&answer, &offered[0]);
    }
    let with_attribute = {
        let mut offered = with(&[(6, 36), (6, 0)]);
        offered[0].transforms.last_mut().unwrap().unknown_attribute = true;
        offered
    };
    // Not all of them may be none, or nobody knows what the type is.
    for demanded in [with(&[(6, 36)]), with(&[(6, 0), (7, 36)]), with(&[(13, 0)]), with_attribute] {
        assert!(choose_ike(&configured, &demanded).is_none(), "{demanded:?}");
    }
    // We offer none, so that none can be chosen.
    assert!(accept_ike(&configured, &with(&[])).is_some());
    assert!(accept_ike(&configured, &with(&[(6, 0)])).is_none());
    // Where there is no key exchange at all, none is answered.
    let mut offered = esp_offer(&["aes128gcm16"], false);
    offered[0].transforms.push(Transform::new(TransformType(6), 36));
    let (accepted, choice) = choose_esp(&esp(&["aes128gcm16"]), &offered, false).unwrap();
    assert_eq!(answer(&accepted, choice.transforms()), choice.transforms());
    assert!(choose_esp(&esp(&["aes128gcm16"]), &offered, true).is_none());
}

#[test]
fn esp_without_group_ignores_pfs_and_with_it_demands_it() {
    let configured = esp(&["aes128gcm16-x25519"]);
    assert!(choose_esp(&configured, &esp_offer(&["aes128gcm16"], false), false).is_some());
    assert!(choose_esp(&configured, &esp_offer(&["aes128gcm16"], true), true).is_none());
    let (_, c) = choose_esp(&configured, &esp_offer(&["aes128gcm16-x25519"], true), true).unwrap();
    assert_eq!(c.group, Some(31));
}

#[test]
fn a_missing_esn_transform_means_32_bit_numbers() {
    let mut offered = esp_offer(&["aes128gcm16"], false);
    offered[0].transforms.retain(|t| t.kind != TransformType::ESN);
    let (_, c) = choose_esp(&esp(&["aes128gcm16"]), &offered, false).unwrap();
    assert!(!c.esn);
    assert!(choose_esp(&esp(&["aes128gcm16-esn"]), &offered, false).is_none());
}

#[test]
fn an_answer_with_two_transforms_of_a_type_is_refused() {
    let configured = ike(&["aes128gcm16-aes256gcm16-prfsha256-x25519"]);
    assert!(accept_ike(&configured, &ike_offer(&["aes128gcm16-prfsha256-x25519"])).is_some());
    assert!(accept_ike(&configured, &ike_offer(&["aes128gcm16-aes256gcm16-prfsha256-x25519"])).is_none());
    assert!(accept_ike(&configured, &ike_offer(&["aes192gcm16-prfsha256-x25519"])).is_none());
}
