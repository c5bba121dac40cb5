//! The header before every packet of a TUN device with offload (`virtio_net_hdr`, Virtual I/O Device 1.2 section 5.1.6), in the
//! byte order of the machine, as the kernel has it unless told otherwise.

use esp::run::{self, Joined, Run, RunKind};

/// Octets of the header.
pub(crate) const HEADER_LEN: usize = 10;

/// What the kernel says of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    flags: u8,
    kind: u8,
    segment: u16,
    checksum_start: u16,
    checksum_offset: u16,
}

/// What a packet from a device is, when nothing is left undone in it but to cut it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Taken {
    /// One packet.
    Single,
    /// Many.
    Run(Run),
}

impl Header {
    /// Takes the header off what was read from a device.
    pub(crate) fn split(read: &mut [u8]) -> Option<(Self, &mut [u8])> {
        let (header, packet) = read.split_first_chunk_mut::<HEADER_LEN>()?;
        // The length of the headers, between `kind` and `segment`, is a hint.
        let [flags, kind, _, _, a, b, c, d, e, f] = *header;
        let (segment, checksum_start) = (u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d]));
        let checksum_offset = u16::from_ne_bytes([e, f]);
        Some((Self { flags, kind, segment, checksum_start, checksum_offset }, packet))
    }

    /// Does what the kernel has left to do in a single packet. `None` for what it does not say to devices like ours.
    pub(crate) fn finish(self, packet: &mut [u8]) -> Option<Taken> {
        let (start, offset) = (usize::from(self.checksum_start), usize::from(self.checksum_offset));
        let unfinished = self.flags & NEEDS_CHECKSUM != 0;
        // ECN says that some of the flags are for the first segment alone, which cutting heeds always.
        let kind = match self.kind & !ECN {
            NONE if unfinished => return run::complete(packet, start, offset).then_some(Taken::Single),
            NONE => return Some(Taken::Single),
            TCP4 => RunKind::Tcp4,
            TCP6 => RunKind::Tcp6,
            UDP => RunKind::Udp,
            _ => return None,
        };
        if !unfinished || offset != kind.checksum_offset() {
            return None;
        }
        let run = Run::of(packet, kind, start, self.segment.into())?;
        if packet.len() <= run.largest() {
            // A run of one.
            return run::complete(packet, start, offset).then_some(Taken::Single);
        }
        Some(Taken::Run(run))
    }
}

/// The header for what is written to a device.
pub(crate) fn header_of(joined: &Joined<'_>) -> [u8; HEADER_LEN] {
    let Some(run) = joined.run else { return [0; HEADER_LEN] };
    let kind = match run.kind {
        RunKind::Tcp4 => TCP4,
        RunKind::Tcp6 => TCP6,
        RunKind::Udp => UDP,
    };
    let mut header = [0; HEADER_LEN];
    header[..2].copy_from_slice(&[NEEDS_CHECKSUM, kind]);
    let words = [run.headers, run.segment, run.upper, run.kind.checksum_offset() as u16];
    for (place, word) in header[2..].as_chunks_mut::<2>().0.iter_mut().zip(words) {
        *place = word.to_ne_bytes();
    }
    header
}

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;
/// `VIRTIO_NET_HDR_GSO_NONE`, `_TCPV4`, `_TCPV6`, `_UDP_L4`, and the bit `_ECN`.
const NONE: u8 = 0;
const TCP4: u8 = 1;
const TCP6: u8 = 4;
const UDP: u8 = 5;
const ECN: u8 = 0x80;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn read(flags: u8, kind: u8, words: [u16; 4], packet: &[u8]) -> Vec<u8> {
        let mut read = vec![flags, kind];
        read.extend(words.iter().flat_map(|word| word.to_ne_bytes()));
        read.extend(packet);
        read
    }

    fn taken(mut read: Vec<u8>) -> Option<Taken> {
        let (header, packet) = Header::split(&mut read)?;
        header.finish(packet)
    }

    fn tcp() -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 140, 0, 1, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
        packet.extend([0; 12]);
        packet.extend([0x50, 0x10, 0, 0, 0, 0, 0, 0]);
        packet.extend([7; 100]);
        packet
    }

    #[test]
    fn a_packet_is_one_or_many() {
        let run = Run { kind: RunKind::Tcp4, upper: 20, headers: 40, segment: 30 };
        assert_eq!(taken(read(0, NONE, [0; 4], &tcp())), Some(Taken::Single));
        assert_eq!(taken(read(1, NONE, [0, 0, 20, 16], &tcp())), Some(Taken::Single));
        assert_eq!(taken(read(1, TCP4, [40, 30, 20, 16], &tcp())), Some(Taken::Run(run)));
        assert_eq!(taken(read(1, TCP4 | ECN, [0, 30, 20, 16], &tcp())), Some(Taken::Run(run)));
        assert_eq!(taken(read(1, TCP4, [40, 100, 20, 16], &tcp())), Some(Taken::Single));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(taken(vec![0; 9]), None);
        for (flags, kind, words) in [
            (0, TCP4, [40, 30, 20, 16]),
            (1, TCP6, [40, 30, 20, 16]),
            (1, UDP, [40, 30, 20, 6]),
            (1, TCP4, [40, 30, 20, 6]),
            (1, TCP4, [40, 0, 20, 16]),
            (1, TCP4, [40, 30, 24, 16]),
            (1, 3, [40, 30, 20, 16]),
            (1, NONE, [0, 0, 139, 16]),
        ] {
            assert_eq!(taken(read(flags, kind, words, &tcp())), None, "{flags} {kind} {words:?}");
        }
    }

    #[test]
    fn what_is_written_is_read_the_same() {
        let run = Run { kind: RunKind::Tcp4, upper: 20, headers: 40, segment: 30 };
        let packet = tcp();
        let header = header_of(&Joined { packet: &packet, run: Some(run), packets: 4 });
        assert_eq!(taken([&header[..], &packet].concat()), Some(Taken::Run(run)));
        assert_eq!(header_of(&Joined::single(&packet)), [0; HEADER_LEN]);
    }
}
