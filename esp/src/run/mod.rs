//! Runs: consecutive packets of one flow that a host gives, or takes, as one large packet (segmentation offload).
//!
//! A [`Run`] describes such a packet. [`Segments`] cuts it into the packets that it stands for, [`Joiner`] makes one of packets
//! that may be one: whatever it joins, cutting gives back octet for octet. [`complete`] is for a single packet whose checksum the
//! host has left to us. The words are those of the virtio-net header (Virtual I/O Device 1.2 section 5.1.6).

mod cut;
mod head;
mod join;
#[cfg(test)]
mod tests;

pub use cut::Segments;
pub use join::{Joined, Joiner, may_be_of_a_run};

use crate::checksum;
use crate::ip::{TCP, UDP, upper_layer};

/// What a run consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RunKind {
    /// Segments of TCP over IPv4.
    Tcp4,
    /// Segments of TCP over IPv6.
    Tcp6,
    /// Datagrams of UDP over either.
    Udp,
}

impl RunKind {
    /// Where in the header of the upper layer the checksum is.
    pub const fn checksum_offset(self) -> usize {
        match self {
            Self::Tcp4 | Self::Tcp6 => TCP_CHECKSUM,
            Self::Udp => UDP_CHECKSUM,
        }
    }

    const fn protocol(self) -> u8 {
        match self {
            Self::Tcp4 | Self::Tcp6 => TCP,
            Self::Udp => UDP,
        }
    }
}

/// A large packet: where its headers end, and how much of the rest each of its packets has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// What it consists of.
    pub kind: RunKind,
    /// Octets before the header of the upper layer.
    pub upper: u16,
    /// Octets of all headers.
    pub headers: u16,
    /// Octets of payload in every packet but the last, which may have fewer.
    pub segment: u16,
}

impl Run {
    /// Of a packet that a host hands over: `upper` is where the header of its upper layer begins, and every packet of the run
    /// has `segment` octets of payload. `None` when the packet is not what this says.
    pub fn of(packet: &[u8], kind: RunKind, upper: usize, segment: usize) -> Option<Self> {
        let v4 = packet.first()? >> 4 == 4;
        let matches = match kind {
            RunKind::Tcp4 => v4,
            RunKind::Tcp6 => !v4,
            RunKind::Udp => true,
        };
        if !matches || segment == 0 || upper_layer(packet)? != (kind.protocol(), Some(upper)) {
            return None;
        }
        let header = match kind {
            RunKind::Tcp4 | RunKind::Tcp6 => tcp_header_len(packet.get(upper..)?)?,
            RunKind::Udp => UDP_HEADER,
        };
        let headers = upper + header;
        // Something has to follow, or there would be nothing to cut.
        let payload = packet.len().checked_sub(headers).filter(|payload| *payload > 0)?;
        if payload.div_ceil(segment) > MAX_CUT {
            return None;
        }
        let short = |number| u16::try_from(number).ok();
        Some(Self { kind, upper: short(upper)?, headers: short(headers)?, segment: short(segment)? })
    }

    /// How many packets it is cut into; `packet` is the one it describes.
    pub fn count(&self, packet: &[u8]) -> usize {
        packet.len().saturating_sub(self.headers.into()).div_ceil(usize::from(self.segment).max(1))
    }

    /// Octets of its largest packet, given that it is larger than one.
    pub fn largest(&self) -> usize {
        usize::from(self.headers) + usize::from(self.segment)
    }
}

/// Fills in the checksum over all that follows `start`, at `start + offset`: so far that place holds the sum of the pseudo-header.
/// False when there is no such place.
pub fn complete(packet: &mut [u8], start: usize, offset: usize) -> bool {
    let Some(upper) = packet.get_mut(start..) else { return false };
    let sum = finished(checksum::sum(upper), offset);
    let place = upper.get_mut(offset..).and_then(|rest| rest.first_chunk_mut::<2>());
    place.map(|place| *place = sum.to_be_bytes()).is_some()
}

/// What stands in a packet for the sum over all, at this offset of its upper layer.
fn finished(sum: u16, offset: usize) -> u16 {
    match !sum {
        // Zero would say that there is none (RFC 768).
        0 if offset == UDP_CHECKSUM => u16::MAX,
        sum => sum,
    }
}

/// The length of a TCP header by itself; `None` when it cannot be one.
fn tcp_header_len(upper: &[u8]) -> Option<usize> {
    let len = usize::from(upper.get(12)? >> 4) * 4;
    (len >= TCP_HEADER && len <= upper.len()).then_some(len)
}

/// The most that one packet may be cut into: the longest there is by the eight octets that Linux has a segment of TCP have at least
/// (`TCP_MIN_GSO_SIZE`, where options take most of a small MSS). Of UDP there are 128 at most in one run.
const MAX_CUT: usize = 65_535_usize.div_ceil(8);
const TCP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const TCP_CHECKSUM: usize = 16;
const UDP_CHECKSUM: usize = 6;
/// Flags of TCP (RFC 9293 section 3.1) that not every segment of a run has.
const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;
const CWR: u8 = 0x80;
