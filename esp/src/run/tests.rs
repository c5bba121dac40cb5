#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use proptest::prelude::*;

use super::head::pseudo;
use super::*;

/// A packet with right checksums.
#[derive(Debug, Clone)]
struct Form {
    v6: bool,
    tcp: bool,
    id: u16,
    seq: u32,
    flags: u8,
    options: usize,
    port: u8,
    payload: Vec<u8>,
}

impl Form {
    fn packet(&self) -> Vec<u8> {
        let mut upper = vec![0x30, self.port, 0, 80];
        if self.tcp {
            upper.extend(self.seq.to_be_bytes());
            upper.extend([0, 0, 0, 9, ((20 + self.options * 4) << 2) as u8, self.flags, 1, 2, 0, 0, 0, 0]);
            upper.extend((0..self.options * 4).map(|n| n as u8));
        } else {
            upper.extend((8 + self.payload.len() as u16).to_be_bytes());
            upper.extend([0, 0]);
        }
        upper.extend(&self.payload);
        let protocol = if self.tcp { TCP } else { UDP };
        let len = upper.len() as u16;
        let mut packet = if self.v6 {
            let mut packet = vec![0x60, 0, 0, 7];
            packet.extend(len.to_be_bytes());
            packet.extend([protocol, 64]);
            packet.extend(0x20..0x40);
            packet
        } else {
            let mut packet = vec![0x45, 0];
            packet.extend((20 + len).to_be_bytes());
            packet.extend(self.id.to_be_bytes());
            packet.extend([0x40, 0, 64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
            let sum = checksum::of(&[&packet]);
            packet[10..12].copy_from_slice(&sum.to_be_bytes());
            packet
        };
        let at = packet.len();
        packet.extend(upper);
        let sum = !checksum::add(pseudo(&packet, at, protocol, len), checksum::sum(&packet[at..]));
        let place = at + if self.tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
        packet[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        packet
    }
}

fn forms() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let head = (any::<bool>(), any::<bool>(), any::<u16>(), any::<u32>(), 0usize..4, 1usize..1400);
    let step = (0u8..12, 0u8..40, any::<u8>());
    (head, proptest::collection::vec(step, 1..90)).prop_map(|((v6, tcp, id, seq, options, size), steps)| {
        let mut form = Form { v6, tcp, id, seq, flags: ACK, options, port: 1, payload: Vec::new() };
        let mut packets = Vec::new();
        for (what, chance, octet) in steps {
            form.payload = vec![octet; if what == 0 { size / 2 + 1 } else { size }];
            form.flags = if what == 1 { ACK | PSH } else { ACK };
            form.port = if what == 2 { 2 } else { 1 };
            let mut packet = form.packet();
            form.seq = form.seq.wrapping_add(form.payload.len() as u32);
            form.id = form.id.wrapping_add(1);
            match chance {
                // Anything may arrive.
                0 => {
                    let at = usize::from(octet) % packet.len();
                    packet[at] ^= 1 << (octet & 7);
                }
                1 => form.seq = form.seq.wrapping_add(1),
                2 => form.id = form.id.wrapping_add(1),
                _ => {}
            }
            packets.push(packet);
        }
        packets
    })
}

/// What the packets of a run are to whoever cuts it.
fn cut(joined: &Joined<'_>) -> Vec<Vec<u8>> {
    let Some(run) = joined.run else { return vec![joined.packet.to_vec()] };
    let again = Run::of(joined.packet, run.kind, run.upper.into(), run.segment.into());
    assert_eq!(again, Some(run));
    let mut segments = Segments::new(joined.packet, run).unwrap();
    let mut packets = Vec::new();
    while let Some(len) = segments.next_len() {
        let mut out = vec![0xaa; len];
        assert_eq!(segments.write_next(&mut out), Some(len));
        packets.push(out);
    }
    packets
}

/// As a router does: each flow keeps its order.
fn through(packets: &[Vec<u8>], udp: bool) -> (Vec<Vec<u8>>, usize) {
    let (mut joiner, mut out, mut writes) = (Joiner::new(), Vec::new(), 0);
    for packet in packets {
        if joiner.append(packet) {
            continue;
        }
        if let Some(joined) = joiner.finish() {
            let packets = cut(&joined);
            assert_eq!(packets.len(), joined.packets);
            out.extend(packets);
            writes += 1;
        }
        if !joiner.begin(packet, udp) {
            out.push(packet.clone());
            writes += 1;
        }
    }
    if let Some(joined) = joiner.finish() {
        out.extend(cut(&joined));
        writes += 1;
    }
    (out, writes)
}

#[test]
fn a_stream_is_joined_until_it_ends() {
    for (v6, tcp) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut form = Form {
            v6,
            tcp,
            id: 65_530,
            seq: u32::MAX - 3000,
            flags: ACK,
            options: 3,
            port: 1,
            payload: vec![7; 1300],
        };
        let mut packets = Vec::new();
        for number in 0..20 {
            if number == 19 {
                (form.payload, form.flags) = (vec![9; 5], ACK | PSH);
            }
            packets.push(form.packet());
            form.seq = form.seq.wrapping_add(form.payload.len() as u32);
            form.id = form.id.wrapping_add(1);
        }
        assert_eq!(through(&packets, true), (packets.clone(), 1), "v6 {v6} tcp {tcp}");
        let alone = if tcp { 1 } else { 20 };
        assert_eq!(through(&packets, false), (packets, alone));
    }
}

#[test]
fn a_wrong_checksum_is_not_made_right() {
    let form =
        Form { v6: false, tcp: true, id: 1, seq: 1, flags: ACK, options: 0, port: 1, payload: vec![7; 100] };
    let mut packet = form.packet();
    assert!(Joiner::new().begin(&packet, true));
    packet[90] ^= 1;
    assert!(!Joiner::new().begin(&packet, true));
    packet[90] ^= 1;
    packet[8] -= 1;
    assert!(!Joiner::new().begin(&packet, true));
}

#[test]
fn a_run_is_what_its_packet_says() {
    let form =
        Form { v6: false, tcp: true, id: 1, seq: 1, flags: ACK, options: 2, port: 1, payload: vec![7; 100] };
    let packet = form.packet();
    let run = Run::of(&packet, RunKind::Tcp4, 20, 40).unwrap();
    assert_eq!((run.headers, run.largest()), (48, 88));
    for (kind, upper, segment) in
        [(RunKind::Tcp6, 20, 40), (RunKind::Udp, 20, 40), (RunKind::Tcp4, 24, 40), (RunKind::Tcp4, 20, 0)]
    {
        assert_eq!(Run::of(&packet, kind, upper, segment), None);
    }
    assert_eq!(Run::of(&packet[..48], RunKind::Tcp4, 20, 40), None);
}

proptest! {
    #[test]
    fn cutting_gives_back_what_was_joined(packets in forms(), udp in any::<bool>()) {
        prop_assert_eq!(through(&packets, udp).0, packets);
    }

    #[test]
    fn nothing_that_a_host_says_panics(packet in proptest::collection::vec(any::<u8>(), 0..200), upper in 0usize..80,
                                       segment in 0usize..300, first in prop_oneof![Just(0x45u8), Just(0x60u8), any::<u8>()],
                                       protocol in prop_oneof![Just(TCP), Just(UDP)]) {
        let mut packet = packet;
        if packet.len() > 20 {
            packet[0] = first;
            packet[if first == 0x45 { 9 } else { 6 }] = protocol;
        }
        for kind in [RunKind::Tcp4, RunKind::Tcp6, RunKind::Udp] {
            if let Some(run) = Run::of(&packet, kind, upper, segment)
                && let Some(mut segments) = Segments::new(&packet, run)
            {
                let mut out = vec![0; 400];
                while segments.write_next(&mut out).is_some() {}
                prop_assert_eq!(segments.next_len(), None);
            }
        }
        let mut joiner = Joiner::new();
        joiner.begin(&packet, true);
        joiner.append(&packet);
        joiner.finish();
        complete(&mut packet, upper, segment);
    }

    #[test]
    fn a_checksum_left_to_us_is_right(payload in proptest::collection::vec(any::<u8>(), 1..600), v6: bool, tcp: bool) {
        let form = Form { v6, tcp, id: 3, seq: 4, flags: ACK, options: 1, port: 1, payload };
        let wanted = form.packet();
        let (upper, protocol) = (if v6 { 40 } else { 20 }, if tcp { TCP } else { UDP });
        let offset = if tcp { TCP_CHECKSUM } else { UDP_CHECKSUM };
        let mut packet = wanted.clone();
        let sum = pseudo(&packet, upper, protocol, (packet.len() - upper) as u16);
        packet[upper + offset..upper + offset + 2].copy_from_slice(&sum.to_be_bytes());
        prop_assert!(complete(&mut packet, upper, offset));
        // The model writes zero where UDP must not.
        if wanted[upper + offset..upper + offset + 2] != [0, 0] {
            prop_assert_eq!(packet, wanted);
        }
    }
}

/// What has no place in a run, and is of none: it holds up no run of another flow.
#[test]
fn a_packet_by_itself_shows_that_it_is() {
    let form = |v6, tcp, octets| Form {
        v6,
        tcp,
        id: 1,
        seq: 1,
        flags: ACK,
        options: 0,
        port: 1,
        payload: vec![7; octets],
    };
    for v6 in [false, true] {
        for tcp in [false, true] {
            let packet = form(v6, tcp, 100).packet();
            assert_eq!(may_be_of_a_run(&packet, true), Some(true));
            assert_eq!(may_be_of_a_run(&packet, false), Some(tcp), "UDP where the kernel knows none");
        }
        let ack = form(v6, true, 0).packet();
        assert_eq!(may_be_of_a_run(&ack, true), Some(false));
        let fin = Form { flags: ACK | 1, ..form(v6, true, 9) }.packet();
        assert_eq!(may_be_of_a_run(&fin, true), Some(false));
        let ports = if v6 { 40 } else { 20 };
        assert_eq!(may_be_of_a_run(&ack[..ports + 3], true), None, "cut");
    }
    let changed = |v6, at: usize, to: u8| {
        let mut packet = form(v6, true, 9).packet();
        packet[at] = to;
        may_be_of_a_run(&packet, true)
    };
    assert_eq!(changed(false, 6, 0x20), None, "a first fragment");
    assert_eq!(changed(false, 7, 1), None, "a later one");
    assert_eq!(changed(false, 0, 0x46), None, "an option of IP");
    assert_eq!(changed(false, 9, 1), Some(false), "ICMP");
    assert_eq!(changed(true, 6, 0), None, "a hop-by-hop header");
    assert_eq!(changed(true, 6, 44), None, "a fragment");
    assert_eq!(changed(true, 6, 58), Some(false), "ICMPv6");
    assert_eq!(may_be_of_a_run(&[], true), None);
}

/// With a small MSS and many options Linux leaves eight octets of data in a segment.
#[test]
fn a_run_has_as_many_packets_as_the_smallest_segments_make() {
    let form = Form {
        v6: false,
        tcp: true,
        id: 1,
        seq: 7,
        flags: ACK,
        options: 3,
        port: 9,
        payload: vec![5; 60_000],
    };
    let packet = form.packet();
    let run = |segment| Run::of(&packet, RunKind::Tcp4, 20, segment);
    let smallest = run(8).unwrap();
    assert_eq!(smallest.count(&packet), 7_500);
    let mut segments = Segments::new(&packet, smallest).unwrap();
    let mut out = [0; 100];
    let lens: Vec<usize> = std::iter::from_fn(|| segments.write_next(&mut out)).collect();
    assert_eq!((lens.len(), lens.iter().all(|len| *len == 20 + 32 + 8)), (7_500, true));
    assert!(run(7).is_none());
}
