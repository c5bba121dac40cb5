//! Transport mode: two culvertd whose tenants' namespaces have the very addresses that ESP goes between, and strongSwan,
//! whose ESP in user space has tunnels only.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use common::Pair;
use interop::charon::{Connection, swanctl_conf};
use interop::command::{must, run};
use interop::daemon::{Daemon, Peer, tenant};
use interop::lab::Lab;
use interop::traffic::{Flood, iperf, ping, until_ping};
use interop::wait::until;

/// Two nodes, each with a tenant in a namespace of its own that has the node's address too.
struct Hosts {
    left: Daemon,
    right: Daemon,
    inside: (String, String),
    addresses: (&'static str, &'static str),
    // Dropped last.
    lab: Lab,
}

/// A tenant whose device takes packets larger than the path does.
fn wide(name: &str, device: &str, address: &str, netns: &str) -> String {
    tenant(name, device, address, Some(netns)).replace("    addresses", "    mtu: 9000\n    addresses")
}

impl Hosts {
    /// With further fields of the children.
    fn open(v6: bool, child: &[&str]) -> Option<Self> {
        let mut lab = Lab::open()?;
        let (left, right) = (lab.namespace("left"), lab.namespace("right"));
        let inside = (lab.namespace("inleft"), lab.namespace("inright"));
        lab.wire((&left, "vl", "10.99.0.1/24"), (&right, "vr", "10.99.0.2/24"));
        let (addresses, prefix) =
            if v6 { (("fd99::1", "fd99::2"), 128) } else { (("10.99.0.1", "10.99.0.2"), 32) };
        if v6 {
            for (namespace, device, address) in [(&left, "vl", addresses.0), (&right, "vr", addresses.1)] {
                let address = format!("{address}/64");
                must("ip", &["-n", namespace, "addr", "add", &address, "dev", device, "nodad"]);
            }
        }
        let daemons = (Daemon::start(&lab, &left), Daemon::start(&lab, &right));
        let host = |address: &str| format!("{address}/{prefix}");
        daemons.0.apply(&[wide("acme", "host0", &host(addresses.0), &inside.0)]);
        daemons.1.apply(&[wide("acme", "host0", &host(addresses.1), &inside.1)]);
        let child: Vec<String> = ["mode: TRANSPORT"].iter().chain(child).map(ToString::to_string).collect();
        daemons.1.peer(&Peer {
            address: format!("\"{}\"", addresses.0),
            subnets: (host(addresses.1), host(addresses.0)),
            child: child.clone(),
            ..Peer::usual()
        });
        daemons.0.peer(&Peer {
            name: "acme/right".into(),
            identities: ("left.example".into(), "right.example".into()),
            address: format!("\"{}\"", addresses.1),
            subnets: (host(addresses.0), host(addresses.1)),
            start: true,
            child,
            ..Peer::usual()
        });
        until_ping(&inside.0, addresses.0, addresses.1);
        let this = Self { left: daemons.0, right: daemons.1, inside, addresses, lab };
        for (daemon, peer) in [(&this.left, "acme/right"), (&this.right, "acme/left")] {
            assert_eq!(daemon.status(peer)["children"][0]["mode"], "TRANSPORT");
        }
        Some(this)
    }

    fn both_ways(&self) {
        let (a, b) = self.addresses;
        assert_eq!(ping(&self.inside.0, a, b, 5).received, 5);
        assert_eq!(ping(&self.inside.1, b, a, 5).received, 5);
    }

    /// Whether an answer comes to one packet of so many octets, with these options of ping.
    fn large(&self, options: &[&str], octets: &str) -> bool {
        let (from, to) = self.addresses;
        let start = ["netns", "exec", &self.inside.0, "ping", "-q", "-c", "1", "-W", "5", "-s", octets];
        run("ip", &[&start, options, &["-I", from, to]].concat()).ok
    }

    fn rekey_everything(&self) {
        for (daemon, peer) in [(&self.left, "acme/right"), (&self.right, "acme/left")] {
            for what in [["rekey", peer].as_slice(), &["rekey", "--ike", peer]] {
                let said = daemon.cli(what);
                assert!(said.ok, "{}", said.text);
            }
        }
    }
}

#[test]
fn hosts_talk_and_rekeying_loses_nothing() {
    let Some(hosts) = Hosts::open(false, &[]) else { return };
    hosts.both_ways();
    let flood = Flood::start(&hosts.inside.0, hosts.addresses.0, hosts.addresses.1);
    hosts.rekey_everything();
    hosts.rekey_everything();
    let pings = flood.stop();
    assert_eq!(pings.sent, pings.received, "{pings:?}\n{}", hosts.left.log());
    // Larger than the path: sealed whole, fragmented outside.
    assert!(hosts.large(&["-M", "dont"], "4000"), "{}", hosts.left.counted());
    assert!(hosts.left.counter("outer_fragmented") > 0 && hosts.right.counter("outer_fragmented") > 0);
    assert_eq!(hosts.left.counter("inner_fragmented"), 0);
    // TCP fits because its segments are made to.
    let (server, client) = ((&*hosts.inside.1, hosts.addresses.1), (&*hosts.inside.0, hosts.addresses.0));
    iperf(&hosts.lab, server, client, 200, false);
    iperf(&hosts.lab, server, client, 200, true);
    assert!(hosts.left.counter("mss_clamped") > 0);
    // What must not be fragmented is refused, and the host is told.
    assert!(!hosts.large(&["-M", "do"], "4000"));
    assert!(hosts.left.counter("drop_packet_too_big") > 0 && hosts.left.counter("icmp_sent") > 0);
    // It was all ESP by itself, and the command line says what it carried.
    let shown = hosts.left.cli(&["get", "sas"]).text;
    assert!(shown.contains("CHILD c (transport)"), "{shown}");
    let described = hosts.left.cli(&["describe", "tenants/acme/peers/right"]).text;
    assert!(described.contains("mode: TRANSPORT") && described.contains("transport"), "{described}");
    assert_eq!(hosts.left.counter("other_encapsulation"), 0);
}

#[test]
fn hosts_of_ipv6_talk_as_well() {
    let Some(hosts) = Hosts::open(true, &[]) else { return };
    hosts.both_ways();
    hosts.rekey_everything();
    hosts.both_ways();
    // Larger than the path: the host is told, and its fragments could not be sealed.
    assert!(!hosts.large(&[], "4000"));
    assert!(hosts.left.counter("drop_packet_too_big") > 0 && hosts.left.counter("icmp_sent") > 0);
}

/// With DF never set outside nobody is told of a small path, and hosts that send large datagrams need not know.
#[test]
fn without_df_large_packets_go_as_they_are() {
    let Some(hosts) = Hosts::open(false, &["esp: {dontFragment: UNSET, tfcPadding: 256}"]) else { return };
    assert!(hosts.large(&["-M", "do"], "4000"), "{}", hosts.left.counted());
    assert!(hosts.large(&[], "6000"), "{}", hosts.left.counted());
    assert_eq!(hosts.left.counter("icmp_sent") + hosts.left.counter("esp_outbound_transport_fragment"), 0);
}

/// The same mismatch from both sides, and neither has a tunnel with half of it.
#[test]
fn a_tunnel_is_no_transport() {
    let Some(hosts) = Hosts::open(false, &[]) else { return };
    let tunnel = |name: &str, ours: &str, theirs: &str, start| Peer {
        name: name.into(),
        address: theirs.into(),
        subnets: (format!("{ours}/32"), format!("{theirs}/32")),
        start,
        ..Peer::usual()
    };
    let (a, b) = hosts.addresses;
    // The responder has a tunnel child: it answers with a tunnel, which the initiator deletes.
    hosts.right.peer(&tunnel("acme/left", b, a, false));
    let kinds = |daemon: &Daemon, peer: &str| daemon.cli(&["explain", peer]).text;
    let text = until(
        "the initiator explains the mode",
        || kinds(&hosts.left, "acme/right"),
        |text| text.contains("in tunnel mode, configured is transport mode"),
    );
    assert!(text.contains("here: set mode: TUNNEL") && text.contains("mode = transport"), "{text}");
    // And the other way round: the responder refuses.
    let identities = ("left.example".into(), "right.example".into());
    hosts.right.peer(&Peer { child: vec!["mode: TRANSPORT".into()], ..tunnel("acme/left", b, a, false) });
    hosts.left.peer(&Peer { identities, ..tunnel("acme/right", a, b, true) });
    until(
        "the responder explains the mode",
        || kinds(&hosts.right, "acme/left"),
        |text| text.contains("in tunnel mode, configured is transport mode"),
    );
}

/// strongSwan with hosts as selectors, so that it asks for transport mode where it is told to.
fn between_hosts(options: &str) -> Connection {
    Connection {
        selectors: ("10.99.0.1/32".into(), "10.99.0.2/32".into()),
        child_options: options.into(),
        ..Connection::usual()
    }
}

fn in_a_namespace(pair: &mut Pair) {
    let inside = pair.lab.namespace("inside");
    pair.culvertd.apply(&[wide("acme", "acme0", "10.99.0.2/32", &inside)]);
}

#[test]
fn strongswan_asks_a_tunnel_child_for_transport() {
    let Some(mut pair) = Pair::open() else { return };
    in_a_namespace(&mut pair);
    let text = swanctl_conf(&[between_hosts("")]).replace("mode = tunnel", "mode = transport");
    pair.charon.load_text(&text);
    pair.culvertd.peer(&Peer { subnets: ("10.99.0.2/32".into(), "10.99.0.1/32".into()), ..Peer::usual() });
    pair.charon.initiate("ct");
    let log = pair.charon.log();
    let asked = log.lines().any(|line| line.contains("IKE_AUTH request") && line.contains("N(USE_TRANSP)"));
    let told = log.lines().any(|line| line.contains("IKE_AUTH response") && line.contains("N(USE_TRANSP)"));
    assert!(asked && !told, "{log}");
    // It takes the tunnel, but its ESP in user space has no way for one between the ends of IKE, and it deletes it again.
    let log = pair.culvertd.log();
    let installed = log.lines().find(|line| line.contains("IKE_SA established")).unwrap_or_default();
    assert!(
        installed.contains("10.99.0.2/32 === 10.99.0.1/32") && !installed.contains(" transport "),
        "{log}"
    );
}

#[test]
fn a_transport_child_and_a_tunnel_of_strongswan() {
    let Some(mut pair) = Pair::open() else { return };
    in_a_namespace(&mut pair);
    let peer = Peer {
        subnets: ("10.99.0.2/32".into(), "10.99.0.1/32".into()),
        child: vec!["mode: TRANSPORT".into()],
        start: true,
        ..Peer::usual()
    };
    // Its ESP in user space is always in UDP, for which it has a NAT found: no transport mode, and a clear word about it.
    pair.charon.load(&[between_hosts("")]);
    pair.culvertd.peer(&peer);
    let told = || pair.culvertd.cli(&["explain", "acme/left"]).text;
    let words = ["cause: mode", "no transport mode where ESP goes in UDP", "set mode: TUNNEL", "encap = yes"];
    until("the mode is explained", told, |text| words.iter().all(|word| text.contains(word)));
    assert_eq!(pair.culvertd.children("acme/left"), 0);
    // What strongSwan made of the request is taken away again.
    until("strongSwan has no Child SA", || pair.charon.installed(), |installed| *installed == 0);
}
