//! TUN devices that cannot be made, that share a namespace, and that go: in a namespace of the test's own. Needs root; says
//! so where it is skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

mod common;
#[path = "common/netns.rs"]
mod netns;

use std::time::Instant;

use common::{Gateway, Remote};
use esp::SelectorPair;
use netns::output;
use router::{
    RouteRefusal, RouterError, TenantId, TunnelConfig, TunnelId, Uplink, UplinkFault, UplinkState,
    UplinkStatus,
};

const A: TenantId = TenantId(1);
const B: TenantId = TenantId(2);

fn tun(name: &str, addresses: &[&str]) -> Uplink {
    Uplink::Tun {
        name: name.to_owned(),
        netns: None,
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        mtu: 1400,
        routes: true,
        clear_device: None,
    }
}

fn tun_in(namespace: &str, name: &str, addresses: &[&str]) -> Uplink {
    let mut uplink = tun(name, addresses);
    if let Uplink::Tun { netns, .. } = &mut uplink {
        *netns = Some(namespace.to_owned());
    }
    uplink
}

/// The device that packets to an address go to.
fn way(to: &str) -> String {
    let route = output(&format!("ip route get {to}"));
    route.split_once("dev ").map(|(_, rest)| rest.split(' ').next().unwrap().to_owned()).unwrap_or_default()
}

fn declare(gateway: &Gateway, tenant: TenantId, tunnel: u64, remote: &str) {
    let selectors =
        SelectorPair { local: vec![common::subnet("0.0.0.0/0")], remote: vec![common::subnet(remote)] };
    let config = TunnelConfig { tenant, tunnel: TunnelId(tunnel), selectors, on_demand: false };
    gateway.handle.declare_tunnel(config).unwrap();
    gateway.settle();
}

fn refusal(status: &UplinkStatus) -> &RouteRefusal {
    assert_eq!((status.refused.len(), status.refused_total), (1, 1), "{status:?}");
    &status.refused[0].reason
}

fn failure(status: &UplinkStatus) -> (UplinkFault, String) {
    match &status.state {
        UplinkState::Failed(error) => (error.fault, error.to_string()),
        other => panic!("{other:?}"),
    }
}

/// The sender of an echo request that `remote` receives: whose device it went to.
fn ping(from: &str, to: &str, remote: &mut Remote) {
    // One packet; nobody answers.
    let _ = output(&format!("ping -c 1 -W 0.1 -I {from} {to}"));
    let inner = remote.receive();
    assert_eq!((inner[9], inner[20]), (1, 8), "an echo request");
}

#[test]
fn equal_networks_of_two_tenants_in_one_namespace_stay_apart() {
    if !netns::inside("equal_networks_of_two_tenants_in_one_namespace_stay_apart") {
        return;
    }
    let gateway = Gateway::start(1);
    assert_eq!(gateway.tun(A, tun("tun-a", &["10.50.0.1/24"])).state, UplinkState::Up);
    assert_eq!(gateway.tun(B, tun("tun-b", &["10.60.0.1/24"])).state, UplinkState::Up);
    let mut a = gateway.connect(A, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    let mut b = gateway.connect(B, 2, 12, "0.0.0.0/0", "10.1.0.0/16");
    // The first has the route; what says that it is the second's goes there all the same.
    assert_eq!(way("10.1.0.9"), "tun-a");
    let status = gateway.handle.uplink(B).unwrap();
    assert_eq!(*refusal(&status), RouteRefusal::Tenant { device: "tun-a".to_owned() });
    assert!(status.refused[0].by_source && status.refused[0].to_string().contains("10.1.0.0/16"));
    ping("10.50.0.1", "10.1.0.9", &mut a);
    ping("10.60.0.1", "10.1.0.9", &mut b);
    ping("tun-b", "10.1.0.9", &mut b);
    // An answer leaves by the tunnel that the question came through.
    let question = common::udp("10.1.0.9", "10.60.0.1", 1, 8);
    b.send(&question);
    let answer = b.receive();
    assert_eq!((answer[9], &answer[16..20]), (1, &[10, 1, 0, 9][..]), "port unreachable");
    assert!(a.is_silent() && b.is_silent());
    // A part of it is as much the first's as the whole.
    declare(&gateway, B, 3, "10.1.2.0/24");
    assert_eq!((way("10.1.2.9"), way("10.1.2.9 from 10.60.0.1")), ("tun-a".into(), "tun-b".into()));
    assert_eq!(gateway.handle.uplink(B).unwrap().refused_total, 2);

    // When the first goes the second has it, and the rules are gone.
    gateway.handle.remove_tenant(A);
    gateway.settle();
    assert_eq!((way("10.1.0.9"), way("10.1.2.9")), ("tun-b".into(), "tun-b".into()));
    assert_eq!(gateway.handle.uplink(B).unwrap().refused_total, 0);
    assert!(!output("ip rule").contains("10.60.0.1") && !output("ip rule").contains("tun-b"));
    // And the other way round.
    gateway.tun(A, tun("tun-a", &["10.50.0.1/24"]));
    declare(&gateway, A, 1, "10.1.0.0/16");
    assert_eq!(way("10.1.0.9"), "tun-b");
    assert!(output("ip rule").contains("from 10.50.0.1"));
    gateway.router.shutdown();
    assert_eq!(output("ip rule | wc -l").trim(), "3", "nothing outlives the router");
}

#[test]
fn a_route_of_the_host_stays() {
    if !netns::inside("a_route_of_the_host_stays") {
        return;
    }
    netns::run(
        "ip link add lan type veth peer name other; ip addr add 192.168.7.1/24 dev lan; ip link set lan up; ip link set other up",
    );
    netns::run("ip route add 10.1.0.0/16 via 192.168.7.9");
    let gateway = Gateway::start(1);
    gateway.tun(A, tun("tun-a", &["10.50.0.1/24"]));
    declare(&gateway, A, 1, "10.1.0.0/16");
    assert_eq!(way("10.1.0.9"), "lan");
    let status = gateway.handle.uplink(A).unwrap();
    assert_eq!(*refusal(&status), RouteRefusal::Host);
    gateway.handle.undeclare_tunnel(A, TunnelId(1));
    gateway.settle();
    assert_eq!(way("10.1.0.9"), "lan");
    gateway.handle.remove_tenant(A);
    gateway.settle();
    assert!(output("ip route").contains("10.1.0.0/16 via 192.168.7.9"), "{}", output("ip route"));
    // The network of an address is no exception.
    let status = gateway.tun(B, tun("tun-b", &["192.168.7.2/24"]));
    assert_eq!(*refusal(&status), RouteRefusal::Host);
    assert_eq!(way("192.168.7.9"), "lan");
}

#[test]
fn no_route_takes_what_the_node_sends() {
    if !netns::inside("no_route_takes_what_the_node_sends") {
        return;
    }
    netns::run(
        "ip link add lan type veth peer name other; ip addr add 192.0.2.1/24 dev lan; ip link set lan up; ip link set other up",
    );
    netns::run("ip route add default via 192.0.2.254");
    let gateway = Gateway::start_with(1, vec!["192.0.2.1".parse().unwrap()], 100);
    gateway.tun(A, tun("tun-a", &["10.50.0.1/24"]));
    for (remote, reason) in [
        ("0.0.0.0/1", RouteRefusal::TooBroad),
        ("192.0.2.0/25", RouteRefusal::Swallows("192.0.2.1".parse().unwrap())),
    ] {
        declare(&gateway, A, 1, remote);
        assert_eq!(*refusal(&gateway.handle.uplink(A).unwrap()), reason);
        assert_eq!((way("192.0.2.9"), way("100.64.0.1")), ("lan".into(), "lan".into()));
    }
    declare(&gateway, A, 1, "10.0.0.0/8");
    assert_eq!((way("10.9.0.1"), way("192.0.2.9")), ("tun-a".into(), "lan".into()));
    assert_eq!(gateway.handle.uplink(A).unwrap().refused_total, 0);
}

#[test]
fn what_cannot_be_made_says_why_leaves_nothing_and_is_tried_again() {
    if !netns::inside("what_cannot_be_made_says_why_leaves_nothing_and_is_tried_again") {
        return;
    }
    netns::run("ip link add taken type veth peer name other");
    let mut gateway = Gateway::start(1);
    let change = |name: &str, change: fn(&mut Option<String>, &mut Option<String>)| {
        let mut uplink = tun(name, &["10.50.0.1/24"]);
        let Uplink::Tun { netns, clear_device, .. } = &mut uplink else { panic!("a device") };
        change(netns, clear_device);
        uplink
    };
    for (uplink, fault, words) in [
        (
            change("tun-a", |netns, _| *netns = Some("no-such-namespace".to_owned())),
            UplinkFault::Namespace,
            "tun-a: entering the network namespace",
        ),
        (change("taken", |_, _| {}), UplinkFault::NameTaken, "there is an interface of this name"),
        (
            change("tun-a", |_, clear| *clear = Some("no-such-device".to_owned())),
            UplinkFault::ClearDevice,
            "no-such-device",
        ),
        (tun("a-name-that-is-too-long", &[]), UplinkFault::System, "opening /dev/net/tun"),
    ] {
        let (found, text) = failure(&gateway.tun(A, uplink));
        assert_eq!(found, fault, "{text}");
        assert!(text.contains(words), "{text}");
        assert!(!output("ip link").contains("tun-a"), "nothing is left");
        let (tenant, status) = gateway.next_uplink();
        assert_eq!((tenant, failure(&status)), (A, (fault, text)));
        gateway.handle.remove_tenant(A);
    }
    let short = Uplink::Tun {
        name: "tun-a".to_owned(),
        netns: None,
        addresses: Vec::new(),
        mtu: 500,
        routes: true,
        clear_device: None,
    };
    let refused = gateway.handle.add_tenant(A, short);
    assert!(matches!(refused, Err(RouterError::Config { field: "uplink.tun.mtu", .. })));

    // Where there is no IPv6 it is the address that is at fault, and no lack of privilege.
    netns::run("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
    let (fault, text) = failure(&gateway.tun(A, tun("tun-a", &["10.50.0.1/24", "fd50::1/64"])));
    assert_eq!(fault, UplinkFault::Address);
    assert!(text.contains("fd50::1/64") && !output("ip link").contains("tun-a"), "{text}");
    gateway.handle.remove_tenant(A);

    // The tunnels work meanwhile, and what they were declared with has its routes later.
    failure(&gateway.tun(A, tun("taken", &["10.50.0.1/24"])));
    let mut first = gateway.connect(A, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    let mut second = gateway.connect(A, 2, 12, "0.0.0.0/0", "10.2.0.0/16");
    first.send(&common::udp("10.1.0.1", "10.2.0.1", 7, 8));
    assert_eq!(second.receive()[28..32], 7u32.to_be_bytes());
    first.send(&common::udp("10.1.0.1", "10.9.0.1", 7, 8));
    gateway.wait_for("drop_tun_away", 1);
    netns::run("ip link del taken");
    gateway.handle.retry_uplink(A);
    while gateway.next_uplink().1.state != UplinkState::Up {}
    assert_eq!(way("10.2.0.9"), "taken");
}

#[test]
fn no_two_tenants_share_a_device_or_an_address() {
    if !netns::inside("no_two_tenants_share_a_device_or_an_address") {
        return;
    }
    let gateway = Gateway::start(2);
    gateway.tun(A, tun("tun-a", &["10.50.0.1/24"]));
    assert_eq!(failure(&gateway.tun(B, tun("tun-a", &["10.60.0.1/24"]))).0, UplinkFault::NameTaken);
    gateway.handle.remove_tenant(B);
    let (fault, text) = failure(&gateway.tun(B, tun("tun-b", &["10.50.0.1/16"])));
    assert_eq!(fault, UplinkFault::Address);
    assert!(text.contains("tun-a"), "{text}");
    gateway.handle.remove_tenant(B);
    // The same name at once for the tenant itself: the old device goes first.
    for mtu in [1380, 1360, 1340] {
        gateway.handle.remove_tenant(A);
        let mut uplink = tun("tun-a", &["10.50.0.1/24"]);
        if let Uplink::Tun { mtu: place, .. } = &mut uplink {
            *place = mtu;
        }
        assert_eq!(gateway.tun(A, uplink).state, UplinkState::Up);
        assert!(output("ip link show tun-a").contains(&format!("mtu {mtu} ")));
    }
}

#[test]
fn a_device_that_goes_or_is_set_down_is_noticed_and_comes_back() {
    if !netns::inside("a_device_that_goes_or_is_set_down_is_noticed_and_comes_back") {
        return;
    }
    let mut gateway = Gateway::start(2);
    gateway.tun(A, tun("tun-a", &["10.50.0.1/24"]));
    let mut a = gateway.connect(A, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    assert_eq!(gateway.next_uplink().1.state, UplinkState::Up);
    netns::run("ip link del tun-a");
    assert!(matches!(gateway.next_uplink().1.state, UplinkState::Lost(_)));
    gateway.handle.retry_uplink(A);
    assert_eq!(gateway.next_uplink().1.state, UplinkState::Up);
    assert_eq!((way("10.1.0.9"), gateway.counter("uplink_lost")), ("tun-a".into(), 1));
    netns::run("ip link set tun-a down");
    // A packet for it finds out at once.
    a.send(&common::udp("10.1.0.9", "10.50.0.1", 1, 8));
    assert_eq!(gateway.next_uplink().1.state, UplinkState::Down);
    netns::run("ip link set tun-a up");
    assert_eq!(gateway.next_uplink().1.state, UplinkState::Up);
    assert_eq!((way("10.1.0.9"), way("10.50.0.9")), ("tun-a".into(), "tun-a".into()));
    ping("10.50.0.1", "10.1.0.9", &mut a);
}

#[test]
fn what_goes_with_a_short_time_down_comes_back_without_traffic() {
    if !netns::inside("what_goes_with_a_short_time_down_comes_back_without_traffic") {
        return;
    }
    let mut gateway = Gateway::start(1);
    let elsewhere = netns::Neighbour::new();
    let path = format!("/proc/{}/ns/net", elsewhere.id());
    gateway.tun(A, tun_in(&path, "tun-a", &["10.50.0.1/24", "fd50::1/64"]));
    declare(&gateway, A, 1, "10.1.0.0/16");
    // Nothing but addresses to tell by.
    let mut unrouted = tun_in(&path, "tun-b", &["fd60::1/64"]);
    if let Uplink::Tun { routes, .. } = &mut unrouted {
        *routes = false;
    }
    gateway.tun(B, unrouted);
    let seen = || {
        let seen =
            ["ip route", "ip -6 route", "ip -6 addr show scope global"].map(|list| elsewhere.output(list));
        let all = seen.concat();
        ["10.50.0.0/24 dev tun-a", "10.1.0.0/16 dev tun-a", "fd50::/64 dev tun-a", "fd50::1/64", "fd60::1/64"]
            .map(|line| all.contains(line))
    };
    assert_eq!(seen(), [true; 5]);
    // Sooner than anybody looks, mostly: it comes back all the same.
    for device in ["tun-a", "tun-b"] {
        elsewhere.run(&format!("ip link set {device} down; ip link set {device} up"));
    }
    let deadline = Instant::now() + common::PATIENCE;
    while seen() != [true; 5] {
        assert!(Instant::now() < deadline, "{:?}", seen());
    }

    elsewhere.run("ip link set tun-a down");
    while gateway.next_uplink().1.state != UplinkState::Down {}
    elsewhere.run("ip link set tun-a up");
    while gateway.next_uplink().1.state != UplinkState::Up {}
    // What was told may be of the time before, and the rest is to come.
    let deadline = Instant::now() + common::PATIENCE;
    while seen() != [true; 5] {
        assert!(Instant::now() < deadline, "{:?}", seen());
    }
}

#[test]
fn a_device_follows_the_name_of_its_namespace() {
    if !netns::inside("a_device_follows_the_name_of_its_namespace") {
        return;
    }
    let mut gateway = Gateway::start(1);
    let directory = tempfile::tempdir().unwrap();
    let name = directory.path().join("netns");
    let (old, new) = (netns::Neighbour::new(), netns::Neighbour::new());
    let point_to = |to: &netns::Neighbour| {
        std::os::unix::fs::symlink(format!("/proc/{}/ns/net", to.id()), &name).unwrap()
    };
    point_to(&old);
    gateway.tun(A, tun_in(name.to_str().unwrap(), "tun-a", &["10.50.0.1/24"]));
    declare(&gateway, A, 1, "10.1.0.0/16");
    assert_eq!(gateway.next_uplink().1.state, UplinkState::Up);
    // The name is gone: so is the device, and why is said.
    std::fs::remove_file(&name).unwrap();
    let lost = gateway.next_uplink().1.state.clone();
    assert!(matches!(&lost, UplinkState::Lost(reason) if reason.contains("deleted the network namespace")));
    assert!(!old.output("ip link").contains("tun-a"));
    assert_eq!(failure(&gateway.next_uplink().1).0, UplinkFault::Namespace);
    point_to(&new);
    gateway.handle.retry_uplink(A);
    while gateway.next_uplink().1.state != UplinkState::Up {}
    assert!(new.output("ip route").contains("10.1.0.0/16 dev tun-a"));
    // The name is another's, sooner than anybody looks, mostly.
    std::fs::remove_file(&name).unwrap();
    point_to(&old);
    assert!(matches!(gateway.next_uplink().1.state, UplinkState::Lost(_)));
    while gateway.next_uplink().1.state != UplinkState::Up {}
    assert!(old.output("ip route").contains("10.1.0.0/16 dev tun-a"));
    assert!(!new.output("ip link").contains("tun-a"));
}

#[test]
fn a_peer_inside_a_tunnel_is_named() {
    if !netns::inside("a_peer_inside_a_tunnel_is_named") {
        return;
    }
    netns::run("ip link add lan type veth peer name other; ip addr add 192.0.2.1/24 dev lan");
    netns::run("ip link set lan up; ip link set other up; ip route add default via 192.0.2.254");
    let gateway = Gateway::start(1);
    gateway.tun(A, tun("tun-a", &["10.50.0.1/24"]));
    let swallower = |address: &str| gateway.handle.swallower(address.parse().unwrap());
    assert_eq!(swallower("10.1.2.3"), None);
    declare(&gateway, A, 1, "10.1.0.0/16");
    assert_eq!((swallower("10.1.2.3").as_deref(), swallower("10.2.2.3")), (Some("tun-a"), None));
    let mut pair = gateway.spare_pair(A);
    pair.remote = "10.1.2.3:4500".parse().unwrap();
    let refused = gateway.handle.install(pair);
    assert!(matches!(refused, Err(RouterError::Swallowed { device, .. }) if device == "tun-a"));
    // Nor is one followed there that is up.
    let mut pair = gateway.spare_pair(A);
    let (spi, before) = (pair.inbound_spi, "192.0.2.2:4500".parse().unwrap());
    pair.remote = before;
    gateway.handle.install(pair).unwrap();
    gateway.handle.set_remote(spi, "10.1.2.3:4501".parse().unwrap());
    gateway.handle.set_path(spi, "10.1.2.3:4501".parse().unwrap(), router::Encapsulation::Udp);
    assert_eq!(gateway.stats_of(spi).remote, before);
    gateway.handle.set_remote(spi, "192.0.2.3:4501".parse().unwrap());
    assert_eq!(gateway.stats_of(spi).remote, "192.0.2.3:4501".parse().unwrap());
    let message = |remote: &str| router::IkeDatagram {
        local: gateway.ike(),
        remote: remote.parse().unwrap(),
        bytes: vec![0; 28],
    };
    let remote = [10, 1, 2, 3].into();
    let swallowed = router::Unsent::Swallowed { remote, device: "tun-a".to_owned() };
    assert_eq!(gateway.handle.send_ike(message("10.1.2.3:500")), Err(swallowed));
    assert_eq!((gateway.counter("drop_ike_swallowed"), gateway.counter("ike_sent")), (1, 0));
    // Somebody who makes a route for just that address knows what he does.
    netns::run("ip route add 10.1.2.3/32 via 192.0.2.254");
    assert_eq!(swallower("10.1.2.3"), None);
    gateway.handle.undeclare_tunnel(A, TunnelId(1));
    gateway.settle();
    assert_eq!(swallower("10.1.9.9"), None);
}
