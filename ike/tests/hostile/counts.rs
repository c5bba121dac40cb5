//! More of everything than any honest peer sends: each count has a bound, and what is beyond is refused whole, or not looked at.

use ike::Command;
use ike::verbs::MAX_CHILDREN;
use ike::wire::numbers::{ExchangeType, NotifyType, PayloadType, ProtocolId, TransformType};
use ike::wire::payload::Payload;
use ike::wire::sa::{Proposal, Transform};

use crate::kit::{A, B, Spec, ts};
use crate::peer::{Hostile, chain, child_request, errors, ike_offer, notify, raw};

const CHILD: ExchangeType = ExchangeType::CREATE_CHILD_SA;
const INFO: ExchangeType = ExchangeType::INFORMATIONAL;

#[test]
fn counts_beyond_their_bounds_are_refused() {
    let mut h = Hostile::up();
    for payload in [
        notify(NotifyType::INITIAL_CONTACT),
        notify(NotifyType(40000)),
        Payload::Opaque(PayloadType::VENDOR_ID, vec![1; 16]),
        Payload::Opaque(PayloadType(200), vec![]),
        Payload::Delete { protocol: ProtocolId::ESP, spis: vec![] },
    ] {
        h.assert_refused(A, INFO, chain(&vec![payload; 97]), NotifyType::INVALID_SYNTAX);
    }
    let spis = vec![7; 1025];
    h.assert_refused(
        A,
        INFO,
        chain(&[Payload::Delete { protocol: ProtocolId::ESP, spis }]),
        NotifyType::INVALID_SYNTAX,
    );
    h.assert_alive();
}

/// As many as one octet can say are within what the RFC allows (sections 3.3.1 and 3.13), so they are no syntax error.
#[test]
fn long_offers_are_taken_as_far_as_they_are_looked_at() {
    let mut h = Hostile::up();
    let request = |spi, edit: &dyn Fn(&mut Vec<Proposal>)| {
        let mut request = child_request(A, spi);
        if let Payload::Sa(sa) = &mut request[0] {
            edit(sa);
        }
        request
    };
    let nothing = |like: &Proposal| Proposal { transforms: vec![], ..like.clone() };
    let good = [
        request(0x9991, &|sa| *sa = vec![sa[0].clone(); 200]),
        request(0x9992, &|sa| {
            *sa = [vec![nothing(&sa[0]); 63], sa.clone(), vec![nothing(&sa[0]); 136]].concat()
        }),
        request(0x9993, &|sa| {
            let unknown = vec![Transform::new(TransformType::ENCR, 20); 255 - sa[0].transforms.len()];
            sa[0].transforms.splice(..0, unknown);
        }),
    ];
    let mut many = child_request(A, 0x9994);
    many[2] = Payload::TsI(vec![ts("10.1.0.0", "10.1.0.9"); 255]);
    for request in good.into_iter().chain([many]) {
        let answer = h.ask(A, CHILD, &request).unwrap();
        assert!(errors(&answer).is_empty(), "{answer:?}");
    }
    // Nobody looks further, but it has to be an offer.
    let late = request(0x9995, &|sa| *sa = [vec![nothing(&sa[0]); 64], sa.clone()].concat());
    h.assert_refused(A, CHILD, chain(&late), NotifyType::NO_PROPOSAL_CHOSEN);
    let odd = request(0x9996, &|sa| {
        *sa = vec![sa[0].clone(); 65];
        sa[64].spi.push(0);
    });
    h.assert_refused(A, CHILD, chain(&odd), NotifyType::INVALID_SYNTAX);
    h.assert_alive();
}

#[test]
fn counts_within_their_bounds_are_taken() {
    let mut h = Hostile::up();
    let spis = vec![7; 1024];
    let delete = Payload::Delete { protocol: ProtocolId::ESP, spis };
    assert_eq!(h.ask(A, INFO, &[delete]), Some(vec![]));
    assert_eq!(h.ask(A, INFO, &vec![Payload::Opaque(PayloadType::VENDOR_ID, vec![1; 16]); 96]), Some(vec![]));
    h.assert_alive();
}

#[test]
fn transforms_with_attributes_without_end_are_not_chosen() {
    // One transform with attributes up to the length of the proposal; a long form attribute that reaches past the end.
    let octets = |p: &Payload| chain(std::slice::from_ref(p)).1[4..].to_vec();
    let parts: Vec<Vec<u8>> = child_request(A, 7).iter().map(octets).collect();
    let request = |attributes: &[u8]| {
        let length = 8 + attributes.len();
        let mut body = vec![0, 0];
        body.extend((12 + length as u16).to_be_bytes());
        body.extend([1, 3, 4, 1, 9, 9, 9, 9, 0, 0]);
        body.extend((length as u16).to_be_bytes());
        body.extend([1, 0, 0, 20]);
        body.extend(attributes);
        raw(&[(33, false, &body), (40, false, &parts[1]), (44, false, &parts[2]), (45, false, &parts[3])])
    };
    let mut h = Hostile::up();
    h.assert_refused(A, CHILD, request(&[0x80, 14, 0, 128].repeat(3000)), NotifyType::NO_PROPOSAL_CHOSEN);
    h.assert_refused(A, CHILD, request(&[0x80, 99, 0, 1].repeat(3000)), NotifyType::NO_PROPOSAL_CHOSEN);
    for bad in [&[0x80][..], &[0x80, 14], &[0x80, 14, 0], &[0, 14, 0, 5, 1], &[0, 14, 0xff, 0xff]] {
        h.assert_refused(A, CHILD, request(bad), NotifyType::INVALID_SYNTAX);
    }
    h.assert_alive();
}

#[test]
fn child_sas_have_a_bound() {
    let mut h = Hostile::up();
    let mut refused = 0;
    for spi in 0..2 * MAX_CHILDREN as u32 {
        let answer = h.ask(A, CHILD, &child_request(A, 0x10_0000 + spi)).expect("an answer");
        if errors(&answer) == [NotifyType::NO_ADDITIONAL_SAS] {
            refused += 1;
        }
    }
    assert_eq!(h.pair.b.installed.len(), MAX_CHILDREN);
    assert_eq!(refused, MAX_CHILDREN + 1, "one was there before");
    // They all go with the IKE_SA.
    h.ask(A, INFO, &[Payload::Delete { protocol: ProtocolId::IKE, spis: vec![] }]);
    assert!(h.pair.b.installed.is_empty());
}

#[test]
fn ike_sas_that_are_rekeyed_and_never_deleted_have_a_bound() {
    let mut h = Hostile::up();
    let mut refused = 0;
    for n in 1..200u64 {
        let pair = ike::crypto::dh::KeyPair::generate(31, &mut h.pair.a.host).unwrap();
        let mut nonce = vec![0; 32];
        ike::Host::random(&mut h.pair.a.host, &mut nonce);
        let request = [
            ike_offer("aes128gcm16-prfsha256-x25519", &n.to_be_bytes()),
            Payload::Nonce(nonce),
            Payload::Ke { group: 31, data: pair.public().to_vec() },
        ];
        let header = {
            let sa = h.tap.last();
            // After each rekeying it is the hostile one that made the newest IKE_SA.
            sa.header(true, false, CHILD, sa.next_id[1])
        };
        let bytes = h.tap.last().seal(header, &request);
        h.tap.saw(&bytes, [&h.pair.a.host.draws, &h.pair.b.host.draws]);
        h.inject(A, &bytes);
        let answer = h.pair.take(B);
        let opened = h.tap.sas.iter().rev().find_map(|sa| sa.open(&answer.bytes)).unwrap();
        refused += usize::from(errors(&opened) == [NotifyType::TEMPORARY_FAILURE]);
    }
    let held = h.pair.b.conn.as_ref().unwrap().local_spis().len();
    assert!(held <= 16 && refused > 100, "{held} IKE_SAs are held, {refused} were refused");
    // The old ones go by time, and then there is room again.
    h.pair.pass(std::time::Duration::from_secs(100));
    assert_eq!(h.pair.b.conn.as_ref().unwrap().local_spis().len(), 1);
}

#[test]
fn deletes_of_unknown_spis_while_a_request_waits_are_not_hoarded() {
    // A keeps SPIs it does not know, for they may be of an answer that is still under way. The peer never answers.
    let mut h = Hostile::up_with(&Spec::left(), &Spec::right());
    let spi = h.pair.spi(A);
    h.command(A, Command::RekeyChild(spi));
    for n in 0..50u32 {
        let spis = (0..1024).map(|i| 0x8000_0000 + 1024 * n + i).collect();
        let waiting = std::mem::take(&mut h.pair.a.outbox);
        assert_eq!(h.ask(B, INFO, &[Payload::Delete { protocol: ProtocolId::ESP, spis }]), Some(vec![]));
        h.pair.a.outbox = waiting;
    }
    // `Debug` shows the pending request with all it keeps.
    let shown = format!("{:?}", h.pair.a.conn.as_ref().unwrap());
    let at = shown.find("deleted_unknown: [").expect("the pending request");
    let kept = shown[at..].split(']').next().unwrap().matches(',').count();
    assert!(kept <= MAX_CHILDREN, "{kept} SPIs are kept");
}

#[test]
fn tasks_of_commands_have_a_bound() {
    let mut h = Hostile::up();
    let spi = h.pair.spi(A);
    h.command(A, Command::RekeyChild(spi));
    for n in 0..5000 {
        h.command(A, Command::DeleteChild(n));
    }
    let shown = format!("{:?}", h.pair.a.conn.as_ref().unwrap());
    assert!(shown.matches("Queued {").count() <= 2 * MAX_CHILDREN);
    h.settle();
    h.pair.assert_children(1);
    assert_eq!(h.pair.b.installed.len(), 1);
}
