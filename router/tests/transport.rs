//! Transport mode over raw ESP: the tenant's namespace has the host's addresses, and its TUN device leads to the peer.
//! Needs root; says so where it is skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

mod common;
#[path = "common/netns.rs"]
mod netns;

use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use common::{Gateway, PATIENCE, Remote, checksum, fix_checksum, udp};
use esp::transport::{Hosts, MAX_PACKET, Upper};
use esp::{Mode, TfcPadding};
use netns::Neighbour;
use router::{Encapsulation, RouterConfig, RouterError, TenantId, TunnelOptions, Uplink};
use socket2::{Domain, Protocol, Socket, Type};

const V4: (&str, &str) = ("198.51.100.1", "198.51.100.11");
const V6: (&str, &str) = ("fd99::1", "fd99::11");

/// The peer of a pair in transport mode: it has a socket, and no IP header but what it makes.
struct Host {
    socket: Socket,
    gateway: SocketAddr,
    remote: Remote,
    hosts: Hosts,
}

impl Host {
    fn connect(
        gateway: &Gateway,
        tenant: TenantId,
        (ours, theirs): (&str, &str),
        options: TunnelOptions,
    ) -> Self {
        let (ours, theirs): (IpAddr, IpAddr) = (ours.parse().unwrap(), theirs.parse().unwrap());
        let at = SocketAddr::new(ours, 0);
        let socket = Socket::new(Domain::for_address(at), Type::RAW, Some(Protocol::from(50))).unwrap();
        socket.bind(&SocketAddr::new(theirs, 0).into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let udp = std::net::UdpSocket::bind((theirs, 0)).unwrap();
        let tunnel = gateway.stats().len() as u64;
        let (local, peer) = (format!("{ours}/128"), format!("{theirs}/128"));
        let remote = gateway.install_with(udp, tenant, tunnel, (&local, &peer), |child| {
            child.mode = Mode::Transport;
            child.encapsulation = Encapsulation::Raw;
            child.remote.set_port(0);
            child.local = at;
            child.options = options;
        });
        gateway.handle.activate(remote.spi);
        Self { socket, gateway: at, remote, hosts: Hosts::new(theirs, ours).unwrap() }
    }

    fn send(&mut self, packet: &[u8]) {
        let upper = Upper::of(packet).unwrap();
        let outbound = &mut self.remote.outbound;
        let mut out = vec![0; outbound.sealed_len(upper.len())];
        let at = outbound.payload_offset();
        out[at..at + upper.len()].copy_from_slice(&packet[upper.header_len()..]);
        let sealed = outbound.seal_transport(&mut out, &upper, 0).unwrap();
        self.socket.send_to(&out[..sealed.len], &self.gateway.into()).unwrap();
    }

    /// The next packet, and the octets of ESP that it came in.
    fn receive(&mut self) -> (usize, Vec<u8>) {
        let mut packet = vec![0; 65_536];
        let len = (&self.socket).read(&mut packet).expect("a packet comes in time");
        let header_len = if self.gateway.is_ipv4() { 20 } else { 0 };
        let class = if header_len > 0 { packet[1] } else { 0 };
        let esp = &mut packet[header_len..len];
        let mut out = vec![0; MAX_PACKET];
        let opened =
            self.remote.inbound.open_transport(esp, &self.hosts, class, &mut out).expect("for this SA");
        (len - header_len, out[opened.inner].to_vec())
    }

    /// The next echo request or reply: other packets, as of neighbour discovery, are not what is looked for.
    fn receive_echo(&mut self, kind: u8) -> (usize, Vec<u8>) {
        let at = self.hosts.header_len();
        loop {
            let (len, packet) = self.receive();
            if packet[at] == kind {
                return (len, packet);
            }
        }
    }
}

/// A router, a tenant whose namespace has the router's addresses, and that namespace.
fn gateway(mtu: u16) -> (Gateway, TenantId, Neighbour) {
    for address in [V4.0, V4.1] {
        netns::run(&format!("ip addr add {address}/32 dev lo"));
    }
    netns::add_v6_addresses(&[V6.0, V6.1]);
    let listen = [V4.0, V6.0].map(|address| address.parse().unwrap()).to_vec();
    let config = RouterConfig {
        listen,
        ike_port: 0,
        natt_port: 0,
        shards: 2,
        slot: 9,
        raw_esp: true,
        ..RouterConfig::default()
    };
    let gateway = Gateway::start_config(config, 1000);
    let neighbour = Neighbour::new();
    let uplink = Uplink::Tun {
        name: "host0".to_owned(),
        netns: Some(format!("/proc/{}/ns/net", neighbour.id())),
        addresses: vec![format!("{}/32", V4.0).parse().unwrap(), format!("{}/128", V6.0).parse().unwrap()],
        mtu,
        routes: true,
        clear_device: None,
    };
    gateway.handle.add_tenant(TenantId(1), uplink).unwrap();
    (gateway, TenantId(1), neighbour)
}

fn echo_v4(number: u32, len: usize) -> Vec<u8> {
    let mut packet = udp(V4.1, V4.0, number, len);
    packet[9] = 1;
    fix_checksum(&mut packet);
    packet[20..28].copy_from_slice(&[8, 0, 0, 0, 0, 7, 0, 9]);
    let sum = checksum(&packet[20..]).to_be_bytes();
    packet[22..24].copy_from_slice(&sum);
    packet
}

#[test]
fn the_kernel_behind_the_device_answers() {
    if !netns::inside("the_kernel_behind_the_device_answers") {
        return;
    }
    let (gateway, tenant, neighbour) = gateway(1400);
    let mut v4 = Host::connect(&gateway, tenant, V4, TunnelOptions::default());
    let mut v6 = Host::connect(&gateway, tenant, V6, TunnelOptions::default());
    for len in [0, 1, 100, 1300, 5000] {
        v4.send(&echo_v4(len as u32, len));
        // A reply of 5028 octets would come in fragments: it is the device that is narrow.
        if len < 1400 {
            let reply = v4.receive_echo(0).1;
            assert_eq!(reply[28..], echo_v4(len as u32, len)[28..]);
            assert_eq!((&reply[12..16], &reply[16..20]), (&[198, 51, 100, 1][..], &[198, 51, 100, 11][..]));
            assert_eq!(checksum(&reply[20..]), 0);
        }
    }
    gateway.wait_for("esp_outbound_transport_fragment", 4);
    // Out of the namespace, for the host has no stack of its own there: what it gets is looked at.
    neighbour.run(&format!("ping -6 -c 1 -W 0.05 -s 700 -Q 0xb8 {} >/dev/null || true", V6.1));
    let (len, request) = v6.receive_echo(128);
    assert_eq!((request.len(), request[6]), (748, 58));
    assert!(len < request.len(), "the header is not sealed");
    assert_eq!(gateway.counter("esp_selector_mismatch"), 0);
    assert_eq!(gateway.counter("drop_unknown_spi"), 0);
    gateway.handle.send_dummies(v4.remote.spi, 3, 9000);
    let mut packet = vec![0; 65_536];
    for _ in 0..3 {
        let len = (&v4.socket).read(&mut packet).unwrap();
        let opened = v4.remote.inbound.open_transport(&mut packet[20..len], &v4.hosts, 0, &mut [0; 2000]);
        assert_eq!(opened.unwrap_err(), esp::OpenError::Dummy);
    }
}

#[test]
fn what_does_not_fit_is_told_or_fragmented_outside() {
    if !netns::inside("what_does_not_fit_is_told_or_fragmented_outside") {
        return;
    }
    let (gateway, tenant, neighbour) = gateway(9000);
    let narrow = TunnelOptions { outer_mtu: Some(1000), ..TunnelOptions::default() };
    let mut host = Host::connect(&gateway, tenant, V4, narrow);
    let max = gateway.stats_of(host.remote.spi).inner_mtu;
    // 20 of IP are in both, 8 + 8 + 2 + 16 are ESP's, and the text is aligned.
    assert!((1000 - 34 - 3..=1000 - 34).contains(&max), "{max}");
    let ping = |options: &str, len: usize| {
        neighbour.run(&format!("ping -c 1 -W 0.05 {options} -s {} {} >/dev/null || true", len - 28, V4.1));
    };
    ping("-M do", max);
    let (len, packet) = host.receive_echo(8);
    assert_eq!((packet.len(), len <= 980), (max, true));
    ping("-M dont", 5000);
    assert_eq!(host.receive_echo(8).1.len(), 5000);
    assert_eq!((gateway.counter("outer_fragmented"), gateway.counter("inner_fragmented")), (1, 0));
    ping("-M do", max + 1);
    gateway.wait_for("drop_packet_too_big", 1);
    gateway.wait_for("icmp_sent", 1);
    // Told of it, the host fragments by itself what it may, and a fragment cannot be sealed.
    ping("-M dont", 5000);
    gateway.wait_for("esp_outbound_transport_fragment", 2);
    assert_eq!(gateway.counter("outer_fragmented"), 1);
}

#[test]
fn padding_is_for_what_says_how_long_it_is() {
    if !netns::inside("padding_is_for_what_says_how_long_it_is") {
        return;
    }
    let (gateway, tenant, neighbour) = gateway(1400);
    let padded = TunnelOptions { tfc: TfcPadding::Multiple(512), ..TunnelOptions::default() };
    let mut host = Host::connect(&gateway, tenant, V4, padded);
    neighbour.run(&format!("ping -c 1 -W 0.05 -s 92 {} >/dev/null || true", V4.1));
    let (len, echo) = host.receive_echo(8);
    assert!(echo.len() == 120 && len < 140);
    neighbour.run(&format!("bash -c \"echo -n 12345 >/dev/udp/{}/9\"", V4.1));
    let (len, datagram) = host.receive();
    assert!(datagram.len() == 33 && datagram[9] == 17 && len >= 512, "{len}");
}

#[test]
fn transport_is_between_two_hosts() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    for (local, remote) in [
        ("10.0.0.0/24", "10.1.0.1/32"),
        ("10.0.0.1/32", "10.1.0.0/31"),
        // Inner packets of another family than the header outside.
        ("fd00::1/128", "fd00::2/128"),
    ] {
        let (local, remote) = (vec![common::subnet(local)], vec![common::subnet(remote)]);
        let mut pair = gateway.spare_pair(tenant);
        pair.mode = Mode::Transport;
        pair.selectors = esp::SelectorPair { local, remote };
        let refused = gateway.handle.install(pair);
        assert!(matches!(refused, Err(RouterError::NotHosts)));
    }
}
