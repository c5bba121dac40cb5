//! A NAT in between, strongSwan behind it.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

use interop::charon::{Charon, Connection};
use interop::command::must;
use interop::daemon::{Daemon, Peer, tenant};
use interop::lab::Lab;
use interop::traffic::{ping, until_ping};
use interop::wait::until;

struct Site {
    left: Vec<(Charon, String)>,
    culvertd: Daemon,
    nat: String,
    _lab: Lab,
}

/// `count` strongSwans behind one NAT, culvertd before it.
fn site(count: u8) -> Option<Site> {
    site_of(count, "", &Connection::usual(), &Peer::usual())
}

/// The same with other connections and peers than usual, each with a key of its own.
fn site_of(count: u8, options: &str, usual: &Connection, peer: &Peer) -> Option<Site> {
    let mut lab = Lab::open()?;
    let (nat, right) = (lab.namespace("nat"), lab.namespace("right"));
    lab.wire((&nat, "vn", "10.99.0.1/24"), (&right, "vr", "10.99.0.2/24"));
    must("ip", &["netns", "exec", &nat, "sysctl", "-qw", "net.ipv4.ip_forward=1"]);
    for rule in [
        "add table ip n",
        "add chain ip n post { type nat hook postrouting priority 100 ; }",
        "add rule ip n post oifname vn masquerade fully-random",
    ] {
        must("ip", &["netns", "exec", &nat, "nft", rule]);
    }
    let culvertd = Daemon::start(&lab, &right);
    culvertd.apply(&[tenant("acme", "acme0", "10.2.0.1/32", None)]);
    let mut left = Vec::new();
    for n in 1..=count {
        let inside = lab.namespace(&format!("left{n}"));
        let (device, outer) = (format!("vi{n}"), format!("vo{n}"));
        let (address, gateway) = (format!("192.168.{n}.2"), format!("192.168.{n}.1"));
        lab.wire((&inside, &device, &format!("{address}/24")), (&nat, &outer, &format!("{gateway}/24")));
        must("ip", &["-n", &inside, "route", "add", "default", "via", &gateway]);
        let protected = format!("10.1.0.{n}");
        lab.protect(&inside, &format!("{protected}/32"));
        let charon = Charon::start_with(&lab, &inside, options);
        let identity = format!("left{n}.example");
        charon.load(&[Connection {
            addresses: (address, "10.99.0.2".into()),
            identities: (identity.clone(), "right.example".into()),
            selectors: (format!("{protected}/32"), "10.2.0.1/32".into()),
            psk: format!("key-of-{n}"),
            ..usual.clone()
        }]);
        culvertd.peer(&Peer {
            name: format!("acme/left{n}"),
            identities: ("right.example".into(), identity),
            address: String::new(),
            subnets: ("10.2.0.1/32".into(), format!("{protected}/32")),
            psk: format!("key-of-{n}"),
            ..peer.clone()
        });
        let said = charon.initiate("ct");
        assert!(said.ok, "{}\n{}", said.text, culvertd.log());
        until_ping(&inside, &protected, "10.2.0.1");
        left.push((charon, inside));
    }
    Some(Site { left, culvertd, nat, _lab: lab })
}

#[test]
fn several_peers_behind_one_nat_rekey_from_either_side() {
    let Some(site) = site(2) else { return };
    rekey_from_either_side(&site);
}

/// By IKEv1 the address tells nobody apart; in main mode the keys do, in aggressive mode the identities.
#[test]
fn several_peers_behind_one_nat_by_ikev1() {
    let aggressive = "i_dont_care_about_security_and_use_aggressive_mode_psk = yes";
    for (mode, options) in [("MAIN", "aggressive = no"), ("AGGRESSIVE", "aggressive = yes")] {
        let connection = Connection { options: options.into(), ..Connection::ikev1() };
        let Some(site) = site_of(2, aggressive, &connection, &Peer::ikev1(mode)) else { return };
        rekey_from_either_side(&site);
    }
}

fn rekey_from_either_side(site: &Site) {
    for (n, (charon, inside)) in (1..).zip(&site.left) {
        let peer = format!("acme/left{n}");
        let remote = site.culvertd.status(&peer)["remoteAddress"].clone();
        assert!(
            remote.as_str().is_some_and(|r| r.starts_with("10.99.0.1:") && !r.ends_with(":4500")),
            "{remote}"
        );
        for command in [["--rekey", "--child", "ct"], ["--rekey", "--ike", "t"]] {
            assert!(charon.swanctl(&command).ok);
        }
        for command in [vec!["rekey", &peer], vec!["rekey", "--ike", &peer]] {
            let said = site.culvertd.cli(&command);
            assert!(said.ok, "{}", said.text);
        }
        until_ping(inside, &format!("10.1.0.{n}"), "10.2.0.1");
    }
}

/// The NAT forgets its mapping: the next packet comes from another port, and Culvert follows.
#[test]
fn a_new_mapping_is_followed() {
    let Some(site) = site(1) else { return };
    let remote = || site.culvertd.status("acme/left1")["remoteAddress"].clone();
    let before = remote();
    // A fresh ruleset with other ports, and no memory of the old ones.
    for rule in
        ["flush chain ip n post", "add rule ip n post oifname vn masquerade to :20000-20100 fully-random"]
    {
        let rule = if rule.starts_with("add") {
            "add rule ip n post oifname vn udp dport 4500 masquerade to :20000-20100 fully-random"
        } else {
            rule
        };
        must("ip", &["netns", "exec", &site.nat, "nft", rule]);
    }
    forget_mappings(&site.nat);
    // The kernel forgets in its own time, and only a packet tells of the new mapping: so one goes with every look.
    let look = || {
        ping(&site.left[0].1, "10.1.0.1", "10.2.0.1", 1);
        remote()
    };
    let after = until("the new address is taken", look, |r| *r != before);
    assert!(after.as_str().is_some_and(|r| r.starts_with("10.99.0.1:20")), "{before} then {after}");
    until_ping(&site.left[0].1, "10.1.0.1", "10.2.0.1");
}

/// Connection tracking entries go when the interface's address does.
fn forget_mappings(nat: &str) {
    must("ip", &["-n", nat, "addr", "del", "10.99.0.1/24", "dev", "vn"]);
    must("ip", &["-n", nat, "addr", "add", "10.99.0.1/24", "dev", "vn"]);
}
