//! Fragments as Cisco and others have them: a message in pieces, each in a datagram with a header of its own and a Fragment
//! payload. Nothing of them is authenticated, so little is kept, and what comes out is a message like any other.

use crate::v1::wire::{HEADER_LEN, Header, Payload, PayloadType, encode, parse_chain};
use crate::wire::WireError;

/// The largest message that is sent whole: an IPv6 datagram of 1280 octets, which every path carries, less 40 for IPv6, 8
/// for UDP and 4 for the non-ESP marker.
const MAX_DATAGRAM: usize = 1_228;
/// Octets of a message in one fragment: less two headers.
const CHUNK: usize = MAX_DATAGRAM - HEADER_LEN - 8;
/// Fragments of one message that are kept: its number is one octet, and messages with a few certificates need under 10.
const MAX_FRAGMENTS: u8 = 32;
/// Octets of a message in fragments. Whoever sends them has proved nothing, and one with certificates has less.
const MAX_OCTETS: usize = 16_384;

/// A message as the datagrams it goes in.
pub(crate) fn split(message: &[u8], fragments: bool) -> Vec<Vec<u8>> {
    let header = Header::parse(message).ok().filter(|_| fragments && message.len() > MAX_DATAGRAM);
    let Some(header) = header else { return vec![message.to_vec()] };
    let chunks: Vec<&[u8]> = message.chunks(CHUNK).collect();
    let count = chunks.len();
    let head = Header { encrypted: false, commit: false, ..header };
    (1u8..=u8::MAX)
        .zip(chunks)
        .map(|(number, data)| {
            let last = usize::from(number) == count;
            encode(head, &[Payload::Fragment { id: 1, number, last, data: data.to_vec() }])
        })
        .collect()
}

/// Whether a datagram is a fragment.
pub(crate) fn is_fragment(header: &Header) -> bool {
    header.next == PayloadType::FRAGMENT
}

/// One message being put together. A fragment of another one takes its place.
#[derive(Debug, Default)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Reassembly {
    id: u16,
    /// Of whose phase 1 it is.
    spis: (u64, u64),
    parts: Vec<Option<Vec<u8>>>,
    last: Option<u8>,
}

impl Reassembly {
    /// Takes a fragment. The whole message, once it is complete.
    pub(crate) fn add(&mut self, header: &Header, datagram: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        let body = datagram.get(HEADER_LEN..).unwrap_or_default();
        let chain = parse_chain(header.next, body, false)?;
        let [Payload::Fragment { id, number, last, data }] = chain.payloads.as_slice() else {
            return Err(WireError::BadField("fragment"));
        };
        if !(1..=MAX_FRAGMENTS).contains(number) {
            return Err(WireError::TooMany("fragments"));
        }
        let spis = (header.spi_i, header.spi_r);
        if (self.id, self.spis) != (*id, spis) {
            *self = Self { id: *id, spis, ..Self::default() };
        }
        let at = usize::from(*number) - 1;
        if self.parts.len() <= at {
            self.parts.resize(at + 1, None);
        }
        if let Some(part) = self.parts.get_mut(at) {
            *part = Some(data.clone());
        }
        if *last {
            self.last = Some(*number);
        }
        let octets: usize = self.parts.iter().flatten().map(Vec::len).sum();
        if octets > MAX_OCTETS {
            *self = Self::default();
            return Err(WireError::TooMany("octets in fragments"));
        }
        let whole =
            |count: u8| self.parts.get(..usize::from(count)).filter(|p| p.iter().all(Option::is_some));
        let Some(parts) = self.last.and_then(whole) else { return Ok(None) };
        let message: Vec<u8> = parts.iter().flatten().flatten().copied().collect();
        *self = Self::default();
        Ok(Some(message))
    }

    /// Octets that wait for the rest of their message.
    pub(crate) fn octets(&self) -> usize {
        self.parts.iter().flatten().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::wire::Exchange;

    fn message(octets: usize) -> Vec<u8> {
        let header = Header {
            spi_i: 1,
            spi_r: 2,
            next: PayloadType(0),
            exchange: Exchange::MAIN,
            encrypted: false,
            commit: false,
            message_id: 0,
            length: 0,
        };
        encode(header, &[Payload::Vendor(vec![7; octets])])
    }

    fn put(reassembly: &mut Reassembly, datagram: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
        let header = Header::parse(datagram).unwrap();
        assert!(is_fragment(&header));
        reassembly.add(&header, datagram)
    }

    #[test]
    fn what_is_small_goes_whole_and_what_is_large_in_pieces_in_any_order() {
        assert_eq!(split(&message(1_000), true), [message(1_000)]);
        assert_eq!(split(&message(5_000), false), [message(5_000)]);
        let large = message(5_000);
        let mut pieces = split(&large, true);
        assert!(pieces.len() > 4 && pieces.iter().all(|p| p.len() <= MAX_DATAGRAM));
        pieces.reverse();
        let mut reassembly = Reassembly::default();
        let whole: Vec<_> = pieces.iter().filter_map(|p| put(&mut reassembly, p).unwrap()).collect();
        assert_eq!(whole, [large]);
        assert_eq!(reassembly.octets(), 0);
    }

    /// CVE-2013-6076: a fragment with numbers that lead astray.
    #[test]
    fn crafted_fragments_are_refused_and_nothing_large_is_kept() {
        let header = Header::parse(&message(8)).unwrap();
        let mut reassembly = Reassembly::default();
        let piece = |number, last, octets| {
            encode(header, &[Payload::Fragment { id: 9, number, last, data: vec![1; octets] }])
        };
        for bad in [piece(0, false, 4), piece(33, true, 4), piece(255, true, 4)] {
            assert!(put(&mut reassembly, &bad).is_err());
        }
        // The last one first, and one that lies beyond it.
        assert_eq!(put(&mut reassembly, &piece(2, true, 4)), Ok(None));
        assert_eq!(put(&mut reassembly, &piece(9, false, 4)), Ok(None));
        assert!(put(&mut reassembly, &piece(1, false, 4)).unwrap().is_some());
        for number in 1..=8 {
            let _ = put(&mut reassembly, &piece(number, false, 4_000));
        }
        assert!(reassembly.octets() <= MAX_OCTETS);
    }
}
