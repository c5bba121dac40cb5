//! First messages of IKEv1, written octet by octet: nobody who means well needs to make one that he does not mean.

use ike::config::Opening;

/// Octets of a header, and where its length is.
const HEADER: usize = 28;
const LENGTH_AT: usize = 24;
/// The exchanges.
const MAIN: u8 = 2;
const AGGRESSIVE: u8 = 4;
/// Types of payloads.
const SA: u8 = 1;
const TRANSFORM: u8 = 3;
const KE: u8 = 4;
const ID: u8 = 5;
const NONCE: u8 = 10;
/// AES-CBC with 256 bits, SHA-256, a pre-shared key, P-256, an hour: what a node with default proposals takes (RFC 2409
/// appendix A).
const TAKEN: [(u16, u16); 7] = [(1, 7), (14, 256), (2, 4), (3, 1), (4, 19), (11, 1), (12, 3_600)];
/// An unknown cipher, which nobody can choose.
const UNKNOWN: u16 = 60_000;
/// Who it says it is.
const NAME: &[u8] = b"nobody.load.example";

/// What is in a first message beside its offer.
pub(super) struct Parts<'a> {
    /// The SPI of its sender.
    pub(super) spi: u64,
    /// The public value of aggressive mode.
    pub(super) public: &'a [u8],
    /// The nonce of aggressive mode.
    pub(super) nonce: &'a [u8],
    /// Transforms that are no algorithm, instead of the one that is taken.
    pub(super) fillers: u16,
}

/// A first message of main or aggressive mode.
pub(super) fn message(opening: Opening, parts: &Parts<'_>) -> Vec<u8> {
    let mut payloads = vec![(SA, offer(parts.fillers))];
    if opening == Opening::Aggressive {
        // The identity: FQDN, no protocol, no port (RFC 2407 section 4.6.2).
        let id = [&[2, 0, 0, 0], NAME].concat();
        payloads.extend([(KE, parts.public.to_vec()), (NONCE, parts.nonce.to_vec()), (ID, id)]);
    }
    let exchange = if opening == Opening::Aggressive { AGGRESSIVE } else { MAIN };
    let mut out = parts.spi.to_be_bytes().to_vec();
    out.extend([0; 8]);
    out.extend([SA, 0x10, exchange, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    debug_assert_eq!(out.len(), HEADER);
    for (at, (_, body)) in payloads.iter().enumerate() {
        let next = payloads.get(at + 1).map_or(0, |(kind, _)| *kind);
        out.extend([next, 0]);
        out.extend(u16_of(4 + body.len()));
        out.extend(body);
    }
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.splice(LENGTH_AT..HEADER, length);
    out
}

/// The body of an SA payload with one proposal (RFC 2408 sections 3.4 to 3.6).
fn offer(fillers: u16) -> Vec<u8> {
    let mut transforms = Vec::new();
    let count = fillers.clamp(1, 255);
    for number in 1..=count {
        let mut attributes = Vec::new();
        for (kind, value) in TAKEN {
            let value = if kind == 1 && fillers > 0 { UNKNOWN + number } else { value };
            attributes.extend((0x8000 | kind).to_be_bytes());
            attributes.extend(value.to_be_bytes());
        }
        let next = if number < count { TRANSFORM } else { 0 };
        transforms.extend([next, 0]);
        transforms.extend(u16_of(8 + attributes.len()));
        let [_, number] = number.to_be_bytes();
        transforms.extend([number, 1, 0, 0]);
        transforms.extend(attributes);
    }
    let [_, count] = count.to_be_bytes();
    // The IPsec DOI, identity only; then the proposal: number 1, ISAKMP, no SPI.
    let mut body = vec![0, 0, 0, 1, 0, 0, 0, 1, 0, 0];
    body.extend(u16_of(8 + transforms.len()));
    body.extend([1, 1, 0, count]);
    body.extend(transforms);
    body
}

fn u16_of(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}
