//! IKE datagrams out of capture files: pcap, pcapng and snoop; Ethernet, raw IP, loopback and Linux cooked frames.
//!
//! Damaged files are part of the material, so everything is looked up with `get` and what does not fit ends the file or
//! skips the frame.
#![allow(missing_docs, unreachable_pub)]

use std::collections::HashMap;

/// Where datagrams come from: link type and octets of each frame.
type Frames<'a> = Vec<(u32, &'a [u8])>;

/// All IKE datagrams of a capture, in order: UDP 500, and UDP 4500 behind the non-ESP marker (RFC 3948 section 2.2).
pub fn ike_datagrams(file: &[u8]) -> Vec<Vec<u8>> {
    let mut fragments = Fragments::default();
    frames(file).into_iter().filter_map(|(link, frame)| fragments.udp(ip_packet(link, frame)?)).collect()
}

fn frames(file: &[u8]) -> Frames<'_> {
    match file.get(..4) {
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => pcap(file, u32::from_le_bytes),
        Some([0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d]) => pcap(file, u32::from_be_bytes),
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => pcapng(file),
        Some(b"snoo") => snoop(file),
        _ => Vec::new(),
    }
}

fn field(at: &[u8], offset: usize, order: fn([u8; 4]) -> u32) -> Option<u32> {
    Some(order(at.get(offset..)?.first_chunk().copied()?))
}

fn size(at: &[u8], offset: usize, order: fn([u8; 4]) -> u32) -> Option<usize> {
    usize::try_from(field(at, offset, order)?).ok()
}

/// As much of `length` octets at `offset` as there is: a frame may be cut off.
fn piece(at: &[u8], offset: usize, length: usize) -> &[u8] {
    let rest = at.get(offset..).unwrap_or_default();
    rest.get(..length).unwrap_or(rest)
}

fn pcap(file: &[u8], order: fn([u8; 4]) -> u32) -> Frames<'_> {
    let mut frames = Vec::new();
    // The upper half tells the length of a checksum behind the frame.
    let link = field(file, 20, order).unwrap_or(0) & 0xffff;
    let mut rest = file.get(24..).unwrap_or_default();
    while let Some(length) = size(rest, 8, order) {
        frames.push((link, piece(rest, 16, length)));
        rest = rest.get(16 + length..).unwrap_or_default();
    }
    frames
}

fn pcapng(file: &[u8]) -> Frames<'_> {
    const INTERFACE: u32 = 1;
    const ENHANCED_PACKET: u32 = 6;
    let le = u32::from_le_bytes;
    let (mut frames, mut links, mut rest) = (Vec::new(), Vec::new(), file);
    while let (Some(kind), Some(length @ 12..)) = (field(rest, 0, le), size(rest, 4, le)) {
        let block = piece(rest, 0, length);
        match kind {
            INTERFACE => links.push(field(block, 8, le).unwrap_or(0) & 0xffff),
            ENHANCED_PACKET => {
                let link = size(block, 8, le).and_then(|interface| links.get(interface).copied());
                if let (Some(link), Some(captured)) = (link, size(block, 20, le)) {
                    frames.push((link, piece(block, 28, captured)));
                }
            }
            _ => {}
        }
        rest = rest.get(length..).unwrap_or_default();
    }
    frames
}

/// RFC 1761; its link type 4 is Ethernet.
fn snoop(file: &[u8]) -> Frames<'_> {
    let be = u32::from_be_bytes;
    let (mut frames, mut rest) = (Vec::new(), file.get(16..).unwrap_or_default());
    while let (Some(captured), Some(record @ 24..)) = (size(rest, 4, be), size(rest, 8, be)) {
        frames.push((1, piece(rest, 24, captured)));
        rest = rest.get(record..).unwrap_or_default();
    }
    frames
}

fn ip_packet(link: u32, frame: &[u8]) -> Option<&[u8]> {
    match link {
        0 => frame.get(4..),
        1 => match frame.get(12..14)? {
            [0x81, 0x00] => frame.get(18..),
            _ => frame.get(14..),
        },
        12 | 101 => Some(frame),
        113 => frame.get(16..),
        276 => frame.get(20..),
        _ => None,
    }
}

/// IPv4 datagrams that are not complete yet, by source, destination and identification.
#[derive(Default)]
struct Fragments<'a>(HashMap<&'a [u8], Vec<u8>>);

impl<'a> Fragments<'a> {
    /// The IKE datagram that this packet carries or completes.
    fn udp(&mut self, packet: &'a [u8]) -> Option<Vec<u8>> {
        match packet.first()? >> 4 {
            4 => {
                let header = usize::from(packet.first()? & 15) * 4;
                let total = usize::from(u16::from_be_bytes(packet.get(2..)?.first_chunk().copied()?));
                let place = u16::from_be_bytes(packet.get(6..)?.first_chunk().copied()?);
                let body = piece(packet, header, total.checked_sub(header)?);
                if *packet.get(9)? != 17 {
                    return None;
                }
                let (more, offset) = (place & 0x2000 != 0, usize::from(place & 0x1fff) * 8);
                if !more && offset == 0 {
                    return ike(body);
                }
                // Captures have the fragments of a datagram in order; one that is not is left out.
                let key = packet.get(12..20)?;
                let whole = self.0.entry(key).or_default();
                if offset == 0 {
                    whole.clear();
                }
                if offset != whole.len() {
                    return None;
                }
                whole.extend_from_slice(body);
                if more { None } else { ike(&self.0.remove(key)?) }
            }
            6 if *packet.get(6)? == 17 => ike(packet.get(40..)?),
            _ => None,
        }
    }
}

fn ike(udp: &[u8]) -> Option<Vec<u8>> {
    let [a, b, c, d, e, f, _, _] = *udp.first_chunk::<8>()?;
    let (from, to) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
    let payload = piece(udp, 8, usize::from(u16::from_be_bytes([e, f])).checked_sub(8)?);
    if from == 500 || to == 500 {
        return Some(payload.to_vec());
    }
    if from == 4500 || to == 4500 {
        return payload.strip_prefix(&[0, 0, 0, 0]).map(<[u8]>::to_vec);
    }
    None
}
