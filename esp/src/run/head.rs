//! What of a packet decides whether it may be part of a run.

use super::{ACK, PSH, RunKind, TCP_CHECKSUM, UDP_CHECKSUM, UDP_HEADER, tcp_header_len};
use crate::checksum;
use crate::ip::{FRAGMENT_OFFSET, IPV4_HEADER_LEN, IPV6_HEADER_LEN, TCP, UDP};

/// The headers of a packet that may be part of a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) kind: RunKind,
    /// Octets before the header of the upper layer.
    pub(super) upper: usize,
    /// Octets of all headers.
    pub(super) headers: usize,
    /// Identification of IPv4; 0 in IPv6.
    pub(super) id: u16,
    /// Sequence number of TCP; 0 in UDP.
    pub(super) seq: u32,
    /// The last of its run.
    pub(super) push: bool,
}

impl Head {
    /// Reads the packet. `None` for what travels alone: fragments, options of IP, extension headers, segments that do more than
    /// carry data, and datagrams without a checksum.
    pub(super) fn of(packet: &[u8]) -> Option<Self> {
        let (upper, protocol, id) = match packet.first()? {
            0x45 => {
                let header = packet.first_chunk::<IPV4_HEADER_LEN>()?;
                let len = usize::from(u16::from_be_bytes([header[2], header[3]]));
                let fragment = u16::from_be_bytes([header[6], header[7]]) & (FRAGMENT_OFFSET | OTHER_FLAGS);
                // Of the two ways of writing zero the one that cutting gives back.
                let written = header[10..12] != [0xff, 0xff] && checksum::sum(header) == u16::MAX;
                if len != packet.len() || fragment != 0 || !written {
                    return None;
                }
                (IPV4_HEADER_LEN, header[9], u16::from_be_bytes([header[4], header[5]]))
            }
            first if first >> 4 == 6 => {
                let header = packet.first_chunk::<IPV6_HEADER_LEN>()?;
                let len = usize::from(u16::from_be_bytes([header[4], header[5]]));
                if len + IPV6_HEADER_LEN != packet.len() {
                    return None;
                }
                (IPV6_HEADER_LEN, header[6], 0)
            }
            _ => return None,
        };
        let rest = packet.get(upper..)?;
        let (kind, header, seq, push) = match protocol {
            TCP => {
                let header = tcp_header_len(rest)?;
                let flags = *rest.get(13)?;
                if flags & !PSH != ACK || holds(rest, TCP_CHECKSUM, [0xff, 0xff]) {
                    return None;
                }
                let kind = if upper == IPV4_HEADER_LEN { RunKind::Tcp4 } else { RunKind::Tcp6 };
                let seq = u32::from_be_bytes(*rest.get(4..)?.first_chunk::<4>()?);
                (kind, header, seq, flags & PSH != 0)
            }
            UDP => {
                let len = u16::from_be_bytes(*rest.get(4..)?.first_chunk::<2>()?);
                if usize::from(len) != rest.len() || holds(rest, UDP_CHECKSUM, [0, 0]) {
                    return None;
                }
                (RunKind::Udp, UDP_HEADER, 0, false)
            }
            _ => return None,
        };
        let headers = upper + header;
        if headers >= packet.len() {
            return None;
        }
        Some(Self { kind, upper, headers, id, seq, push })
    }

    /// Whether it can be seen of what flow the packet is, or at least that it is of none that a run could be of: it is no fragment, and its
    /// upper layer begins where that of a run does.
    pub(super) fn shows_flow(packet: &[u8]) -> bool {
        let upper = match packet.first() {
            Some(0x45) => {
                let fragment = packet.get(6..8).and_then(|octets| octets.first_chunk::<2>());
                let whole = |octets: &[u8; 2]| u16::from_be_bytes(*octets) & (FRAGMENT_OFFSET | MORE) == 0;
                if !fragment.is_some_and(whole) {
                    return false;
                }
                IPV4_HEADER_LEN
            }
            Some(first) if first >> 4 == 6 && matches!(packet.get(6), Some(&(TCP | UDP | ICMPV6))) => {
                IPV6_HEADER_LEN
            }
            _ => return false,
        };
        packet.len() >= upper + PORTS
    }

    /// Whether the packet's checksum is right: a run says that all are. It goes over the whole packet, so it is asked last.
    pub(super) fn is_right(&self, packet: &[u8]) -> bool {
        let rest = packet.get(self.upper..).unwrap_or_default();
        let Ok(len) = u16::try_from(rest.len()) else { return false };
        let pseudo = pseudo(packet, self.upper, self.kind.protocol(), len);
        checksum::add(pseudo, checksum::sum(rest)) == u16::MAX
    }

    /// Whether both headers are the same in all that a run says once. `other` is the run's.
    pub(super) fn agrees(&self, packet: &[u8], other: &Self, others: &[u8]) -> bool {
        let same = |from: usize, to: usize| packet.get(from..to) == others.get(from..to);
        if self.kind != other.kind || self.upper != other.upper || self.headers != other.headers {
            return false;
        }
        // Addresses and ports first: most that differ do so in these.
        let upper = self.upper;
        let ip = if upper == IPV4_HEADER_LEN {
            same(12, 20) && same(0, 2) && same(6, 10)
        } else {
            same(8, 40) && same(0, 4) && same(6, 8)
        };
        ip && same(upper, upper + 4)
            && match self.kind {
                RunKind::Udp => true,
                // Acknowledgement and length; window; urgent pointer and options. The flags differ in PSH at most.
                _ => {
                    same(upper + 8, upper + 13)
                        && same(upper + 14, upper + TCP_CHECKSUM)
                        && same(upper + TCP_CHECKSUM + 2, self.headers)
                }
            }
    }

    /// Whether both are of one flow, whatever else they say.
    pub(super) fn same_flow(packet: &[u8], other: &Self, others: &[u8]) -> bool {
        let same = |from: usize, to: usize| packet.get(from..to) == others.get(from..to);
        let upper = other.upper;
        if upper == IPV4_HEADER_LEN {
            same(12, 20) && same(9, 10) && same(0, 1) && same(upper, upper + 4)
        } else {
            same(8, 40) && same(6, 7) && same(upper, upper + 4)
        }
    }
}

/// The sum that a host leaves in the checksum field of a run: that of the pseudo-header, for an upper layer of `len` octets.
pub(super) fn pseudo(packet: &[u8], upper: usize, protocol: u8, len: u16) -> u16 {
    let addresses = if upper == IPV4_HEADER_LEN { packet.get(12..20) } else { packet.get(8..40) };
    let sum = checksum::sum(addresses.unwrap_or_default());
    checksum::add(checksum::add(sum, u16::from(protocol)), len)
}

fn holds(upper: &[u8], at: usize, value: [u8; 2]) -> bool {
    upper.get(at..at + 2) == Some(&value)
}

/// Octets that the ports of TCP and UDP take.
const PORTS: usize = 4;
const ICMPV6: u8 = 58;
/// More fragments.
const MORE: u16 = 0x2000;
/// More fragments, and the bit that must be zero.
const OTHER_FLAGS: u16 = 0xa000;
