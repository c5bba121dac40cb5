//! Child SAs asked for, answered and deleted in ways that make no sense. CVE-2023-23009: malformed traffic selectors;
//! CVE-2023-38710: REKEY_SA that names no protocol or IKE.

use ike::Command;
use ike::wire::numbers::{ExchangeType, NotifyType, ProtocolId};
use ike::wire::payload::{Notify, Payload};

use crate::kit::{A, B, Spec, Who, ts};
use crate::peer::{Hostile, chain, child_request, errors, esp_answer, notify, other, raw, selectors};

const CHILD: ExchangeType = ExchangeType::CREATE_CHILD_SA;
const INFO: ExchangeType = ExchangeType::INFORMATIONAL;

/// A request for a Child SA with other octets as TSi.
fn with_ts_i(body: &[u8]) -> (ike::wire::numbers::PayloadType, Vec<u8>) {
    let octets = |p: &Payload| chain(std::slice::from_ref(p)).1[4..].to_vec();
    let request = child_request(A, 0x9999);
    let parts: Vec<Vec<u8>> = request.iter().map(octets).collect();
    raw(&[(33, false, &parts[0]), (40, false, &parts[1]), (44, false, body), (45, false, &parts[3])])
}

#[test]
fn malformed_traffic_selectors_are_refused() {
    let v4 = |kind: u8, length: u16, ports: [u16; 2], start: [u8; 4], end: [u8; 4]| {
        let mut out = vec![kind, 0];
        out.extend(length.to_be_bytes());
        out.extend(ports.iter().flat_map(|p| p.to_be_bytes()));
        out.extend([start, end].concat());
        out
    };
    let good = v4(7, 16, [0, 0xffff], [10, 1, 0, 0], [10, 1, 0, 9]);
    let list = |count: u8, ts: &[u8]| [&[count, 0, 0, 0], ts].concat();
    let mut h = Hostile::up();
    for (what, body) in [
        ("nothing", vec![]),
        ("no selector", list(0, &[])),
        ("a count without selectors", list(1, &[])),
        ("more counted than there are", list(2, &good)),
        ("fewer counted than there are", list(1, &[good.clone(), good.clone()].concat())),
        ("255 counted", list(255, &good)),
        (
            "an unknown type, longer than there is",
            list(1, &v4(9, 17, [0, 0xffff], [10, 1, 0, 0], [10, 1, 0, 9])),
        ),
        ("an unknown type of length 0", list(1, &v4(9, 0, [0, 0xffff], [10, 1, 0, 0], [10, 1, 0, 9]))),
        ("IPv6 of IPv4's length", list(1, &v4(8, 16, [0, 0xffff], [10, 1, 0, 0], [10, 1, 0, 9]))),
        ("length 0", list(1, &v4(7, 0, [0, 0xffff], [10, 1, 0, 0], [10, 1, 0, 9]))),
        ("length 3", list(1, &v4(7, 3, [0, 0xffff], [10, 1, 0, 0], [10, 1, 0, 9]))),
        ("length 15", list(1, &v4(7, 15, [0, 0xffff], [10, 1, 0, 0], [10, 1, 0, 9]))),
        ("length 17", list(1, &v4(7, 17, [0, 0xffff], [10, 1, 0, 0], [10, 1, 0, 9]))),
        ("length 65535", list(1, &v4(7, 0xffff, [0, 0xffff], [10, 1, 0, 0], [10, 1, 0, 9]))),
        ("addresses backwards", list(1, &v4(7, 16, [0, 0xffff], [10, 1, 0, 9], [10, 1, 0, 0]))),
        ("ports backwards", list(1, &v4(7, 16, [9, 8], [10, 1, 0, 0], [10, 1, 0, 9]))),
        ("a selector cut short", list(1, &good[..12])),
    ] {
        let before = h.snapshot(B);
        h.assert_refused(A, CHILD, with_ts_i(&body), NotifyType::INVALID_SYNTAX);
        assert_eq!(h.snapshot(B), before, "{what}");
    }
    // What nobody knows is passed over (RFC 7296 section 2.9), and here nothing else is left.
    for kind in [0, 9, 10, 255] {
        let unknown = v4(kind, 16, [0, 0xffff], [10, 1, 0, 0], [10, 1, 0, 9]);
        h.assert_refused(A, CHILD, with_ts_i(&list(1, &unknown)), NotifyType::TS_UNACCEPTABLE);
        let before = h.snapshot(B);
        let (both, body) = with_ts_i(&list(2, &[unknown, good.clone()].concat()));
        let answer = h.ask_octets(A, CHILD, both, &body).unwrap();
        assert!(errors(&answer).is_empty(), "{answer:?}");
        assert_ne!(h.snapshot(B), before);
    }
    h.assert_alive();
    // The octets that were varied are the right ones.
    let answer = h.ask_octets(A, CHILD, with_ts_i(&[]).0, &with_ts_i(&list(1, &good)).1).unwrap();
    assert!(errors(&answer).is_empty(), "{answer:?}");
}

#[test]
fn selectors_of_others_are_unacceptable() {
    let mut h = Hostile::up();
    for wrong in [ts("10.3.0.0", "10.3.0.255"), ts("2001:db8::", "2001:db8::9"), ts("10.2.0.0", "10.2.0.1")] {
        let [_, r] = selectors(A);
        let mut request = child_request(A, 0x9999);
        request[2] = Payload::TsI(vec![wrong]);
        request[3] = r;
        h.assert_refused(A, CHILD, chain(&request), NotifyType::TS_UNACCEPTABLE);
    }
    let mut without = child_request(A, 0x9999);
    without.truncate(2);
    h.assert_refused(A, CHILD, chain(&without), NotifyType::TS_UNACCEPTABLE);
    h.assert_alive();
}

#[test]
fn rekey_sa_that_names_no_esp_sa_is_refused() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let (mine, theirs) = (h.pair.spi(from), h.pair.spi(other(from)));
        let rekey = |protocol, spi: &[u8]| {
            let notify = Notify { protocol, spi: spi.to_vec(), kind: NotifyType::REKEY_SA, data: vec![] };
            chain(&[vec![Payload::Notify(notify)], child_request(from, 0x9999)].concat())
        };
        // It makes no sense, but is well formed: the IKE_SA stays, and no pair is rekeyed.
        let mut not_found = |protocol, spi: &[u8]| {
            let error = NotifyType::CHILD_SA_NOT_FOUND;
            let refused = h.assert_refused(from, CHILD, rekey(protocol, spi), error);
            assert_eq!((refused.protocol, &*refused.spi), (protocol, spi));
        };
        for protocol in [ProtocolId::NONE, ProtocolId::IKE, ProtocolId::AH, ProtocolId(4), ProtocolId(255)] {
            not_found(protocol, &mine.to_be_bytes());
            not_found(protocol, &[]);
            not_found(protocol, &[9; 8]);
        }
        for spi in [&[][..], &[1], &[9; 3], &[9; 5], &[9; 8], &[9; 255]] {
            not_found(ProtocolId::ESP, spi);
        }
        // One that is not there, the other side's own, and none.
        for spi in [0xdead_beef, theirs, 0] {
            not_found(ProtocolId::ESP, &u32::to_be_bytes(spi));
        }
        h.assert_alive();
    }
}

#[test]
fn proposals_that_cannot_be_are_refused() {
    let esp = |protocol: u8, spi: &[u8], transforms: &[[u8; 8]]| {
        let length = 8 + spi.len() + 8 * transforms.len();
        let mut body = vec![0, 0, 0, length as u8, 1, protocol, spi.len() as u8, transforms.len() as u8];
        body.extend_from_slice(spi);
        body.extend(transforms.concat());
        let octets = |p: &Payload| chain(std::slice::from_ref(p)).1[4..].to_vec();
        let parts: Vec<Vec<u8>> = child_request(A, 7).iter().map(octets).collect();
        raw(&[(33, false, &body), (40, false, &parts[1]), (44, false, &parts[2]), (45, false, &parts[3])])
    };
    let encr = |last| [last, 0, 0, 8, 1, 0, 0, 20];
    let mut h = Hostile::up();
    for (spi, error) in [
        (&[][..], NotifyType::INVALID_SYNTAX),
        (&[1], NotifyType::INVALID_SYNTAX),
        (&[9; 3], NotifyType::INVALID_SYNTAX),
        (&[9; 5], NotifyType::INVALID_SYNTAX),
        (&[9; 8], NotifyType::INVALID_SYNTAX),
        (&[9; 200], NotifyType::INVALID_SYNTAX),
        // A well-formed one without key length, and the SPI that no SA has.
        (&[9; 4], NotifyType::NO_PROPOSAL_CHOSEN),
        (&[0; 4], NotifyType::NO_PROPOSAL_CHOSEN),
    ] {
        h.assert_refused(A, CHILD, esp(3, spi, &[encr(0)]), error);
    }
    // AH is not spoken, and an unknown protocol neither.
    for protocol in [2, 4, 255] {
        h.assert_refused(A, CHILD, esp(protocol, &[9; 4], &[encr(0)]), NotifyType::NO_PROPOSAL_CHOSEN);
    }
    // The last transform is not marked, or another is; the count says otherwise.
    h.assert_refused(A, CHILD, esp(3, &[9; 4], &[encr(3)]), NotifyType::INVALID_SYNTAX);
    h.assert_refused(A, CHILD, esp(3, &[9; 4], &[encr(0), encr(0)]), NotifyType::INVALID_SYNTAX);
    h.assert_refused(A, CHILD, esp(3, &[9; 4], &[]), NotifyType::NO_PROPOSAL_CHOSEN);
    let mut good = child_request(A, 0);
    if let Payload::Sa(sa) = &mut good[0] {
        assert_eq!(sa[0].spi, [0; 4]);
    }
    h.assert_refused(A, CHILD, chain(&good), NotifyType::NO_PROPOSAL_CHOSEN);
    h.assert_alive();
}

#[test]
fn a_delete_of_what_is_not_there_does_nothing() {
    for from in [A, B] {
        let mut h = Hostile::up();
        let theirs = h.pair.spi(other(from));
        let mine = h.pair.spi(from);
        for (protocol, spis) in [
            (ProtocolId::ESP, vec![]),
            (ProtocolId::ESP, vec![0]),
            (ProtocolId::ESP, vec![theirs]),
            (ProtocolId::ESP, vec![1, 2, 3, u32::MAX]),
            (ProtocolId::AH, vec![mine, theirs]),
        ] {
            let before = h.snapshot(other(from));
            let answer = h.ask(from, INFO, &[Payload::Delete { protocol, spis: spis.clone() }]);
            assert_eq!(answer, Some(vec![]), "{protocol} {spis:x?}");
            assert_eq!(h.snapshot(other(from)), before, "{protocol} {spis:x?}");
        }
        h.assert_alive();
        // The same pair many times over is one pair.
        let answer = h.ask(from, INFO, &[Payload::Delete { protocol: ProtocolId::ESP, spis: vec![mine; 9] }]);
        assert_eq!(answer, Some(vec![Payload::Delete { protocol: ProtocolId::ESP, spis: vec![theirs] }]));
    }
}

#[test]
fn a_delete_that_is_malformed_deletes_nothing() {
    let mut h = Hostile::up();
    let mine = h.pair.spi(A).to_be_bytes();
    for (what, body) in [
        ("IKE with SPIs", [&[1, 8, 0, 1][..], &[9; 8]].concat()),
        ("IKE with a count", vec![1, 0, 0, 1]),
        ("IKE with a size", vec![1, 8, 0, 0]),
        ("IKE with octets behind", vec![1, 0, 0, 0, 0]),
        ("ESP with SPIs of eight", [&[3, 8, 0, 1][..], &mine, &mine].concat()),
        ("ESP with SPIs of none", vec![3, 0, 0, 1]),
        ("more counted than there are", [&[3, 4, 0, 2][..], &mine].concat()),
        ("fewer counted than there are", [&[3, 4, 0, 1][..], &mine, &mine].concat()),
        ("65535 counted", [&[3, 4, 0xff, 0xff][..], &mine].concat()),
        ("no protocol", [&[0, 4, 0, 1][..], &mine].concat()),
        ("an unknown protocol", [&[9, 4, 0, 1][..], &mine].concat()),
    ] {
        let before = h.snapshot(B);
        h.assert_refused(A, INFO, raw(&[(42, false, &body)]), NotifyType::INVALID_SYNTAX);
        assert_eq!(h.snapshot(B), before, "{what}");
    }
    h.assert_alive();
}

/// A rekeying of A that waits for this answer; returns what A's log says then.
fn answered(with: impl Fn() -> Vec<Payload>, esp: &'static str) -> (Hostile, Vec<String>) {
    let pfs = |s: Spec| Spec { esp: vec![esp], ..s };
    let mut h = Hostile::up_with(&pfs(Spec::left()), &pfs(Spec::right()));
    let spi = h.pair.spi(A);
    h.command(A, Command::RekeyChild(spi));
    let log = h.pair.a.log.len();
    h.answer(A, &with());
    let said = h.pair.a.log.split_off(log);
    (h, said)
}

fn answer_with(sa: Payload, who: Who, more: Vec<Payload>) -> Vec<Payload> {
    let [i, r] = selectors(who);
    [vec![sa, Payload::Nonce(vec![8; 32]), i, r], more].concat()
}

#[test]
fn an_initiator_refuses_what_it_did_not_offer() {
    let two = || {
        let Payload::Sa(one) = esp_answer("aes128gcm16-esn", 7) else { unreachable!() };
        Payload::Sa([one.clone(), one].concat())
    };
    let all = || crate::peer::esp_offer("aes128gcm16", 7);
    let answers: Vec<(&str, Vec<Payload>)> = vec![
        ("another cipher", answer_with(esp_answer("aes256gcm16-esn", 7), A, vec![])),
        ("integrity besides", answer_with(esp_answer("aes128-sha256-esn", 7), A, vec![])),
        (
            "a group not offered",
            answer_with(
                esp_answer("aes128gcm16-x25519-esn", 7),
                A,
                vec![Payload::Ke { group: 31, data: vec![9; 32] }],
            ),
        ),
        ("two proposals", answer_with(two(), A, vec![])),
        ("two transforms of a type", answer_with(all(), A, vec![])),
        ("no SPI", answer_with(esp_answer("aes128gcm16-esn", 0), A, vec![])),
        ("wider selectors", {
            let mut a = answer_with(esp_answer("aes128gcm16-esn", 7), A, vec![]);
            a[2] = Payload::TsI(vec![ts("10.0.0.0", "10.255.255.255")]);
            a
        }),
        ("wider selectors of its own", {
            let mut a = answer_with(esp_answer("aes128gcm16-esn", 7), A, vec![]);
            a[3] = Payload::TsR(vec![ts("10.2.0.0", "10.2.255.255"), ts("0.0.0.0", "255.255.255.255")]);
            a
        }),
        ("selectors exchanged", {
            let mut a = answer_with(esp_answer("aes128gcm16-esn", 7), A, vec![]);
            let [i, r] = selectors(B);
            (a[2], a[3]) = (i, r);
            a
        }),
        ("no selectors", {
            let mut a = answer_with(esp_answer("aes128gcm16-esn", 7), A, vec![]);
            a.truncate(2);
            a
        }),
    ];
    for (what, answer) in answers {
        let (mut h, said) = answered(|| answer.clone(), "aes128gcm16");
        assert!(said.len() == 1 && said[0].starts_with("child failed"), "{what}: {said:?}");
        assert_eq!(h.pair.a.installed.len(), 1, "{what}: the old pair stays");
        // The peer has it installed, so it is told to take it away.
        let told = h.asked(A).expect("a delete");
        assert!(matches!(&told[0], Payload::Delete { protocol: ProtocolId::ESP, .. }), "{what}: {told:?}");
    }
    let (_, said) = answered(|| answer_with(esp_answer("aes128gcm16-esn", 7), A, vec![]), "aes128gcm16");
    assert_eq!(said, ["rekeyed"], "the base of all these is a good answer");
}

#[test]
fn an_initiator_refuses_a_choice_without_the_group_it_asked_for() {
    let ke = |group| vec![Payload::Ke { group, data: vec![9; 32] }];
    for (what, answer) in [
        ("no group", answer_with(esp_answer("aes128gcm16-esn", 7), A, vec![])),
        ("a group without KE", answer_with(esp_answer("aes128gcm16-x25519-esn", 7), A, vec![])),
        ("KE of another group", answer_with(esp_answer("aes128gcm16-x25519-esn", 7), A, ke(19))),
        ("another group", answer_with(esp_answer("aes128gcm16-ecp256-esn", 7), A, ke(19))),
        (
            "zero as public value",
            answer_with(
                esp_answer("aes128gcm16-x25519-esn", 7),
                A,
                vec![Payload::Ke { group: 31, data: vec![0; 32] }],
            ),
        ),
    ] {
        let (h, said) = answered(|| answer.clone(), "aes128gcm16-x25519");
        assert!(said.len() == 1 && said[0].starts_with("child failed"), "{what}: {said:?}");
        assert_eq!(h.pair.a.installed.len(), 1, "{what}");
    }
}

#[test]
fn no_proposal_chosen_with_an_spi_speaks_of_nothing_else() {
    let theirs = {
        let mut h = Hostile::up();
        h.pair.spi(A)
    };
    let mut refusal = Notify::about_esp(NotifyType::NO_PROPOSAL_CHOSEN, theirs);
    refusal.data = vec![1, 2, 3];
    let (h, said) = answered(|| vec![Payload::Notify(refusal.clone())], "aes128gcm16");
    assert!(said.len() == 1 && said[0].contains("NO_PROPOSAL_CHOSEN"), "{said:?}");
    assert_eq!(h.pair.a.installed.len(), 1);
}

#[test]
fn an_ike_rekeying_answered_with_what_was_not_offered_ends_the_connection_without_new_keys() {
    use crate::peer::ike_offer;
    let ke = |group| Payload::Ke { group, data: vec![9; 32] };
    let nonce = || Payload::Nonce(vec![8; 32]);
    for (what, answer) in [
        ("another cipher", vec![ike_offer("aes256gcm16-prfsha256-x25519", &[9; 8]), nonce(), ke(31)]),
        ("a group not offered", vec![ike_offer("aes128gcm16-prfsha256-ecp256", &[9; 8]), nonce(), ke(19)]),
        ("KE of another group", vec![ike_offer("aes128gcm16-prfsha256-x25519", &[9; 8]), nonce(), ke(19)]),
        ("no KE", vec![ike_offer("aes128gcm16-prfsha256-x25519", &[9; 8]), nonce()]),
        ("no SPI", vec![ike_offer("aes128gcm16-prfsha256-x25519", &[]), nonce(), ke(31)]),
        ("SPI zero", vec![ike_offer("aes128gcm16-prfsha256-x25519", &[0; 8]), nonce(), ke(31)]),
    ] {
        let mut h = Hostile::up();
        h.command(A, Command::RekeyIke);
        h.answer(A, &answer);
        assert!(!h.pair.a.conn.as_ref().unwrap().is_up(), "{what}");
        assert!(!h.pair.a.log.iter().any(|l| l.contains("ike rekeyed")), "{what}: {:?}", h.pair.a.log);
    }
}

#[test]
fn a_status_does_not_excuse_an_answer_without_content() {
    // A status does not excuse what is missing in the answer; a cookie would in IKE_SA_INIT alone.
    for kind in [NotifyType::COOKIE, NotifyType::INITIAL_CONTACT] {
        let (h, said) = answered(|| vec![notify(kind)], "aes128gcm16");
        assert!(said.last().is_some_and(|l| l.contains("payload SA is missing")), "{said:?}");
        assert!(h.pair.a.installed.is_empty());
    }
}

/// The first selectors of a request may be those of the packet that wants an SA: the policy that has them is chosen, also when
/// one before it has a part of the others (RFC 7296 section 2.9).
#[test]
fn the_policy_of_the_first_selectors_is_chosen() {
    let [left, right] = Spec::with_policies(3);
    let mut h = Hostile::new(&left, &right);
    h.pair.initiate();
    h.settle();
    let all = |side: u8| ts(&format!("10.{side}.0.0"), &format!("10.{side}.255.255"));
    let host = |side: u8| ts(&format!("10.{side}.2.9"), &format!("10.{side}.2.9"));
    let mut request = child_request(A, 0x77);
    request.retain(|p| !matches!(p, Payload::TsI(_) | Payload::TsR(_)));
    request.extend([Payload::TsI(vec![host(11), all(11)]), Payload::TsR(vec![host(12), all(12)])]);
    let answer = h.ask(A, CHILD, &request).unwrap();
    let narrowed = answer.iter().find_map(|p| if let Payload::TsR(ts) = p { Some(ts.clone()) } else { None });
    assert_eq!(narrowed, Some(vec![ts("10.12.2.0", "10.12.2.255")]), "{answer:?}");
}

/// Both sides rekey a pair at the same time and what the peer made is redundant; but the peer has not seen our answer and its
/// IKE_SA goes on without it, so that the delete it owes never comes (seen with strongSwan). The pair does not stay.
#[test]
fn a_redundant_pair_that_the_peer_does_not_know_goes() {
    let mut h = Hostile::up();
    let (old_a, old_b) = (h.pair.spi(A), h.pair.spi(B));
    h.command(B, Command::RekeyChild(old_b));
    let ours = h.take_request(B);
    let mut request = child_request(A, 0x77);
    request.insert(0, Payload::Notify(Notify::about_esp(NotifyType::REKEY_SA, old_a)));
    // The lowest of the four nonces.
    request[2] = Payload::Nonce(vec![0; 32]);
    assert!(errors(&h.ask(A, CHILD, &request).unwrap()).is_empty());
    h.pair.b.outbox.push_front(ours);
    h.answer(B, &answer_with(esp_answer("aes128gcm16-esn", 0x78), B, vec![]));
    assert_eq!(h.pair.b.installed.len(), 3, "the old one, the peer's and ours");
    h.answer(B, &[Payload::Delete { protocol: ProtocolId::ESP, spis: vec![old_a] }]);
    assert_eq!(h.pair.b.installed.len(), 2);
    h.pair.pass(std::time::Duration::from_secs(10));
    h.answer(B, &[]);
    let left: Vec<u32> = h.pair.b.installed.values().map(|sa| sa.spi_out).collect();
    assert_eq!(left, [0x78]);
    assert!(h.pair.b.log.contains(&"removed Redundant".to_owned()), "{:?}", h.pair.b.log);
}

/// A peer that rekeys and never deletes the old pair is relieved of it when it has had the time to put the new one in place,
/// whether or not it has sent by that.
#[test]
fn a_replaced_pair_that_the_peer_never_deletes_goes() {
    for uses_new in [true, false] {
        let mut h = Hostile::up();
        let old_a = h.pair.spi(A);
        let mut request = child_request(A, 0x77);
        request.insert(0, Payload::Notify(Notify::about_esp(NotifyType::REKEY_SA, old_a)));
        assert!(errors(&h.ask(A, CHILD, &request).unwrap()).is_empty());
        let new = *h.pair.b.installed.iter().find(|(_, sa)| sa.spi_out == 0x77).unwrap().0;
        if uses_new {
            h.command(B, Command::InboundSeen(new));
        }
        h.pair.pass(std::time::Duration::from_secs(179));
        assert_eq!((h.pair.b.installed.len(), h.pair.b.outbox.len()), (2, 0));
        h.pair.pass(std::time::Duration::from_secs(1));
        assert_eq!(h.pair.b.outbox.len(), 1);
        assert!(h.pair.b.installed[&new].active, "before the old one goes");
        h.answer(B, &[]);
        assert_eq!(h.pair.b.installed.keys().collect::<Vec<_>>(), [&new]);
    }
}

/// Both rekey at once, again and again; the peer begins each rekeying several times over, and never deletes anything (seen
/// with Libreswan, which was left with eleven pairs).
#[test]
fn rekeyings_that_cross_leave_no_heap_of_pairs() {
    for (times, used) in [(1, false), (2, false), (4, false), (4, true)] {
        let mut h = Hostile::up();
        let mut theirs = 0x70;
        for round in 0..6u32 {
            let old = h.pair.spi(B);
            let old_a = h.pair.b.installed[&old].spi_out;
            h.command(B, Command::RekeyChild(old));
            let ours = h.take_request(B);
            for _ in 0..times {
                theirs += 1;
                let mut request = child_request(A, theirs);
                request.insert(0, Payload::Notify(Notify::about_esp(NotifyType::REKEY_SA, old_a)));
                // Now their nonce is the lowest, now ours.
                request[2] = Payload::Nonce(vec![if round % 2 == 0 { 0 } else { 255 }; 32]);
                assert!(errors(&h.ask(A, CHILD, &request).unwrap()).is_empty());
                let newest = *h.pair.b.installed.iter().find(|(_, sa)| sa.spi_out == theirs).unwrap().0;
                if used {
                    h.command(B, Command::InboundSeen(newest));
                }
            }
            h.pair.b.outbox.push_front(ours);
            theirs += 1;
            h.answer(B, &answer_with(esp_answer("aes128gcm16-esn", theirs), B, vec![]));
            // Every delete of ours is answered, and none of theirs comes.
            for _ in 0..400 {
                while h.asked(B).is_some() {
                    h.answer(B, &[]);
                }
                h.pair.pass(std::time::Duration::from_secs(1));
            }
            assert_eq!(h.pair.b.installed.len(), 1, "{times} times, round {round}: {:?}", h.pair.b.log);
        }
    }
}

/// Two pairs of one policy that know nothing of each other: the one that nothing is sent by is not kept up for ever.
#[test]
fn a_superfluous_pair_is_not_rekeyed() {
    let mut h = Hostile::up();
    let old = h.pair.spi(B);
    assert!(errors(&h.ask(A, CHILD, &child_request(A, 0x77)).unwrap()).is_empty());
    assert_eq!(h.pair.b.installed.len(), 2);
    let new = h.pair.spi(B);
    h.command(B, Command::RekeyChild(old));
    let asked = h.asked(B).unwrap();
    assert!(matches!(asked.as_slice(), [Payload::Delete { spis, .. }] if *spis == [old]), "{asked:?}");
    h.answer(B, &[]);
    assert_eq!(h.pair.b.installed.keys().collect::<Vec<_>>(), [&new]);
    assert_eq!(h.pair.b.ended, [(old, Ok(()))]);
}
