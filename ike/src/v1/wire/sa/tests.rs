//! The SA payload octet by octet, and what is none.

use super::*;

fn transform(number: u8) -> SaTransform {
    let attributes = vec![Attribute::short(1, 7), Attribute::long(12, 28_800)];
    SaTransform { number, id: 1, attributes }
}

fn proposal(protocol: ProtocolId, spi: Vec<u8>) -> SaProposal {
    SaProposal { number: 1, protocol, spi, transforms: vec![transform(1), transform(2)] }
}

fn parse(body: &[u8]) -> Result<Vec<SaProposal>, WireError> {
    Sa::parse(Reader::new(body)).map(|sa| sa.proposals)
}

/// The body of one proposal for ISAKMP without SPI, and of its two transforms.
fn body() -> Vec<u8> {
    Sa::new(vec![proposal(ProtocolId::IKE, Vec::new())]).body
}

#[test]
fn a_body_is_written_octet_by_octet_as_the_rfc_has_it() {
    let expected = [
        &[0, 0, 0, 1, 0, 0, 0, 1][..],
        &[0, 0, 0, 48, 1, 1, 0, 2],
        &[3, 0, 0, 20, 1, 1, 0, 0, 0x80, 1, 0, 7, 0, 12, 0, 4, 0, 0, 0x70, 0x80],
        &[0, 0, 0, 20, 2, 1, 0, 0, 0x80, 1, 0, 7, 0, 12, 0, 4, 0, 0, 0x70, 0x80],
    ];
    assert_eq!(body(), expected.concat());
    assert_eq!(parse(&body()), Ok(vec![proposal(ProtocolId::IKE, Vec::new())]));
}

#[test]
fn other_situations_and_domains_are_refused() {
    let domain = WireError::BadField("domain of interpretation, expected IPsec's");
    let situation = WireError::BadField("situation, expected identity only");
    // The generic domain is for notifies only; a situation of secrecy has labels behind it (RFC 2407 section 4.6.1).
    for (at, value, error) in
        [(3, 0, domain), (3, 2, domain), (7, 0, situation), (7, 3, situation), (4, 1, situation)]
    {
        let mut body = body();
        body[at] = value;
        assert_eq!(parse(&body), Err(error), "octet {at}");
    }
}

#[test]
fn an_spi_fits_its_protocol() {
    for (protocol, size, fits) in [(1, 0, true), (1, 8, true), (1, 16, true), (1, 17, false), (1, 255, false)]
        .into_iter()
        .chain([(3, 4, true), (3, 0, false), (3, 8, false), (2, 4, true), (2, 3, false), (4, 2, true)])
    {
        let sa = Sa::new(vec![proposal(ProtocolId(protocol), vec![9; size])]);
        assert_eq!(parse(&sa.body).is_ok(), fits, "{protocol} {size}");
    }
}

#[test]
fn chains_inside_are_checked() {
    for (at, value, what) in [
        (8, 3, WireError::Payload("PROPOSAL", "is followed by another kind")),
        (8, 2, WireError::Truncated),
        (9, 1, WireError::Payload("PROPOSAL", "has a reserved field that is not zero")),
        (11, 3, WireError::Payload("PROPOSAL", "has a bad length")),
        (11, 49, WireError::Payload("PROPOSAL", "has a bad length")),
        // More or fewer transforms than are there.
        (15, 1, WireError::BadField("number of transforms")),
        (15, 3, WireError::BadField("number of transforms")),
        (15, 0, WireError::TrailingData),
        (16, 0, WireError::BadField("number of transforms")),
        (16, 2, WireError::Payload("TRANSFORM", "is followed by another kind")),
        (17, 1, WireError::Payload("TRANSFORM", "has a reserved field that is not zero")),
        (19, 0, WireError::Payload("TRANSFORM", "has a bad length")),
        (19, 41, WireError::Payload("TRANSFORM", "has a bad length")),
        // An attribute that goes on behind its transform (tcpdump read on), and half of one.
        (31, 5, WireError::Truncated),
        (31, 2, WireError::Truncated),
    ] {
        let mut body = body();
        body[at] = value;
        assert_eq!(parse(&body), Err(what), "octet {at}");
    }
    for length in 0..body().len() {
        assert!(parse(&body()[..length]).is_err(), "{length}");
    }
    assert_eq!(parse(&[body(), vec![0]].concat()), Err(WireError::TrailingData));
}

#[test]
fn proposals_transforms_and_attributes_are_counted() {
    let sa = |proposals, transforms: usize, attributes| {
        let attributes = vec![Attribute::short(1, 1); attributes];
        let transforms = vec![SaTransform { number: 1, id: 1, attributes }; transforms];
        let proposal = SaProposal { transforms, ..proposal(ProtocolId::IKE, Vec::new()) };
        parse(&Sa::new(vec![proposal; proposals]).body).err()
    };
    assert_eq!(sa(MAX_PROPOSALS, 1, 1), None);
    assert_eq!(sa(MAX_PROPOSALS + 1, 1, 1), Some(WireError::TooMany("proposals")));
    assert_eq!(sa(2, MAX_TRANSFORMS / 2, 1), None);
    assert_eq!(sa(2, MAX_TRANSFORMS / 2 + 1, 1), Some(WireError::TooMany("transforms")));
    assert_eq!(sa(1, 1, MAX_ATTRIBUTES), None);
    assert_eq!(sa(1, 1, MAX_ATTRIBUTES + 1), Some(WireError::TooMany("attributes")));
}

#[test]
fn attributes_are_numbers_of_up_to_eight_octets() {
    let number = |value: &[u8]| Attribute { kind: 1, value: value.to_vec() }.number();
    assert_eq!(number(&[]), None);
    assert_eq!(number(&[1, 2]), Some(258));
    assert_eq!(number(&[0xff; 8]), Some(u64::MAX));
    assert_eq!(number(&[0; 9]), None);
    let both = [Attribute::short(1, 1), Attribute::long(2, 3_600), Attribute { kind: 3, value: vec![7] }];
    let mut w = Writer::new();
    write_attributes(&mut w, &both);
    assert_eq!(parse_attributes(w.as_slice()), Ok(both.to_vec()));
    assert_eq!(parse_attributes(&w.as_slice()[..13]), Err(WireError::Truncated));
}

#[test]
fn what_is_chosen_stays_as_it_was_received() {
    // A duration of two octets in the long form, which nobody here would write so.
    let odd = [0, 0, 0, 18, 2, 1, 0, 0, 0x80, 1, 0, 7, 0, 12, 0, 2, 0x70, 0x80];
    let mut body = body();
    body.truncate(36);
    body.extend_from_slice(&odd);
    body[11] -= 2;
    let sa = Sa::parse(Reader::new(&body)).unwrap();
    let answer = sa.choose(0, 1, vec![5; 8]).unwrap();
    let expected = [&[0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 34, 1, 1, 8, 1][..], &[5; 8], &odd].concat();
    assert_eq!(answer.body, expected);
    assert_eq!(parse(&answer.body).as_ref(), Ok(&answer.proposals));
    // The first one was followed by another.
    let answer = sa.choose(0, 0, Vec::new()).unwrap();
    assert_eq!(parse(&answer.body).as_ref(), Ok(&answer.proposals));
    assert_eq!(answer.proposals[0].transforms, [transform(1)]);
    assert_eq!((sa.choose(0, 2, Vec::new()), sa.choose(1, 0, Vec::new())), (None, None));
}
