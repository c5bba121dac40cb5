//! What a peer may send that has the keys and no manners, and a codec that anybody may feed: for the fuzz targets.

use super::Connection;
use super::exchange::Step;
use super::ike_sa::Proof;
use super::offer;
use super::wire::{
    self, Delete, Exchange, HEADER_LEN, Header, Id, Notify, NotifyType, Payload, PayloadType, parse_chain,
    rules, write_chain,
};
use crate::config::{Life, Mode};
use crate::proposal::EspProposal;
use crate::wire::numbers::ProtocolId;
use crate::wire::ts::TrafficSelector;
use crate::wire::writer::Writer;

/// Payloads as they are written: the type of the first, and the octets.
pub type Octets = (u8, Vec<u8>);

/// A message of phase 2 to be sealed for a connection as its peer would.
#[derive(Clone, Debug)]
pub struct Forgery {
    /// The exchange.
    pub exchange: u8,
    /// The Message ID of an exchange that begins with it.
    pub id: u32,
    /// Goes on with this one of the quick modes under way instead.
    pub quick: Option<usize>,
    /// On this one of the IKE_SAs.
    pub sa: usize,
    /// With the commit bit.
    pub commit: bool,
    /// With a HASH payload in front that is right.
    pub hash: bool,
    /// The payloads.
    pub payloads: Octets,
}

fn written(payloads: &[Payload]) -> Octets {
    let mut w = Writer::new();
    let first = write_chain(&mut w, payloads);
    (first.0, w.finish())
}

/// A Notify payload.
pub fn notify(kind: u16, protocol: u8, spi: &[u8], data: &[u8]) -> Octets {
    let (spi, data) = (spi.to_vec(), data.to_vec());
    written(&[Payload::Notify(Notify { protocol: ProtocolId(protocol), spi, kind: NotifyType(kind), data })])
}

/// A Delete payload: of pairs, or of an IKE_SA by both its SPIs.
pub fn delete(protocol: u8, spis: Vec<Vec<u8>>) -> Octets {
    written(&[Payload::Delete(Delete { protocol: ProtocolId(protocol), spis })])
}

/// What a first or second message of quick mode has behind its HASH.
pub fn quick(
    proposals: &[EspProposal],
    spi: u32,
    (group, key): (Option<u16>, Option<&[u8]>),
    nonce: &[u8],
    subnets: Option<[&TrafficSelector; 2]>,
) -> Octets {
    let sa = offer::quick(proposals, spi, group, Life::default(), Mode::Tunnel, offer::Encapsulation::Raw);
    let mut payloads = vec![Payload::Sa(sa), Payload::Nonce(nonce.to_vec())];
    payloads.extend(key.map(|key| Payload::Ke(key.to_vec())));
    let ids = subnets.into_iter().flatten().filter_map(Id::of_selector);
    payloads.extend(ids.map(Payload::Id));
    written(&payloads)
}

/// One payload behind the other.
#[must_use]
pub fn chained(mut first: Octets, second: Octets) -> Octets {
    let mut at = 0;
    // The last payload says that none follows.
    while let Some(&[next, _, high, low]) = first.1.get(at..at + 4).and_then(|head| head.first_chunk()) {
        if next == PayloadType::NONE.0 {
            first.1.get_mut(at).into_iter().for_each(|octet| *octet = second.0);
            break;
        }
        at += usize::from(u16::from_be_bytes([high, low])).max(4);
    }
    first.1.extend(second.1);
    first
}

impl Connection {
    /// Seals it, if there is what it goes on with.
    pub(crate) fn forge_message(&self, forgery: &Forgery) -> Option<Vec<u8>> {
        let quick = forgery.quick.and_then(|at| self.quick.get(at % self.quick.len().max(1)));
        let at = forgery.sa % self.sas.len().max(1);
        let sa = quick.map_or_else(|| self.sas.get(at).map(Box::as_ref), |quick| self.sa(quick.ike))?;
        let (id, mut iv) = match quick {
            Some(quick) => (quick.id, quick.iv.clone()),
            None => (forgery.id, sa.first_iv(forgery.id)),
        };
        let proof = match quick.map(|quick| &quick.step) {
            Some(Step::Requested(offer)) => Proof::Second(&offer.nonce),
            Some(Step::Answered(answered)) => Proof::Third(&answered.nonces.0, &answered.nonces.1),
            Some(Step::Done(..)) | None => Proof::First,
        };
        let mut payloads = forgery.payloads.clone();
        if forgery.hash {
            let hash = sa.proof(id, proof, &payloads.1).ok()?;
            payloads = chained(written(&[Payload::Hash(hash.to_vec())]), payloads);
        }
        sa.forge(forgery.exchange, (id, forgery.commit), &mut iv, (payloads.0, &payloads.1))
    }
}

/// Reads a datagram as whoever receives one. What reads is written and must read the same.
///
/// # Panics
/// When it does not.
#[allow(clippy::expect_used, reason = "a panic is a finding")]
pub fn read_message(datagram: &[u8]) {
    let Ok(header) = Header::parse(datagram) else { return };
    let _ = (wire::opening(&header), format!("{header:?}"));
    let body = datagram.get(HEADER_LEN..).unwrap_or_default();
    if header.encrypted {
        return;
    }
    let Ok(chain) = parse_chain(header.next, body, false) else { return };
    read_the_same(&chain.payloads);
    let again = wire::encode(header, &chain.payloads);
    let head = Header::parse(&again).expect("what was written reads");
    // The drafts have two numbers for NAT-D.
    assert_eq!(Header { length: header.length, next: header.next, ..head }, header);
}

/// Reads what decryption leaves: payloads, and padding behind them.
pub fn read_decrypted(first: u8, plain: &[u8]) {
    let Ok(chain) = parse_chain(PayloadType(first), plain, true) else { return };
    assert!(
        chain.rest.start <= chain.rest.end && chain.rest.end <= plain.len(),
        "a rest outside of the message"
    );
    let _ = rules::hash_is_first(&chain.payloads);
    read_the_same(&chain.payloads);
}

#[allow(clippy::expect_used, reason = "a panic is a finding")]
fn read_the_same(payloads: &[Payload]) {
    for exchange in [Exchange::MAIN, Exchange::AGGRESSIVE, Exchange::QUICK, Exchange::INFORMATIONAL] {
        for number in 1..=6 {
            let _ = rules::check(exchange, number, payloads);
        }
    }
    let (first, octets) = written(payloads);
    let again = parse_chain(PayloadType(first), &octets, false).expect("what was written reads");
    assert_eq!(again.payloads, payloads);
    for payload in payloads {
        let text = match payload {
            Payload::Sa(sa) => {
                let phase1 = offer::read_phase1(sa).into_iter().map(|offer| offer.proposal);
                let quick = offer::read_quick(sa, false).into_iter().map(|offer| offer.proposal);
                crate::proposal::negotiate::describe(&phase1.chain(quick).collect::<Vec<_>>())
            }
            Payload::Id(id) => format!("{} {}", id.told(), id.told_as_subnet()),
            other => format!("{other:?}"),
        };
        assert!(!text.chars().any(char::is_control), "{text:?} could forge a line of a log");
    }
}
