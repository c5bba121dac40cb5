//! Path MTU discovery by the kernel's ICMP, across a router with a narrow link. Needs root; says so where it is skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

mod common;
#[path = "common/netns.rs"]
mod netns;

use std::net::IpAddr;
use std::time::Instant;

use common::{Gateway, PATIENCE, Remote, udp};
use router::{ChildSa, Encapsulation, OuterDf, RouterConfig, TenantId, TunnelOptions};

/// A router behind a wide link, with a link of 1300 octets behind it.
fn narrow_link() -> netns::Neighbour {
    let router = netns::Neighbour::new();
    netns::run(&format!("ip link add wide type veth peer name wide netns {}", router.id()));
    router.run(
        "ip addr add 10.99.1.2/24 dev wide; ip addr add fd99:1::2/64 dev wide nodad; ip link set wide up;
         ip link add narrow type veth peer name far; ip link set far mtu 1300 up; ip link set narrow mtu 1300 up;
         ip addr add 10.99.2.1/24 dev narrow; ip addr add fd99:2::1/64 dev narrow nodad;
         echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
    );
    netns::run(
        "ip addr add 10.99.1.1/24 dev wide; ip addr add fd99:1::1/64 dev wide nodad; ip link set wide up;
         ip route add 10.99.2.0/24 via 10.99.1.2; ip route add fd99:2::/64 via fd99:1::2",
    );
    router
}

/// A tunnel to a host behind the narrow link.
fn beyond(
    gateway: &Gateway,
    tenant: TenantId,
    number: u64,
    remote: &str,
    change: impl FnOnce(&mut ChildSa),
) -> Remote {
    let network = format!("10.{number}.0.0/16");
    let remote: IpAddr = remote.parse().unwrap();
    let local: IpAddr = if remote.is_ipv4() { [10, 99, 1, 1].into() } else { "fd99:1::1".parse().unwrap() };
    let tunnel = gateway.install_with(
        common::socket(number as u8),
        tenant,
        number,
        ("0.0.0.0/0", network.as_str()),
        |child| {
            child.remote = (remote, 4500).into();
            child.local = (local, 4500).into();
            change(child);
        },
    );
    gateway.handle.activate(tunnel.spi);
    tunnel
}

/// Sends packets of 1400 octets with DF until one is answered: what the answer says, and how many it took.
fn discover(gateway: &Gateway, sender: &mut Remote, destination: &str) -> (u16, u64) {
    let before = gateway.counter("drop_packet_too_big");
    let mut big = udp("10.1.0.1", destination, 1, 1372);
    big[6] |= 0x40;
    common::fix_checksum(&mut big);
    let deadline = Instant::now() + PATIENCE;
    let mut sent = 0;
    while gateway.counter("drop_packet_too_big") == before {
        assert!(
            Instant::now() < deadline,
            "nothing learned from {sent} packets to {destination}: {:?}",
            gateway.handle.counters()
        );
        let received = gateway.counter("esp_received");
        sender.send(&big);
        sent += 1;
        gateway.wait_for("esp_received", received + 1);
        gateway.stats();
    }
    let told = sender.receive();
    assert_eq!(told[20..22], [3, 4]);
    (u16::from_be_bytes([told[26], told[27]]), sent)
}

#[test]
fn the_path_is_learned_and_told() {
    if !netns::inside("the_path_is_learned_and_told") {
        return;
    }
    let _router = narrow_link();
    let listen = vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()];
    let config = RouterConfig {
        listen,
        ike_port: 0,
        natt_port: 0,
        shards: 1,
        slot: 9,
        raw_esp: true,
        ..RouterConfig::default()
    };
    let gateway = Gateway::start_config(config, 1000);
    let tenant = gateway.hub(1);
    let mut sender = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    let learned = beyond(&gateway, tenant, 20, "10.99.2.2", |_| {});
    // 1300 less IP 20, UDP 8, ESP 16, ICV 16, trailer 2 and what makes a multiple of four.
    let (mtu, sent) = discover(&gateway, &mut sender, "10.20.0.1");
    assert_eq!(mtu, 1238);
    assert!(sent > 1, "the first one had to find it out");
    assert!(gateway.counter("drop_outer_too_big") >= 1);

    // What is smaller passes the gateway.
    let before = gateway.counter("esp_sent");
    sender.send(&udp("10.1.0.1", "10.20.0.1", 1, 1200));
    gateway.wait_for("esp_sent", before + 1);

    // A pair that comes later knows at once: a rekey does not begin anew.
    drop(learned);
    let refused = gateway.counter("drop_outer_too_big");
    let _later = beyond(&gateway, tenant, 21, "10.99.2.2", |_| {});
    assert_eq!(discover(&gateway, &mut sender, "10.21.0.1"), (1238, 1));

    // The same outside in version six, whose header is 20 octets longer.
    let _sixth = beyond(&gateway, tenant, 22, "fd99:2::2", |_| {});
    assert_eq!(discover(&gateway, &mut sender, "10.22.0.1").0, 1218);
    assert!(gateway.counter("drop_outer_too_big") > refused);

    // Without UDP the ICMP error is about another protocol; eight octets more fit. Hosts of their own, of which the kernel
    // knows nothing yet.
    let raw = |child: &mut ChildSa| child.encapsulation = Encapsulation::Raw;
    let refused = gateway.counter("drop_outer_too_big");
    let _raw = beyond(&gateway, tenant, 24, "10.99.2.3", raw);
    assert_eq!(discover(&gateway, &mut sender, "10.24.0.1").0, 1246);
    let _raw_sixth = beyond(&gateway, tenant, 25, "fd99:2::3", raw);
    assert_eq!(discover(&gateway, &mut sender, "10.25.0.1").0, 1226);
    assert!(gateway.counter("drop_outer_too_big") >= refused + 2);

    // Where DF stays clear outside nothing is refused.
    let _clear = beyond(&gateway, tenant, 23, "10.99.2.2", |child| {
        child.options = TunnelOptions { df: OuterDf::Clear, ..TunnelOptions::default() };
    });
    let (before, told) = (gateway.counter("esp_sent"), gateway.counter("icmp_sent"));
    let mut big = udp("10.1.0.1", "10.23.0.1", 1, 1372);
    big[6] |= 0x40;
    common::fix_checksum(&mut big);
    sender.send(&big);
    gateway.wait_for("esp_sent", before + 1);
    assert_eq!((gateway.counter("icmp_sent"), gateway.counter("outer_fragmented")), (told, 1));
}
