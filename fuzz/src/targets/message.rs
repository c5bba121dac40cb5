//! A whole datagram through the parser of IKE messages. What parses is written and must parse to the same.

use ike::wire::Message;
use ike::wire::header::HEADER_LEN;
use ike::wire::payload::{self, Payload};

/// Runs the target.
pub fn run(data: &[u8]) {
    let Ok(message) = Message::parse(data) else {
        // The length field is what stops most inputs; a right one lets the rest be seen.
        if data.len() > HEADER_LEN {
            let mut fixed = data.to_vec();
            fixed[24..28].copy_from_slice(&(data.len() as u32).to_be_bytes());
            fixed[17] = 0x20 | fixed[17] & 0xf;
            if let Ok(message) = Message::parse(&fixed) {
                check(&message, &fixed);
            }
        }
        return;
    };
    check(&message, data);
}

fn check(message: &Message, data: &[u8]) {
    let _ = format!("{message:?}");
    if let Some((_, body)) = &message.chain.encrypted {
        assert!(body.start <= body.end && body.end == data.len(), "SK ends the message");
        assert!(data.get(body.clone()).is_some());
    }
    assert!(message.chain.fragment.is_none_or(|(n, total)| n > 0 && n <= total));
    let _ = ike::wire::rules::check(&message.header, &message.chain.payloads);
    round_trip(&message.chain.payloads);
    if message.chain.encrypted.is_none() {
        let written = Message::encode(message.header, &normal(&message.chain.payloads));
        let again = Message::parse(&written).expect("what was written parses");
        assert_eq!(normal(&again.chain.payloads), normal(&message.chain.payloads));
        let (a, b) = (again.header, message.header);
        assert_eq!(
            (a.spi_i, a.spi_r, a.exchange, a.message_id),
            (b.spi_i, b.spi_r, b.exchange, b.message_id)
        );
        assert_eq!((a.from_initiator, a.response), (b.from_initiator, b.response));
    }
}

/// Writes payloads and reads them again.
pub fn round_trip(payloads: &[Payload]) {
    let payloads = normal(payloads);
    let mut w = ike::wire::writer::Writer::new();
    let first = payload::write_chain(&mut w, &payloads);
    let again = payload::parse_chain(first, w.as_slice(), 0).expect("what was written parses");
    assert!(again.encrypted.is_none());
    assert_eq!(again.payloads, payloads);
    for payload in &payloads {
        describe(payload);
    }
}

/// What is not understood is only noted or passed over, not kept: attributes, and traffic selectors, of which none may be left. Nothing of
/// ours is written so.
fn normal(payloads: &[Payload]) -> Vec<Payload> {
    let mut payloads = payloads.to_vec();
    payloads.retain(|payload| !matches!(payload, Payload::TsI(ts) | Payload::TsR(ts) if ts.is_empty()));
    for payload in &mut payloads {
        if let Payload::Sa(proposals) = payload {
            proposals.iter_mut().flat_map(|p| &mut p.transforms).for_each(|t| t.unknown_attribute = false);
        }
    }
    payloads
}

/// Text made of what a peer sent, as logs and failures show it.
fn describe(payload: &Payload) {
    let text = match payload {
        Payload::Sa(sa) => ike::proposal::negotiate::describe(sa),
        Payload::IdI(theirs) | Payload::IdR(theirs) => theirs.id.to_string(),
        Payload::TsI(ts) | Payload::TsR(ts) => ike::wire::ts::describe(ts),
        other => format!("{other:?} {}", other.kind()),
    };
    assert!(!text.chars().any(char::is_control), "{text:?} could forge a line of a log");
}
