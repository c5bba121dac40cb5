//! The maximum segment size of TCP connections through the tunnel, lowered to what the path takes.
//!
//! A connection whose segments fit never depends on ICMP, which many networks drop (RFC 2923 section 2.1).

use crate::checksum;
use crate::ip::{IPV4_HEADER_LEN, IPV6_HEADER_LEN, TCP, upper_layer};

/// What to do with the MSS option of SYN segments (RFC 9293 section 3.7.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MssClamp {
    /// At most what fits the tunnel.
    #[default]
    Auto,
    /// Nothing.
    Off,
    /// At most so many octets, whatever fits. Less than 88 means 88: some hosts take nothing smaller.
    At(u16),
}

impl MssClamp {
    /// Lowers the MSS in an inner packet that is a SYN, for a tunnel whose largest inner packet has `mtu` octets. True when
    /// it changed. An option that is not there is not added, and a malformed one ends the search.
    pub fn apply(self, packet: &mut [u8], mtu: usize) -> bool {
        let headers = match packet.first().map(|first| first >> 4) {
            // The plain case first: most packets are no SYN and must not cost anything.
            Some(4) if packet.get(9) == Some(&TCP) => IPV4_HEADER_LEN + TCP_HEADER_LEN,
            Some(6) => IPV6_HEADER_LEN + TCP_HEADER_LEN,
            _ => return false,
        };
        let Some(most) = self.most(mtu, headers) else { return false };
        match upper_layer(packet) {
            Some((TCP, Some(at))) => packet.get_mut(at..).is_some_and(|segment| lower(segment, most)),
            _ => false,
        }
    }

    /// As [`MssClamp::apply`], for what followed an IP header of `header_len` octets without options: `payload` is of this
    /// protocol.
    pub fn apply_to_payload(self, payload: &mut [u8], protocol: u8, header_len: usize, mtu: usize) -> bool {
        if protocol != TCP {
            return false;
        }
        self.most(mtu, header_len + TCP_HEADER_LEN).is_some_and(|most| lower(payload, most))
    }

    /// The largest value that an option may keep; `None` for any.
    fn most(self, mtu: usize, headers: usize) -> Option<u16> {
        let most = match self {
            Self::Off => return None,
            Self::Auto => u16::try_from(mtu.saturating_sub(headers)).unwrap_or(u16::MAX),
            Self::At(mss) => mss,
        };
        Some(most.max(MIN_MSS))
    }
}

fn lower(segment: &mut [u8], most: u16) -> bool {
    let Some(header) = segment.first_chunk::<TCP_HEADER_LEN>() else { return false };
    let end = usize::from(header[12] >> 4) * 4;
    if header[13] & SYN == 0 || end > segment.len() {
        return false;
    }
    let Some(at) = segment.get(..end).and_then(find_mss) else { return false };
    let checksum = u16::from_be_bytes([header[16], header[17]]);
    let Some(value) = segment.get_mut(at..).and_then(|rest| rest.first_chunk_mut::<2>()) else {
        return false;
    };
    let before = u16::from_be_bytes(*value);
    if before <= most {
        return false;
    }
    *value = most.to_be_bytes();
    // The sum is over words at even places. At an odd place both octets change sides, which swapping them allows for.
    let (before, after) = if at % 2 == 0 { (before, most) } else { (before.swap_bytes(), most.swap_bytes()) };
    let checksum = checksum::adjust(checksum, before, after);
    if let Some(place) = segment.get_mut(16..18) {
        place.copy_from_slice(&checksum.to_be_bytes());
    }
    true
}

/// Where the value of the MSS option is in a TCP header.
fn find_mss(header: &[u8]) -> Option<usize> {
    let mut at = TCP_HEADER_LEN;
    loop {
        match *header.get(at)? {
            END => return None,
            NOTHING => at += 1,
            kind => {
                let len = usize::from(*header.get(at + 1)?);
                if kind == MSS && len == 4 && at + 4 <= header.len() {
                    return Some(at + 2);
                }
                if len < 2 {
                    return None;
                }
                at += len;
            }
        }
    }
}

const TCP_HEADER_LEN: usize = 20;
const SYN: u8 = 0x02;
/// Kinds of TCP options (RFC 9293 section 3.1).
const END: u8 = 0;
const NOTHING: u8 = 1;
const MSS: u8 = 2;
/// Segments smaller than this are headers above all; Linux refuses them as well.
const MIN_MSS: u16 = 88;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A segment with correct checksum.
    fn segment(v6: bool, flags: u8, mut options: Vec<u8>) -> (Vec<u8>, usize) {
        options.resize(options.len().next_multiple_of(4), END);
        let len = (TCP_HEADER_LEN + options.len()) as u16;
        let mut packet = if v6 {
            let mut packet = vec![0x60, 0, 0, 0];
            packet.extend(len.to_be_bytes());
            packet.extend([TCP, 64]);
            packet.extend([0x20; 32]);
            packet
        } else {
            let mut packet = vec![0x45, 0];
            packet.extend((20 + len).to_be_bytes());
            packet.extend([0, 1, 0, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            packet
        };
        let at = packet.len();
        packet.extend([
            0x12,
            0x34,
            0,
            80,
            1,
            2,
            3,
            4,
            0,
            0,
            0,
            0,
            ((len / 4) as u8) << 4,
            flags,
            0xff,
            0,
            0,
            0,
            0,
            0,
        ]);
        packet.extend(options);
        let sum = sum(&packet, at);
        packet[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
        (packet, at)
    }

    /// With the pseudo header; 0 over a segment whose checksum is right.
    fn sum(packet: &[u8], at: usize) -> u16 {
        let addresses = if at == 40 { &packet[8..40] } else { &packet[12..20] };
        let pseudo = [0, TCP, 0, (packet.len() - at) as u8];
        checksum::of(&[addresses, &pseudo, &packet[at..]])
    }

    /// One option that is not the MSS.
    fn other_option() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            Just(vec![NOTHING]),
            (3u8..30, proptest::collection::vec(any::<u8>(), 0..6)).prop_map(|(kind, data)| {
                let mut option = vec![kind, data.len() as u8 + 2];
                option.extend(data);
                option
            }),
        ]
    }

    proptest! {
        /// Whatever stands before it, and so at even and odd places.
        #[test]
        fn lowered_wherever_it_stands(before in proptest::collection::vec(other_option(), 0..4),
                                      after in proptest::collection::vec(other_option(), 0..2),
                                      mss in any::<u16>(), mtu in 0usize..3000, v6 in any::<bool>(), ack in any::<bool>()) {
            let mut options = before.concat();
            let at_option = TCP_HEADER_LEN + options.len() + 2;
            options.extend([MSS, 4]);
            options.extend(mss.to_be_bytes());
            options.extend(after.concat());
            prop_assume!(options.len() <= 40);
            let (packet, at) = segment(v6, SYN | if ack { 0x10 } else { 0 }, options);
            prop_assert_eq!(sum(&packet, at), 0);
            let mut clamped = packet.clone();
            let changed = MssClamp::Auto.apply(&mut clamped, mtu);
            let expected = mss.min((mtu.saturating_sub(at + 20) as u16).max(MIN_MSS));
            prop_assert_eq!(changed, expected != mss);
            prop_assert_eq!(&clamped[at + at_option..at + at_option + 2], &expected.to_be_bytes());
            prop_assert_eq!(sum(&clamped, at), 0);
            for place in (0..packet.len()).filter(|p| !(at + 16..at + 18).contains(p) && !(at + at_option..at + at_option + 2).contains(p)) {
                prop_assert_eq!(packet[place], clamped[place]);
            }
        }

        #[test]
        fn nothing_else_is_touched(options in proptest::collection::vec(any::<u8>(), 0..40), flags in any::<u8>(), v6 in any::<bool>()) {
            let (packet, at) = segment(v6, flags & !SYN, options);
            let mut same = packet.clone();
            prop_assert!(!MssClamp::At(100).apply(&mut same, 1400));
            prop_assert_eq!(&same, &packet);
            // Random options of a SYN: at most checksum and one word change, and the checksum stays right.
            let (mut packet, _) = segment(v6, SYN, packet[at + 20..].to_vec());
            MssClamp::Auto.apply(&mut packet, 576);
            prop_assert_eq!(sum(&packet, at), 0);
        }

        #[test]
        fn any_octets(mut packet in proptest::collection::vec(any::<u8>(), 0..120), v6 in any::<bool>()) {
            if let Some(first) = packet.first_mut() {
                *first = if v6 { 0x60 } else { 0x45 };
            }
            let len = packet.len();
            MssClamp::At(1).apply(&mut packet, 1000);
            prop_assert_eq!(packet.len(), len);
        }
    }

    #[test]
    fn a_value_overrides_and_off_is_off() {
        let (packet, _) = segment(false, SYN, vec![MSS, 4, 5, 0xb4]);
        let apply = |clamp: MssClamp| {
            let mut packet = packet.clone();
            clamp.apply(&mut packet, 1300);
            u16::from_be_bytes([packet[42], packet[43]])
        };
        assert_eq!(apply(MssClamp::Auto), 1260);
        assert_eq!(apply(MssClamp::At(1000)), 1000);
        assert_eq!(apply(MssClamp::At(0)), MIN_MSS);
        assert_eq!(apply(MssClamp::Off), 1460);
    }

    #[test]
    fn without_its_header_it_is_lowered_to_the_same() {
        for v6 in [false, true] {
            let (packet, at) = segment(v6, SYN, vec![MSS, 4, 5, 0xb4]);
            let (mut whole, mut payload) = (packet.clone(), packet[at..].to_vec());
            assert!(MssClamp::Auto.apply(&mut whole, 1300));
            assert!(MssClamp::Auto.apply_to_payload(&mut payload, TCP, at, 1300));
            assert_eq!(payload, whole[at..]);
            assert!(!MssClamp::At(500).apply_to_payload(&mut payload, 17, at, 1300));
        }
    }

    #[test]
    fn only_a_whole_header_with_syn_counts() {
        for v6 in [false, true] {
            for flags in (0..=255u8).filter(|flags| flags & SYN == 0) {
                let (mut packet, _) = segment(v6, flags, vec![MSS, 4, 5, 0xb4]);
                assert!(!MssClamp::At(600).apply(&mut packet, 1300), "{flags:x}");
            }
            // A header that says it goes on beyond the packet.
            let (mut packet, at) = segment(v6, SYN, vec![MSS, 4, 5, 0xb4]);
            packet[at + 12] = 0x70;
            assert!(!MssClamp::At(600).apply(&mut packet, 1300));
        }
    }

    #[test]
    fn a_later_fragment_is_no_segment() {
        let (mut packet, _) = segment(false, SYN, vec![MSS, 4, 5, 0xb4]);
        packet[7] = 1;
        assert!(!MssClamp::Auto.apply(&mut packet, 600));
    }
}
