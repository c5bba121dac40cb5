//! ESP without UDP (IP protocol 50), over loopback in a network namespace. Needs root; says so where it is skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

mod common;
#[path = "common/netns.rs"]
mod netns;

use std::io::Read;
use std::net::{IpAddr, SocketAddr};

use common::{Gateway, PATIENCE, Remote, hopped, udp, udp_v6};
use esp::Spi;
use router::{
    ChildSa, Encapsulation, OuterDscp, RouterConfig, RouterError, RouterEvent, TenantId, TunnelOptions,
};
use socket2::{Domain, Protocol, Socket, Type};

/// A remote gateway without UDP.
struct RawRemote {
    socket: Socket,
    router: SocketAddr,
    remote: Remote,
}

/// An ESP packet as it came.
struct Arrived {
    /// The outer IPv4 header.
    header: Vec<u8>,
    /// Octets of ESP.
    len: usize,
    inner: Vec<u8>,
}

impl RawRemote {
    fn connect(
        gateway: &Gateway,
        tenant: TenantId,
        (address, router): (&str, &str),
        networks: (&str, &str),
        change: impl FnOnce(&mut ChildSa),
    ) -> Self {
        let address: IpAddr = address.parse().unwrap();
        let router = SocketAddr::new(router.parse().unwrap(), 0);
        let esp = Some(Protocol::from(50));
        let socket = Socket::new(Domain::for_address(router), Type::RAW, esp).unwrap();
        socket.bind(&SocketAddr::new(address, 0).into()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let udp = std::net::UdpSocket::bind((address, 0)).unwrap();
        let tunnel = gateway.stats().len() as u64;
        let remote = gateway.install_with(udp, tenant, tunnel, networks, |child| {
            child.encapsulation = Encapsulation::Raw;
            child.remote.set_port(0);
            child.local = router;
            change(child);
        });
        gateway.handle.activate(remote.spi);
        Self { socket, router, remote }
    }

    fn send(&mut self, inner: &[u8]) {
        let sealed = self.remote.seal(inner);
        self.socket.send_to(&sealed, &self.router.into()).unwrap();
    }

    fn receive(&mut self) -> Arrived {
        let mut packet = vec![0; 65_536];
        let len = (&self.socket).read(&mut packet).expect("a packet comes in time");
        packet.truncate(len);
        let header_len = if self.router.is_ipv4() { 20 } else { 0 };
        let mut esp = packet.split_off(header_len);
        let len = esp.len();
        let opened = self.remote.inbound.open(&mut esp).expect("for this SA");
        Arrived { header: packet, len, inner: esp[opened.inner].to_vec() }
    }
}

fn gateway(shards: usize) -> Gateway {
    netns::add_v6_addresses(&["fd99::1", "fd99::11"]);
    let listen = vec!["127.0.0.1".parse().unwrap(), "fd99::1".parse().unwrap()];
    let config = RouterConfig {
        listen,
        ike_port: 0,
        natt_port: 0,
        shards,
        slot: 9,
        raw_esp: true,
        ..RouterConfig::default()
    };
    let gateway = Gateway::start_config(config, 1000);
    for address in ["127.0.0.1", "fd99::1"] {
        assert!(gateway.handle.has_raw_esp(address.parse().unwrap()));
    }
    assert!(!gateway.handle.has_raw_esp("127.0.0.2".parse().unwrap()), "not an address of the router");
    gateway
}

const FIRST: (&str, &str) = ("127.0.0.11", "127.0.0.1");

#[test]
fn packets_cross_between_raw_and_udp() {
    if !netns::inside("packets_cross_between_raw_and_udp") {
        return;
    }
    let gateway = gateway(2);
    let tenant = gateway.hub(1);
    let mut raw = RawRemote::connect(&gateway, tenant, FIRST, ("0.0.0.0/0", "10.1.0.0/16"), |_| {});
    // One on the other shard.
    let host = (12..200u8)
        .find(|host| {
            let spi = gateway.handle.allocate_spi(common::SLOT, [127, 0, 0, *host].into()).unwrap();
            spi.shard() != raw.remote.spi.shard()
        })
        .unwrap();
    let address = format!("127.0.0.{host}");
    let second = (address.as_str(), "127.0.0.1");
    let mut other = RawRemote::connect(&gateway, tenant, second, ("0.0.0.0/0", "10.2.0.0/16"), |_| {});
    let mut udp_site = gateway.connect(tenant, 9, 201, "0.0.0.0/0", "10.3.0.0/16");
    assert_ne!(raw.remote.spi.shard(), other.remote.spi.shard());
    for len in [4, 100, 1372, 4000] {
        let ping = udp("10.1.0.1", "10.2.0.1", 1, len);
        raw.send(&ping);
        assert_eq!(other.receive().inner, hopped(&ping));
        let pong = udp("10.2.0.1", "10.3.0.1", 2, len);
        other.send(&pong);
        assert_eq!(udp_site.receive(), hopped(&pong));
        let back = udp("10.3.0.1", "10.1.0.1", 3, len);
        udp_site.send(&back);
        let arrived = raw.receive();
        assert_eq!(arrived.inner, hopped(&back));
        assert_eq!((arrived.header[9], &arrived.header[12..16]), (50, &[127, 0, 0, 1][..]));
    }
    // Each socket took only what was for its shard: nothing was taken twice, and nothing had to change shards to be opened.
    assert_eq!(gateway.counter("esp_received"), 12);
    let unopened = ["drop_unknown_spi", "esp_replay_duplicate", "esp_wrong_spi", "other_encapsulation"];
    assert_eq!(unopened.map(|name| gateway.counter(name)), [0; 4]);
}

#[test]
fn the_sixth_version_without_udp() {
    if !netns::inside("the_sixth_version_without_udp") {
        return;
    }
    let gateway = gateway(1);
    let tenant = gateway.hub(1);
    let ends = ("fd99::11", "fd99::1");
    let mut raw = RawRemote::connect(&gateway, tenant, ends, ("::/0", "2001:db8:1::/48"), |_| {});
    let mut other = gateway.connect(tenant, 9, 12, "::/0", "2001:db8:2::/48");
    for len in [0, 700, 1300] {
        let ping = udp_v6("2001:db8:1::9", "2001:db8:2::9", len);
        raw.send(&ping);
        assert_eq!(other.receive(), hopped(&ping));
        let pong = udp_v6("2001:db8:2::9", "2001:db8:1::9", len);
        other.send(&pong);
        assert_eq!(raw.receive().inner, hopped(&pong));
    }
}

#[test]
fn the_outer_header_is_as_the_options_say() {
    if !netns::inside("the_outer_header_is_as_the_options_say") {
        return;
    }
    let gateway = gateway(1);
    let tenant = gateway.hub(1);
    let mut raw = RawRemote::connect(&gateway, tenant, FIRST, ("0.0.0.0/0", "10.1.0.0/16"), |child| {
        child.options =
            TunnelOptions { outer_mtu: Some(1000), dscp_inward: true, ..TunnelOptions::default() };
    });
    let ends = ("127.0.0.12", "127.0.0.1");
    let mut fixed = RawRemote::connect(&gateway, tenant, ends, ("0.0.0.0/0", "10.2.0.0/16"), |child| {
        child.options = TunnelOptions { dscp: OuterDscp::Fixed(0x0a), ..TunnelOptions::default() };
    });
    let mut inner = udp("10.2.0.1", "10.1.0.1", 1, 100);
    inner[1] = 0xb9;
    common::fix_checksum(&mut inner);
    fixed.send(&inner);
    let arrived = raw.receive();
    assert_eq!((arrived.header[1], arrived.header[6] & 0x40), (0xb9, 0), "DSCP, ECN and DF are copied");
    inner[6] = 0x40;
    common::fix_checksum(&mut inner);
    fixed.send(&inner);
    assert_eq!(raw.receive().header[6] & 0x40, 0x40);

    // The outer DSCP comes in where it is wanted, the other one is as it is told.
    raw.socket.set_tos_v4(0x68).unwrap();
    let mut inner = udp("10.1.0.1", "10.2.0.1", 1, 100);
    inner[1] = 0xb9;
    common::fix_checksum(&mut inner);
    raw.send(&inner);
    let arrived = fixed.receive();
    assert_eq!((arrived.inner[1], arrived.header[1]), (0x69, 0x29));

    // Without UDP eight octets more fit: 1000 less IP 20 and ESP 32, in steps of four, less the trailer.
    let mut largest = udp("10.2.0.1", "10.1.0.1", 1, 946 - 28);
    largest[6] = 0x40;
    common::fix_checksum(&mut largest);
    fixed.send(&largest);
    let arrived = raw.receive();
    assert_eq!((arrived.inner, arrived.len + 20), (hopped(&largest), 1000));
    let mut larger = udp("10.2.0.1", "10.1.0.1", 1, 947 - 28);
    larger[6] = 0x40;
    common::fix_checksum(&mut larger);
    fixed.send(&larger);
    assert_eq!(fixed.receive().inner[20..28][6..], 946u16.to_be_bytes());
}

#[test]
fn the_other_encapsulation_is_taken_and_changes_nothing() {
    if !netns::inside("the_other_encapsulation_is_taken_and_changes_nothing") {
        return;
    }
    let mut gateway = gateway(2);
    let tenant = gateway.hub(1);
    let mut raw = RawRemote::connect(&gateway, tenant, FIRST, ("0.0.0.0/0", "10.1.0.0/16"), |_| {});
    let mut site = gateway.connect(tenant, 9, 12, "0.0.0.0/0", "10.2.0.0/16");
    // UDP for the raw pair.
    raw.remote.router = gateway.natt();
    raw.remote.send(&udp("10.1.0.1", "10.2.0.1", 1, 50));
    site.receive();
    // Raw ESP for the pair in UDP, from the same address.
    let esp = Some(Protocol::from(50));
    let socket = Socket::new(Domain::IPV4, Type::RAW, esp).unwrap();
    socket.bind(&SocketAddr::new(site.socket.local_addr().unwrap().ip(), 0).into()).unwrap();
    let sealed = site.seal(&udp("10.2.0.1", "10.1.0.1", 2, 50));
    socket.send_to(&sealed, &SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    assert_eq!(raw.receive().inner[28..32], 2u32.to_be_bytes(), "still sent raw");
    assert_eq!(gateway.counter("other_encapsulation"), 2);
    for _ in 0..2 {
        let event = gateway.next_event();
        assert!(matches!(event, RouterEvent::FirstInbound { .. }), "nobody moved: {event:?}");
    }
    assert!(gateway.events.try_recv().is_err());

    // Until the control plane says so.
    let remote = raw.remote.socket.local_addr().unwrap();
    gateway.handle.set_path(raw.remote.spi, remote, Encapsulation::Udp);
    gateway.stats();
    site.send(&udp("10.2.0.1", "10.1.0.1", 3, 50));
    raw.remote.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(raw.remote.receive()[28..32], 3u32.to_be_bytes());
}

#[test]
fn unknown_raw_spis_are_counted_once() {
    if !netns::inside("unknown_raw_spis_are_counted_once") {
        return;
    }
    let mut gateway = gateway(2);
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(50))).unwrap();
    socket.bind(&"127.0.0.11:0".parse::<SocketAddr>().unwrap().into()).unwrap();
    // Of both shards, of one that is not there, and of numbers that are reserved.
    let spis = [0x2400_0001, 0x2410_0001, 0x27f0_0001, 0, 7, u32::MAX];
    for spi in spis {
        let mut packet = [7; 60];
        packet[..4].copy_from_slice(&u32::to_be_bytes(spi));
        socket.send_to(&packet, &SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    }
    gateway.wait_for("drop_unknown_spi", spis.len() as u64);
    for _ in spis {
        let event = gateway.next_event();
        let RouterEvent::UnknownSpi { spi: Spi(spi), remote } = event else { panic!("{event:?}") };
        assert!(spis.contains(&spi) && remote == "127.0.0.11:0".parse().unwrap());
    }
    assert_eq!(gateway.counter("drop_unknown_spi"), spis.len() as u64);
}

#[test]
fn without_a_raw_socket_there_is_no_raw_pair() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    assert!(!gateway.handle.has_raw_esp("127.0.0.1".parse().unwrap()));
    let mut raw = gateway.spare_pair(tenant);
    raw.remote.set_port(0);
    raw.encapsulation = Encapsulation::Raw;
    let refused = gateway.handle.install(raw);
    assert!(matches!(refused, Err(RouterError::NoRawEsp(_))));
}
