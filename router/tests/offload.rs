//! Packets through two TUN devices with the kernel between them, with and without segmentation offload: whatever goes in comes out
//! octet for octet, in the order of its flow. Needs root; says so where it is skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

mod common;
#[path = "common/netns.rs"]
mod netns;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

use common::{Gateway, Remote, checksum, fix_checksum, hopped};
use esp::Limits;
use netns::{inside, run};
use quinn_udp::{Transmit, UdpSocketState};
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use router::{RouterConfig, TenantId, Uplink};

/// What a flow is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Tcp,
    Udp,
    Icmp,
    /// Fragments of UDP datagrams; IPv4 alone.
    Fragments,
}

const KINDS: [Kind; 4] = [Kind::Tcp, Kind::Udp, Kind::Icmp, Kind::Fragments];

/// The packets of one burst of a flow, with all that joining must heed: gaps, pushes, odd sizes, wrong and missing checksums.
fn burst(random: &mut ChaCha8Rng, v6: bool, kind: Kind) -> Vec<Vec<u8>> {
    let size = random.random_range(1..=1300);
    let (mut seq, mut id): (u32, u16) = (random.random(), random.random());
    let port = random.random_range(1..4);
    let mut packet = |random: &mut ChaCha8Rng| {
        let odd = random.random_range(0..20usize);
        let len = if odd == 0 { random.random_range(1..=size) } else { size };
        let mut payload = vec![0; len];
        random.fill_bytes(&mut payload);
        if odd == 1 {
            (seq, id) = (seq.wrapping_add(7), id.wrapping_add(9));
        }
        let mut upper = vec![0x12, port, 0x30, 0x39];
        let place = match kind {
            Kind::Tcp => {
                upper.extend(seq.to_be_bytes());
                let flags = [0x10, 0x18, 0x11, 0x12, 0x90][odd.saturating_sub(15).min(4)];
                upper.extend([1, 2, 3, 4, 0x80, flags, 0x10, 0, 0, 0, 0, 0]);
                upper.extend([1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
                16
            }
            Kind::Udp | Kind::Fragments => {
                upper.extend((8u16 + len as u16).to_be_bytes());
                upper.extend([0, 0]);
                6
            }
            Kind::Icmp => {
                upper = vec![if v6 { 128 } else { 8 }, 0, 0, 0, 0, port, 0, 1];
                2
            }
        };
        upper.extend(&payload);
        seq = seq.wrapping_add(len as u32);
        id = id.wrapping_add(1);
        let number = match (kind, v6) {
            (Kind::Tcp, _) => 6,
            (Kind::Icmp, false) => 1,
            (Kind::Icmp, true) => 58,
            _ => 17,
        };
        let mut ip = header(v6, number, upper.len(), id);
        let mut pseudo = if v6 { ip[8..40].to_vec() } else { ip[12..20].to_vec() };
        pseudo.extend((upper.len() as u32).to_be_bytes());
        pseudo.extend([0, 0, 0, number]);
        if kind == Kind::Icmp && !v6 {
            pseudo.clear();
        }
        pseudo.extend(&upper);
        let sum = match checksum(&pseudo) {
            0 if place == 6 => u16::MAX,
            sum => sum,
        };
        upper[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        match odd {
            2 => upper[place] ^= 1,
            3 if kind == Kind::Udp && !v6 => upper[6..8].fill(0),
            _ => {}
        }
        if kind == Kind::Fragments && !v6 {
            // The first of a datagram that has a second, or the second of it.
            let word: u16 = if odd % 2 == 0 { 0x2000 } else { 3 };
            ip[6..8].copy_from_slice(&word.to_be_bytes());
            if odd % 2 == 0 {
                upper.truncate((upper.len() / 8 * 8).max(8));
                ip[2..4].copy_from_slice(&(20u16 + upper.len() as u16).to_be_bytes());
            }
            fix_checksum(&mut ip);
        }
        ip.extend(upper);
        ip
    };
    let count = random.random_range(1..=80);
    (0..count).map(|_| packet(&mut *random)).collect()
}

fn header(v6: bool, protocol: u8, len: usize, id: u16) -> Vec<u8> {
    if v6 {
        let mut ip = vec![0x60, 0, 0x12, 0x34];
        ip.extend((len as u16).to_be_bytes());
        ip.extend([protocol, 64]);
        ip.extend("fd01::9".parse::<Ipv6Addr>().unwrap().octets());
        ip.extend("fd02::9".parse::<Ipv6Addr>().unwrap().octets());
        return ip;
    }
    let mut ip = vec![0x45, 0x28];
    ip.extend((20u16 + len as u16).to_be_bytes());
    ip.extend(id.to_be_bytes());
    ip.extend([0x40, 0, 64, protocol, 0, 0, 10, 1, 0, 9, 10, 2, 0, 9]);
    fix_checksum(&mut ip);
    ip
}

fn device(number: u32) -> Uplink {
    Uplink::Tun {
        name: format!("c{number}"),
        netns: None,
        addresses: vec![
            format!("10.{number}.0.1/32").parse().unwrap(),
            format!("fd0{number}::1/128").parse().unwrap(),
        ],
        mtu: 1400,
        routes: true,
        clear_device: None,
    }
}

/// Both ends of one family: what enters by the first leaves by the second.
fn ends(gateway: &Gateway, v6: bool) -> (Remote, Remote) {
    let connect = |tenant: u32| {
        let (local, remote) = if v6 {
            ("::/0", format!("fd0{tenant}::/64"))
        } else {
            ("0.0.0.0/0", format!("10.{tenant}.0.0/16"))
        };
        let tunnel = u64::from(tenant) * 2 + u64::from(v6);
        gateway.connect(TenantId(tenant), tunnel, 10 + tunnel as u8, local, &remote)
    };
    (connect(1), connect(2))
}

fn gateway(offload: bool) -> Gateway {
    let config = RouterConfig {
        listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        ike_port: 0,
        natt_port: 0,
        shards: 2,
        slot: 9,
        tun_offload: offload,
        ..RouterConfig::default()
    };
    let listen = (11..16).map(|host| format!("ip addr add 127.0.0.{host}/8 dev lo 2>/dev/null || true"));
    run(&listen.collect::<Vec<_>>().join("; "));
    Gateway::start_config(config, 1000)
}

fn everything_comes_out(offload: bool) {
    run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
    let gateway = gateway(offload);
    for number in [1, 2] {
        gateway.tun(TenantId(number), device(number));
    }
    let mut ends = [ends(&gateway, false), ends(&gateway, true)];
    let mut random = ChaCha8Rng::seed_from_u64(7);
    for round in 0..120 {
        let (v6, kind) = (round % 2 == 1, KINDS[random.random_range(0..KINDS.len())]);
        let kind = if v6 && kind == Kind::Fragments { Kind::Udp } else { kind };
        let packets = burst(&mut random, v6, kind);
        let (from, to) = &mut ends[usize::from(v6)];
        let sealed: Vec<_> = packets.iter().map(|packet| from.seal(packet)).collect();
        for packet in &sealed {
            from.socket.send_to(packet, from.router).unwrap();
        }
        for (number, packet) in packets.iter().enumerate() {
            assert_eq!(
                to.receive(),
                forwarded(packet),
                "offload {offload}, round {round}, {kind:?} v6 {v6}, packet {number} of {}",
                packets.len()
            );
        }
    }
    let calls = gateway.counter("tun_write_calls") + gateway.counter("tun_read_calls");
    let packets = gateway.counter("tun_written") + gateway.counter("tun_read");
    assert_eq!(offload, calls < packets, "{calls} calls, {packets} packets");
}

/// As the kernel forwards it.
fn forwarded(packet: &[u8]) -> Vec<u8> {
    if packet[0] >> 4 == 4 {
        return hopped(packet);
    }
    let mut packet = packet.to_vec();
    packet[7] -= 1;
    packet
}

#[test]
fn everything_comes_out_as_it_went_in_with_offload() {
    if inside("everything_comes_out_as_it_went_in_with_offload") {
        everything_comes_out(true);
    }
}

#[test]
fn everything_comes_out_as_it_went_in_without_offload() {
    if inside("everything_comes_out_as_it_went_in_without_offload") {
        everything_comes_out(false);
    }
}

#[test]
fn what_is_dropped_of_a_run_counts_packet_by_packet() {
    if inside("what_is_dropped_of_a_run_counts_packet_by_packet") {
        for offload in [false, true] {
            what_is_dropped(offload);
        }
    }
}

/// The device's host sends more than the newest pair of the tunnel may carry, many packets by one call.
fn what_is_dropped(offload: bool) {
    const PACKETS: u64 = 10;
    let gateway = gateway(offload);
    let tenant = TenantId(1);
    gateway.tun(tenant, device(1));
    let old = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.2.0.0/16");
    let socket = old.socket.try_clone().unwrap();
    let new = gateway.install_on(socket, tenant, 1, "0.0.0.0/0", "10.2.3.0/24", Limits::default());
    gateway.handle.activate(new.spi);
    let socket = UdpSocket::bind("10.1.0.1:0").unwrap();
    let state = UdpSocketState::new((&socket).into()).unwrap();
    let many = Transmit {
        destination: "10.2.0.9:9".parse().unwrap(),
        ecn: None,
        contents: &[7; PACKETS as usize * 100],
        segment_size: Some(100),
        src_ip: None,
    };
    state.try_send((&socket).into(), &many).unwrap();
    gateway.wait_for("drop_outbound_selector", PACKETS);
    // The device's own system says a thing or two besides.
    assert!(gateway.counter("tun_read") >= PACKETS, "offload {offload}");
    if !offload || has_runs_of_udp() {
        assert_eq!(gateway.counter("tun_read_calls") < PACKETS, offload, "it was a run");
    }
    assert_eq!(gateway.stats_of(new.spi).drops, [("drop_outbound_selector", PACKETS)]);
}

/// Devices have them since Linux 6.2; an older one cuts before the device.
fn has_runs_of_udp() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    (numbers.next(), numbers.next()) >= (Some(6), Some(2))
}
