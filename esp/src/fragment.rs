//! Fragmenting inner IPv4 packets before they are sealed (RFC 791 section 3.2, RFC 4301 section 7).
//!
//! Fragments that fit the path travel as ESP packets of their own: nobody on the way has to fragment ESP, and the
//! receiving gateway has nothing to reassemble.

use crate::checksum;
use crate::ip::{DONT_FRAGMENT, FRAGMENT_OFFSET, IPV4_HEADER_LEN};

/// The fragments of one packet, written one by one.
#[derive(Debug, Clone)]
pub struct Fragments<'a> {
    header: &'a [u8],
    /// What is still to be sent.
    payload: &'a [u8],
    /// Octets of the original datagram before `payload`.
    offset: usize,
    /// The packet is itself a fragment with others after it.
    more: bool,
    /// The first one is written, so that the header is the shorter one.
    begun: bool,
    mtu: usize,
}

impl<'a> Fragments<'a> {
    /// Cuts `packet` into fragments of at most `mtu` octets.
    ///
    /// `None` for what must not be fragmented (IPv6, DF), is malformed, or when `mtu` has no room for a header and eight
    /// octets. Octets after the packet's own length are left out.
    pub fn new(packet: &'a [u8], mtu: usize) -> Option<Self> {
        let fixed = packet.first_chunk::<IPV4_HEADER_LEN>()?;
        let header_len = usize::from(fixed[0] & 0x0f) * 4;
        let len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
        if fixed[0] >> 4 != 4
            || header_len < IPV4_HEADER_LEN
            || fixed[6] & DONT_FRAGMENT != 0
            || mtu < header_len + UNIT
        {
            return None;
        }
        let word = u16::from_be_bytes([fixed[6], fixed[7]]);
        Some(Self {
            header: packet.get(..header_len)?,
            payload: packet.get(header_len..len)?,
            offset: usize::from(word & FRAGMENT_OFFSET) * UNIT,
            more: word & MORE != 0,
            begun: false,
            mtu,
        })
    }

    /// Octets of the next fragment; `None` when all are written.
    pub fn next_len(&self) -> Option<usize> {
        (!self.begun || !self.payload.is_empty()).then(|| self.header_len() + self.share())
    }

    /// Writes the next fragment to the front of `out`: its length. `None` when all are written or `out` is too small.
    pub fn write_next(&mut self, out: &mut [u8]) -> Option<usize> {
        let len = self.next_len()?;
        let (header_len, share) = (self.header_len(), self.share());
        let out = out.get_mut(..len)?;
        let (header, body) = out.split_at_mut_checked(header_len)?;
        if self.begun {
            write_later_header(self.header, header);
        } else {
            header.copy_from_slice(self.header);
        }
        let (now, later) = self.payload.split_at_checked(share)?;
        body.copy_from_slice(now);
        let more = self.more || !later.is_empty();
        let word = (self.offset / UNIT) as u16 & FRAGMENT_OFFSET | if more { MORE } else { 0 };
        finish(header, header_len, len, word)?;
        self.payload = later;
        self.offset += share;
        self.begun = true;
        Some(len)
    }

    fn header_len(&self) -> usize {
        if self.begun { later_header_len(self.header) } else { self.header.len() }
    }

    /// Octets of payload in the next fragment: whole units, except in the last one.
    fn share(&self) -> usize {
        let room = self.mtu - self.header_len();
        if self.payload.len() <= room { self.payload.len() } else { room / UNIT * UNIT }
    }
}

/// Fills in what differs from fragment to fragment.
fn finish(header: &mut [u8], header_len: usize, len: usize, word: u16) -> Option<()> {
    let fixed = header.first_chunk_mut::<IPV4_HEADER_LEN>()?;
    fixed[0] = 0x40 | (header_len / 4) as u8;
    [fixed[2], fixed[3]] = (len as u16).to_be_bytes();
    [fixed[6], fixed[7]] = word.to_be_bytes();
    [fixed[10], fixed[11]] = [0, 0];
    let sum = checksum::of(&[header]).to_be_bytes();
    header.get_mut(10..12)?.copy_from_slice(&sum);
    Some(())
}

/// The options of an IPv4 header that later fragments carry: those with the copied flag (RFC 791 section 3.1).
fn copied_options(header: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = header.get(IPV4_HEADER_LEN..).unwrap_or_default();
    std::iter::from_fn(move || {
        loop {
            let len = match *rest.first()? {
                END => return None,
                NOTHING => 1,
                _ => usize::from(*rest.get(1)?).max(1),
            };
            let (option, after) = rest.split_at_checked(len)?;
            rest = after;
            if option.first().is_some_and(|kind| kind & COPIED != 0) {
                return Some(option);
            }
        }
    })
}

fn later_header_len(header: &[u8]) -> usize {
    if header.len() == IPV4_HEADER_LEN {
        return IPV4_HEADER_LEN;
    }
    (IPV4_HEADER_LEN + copied_options(header).map(<[u8]>::len).sum::<usize>()).next_multiple_of(4)
}

/// `to` has the length that [`later_header_len`] says.
fn write_later_header(from: &[u8], to: &mut [u8]) {
    to.fill(END);
    let fixed = from.get(..IPV4_HEADER_LEN).unwrap_or_default();
    let octets = fixed.iter().chain(copied_options(from).flatten());
    for (to, from) in to.iter_mut().zip(octets) {
        *to = *from;
    }
}

/// Offsets count in units of so many octets.
const UNIT: usize = 8;
/// The flag that more fragments follow.
const MORE: u16 = 0x2000;
/// Kinds of IPv4 options.
const END: u8 = 0;
const NOTHING: u8 = 1;
const COPIED: u8 = 0x80;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn packet(options: &[u8], payload: &[u8], word: u16) -> Vec<u8> {
        let header_len = 20 + options.len();
        let mut packet = vec![0x40 | (header_len / 4) as u8, 0];
        packet.extend(((header_len + payload.len()) as u16).to_be_bytes());
        packet.extend([0xab, 0xcd]);
        packet.extend(word.to_be_bytes());
        packet.extend([64, 17, 0, 0, 10, 0, 0, 1, 10, 9, 0, 2]);
        packet.extend(options);
        packet.extend(payload);
        let sum = checksum::of(&[&packet[..header_len]]);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        packet
    }

    fn cut(packet: &[u8], mtu: usize) -> Vec<Vec<u8>> {
        let mut fragments = Fragments::new(packet, mtu).unwrap();
        let mut all = Vec::new();
        while let Some(len) = fragments.next_len() {
            let mut out = vec![0xee; len];
            assert_eq!(fragments.write_next(&mut out), Some(len));
            all.push(out);
        }
        assert_eq!(fragments.write_next(&mut [0; 2000]), None);
        all
    }

    /// As a host reassembles (RFC 791): payload by offset, header of the first.
    fn reassemble(fragments: &[Vec<u8>], from: usize) -> (Vec<u8>, bool) {
        let mut payload = Vec::new();
        let mut more = true;
        for fragment in fragments {
            let header_len = usize::from(fragment[0] & 15) * 4;
            assert_eq!(checksum::of(&[&fragment[..header_len]]), 0);
            assert_eq!(usize::from(u16::from_be_bytes([fragment[2], fragment[3]])), fragment.len());
            assert_eq!(fragment[4..6], [0xab, 0xcd]);
            let word = u16::from_be_bytes([fragment[6], fragment[7]]);
            let offset = usize::from(word & FRAGMENT_OFFSET) * 8 - from;
            assert_eq!(offset, payload.len());
            more = word & MORE != 0;
            assert!(more || fragment == fragments.last().unwrap());
            payload.extend(&fragment[header_len..]);
        }
        (payload, more)
    }

    proptest! {
        #[test]
        fn fragments_reassemble(payload in proptest::collection::vec(any::<u8>(), 0..4000), mtu in 68usize..1500,
                                options in prop_oneof![Just(vec![]), Just(vec![0x94, 4, 0, 0]), Just(vec![7, 7, 4, 0, 0, 0, 0, 1])],
                                at in 0u16..400, more in any::<bool>()) {
            let word = at | if more { MORE } else { 0 };
            let original = packet(&options, &payload, word);
            let mut trailing = original.clone();
            trailing.extend([0x55; 9]);
            let fragments = cut(&trailing, mtu);
            prop_assert!(fragments.iter().all(|fragment| fragment.len() <= mtu));
            prop_assert_eq!(fragments[0].len() == original.len(), original.len() <= mtu);
            prop_assert_eq!(reassemble(&fragments, usize::from(at) * 8), (payload, more));
            // Router alert is copied, record route is not.
            prop_assert_eq!(&fragments[0][20..20 + options.len()], &options[..]);
            let later = if options.first() == Some(&0x94) { 24 } else { 20 };
            prop_assert!(fragments.iter().skip(1).all(|fragment| usize::from(fragment[0] & 15) * 4 == later));
        }

        #[test]
        fn any_octets(mut packet in proptest::collection::vec(any::<u8>(), 0..300), mtu in 0usize..200) {
            if let Some(first) = packet.first_mut() {
                *first = 0x40 | *first & 15;
            }
            if let Some(mut fragments) = Fragments::new(&packet, mtu) {
                let mut out = [0; 200];
                let mut count = 0;
                while fragments.write_next(&mut out).is_some() {
                    count += 1;
                    prop_assert!(count < 100);
                }
            }
        }
    }

    #[test]
    fn what_must_not_be_cut() {
        let plain = packet(&[], &[1; 1000], 0);
        assert!(Fragments::new(&plain, 27).is_none());
        assert!(Fragments::new(&packet(&[], &[1; 1000], 0x4000), 500).is_none());
        assert!(Fragments::new(&[0x60; 1000], 500).is_none());
        assert!(Fragments::new(&plain[..900], 500).is_none());
    }
}
