//! Tunnels of one tenant at several nodes: inner packets go from node to node, once.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

mod common;
#[path = "common/netns.rs"]
mod netns;

use std::num::NonZeroU32;
use std::sync::Arc;

use common::cluster::Cluster;
use common::{Gateway, Remote, hopped, socket, subnet, udp};
use router::policy::{Policy, PolicyAction, PolicyRule, Tunnels};
use router::{RouterEvent, TenantId, TrafficLimits, TunnelId, Uplink};

const TENANT: TenantId = TenantId(1);
const NETWORKS: [&str; 2] = ["10.1.0.0/16", "10.2.0.0/16"];

/// Two nodes, each with one of the tenant's two tunnels, which both know of.
struct World {
    nodes: [Gateway; 2],
    sites: [Remote; 2],
}

impl World {
    fn new() -> Self {
        Self::with(&Uplink::Hub)
    }

    /// With this uplink at the first.
    fn with(uplink: &Uplink) -> Self {
        Self::of(uplink, NETWORKS)
    }

    /// With these networks behind the two tunnels.
    fn of(uplink: &Uplink, behind: [&str; 2]) -> Self {
        let cluster = Arc::new(Cluster::default());
        let nodes = [1, 2].map(|node: u8| {
            let gateway = cluster.gateway(node, 2);
            cluster.name(node.into(), &gateway);
            gateway.tun(TENANT, if node == 1 { uplink.clone() } else { Uplink::Hub });
            for (tunnel, network) in (1..).zip(behind) {
                gateway.declare(TENANT, tunnel, network, false);
            }
            gateway
        });
        let sites = [0, 1].map(|number: usize| {
            let slot = number as u8 + 1;
            let (gateway, host) = (&nodes[number], 31 + number as u8);
            let spi = gateway.handle.allocate_spi(slot, [127, 0, 0, host].into()).unwrap();
            let networks = ("0.0.0.0/0", behind[number]);
            let site = gateway.install_under(spi, socket(host), TENANT, number as u64 + 1, networks, |_| {});
            gateway.handle.activate(spi);
            site
        });
        nodes[0].handle.set_elsewhere(TENANT, TunnelId(2), Some(2));
        nodes[1].handle.set_elsewhere(TENANT, TunnelId(1), Some(1));
        Self { nodes, sites }
    }
}

#[test]
fn tunnels_of_two_nodes_are_one_network() {
    let World { nodes, sites: [mut here, mut there] } = World::new();
    for len in [4, 1300] {
        let ping = udp("10.1.0.1", "10.2.0.1", 1, len);
        here.send(&ping);
        assert_eq!(there.receive(), hopped(&ping), "one hop, however many nodes");
        let pong = udp("10.2.0.1", "10.1.0.1", 2, len);
        there.send(&pong);
        assert_eq!(here.receive(), hopped(&pong));
    }
    for node in &nodes {
        node.wait_for("passed_on", 2);
        assert_eq!(node.counter("passed_in"), 2);
    }
}

#[test]
fn policy_hops_and_quotas_are_looked_at_before_a_packet_is_passed_on() {
    let World { nodes: [first, second], sites: [mut here, mut there] } = World::new();
    let mut last_hop = udp("10.1.0.1", "10.2.0.1", 1, 10);
    last_hop[8] = 1;
    here.send(&last_hop);
    first.wait_for("drop_ttl_expired", 1);
    let one = TrafficLimits { packets: NonZeroU32::new(1), octets: None };
    first.handle.set_limits(TENANT, one).unwrap();
    (0..50).for_each(|number| here.send(&udp("10.1.0.1", "10.2.0.1", number, 10)));
    first.wait_for("esp_received", 51);
    assert!(first.counter("drop_tenant_limit_in") + first.counter("drop_tenant_limit_out") > 0);
    first.handle.set_limits(TENANT, TrafficLimits::default()).unwrap();
    let rule = |action, remote| PolicyRule {
        action,
        local: Vec::new(),
        remote: vec![subnet(remote).start..=subnet(remote).end],
        protocol: None,
        local_ports: Vec::new(),
        remote_ports: Vec::new(),
    };
    let protect = PolicyAction::Protect(Tunnels::Range(1..=1));
    let rules = vec![rule(protect, NETWORKS[0]), rule(PolicyAction::Discard, NETWORKS[1])];
    first.handle.set_policy(TENANT, Policy::new(rules).unwrap()).unwrap();
    let passed = first.counter("passed_on");
    here.send(&udp("10.1.0.1", "10.2.0.1", 2, 10));
    first.wait_for("drop_policy_discard", 1);
    assert_eq!(first.counter("passed_on"), passed);
    // The tenant that is not there, and what is no packet.
    second.handle.inner_in(TenantId(7), udp("10.1.0.1", "10.2.0.1", 3, 10));
    second.handle.inner_in(TENANT, vec![0; 40]);
    assert_eq!([second.counter("drop_unknown_tenant"), second.counter("drop_bad_inner")], [1, 1]);
    // What was passed on while it was allowed is all that comes out.
    (0..passed).for_each(|_| drop(there.receive()));
    assert!(there.is_silent());
}

#[test]
fn a_pair_that_is_here_wins_and_what_came_from_a_node_goes_to_no_third() {
    let World { nodes: [first, second], sites: [mut here, mut there] } = World::new();
    // A stale belief of the node that has the tunnel.
    second.handle.set_elsewhere(TENANT, TunnelId(2), Some(1));
    let ping = udp("10.1.0.1", "10.2.0.1", 1, 10);
    here.send(&ping);
    assert_eq!(there.receive(), hopped(&ping));
    second.handle.retire(there.spi);
    here.send(&ping);
    second.wait_for("drop_passed_twice", 1);
    second.handle.set_elsewhere(TENANT, TunnelId(2), None);
    here.send(&ping);
    second.wait_for("drop_no_outbound_sa", 1);
    // A node that nobody knows.
    first.handle.set_elsewhere(TENANT, TunnelId(2), Some(9));
    here.send(&ping);
    first.wait_for("drop_not_passed_on", 1);
}

/// The other node knows nothing of the tunnel that a packet came by, so it is not asked where that tunnel would have it again.
#[test]
fn no_node_is_asked_to_send_a_packet_back() {
    let World { nodes: [first, second], sites: [mut here, mut there] } =
        World::of(&Uplink::Hub, [NETWORKS[0], "0.0.0.0/0"]);
    here.send(&udp("10.1.0.1", "10.1.0.2", 1, 10));
    first.wait_for("drop_no_route", 1);
    let ping = udp("10.1.0.1", "10.9.0.1", 2, 10);
    here.send(&ping);
    assert_eq!(there.receive(), hopped(&ping));
    // Nor does it come back from there, where that tunnel is for everything.
    there.send(&udp("10.9.0.1", "10.8.0.1", 3, 10));
    second.wait_for("drop_no_route", 1);
    assert_eq!([first.counter("passed_on"), second.counter("passed_on")], [1, 0]);
    assert!(here.is_silent() && there.is_silent());
}

#[test]
fn what_waits_for_a_tunnel_follows_it() {
    let World { nodes: [mut first, _second], sites: [mut here, mut there] } = World::new();
    first.handle.set_elsewhere(TENANT, TunnelId(2), None);
    first.declare(TENANT, 2, NETWORKS[1], true);
    let ping = udp("10.1.0.1", "10.2.0.1", 1, 10);
    here.send(&ping);
    loop {
        match first.next_event() {
            RouterEvent::Wanted { tenant, tunnel } => {
                break assert_eq!((tenant, tunnel), (TENANT, TunnelId(2)));
            }
            _ => continue,
        }
    }
    first.handle.set_elsewhere(TENANT, TunnelId(2), Some(2));
    assert_eq!(there.receive(), hopped(&ping));
}

#[test]
fn what_is_too_big_at_the_other_node_is_told_to_its_sender() {
    let World { nodes: [_first, second], sites: [mut here, there] } = World::new();
    // The pair of the other node takes less than what comes to it.
    let spi = second.handle.allocate_spi(2, [127, 0, 0, 32].into()).unwrap();
    let networks = ("0.0.0.0/0", NETWORKS[1]);
    let narrow = second.install_under(spi, socket(32), TENANT, 2, networks, |child| {
        child.options.outer_mtu = Some(600);
    });
    second.handle.activate(spi);
    let mut large = udp("10.1.0.1", "10.2.0.1", 1, 900);
    large[6] = 0x40;
    common::fix_checksum(&mut large);
    here.send(&large);
    let told = here.receive();
    assert_eq!(
        (told[9], &told[12..16], &told[20..22]),
        (1, &[10, 2, 0, 1][..], &[3, 4][..]),
        "ICMP, too big"
    );
    assert!(narrow.is_silent() && there.is_silent());
}

#[test]
fn what_a_device_takes_reaches_a_tunnel_of_another_node() {
    if !netns::inside("what_a_device_takes_reaches_a_tunnel_of_another_node") {
        return;
    }
    let uplink = Uplink::Tun {
        name: "culvert0".to_owned(),
        netns: None,
        addresses: vec!["10.50.0.1/24".parse().unwrap()],
        mtu: 1400,
        routes: true,
        clear_device: None,
    };
    let World { nodes: [first, _second], sites: [_here, mut there] } = World::with(&uplink);
    first.settle();
    netns::run("bash -c 'echo hello > /dev/udp/10.2.0.1/5000'");
    let inner = there.receive();
    assert_eq!((&inner[12..20], &inner[28..]), (&[10, 50, 0, 1, 10, 2, 0, 1][..], &b"hello\n"[..]));
    first.wait_for("passed_on", 1);
}
