//! Chains of payloads: what is written reads the same, and what is no chain is refused.

use super::parse::MAX_PAYLOADS;
use super::rules::check;
use proptest::prelude::*;

use super::parse::MAX_PADDING;
use super::*;
use crate::wire::error::WireError;
use crate::wire::numbers::{IdType, ProtocolId};
use crate::wire::writer::Writer;

const HEADER: Header = Header {
    spi_i: 1,
    spi_r: 2,
    next: PayloadType::NONE,
    exchange: Exchange::INFORMATIONAL,
    encrypted: false,
    commit: false,
    message_id: 3,
    length: 0,
};

fn written(payloads: &[Payload]) -> (PayloadType, Vec<u8>) {
    let mut w = Writer::new();
    let next = write_chain(&mut w, payloads);
    (next, w.finish())
}

/// A chain of one payload, as it is written there.
fn one(kind: PayloadType, content: &[u8]) -> Result<Vec<Payload>, WireError> {
    let (next, body) = written(&[Payload::Opaque(kind, content.to_vec())]);
    parse_chain(next, &body, false).map(|chain| chain.payloads)
}

fn wrong<T>(payload: &'static str, what: &'static str) -> Result<T, WireError> {
    Err(WireError::Payload(payload, what))
}

#[test]
fn the_rest_is_what_hashes_cover() {
    let payloads = [Payload::Hash(vec![1; 20]), Payload::Nonce(vec![2; 16]), Payload::Vendor(vec![3; 5])];
    let (next, mut body) = written(&payloads);
    let chain = parse_chain(next, &body, false).unwrap();
    assert_eq!((chain.payloads.as_slice(), chain.rest.clone()), (&payloads[..], 24..body.len()));
    // Padding is not covered.
    let end = body.len();
    body.resize(end + 11, 0);
    assert_eq!(parse_chain(next, &body, true).unwrap(), chain);
    let alone = parse_chain(PayloadType::HASH, &body[..24], true);
    // The one behind it is not there.
    assert_eq!(alone, Err(WireError::Truncated));
    let (next, body) = written(&payloads[..1]);
    assert_eq!(parse_chain(next, &body, true).unwrap().rest, 24..24);
    assert_eq!(parse_chain(PayloadType::NONE, &[], true), Ok(Chain { payloads: Vec::new(), rest: 0..0 }));
}

#[test]
fn octets_behind_the_last_payload_are_padding_or_nothing() {
    let (next, body) = written(&[Payload::Hash(vec![1; 20])]);
    for (padding, padded, ok) in [
        (0, false, true),
        (1, false, false),
        (1, true, true),
        (MAX_PADDING, true, true),
        (MAX_PADDING + 1, true, false),
    ] {
        let body = [body.as_slice(), &vec![0; padding]].concat();
        let parsed = parse_chain(next, &body, padded);
        assert_eq!(parsed.as_ref().err(), (!ok).then_some(&WireError::TrailingData), "{padding} {padded}");
    }
}

#[test]
fn a_reserved_bit_or_a_length_out_of_place_is_refused() {
    let (next, body) = written(&[Payload::Hash(vec![1; 20]), Payload::Nonce(vec![2; 16])]);
    for (at, value, expected) in [
        (1, 0x80, wrong("HASH", "has a reserved field that is not zero")),
        (25, 1, wrong("NONCE", "has a reserved field that is not zero")),
        (3, 3, wrong("HASH", "has a bad length")),
        (3, 255, wrong("HASH", "has a bad length")),
        (27, 21, wrong("NONCE", "has a bad length")),
        (2, 1, wrong("HASH", "has a bad length")),
        // Another one follows that is not there.
        (24, 8, Err(WireError::Truncated)),
    ] {
        let mut damaged = body.clone();
        damaged[at] = value;
        assert_eq!(parse_chain(next, &damaged, false).map(|c| c.rest), expected, "octet {at}");
    }
}

/// strongSwan took payloads of IKEv1 in IKEv2 and the reverse for what they are elsewhere (CVE-2015-3991).
#[test]
fn payloads_of_ikev2_are_not_taken() {
    for kind in 33..=127 {
        assert_eq!(
            one(PayloadType(kind), &[0; 8]),
            wrong("of unknown type", "is not one of IKEv1"),
            "{kind}"
        );
    }
    for kind in [14, 17, 32, 128, 200, 255] {
        let kind = PayloadType(kind);
        assert_eq!(one(kind, &[0; 8]), Ok(vec![Payload::Opaque(kind, vec![0; 8])]));
    }
    for kind in [PayloadType::PROPOSAL, PayloadType::TRANSFORM] {
        assert_eq!(one(kind, &[0; 8]), wrong(kind.told(), "stands outside of an SA payload"));
    }
}

#[test]
fn payloads_are_counted() {
    let many = |n| written(&vec![Payload::Vendor(Vec::new()); n]);
    let (next, body) = many(MAX_PAYLOADS);
    assert_eq!(parse_chain(next, &body, false).unwrap().payloads.len(), MAX_PAYLOADS);
    let (next, body) = many(MAX_PAYLOADS + 1);
    assert_eq!(parse_chain(next, &body, false), Err(WireError::TooMany("payloads")));
}

#[test]
fn nonces_hashes_and_public_values_have_a_length() {
    for (length, ok) in [(0, false), (7, false), (8, true), (256, true), (257, false)] {
        assert_eq!(one(PayloadType::NONCE, &vec![1; length]).is_ok(), ok, "{length}");
    }
    for kind in [PayloadType::HASH, PayloadType::KE] {
        assert_eq!(one(kind, &[]), wrong(kind.told(), "is empty"));
        assert!(one(kind, &[1]).is_ok());
    }
    assert!(one(PayloadType::ID, &[1, 0, 0, 0]).is_err() && one(PayloadType::ID, &[1, 0, 0]).is_err());
    assert!(one(PayloadType::ID, &[1, 0, 0, 0, 9]).is_ok());
}

/// A fragment with the number 0 made strongSwan read before its list (CVE-2013-6076).
#[test]
fn a_crafted_fragment_is_refused() {
    let fragment = |number, last| Payload::Fragment { id: 258, number, last, data: vec![7] };
    assert_eq!(one(PayloadType::FRAGMENT, &[1, 2, 3, 1, 7]), Ok(vec![fragment(3, true)]));
    assert_eq!(one(PayloadType::FRAGMENT, &[1, 2, 255, 0, 7]), Ok(vec![fragment(255, false)]));
    let refused = wrong("FRAGMENT", "has no number or no content");
    assert_eq!(one(PayloadType::FRAGMENT, &[1, 2, 0, 1, 7]), refused);
    assert_eq!(one(PayloadType::FRAGMENT, &[1, 2, 3, 1]), refused);
    assert_eq!(one(PayloadType::FRAGMENT, &[1, 2, 3]), Err(WireError::Truncated));
}

#[test]
fn notifies_of_both_domains_are_read_and_of_no_other() {
    let notify = |doi: u8, rest: &[u8]| one(PayloadType::NOTIFY, &[&[0, 0, 0, doi], rest].concat());
    let expected = Payload::Notify(Notify {
        protocol: ProtocolId::ESP,
        spi: vec![1, 2, 3, 4],
        kind: NotifyType::RESPONDER_LIFETIME,
        data: vec![9],
    });
    let content = [3, 4, 0x60, 0, 1, 2, 3, 4, 9];
    assert_eq!(notify(0, &content), Ok(vec![expected.clone()]));
    assert_eq!(notify(1, &content), Ok(vec![expected]));
    assert_eq!(notify(2, &content), Err(WireError::BadField("domain of interpretation")));
    // An SPI that is not there (tcpdump read on).
    assert_eq!(notify(1, &[3, 255, 0x60, 0, 1, 2]), Err(WireError::Truncated));
}

#[test]
fn deletes_have_spis_of_their_protocol_and_as_many_as_they_say() {
    let delete = |protocol: u8, size: u8, count: u16, spis: &[u8]| {
        let [high, low] = count.to_be_bytes();
        one(PayloadType::DELETE, &[&[0, 0, 0, 1, protocol, size, high, low], spis].concat())
    };
    let of = |protocol, spis| Ok(vec![Payload::Delete(Delete { protocol, spis })]);
    assert_eq!(delete(1, 16, 1, &[5; 16]), of(ProtocolId::IKE, vec![vec![5; 16]]));
    assert_eq!(delete(3, 4, 2, &[5; 8]), of(ProtocolId::ESP, vec![vec![5; 4]; 2]));
    assert_eq!(delete(2, 4, 0, &[]), of(ProtocolId::AH, Vec::new()));
    for (protocol, size) in [(1, 0), (1, 8), (1, 4), (3, 16), (3, 0), (2, 3), (4, 2), (0, 4)] {
        let error = WireError::SpiSize { protocol: ProtocolId(protocol), size };
        assert_eq!(delete(protocol, size, 1, &[5; 16]), Err(error));
    }
    assert_eq!(delete(3, 4, 2, &[5; 7]), Err(WireError::Truncated));
    assert_eq!(delete(3, 4, 1, &[5; 8]), Err(WireError::TrailingData));
    assert_eq!(delete(3, 4, 1_025, &[5; 4_100]), Err(WireError::TooMany("deleted SPIs")));
}

#[test]
fn nat_payloads_of_drafts_are_told_from_those_of_the_rfc() {
    for (kind, draft) in [(20, false), (130, true), (15, true)] {
        assert_eq!(one(PayloadType(kind), &[4; 20]), Ok(vec![Payload::NatD { draft, hash: vec![4; 20] }]));
    }
    for (kind, draft) in [(21, false), (131, true)] {
        let id = Id { kind: IdType::ID_IPV4_ADDR, protocol: 0, port: 0, data: vec![192, 0, 2, 1] };
        assert_eq!(one(PayloadType(kind), &id.body()), Ok(vec![Payload::NatOa { draft, id }]));
        for bad in [&[1, 0, 0, 0, 1, 2, 3][..], &[5, 0, 0, 0, 1, 2, 3, 4], &[2, 0, 0, 0, 1, 2, 3, 4]] {
            assert!(one(PayloadType(kind), bad).is_err(), "{bad:?}");
        }
    }
}

#[test]
fn a_message_is_encoded_with_its_first_payload_and_its_length() {
    let payloads = [Payload::Nonce(vec![1; 8]), Payload::Vendor(vec![2; 3])];
    let message = encode(HEADER, &payloads);
    let header = Header::parse(&message).unwrap();
    assert_eq!((header.next, header.length), (PayloadType::NONCE, 28 + 12 + 7));
    assert_eq!(parse_chain(header.next, &message[HEADER_LEN..], false).unwrap().payloads, payloads);
    assert_eq!(encode(HEADER, &[]).len(), HEADER_LEN);
}

#[test]
fn payloads_are_found_by_what_they_are() {
    let id = |octet| Id { kind: IdType::ID_KEY_ID, protocol: 0, port: 0, data: vec![octet] };
    let notify = Notify {
        protocol: ProtocolId::IKE,
        spi: vec![1; 16],
        kind: NotifyType::INITIAL_CONTACT,
        data: Vec::new(),
    };
    let delete = Delete { protocol: ProtocolId::ESP, spis: vec![vec![1; 4]] };
    let sa = Sa::new(Vec::new());
    let payloads = [
        Payload::Hash(vec![1]),
        Payload::Sa(sa.clone()),
        Payload::Nonce(vec![2; 8]),
        Payload::Ke(vec![3]),
        Payload::Id(id(4)),
        Payload::Id(id(5)),
        Payload::Notify(notify.clone()),
        Payload::Delete(delete.clone()),
        Payload::Vendor(vec![6]),
        Payload::NatD { draft: false, hash: vec![7] },
        Payload::NatD { draft: true, hash: vec![8] },
    ];
    let of = Payloads(&payloads);
    assert_eq!((of.hash(), of.nonce(), of.ke()), (Some(&[1][..]), Some(&[2; 8][..]), Some(&[3][..])));
    assert_eq!(of.sa(), Some(&sa));
    assert_eq!(of.ids().collect::<Vec<_>>(), [&id(4), &id(5)]);
    assert_eq!(of.notifies().collect::<Vec<_>>(), [&notify]);
    assert_eq!(of.deletes().collect::<Vec<_>>(), [&delete]);
    assert_eq!(of.vendors().collect::<Vec<_>>(), [[6]]);
    assert_eq!(of.nat_d().collect::<Vec<_>>(), [(false, &[7][..]), (true, &[8][..])]);
    assert_eq!((of.count(PayloadType::ID), of.count(PayloadType::CERT)), (2, 0));
    assert_eq!(Payloads(&[]).sa(), None);
}

fn octets(size: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(any::<u8>(), size)
}

fn sa() -> impl Strategy<Value = Sa> {
    let attribute = (0u16..0x8000, octets(0..12)).prop_map(|(kind, value)| Attribute { kind, value });
    let attributes = prop::collection::vec(attribute, 0..6);
    let transform = (any::<u8>(), any::<u8>(), attributes).prop_map(|(number, id, attributes)| SaTransform {
        number,
        id,
        attributes,
    });
    let protocol = prop_oneof![
        octets(0..=16).prop_map(|spi| (ProtocolId::IKE, spi)),
        octets(4).prop_map(|spi| (ProtocolId::ESP, spi)),
        octets(4).prop_map(|spi| (ProtocolId::AH, spi)),
        octets(2).prop_map(|spi| (ProtocolId(4), spi)),
    ];
    let proposal = (any::<u8>(), protocol, prop::collection::vec(transform, 0..5))
        .prop_map(|(number, (protocol, spi), transforms)| SaProposal { number, protocol, spi, transforms });
    prop::collection::vec(proposal, 1..4).prop_map(Sa::new)
}

fn payload() -> impl Strategy<Value = Payload> {
    let id = (any::<u8>(), any::<u8>(), any::<u16>(), octets(1..40))
        .prop_map(|(kind, protocol, port, data)| Id { kind: IdType(kind), protocol, port, data });
    let notify =
        (any::<u8>(), octets(0..20), any::<u16>(), octets(0..20)).prop_map(|(p, spi, kind, data)| Notify {
            protocol: ProtocolId(p),
            spi,
            kind: NotifyType(kind),
            data,
        });
    let delete = prop::collection::vec(octets(4), 1..5)
        .prop_map(|spis| Payload::Delete(Delete { protocol: ProtocolId::ESP, spis }));
    prop_oneof![
        sa().prop_map(Payload::Sa),
        octets(1..300).prop_map(Payload::Ke),
        id.prop_map(Payload::Id),
        octets(1..64).prop_map(Payload::Hash),
        octets(8..=256).prop_map(Payload::Nonce),
        notify.prop_map(Payload::Notify),
        delete,
        octets(0..40).prop_map(Payload::Vendor),
        (any::<bool>(), octets(0..64)).prop_map(|(draft, hash)| Payload::NatD { draft, hash }),
        (any::<u16>(), 1u8.., any::<bool>(), octets(1..50))
            .prop_map(|(id, number, last, data)| Payload::Fragment { id, number, last, data }),
        octets(0..40).prop_map(|data| Payload::Opaque(PayloadType::CERT, data)),
        octets(0..40).prop_map(|data| Payload::Opaque(PayloadType(201), data)),
    ]
}

proptest! {
    #[test]
    fn what_is_written_reads_the_same(payloads in prop::collection::vec(payload(), 0..12), padding in 0..20usize) {
        let (next, mut body) = written(&payloads);
        let end = body.len();
        body.resize(end + padding, 0);
        let chain = parse_chain(next, &body, true).unwrap();
        prop_assert_eq!(&chain.payloads, &payloads);
        prop_assert!(payloads.is_empty() || chain.rest.end == end);
        prop_assert_eq!(written(&payloads[payloads.len().min(1)..]).1, &body[chain.rest]);
    }

    #[test]
    fn arbitrary_octets_never_panic(next in any::<u8>(), body in octets(0..400), padded in any::<bool>()) {
        if let Ok(chain) = parse_chain(PayloadType(next), &body, padded) {
            for (exchange, message) in [(2, 1), (2, 3), (2, 5), (4, 1), (4, 2), (32, 1), (32, 3), (5, 1)] {
                let _ = check(Exchange(exchange), message, &chain.payloads);
            }
            prop_assert!(chain.rest.end <= body.len());
        }
        let _ = Header::parse(&body);
    }

    /// A message that was decrypted with another key than it was encrypted with.
    #[test]
    fn what_a_wrong_key_leaves_is_no_chain(body in octets(48..400)) {
        prop_assert!(parse_chain(PayloadType::HASH, &body, true).is_err());
        prop_assert!(parse_chain(PayloadType::ID, &body, true).is_err());
    }
}
