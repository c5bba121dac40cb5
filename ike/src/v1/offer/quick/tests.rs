//! Offers of Quick Mode there and back, and those that others' negotiations fell over.

use std::time::Duration;

use super::*;
use crate::proposal::negotiate::{accept_esp, choose_esp, describe};

const LIFE: Life = Life { time: Duration::from_secs(3_600), kilobytes: None };

fn esp(texts: &[&str]) -> Vec<EspProposal> {
    texts.iter().map(|t| t.parse().unwrap()).collect()
}

fn offered(texts: &[&str], group: Option<u16>) -> Sa {
    quick(&esp(texts), 0x0a0b_0c0d, group, LIFE, Mode::Tunnel, Encapsulation::Raw)
}

fn proposals(sa: &Sa) -> Vec<Proposal> {
    read_quick(sa, false).into_iter().map(|offer| offer.proposal).collect()
}

/// An offer of one transform of ESP with these attributes, its number 1.
fn of(id: u8, attributes: &[(u16, u16)]) -> Sa {
    Sa::new(vec![proposal(1, ProtocolId::ESP, id, attributes)])
}

fn proposal(number: u8, protocol: ProtocolId, id: u8, attributes: &[(u16, u16)]) -> SaProposal {
    let attributes = attributes.iter().map(|&(kind, value)| Attribute::short(kind, value)).collect();
    let transforms = vec![SaTransform { number: 1, id, attributes }];
    SaProposal { number, protocol, spi: vec![0, 0, 1, number], transforms }
}

#[test]
fn each_combination_is_a_transform_in_the_order_of_preference() {
    let sa = offered(&["aes256gcm16-aes128gcm16", "aes256-aes128-sha256-sha384"], None);
    let expected =
        ["aes256gcm16", "aes128gcm16", "aes256-sha256", "aes256-sha384", "aes128-sha256", "aes128-sha384"];
    assert_eq!(describe(&proposals(&sa)), expected.map(|words| format!("{words}-noesn")).join(", "));
    for (offer, number) in read_quick(&sa, false).iter().zip(1..) {
        assert_eq!((offer.proposal_number, offer.number), (1, number));
        assert_eq!((offer.spi_out, offer.proposal.esp_spi()), (0x0a0b_0c0d, Some(0x0a0b_0c0d)));
        assert_eq!((offer.mode, offer.encapsulation), (Some(Mode::Tunnel), Encapsulation::Raw));
        assert_eq!(offer.life, OfferedLife { seconds: Some(3_600), kilobytes: None });
        assert_eq!(offer.group, None);
    }
}

#[test]
fn a_transform_has_the_attributes_of_rfc_2407() {
    let life = Life { kilobytes: Some(5), ..LIFE };
    let proposals = esp(&["aes128-sha256-modp2048-esn"]);
    let sa = quick(&proposals, 0x0a0b_0c0d, Some(14), life, Mode::Transport, Encapsulation::Rfc);
    let expected = [
        &[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 64, 1, 3, 4, 1, 10, 11, 12, 13, 0, 0, 0, 52, 1, 12, 0, 0][..],
        &[0x80, 1, 0, 1, 0, 2, 0, 4, 0, 0, 0x0e, 0x10, 0x80, 1, 0, 2, 0, 2, 0, 4, 0, 0, 0, 5],
        &[0x80, 4, 0, 4, 0x80, 3, 0, 14, 0x80, 6, 0, 128, 0x80, 5, 0, 5, 0x80, 11, 0, 1],
    ];
    assert_eq!(sa.body, expected.concat());
}

#[test]
fn what_has_no_number_is_left_out() {
    assert_eq!(proposals(&offered(&["chacha20poly1305"], None)), []);
    assert_eq!(proposals(&offered(&["aes128-aescmac"], None)), []);
    assert_eq!(describe(&proposals(&offered(&["aes128-aescmac-aesxcbc"], None))), "aes128-aesxcbc-noesn");
    let all = "aes128-aes192-aes256-sha256-sha384-sha512-aesxcbc";
    let every = [all, "aes128-aes192-aes256-sha256-sha384-sha512-aesxcbc-esn"];
    // 12 and, as 64-bit numbers are another suite, 12 more; each is there once.
    assert_eq!(proposals(&offered(&every, None)).len(), 24);
    assert_eq!(proposals(&offered(&[all, all], None)).len(), 12);
}

#[test]
fn a_group_is_on_each_transform_of_proposals_that_allow_it() {
    let texts = ["aes128gcm16-modp2048-ecp256", "aes256gcm16-ecp256-nopfs", "aes192gcm16"];
    let words = |group| describe(&proposals(&offered(&texts, group)));
    assert_eq!(words(Some(14)), "aes128gcm16-modp2048-noesn");
    assert_eq!(words(Some(19)), "aes128gcm16-ecp256-noesn, aes256gcm16-ecp256-noesn");
    assert_eq!(words(None), "aes128gcm16-noesn, aes256gcm16-noesn, aes192gcm16-noesn");
    let sa = offered(&texts, Some(19));
    assert!(read_quick(&sa, false).iter().all(|offer| offer.group == Some(19)));
    let (_, choice) = choose_esp(&esp(&["aes256gcm16-ecp256"]), &proposals(&sa), true).unwrap();
    assert_eq!((choice.group, choice.esn), (Some(19), false));
}

#[test]
fn sixty_four_bit_numbers_are_asked_for_where_nothing_else_will_do() {
    for (text, esn) in [("aes128gcm16", false), ("aes128gcm16-esn", true), ("aes128gcm16-noesn", false)] {
        let theirs = proposals(&offered(&[text], None));
        let (_, choice) = choose_esp(&esp(&["aes128gcm16"]), &theirs, false).unwrap();
        assert_eq!(choice.esn, esn, "{text}");
        assert_eq!(choose_esp(&esp(&["aes128gcm16-noesn"]), &theirs, false).is_some(), !esn);
        assert_eq!(choose_esp(&esp(&["aes128gcm16-esn"]), &theirs, false).is_some(), esn);
    }
}

#[test]
fn sha_256_is_cut_as_the_peer_cuts_it() {
    let sa = of(12, &[(6, 128), (5, 5)]);
    let integ = |short| read_quick(&sa, short)[0].proposal.transforms[1];
    assert_eq!(integ(false), Transform::new(TransformType::INTEG, 12));
    assert_eq!(integ(true), Transform::new(TransformType::INTEG, crate::proposal::table::SHA256_96));
}

#[test]
fn modes_read_as_written() {
    for mode in [Mode::Tunnel, Mode::Transport] {
        for encapsulation in [Encapsulation::Raw, Encapsulation::Rfc, Encapsulation::Draft] {
            let sa = quick(&esp(&["aes128gcm16"]), 1, None, LIFE, mode, encapsulation);
            let offers = read_quick(&sa, false);
            assert_eq!((offers[0].mode, offers[0].encapsulation), (Some(mode), encapsulation));
        }
    }
    let offer = |attributes: &[(u16, u16)]| read_quick(&of(20, attributes), false).remove(0);
    assert_eq!(offer(&[(6, 128)]).mode, None);
    assert!(!offer(&[(6, 128)]).proposal.transforms[0].unknown_attribute);
    assert_eq!(offer(&[(6, 128), (4, 5)]).mode, None);
    assert!(offer(&[(6, 128), (4, 5)]).proposal.transforms[0].unknown_attribute);
}

#[test]
fn an_answer_is_the_chosen_transform_with_our_spi_and_is_accepted() {
    let configured = esp(&["aes256gcm16", "aes128-sha256-sha384"]);
    let sa = offered(&["aes256gcm16", "aes128-sha256-sha384"], None);
    let offers = read_quick(&sa, false);
    let answer = answer_quick(&sa, &offers[2], 0x0102_0304).unwrap();
    assert_eq!(answer.proposals[0].spi, [1, 2, 3, 4]);
    assert_eq!(answer.proposals[0].transforms, sa.proposals[0].transforms[2..3]);
    let theirs = proposals(&answer);
    let choice = accept_esp(&configured, &theirs, false).unwrap();
    assert_eq!(choice.to_string(), "aes128-sha384-noesn");
    assert_eq!(accept_esp(&configured, &proposals(&sa), false), None);
    assert_eq!(accept_esp(&esp(&["aes128-sha256"]), &theirs, false), None);
    let other = QuickOffer { number: 9, ..offers[2].clone() };
    assert_eq!(answer_quick(&sa, &other, 1), None);
    let other = QuickOffer { proposal_number: 2, ..offers[2].clone() };
    assert_eq!(answer_quick(&sa, &other, 1), None);
}

#[test]
fn bundles_and_other_protocols_are_left_out() {
    let gcm = [(6, 128), (4, 1)];
    let of = |number, protocol| proposal(number, protocol, 20, &gcm);
    let (ah, esp, ipcomp) = (ProtocolId::AH, ProtocolId::ESP, ProtocolId(4));
    for (listed, left) in [
        (vec![of(1, ah), of(1, esp), of(2, esp)], vec![2]),
        (vec![of(1, esp), of(1, ipcomp), of(3, esp), of(4, esp)], vec![3, 4]),
        (vec![of(1, esp), of(1, esp)], vec![]),
        (vec![of(1, ah)], vec![]),
        (vec![of(1, ProtocolId::IKE), of(2, esp)], vec![2]),
    ] {
        let sa = Sa::new(listed);
        let offers = read_quick(&sa, false);
        assert_eq!(offers.iter().map(|offer| offer.proposal_number).collect::<Vec<_>>(), left);
        for offer in &offers {
            let answer = answer_quick(&sa, offer, 7).unwrap();
            assert_eq!((answer.proposals.len(), answer.proposals[0].number), (1, offer.proposal_number));
        }
    }
    // No packet can be sent to an SPI of zero.
    let none = SaProposal { spi: vec![0; 4], ..of(1, esp) };
    assert_eq!(read_quick(&Sa::new(vec![none]), false), []);
}

/// A proposal of GMAC without a key length, and of AEADs with authentication beside them, brought libreswan down
/// (CVE-2024-3652).
#[test]
fn what_is_not_understood_is_told_and_never_chosen() {
    let configured = [EspProposal::defaults(), esp(&["aes128-sha256", "aes128gcm16"])].concat();
    for (id, attributes, words) in [
        (23, &[(4, 1)][..], "ENCR_NULL_AUTH_AES_GMAC-noesn"),
        (23, &[(6, 128), (5, 2)], "ENCR_NULL_AUTH_AES_GMAC_128-sha1-noesn"),
        (20, &[(6, 128), (5, 5)], "aes128gcm16-sha256-noesn"),
        (20, &[(4, 1)], "ENCR_AES_GCM_16-noesn"),
        (20, &[(6, 64)], "ENCR_AES_GCM_16_64-noesn"),
        (12, &[(6, 128)], "aes128-noesn"),
        (12, &[(5, 5)], "ENCR_AES_CBC-sha256-noesn"),
        (12, &[(6, 128), (5, 8)], "aes128-INTEG(32776)-noesn"),
        (12, &[(6, 128), (5, 11)], "aes128-AUTH_AES_128_GMAC-noesn"),
        (11, &[(5, 5)], "ENCR_NULL-sha256-noesn"),
        (0, &[], "ENCR(32768)-noesn"),
        (250, &[(5, 5)], "ENCR(33018)-sha256-noesn"),
        (20, &[(6, 128), (3, 0x8001)], "aes128gcm16-KE(32769)-noesn"),
    ] {
        let proposals = proposals(&of(id, attributes));
        assert_eq!(choose_esp(&configured, &proposals, true), None, "{words}");
        assert_eq!(describe(&proposals), words);
    }
    // Attributes twice, of a class that nobody knows, with a value that cannot be, or in a form that is too long.
    for more in [(6, 128), (5, 5), (7, 14), (0x4001, 1), (11, 2), (10, 1)] {
        let attributes = [(6, 128), (5, 5)];
        let mine = esp(&["aes128-sha256"]);
        assert!(choose_esp(&mine, &proposals(&of(12, &attributes)), true).is_some());
        let theirs = proposals(&of(12, &[&attributes[..], &[more]].concat()));
        assert_eq!(choose_esp(&mine, &theirs, true), None, "{more:?}");
    }
    // An authentication of no octets or of too many is not one that is absent.
    for odd in [Attribute { kind: 5, value: Vec::new() }, Attribute::long(5, 0x1_0005)] {
        let mut theirs = of(20, &[(6, 128)]).proposals;
        assert!(choose_esp(&configured, &proposals(&Sa::new(theirs.clone())), false).is_some());
        theirs[0].transforms[0].attributes.push(odd);
        assert_eq!(choose_esp(&configured, &proposals(&Sa::new(theirs)), false), None);
    }
}

#[test]
fn of_transforms_with_one_number_the_first_counts() {
    let mut sa = of(20, &[(6, 128)]).proposals.remove(0);
    let other = SaTransform { id: 12, ..sa.transforms[0].clone() };
    sa.transforms.push(other);
    let sa = Sa::new(vec![sa]);
    let offers = read_quick(&sa, false);
    assert_eq!(offers.len(), 1);
    assert_eq!(answer_quick(&sa, &offers[0], 1).unwrap().proposals[0].transforms[0].id, 20);
}
