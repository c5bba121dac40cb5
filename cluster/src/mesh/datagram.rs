//! What stands in QUIC's datagrams (RFC 9221): heartbeats, packets, and parts of packets that are too large for one.

use bytes::Bytes;

use super::joiner::MAX_PACKET;

const HEARTBEAT: u8 = 0;
const WHOLE: u8 = 1;
const PART: u8 = 2;
/// Sort and kind of a packet.
pub(super) const WHOLE_HEADER: usize = 2;
/// Sort, kind, number of the packet, number of the part and of all parts.
const PART_HEADER: usize = 1 + 1 + 4 + 1 + 1;

/// A datagram that came.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Datagram {
    /// That the other is there, and whether it hears us.
    Heartbeat { hears: bool },
    /// A packet.
    Whole { kind: u8, packet: Bytes },
    /// A part of one.
    Part(Part),
}

/// A part of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) kind: u8,
    /// Of the packet, by which its parts are known.
    pub(super) number: u32,
    pub(super) index: u8,
    pub(super) count: u8,
    pub(super) octets: Bytes,
}

/// A heartbeat of one who hears the other, or does not.
pub(super) const fn heartbeat(hears: bool) -> Bytes {
    Bytes::from_static(if hears { &[HEARTBEAT, 1] } else { &[HEARTBEAT, 0] })
}

/// A packet as a datagram of its own.
pub(super) fn whole(kind: u8, packet: &[u8]) -> Bytes {
    let mut datagram = Vec::with_capacity(WHOLE_HEADER + packet.len());
    datagram.extend_from_slice(&[WHOLE, kind]);
    datagram.extend_from_slice(packet);
    datagram.into()
}

/// What [`whole`] made, as datagrams of at most so many octets. None if that takes more parts than can be numbered.
pub(super) fn split(whole: &[u8], number: u32, most: usize) -> Option<Vec<Bytes>> {
    let ([_, kind], packet) = whole.split_first_chunk::<WHOLE_HEADER>()?;
    let room = most.checked_sub(PART_HEADER).filter(|room| *room > 0)?;
    let count = u8::try_from(packet.len().div_ceil(room)).ok()?;
    let part = |(index, octets): (u8, &[u8])| {
        let mut datagram = Vec::with_capacity(PART_HEADER + octets.len());
        datagram.extend_from_slice(&[PART, *kind]);
        datagram.extend_from_slice(&number.to_be_bytes());
        datagram.extend_from_slice(&[index, count]);
        datagram.extend_from_slice(octets);
        Bytes::from(datagram)
    };
    Some((0..=u8::MAX).zip(packet.chunks(room)).map(part).collect())
}

/// Reads one. None if it is none of ours.
pub(super) fn read(mut datagram: Bytes) -> Option<Datagram> {
    match *datagram.first()? {
        HEARTBEAT => Some(Datagram::Heartbeat { hears: datagram.get(1) == Some(&1) }),
        WHOLE => {
            let (&[_, kind], packet) = datagram.split_first_chunk::<WHOLE_HEADER>()?;
            let length = packet.len();
            (length <= MAX_PACKET).then(|| Datagram::Whole { kind, packet: datagram.split_off(WHOLE_HEADER) })
        }
        PART => {
            let (&[_, kind, a, b, c, d, index, count], octets) =
                datagram.split_first_chunk::<PART_HEADER>()?;
            if index >= count || octets.is_empty() {
                return None;
            }
            let number = u32::from_be_bytes([a, b, c, d]);
            Some(Datagram::Part(Part { kind, number, index, count, octets: datagram.split_off(PART_HEADER) }))
        }
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for hears in [true, false] {
            assert_eq!(read(heartbeat(hears)), Some(Datagram::Heartbeat { hears }));
        }
        let packet = Bytes::from(vec![5; 3_000]);
        assert_eq!(read(whole(9, &packet)), Some(Datagram::Whole { kind: 9, packet: packet.clone() }));
        let parts = split(&whole(9, &packet), 77, 1_200).unwrap();
        assert!(parts.iter().all(|part| part.len() <= 1_200));
        let read: Vec<_> = parts.into_iter().map(|part| read(part).unwrap()).collect();
        let index = |datagram: &Datagram| match datagram {
            Datagram::Part(Part { kind: 9, number: 77, index, count: 3, octets }) => {
                Some((*index, octets.len()))
            }
            _ => None,
        };
        let indices: Vec<_> = read.iter().map(|part| index(part).unwrap()).collect();
        assert_eq!(indices, [(0, 1_192), (1, 1_192), (2, 616)]);
    }

    #[test]
    fn what_is_none_of_ours_is_nothing() {
        let odd: [&[u8]; 6] = [
            &[],
            &[9],
            &[WHOLE],
            &[PART, 0, 0, 0, 0, 0, 1, 1, 5],
            &[PART, 0, 0, 0, 0, 0, 0, 1],
            &[PART, 0, 0, 0, 0, 0, 0],
        ];
        for datagram in odd {
            assert_eq!(read(Bytes::copy_from_slice(datagram)), None, "{datagram:?}");
        }
        assert_eq!(split(&whole(1, &[0; 300]), 1, PART_HEADER + 1), None, "more than 255 parts");
        assert_eq!(split(&whole(1, &[0; 300]), 1, PART_HEADER), None);
    }
}
