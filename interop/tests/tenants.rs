//! Two tenants with the same subnets and TUN devices in namespaces of their own: nothing crosses.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

use interop::charon::{Charon, Connection};
use interop::command::run;
use interop::daemon::{Daemon, Peer, tenant};
use interop::lab::Lab;
use interop::traffic::{ping, until_ping};
use interop::wait::until;

#[test]
fn two_tenants_with_the_same_subnets_do_not_meet() {
    let Some(mut lab) = Lab::open() else { return };
    let right = lab.namespace("right");
    let culvertd = Daemon::start(&lab, &right);
    let mut sites = Vec::new();
    for (n, name) in [(1, "acme"), (2, "globex")] {
        let (left, inside) = (lab.namespace(&format!("left{n}")), lab.namespace(&format!("in{n}")));
        let (device, peer) = (format!("vl{n}"), format!("vr{n}"));
        let (ours, theirs) = (format!("10.99.{n}.1"), format!("10.99.{n}.2"));
        lab.wire((&left, &device, &format!("{ours}/24")), (&right, &peer, &format!("{theirs}/24")));
        lab.protect(&left, "10.1.0.1/32");
        culvertd.apply(&[tenant(name, "tun0", "10.2.0.1/32", Some(&inside))]);
        let identity = format!("left.{name}.example");
        culvertd.peer(&Peer {
            name: format!("{name}/left"),
            identities: ("right.example".into(), identity.clone()),
            address: ours.clone(),
            psk: format!("key-of-{name}"),
            ..Peer::usual()
        });
        let charon = Charon::start(&lab, &left);
        charon.load(&[Connection {
            addresses: (ours, theirs),
            identities: (identity, "right.example".into()),
            psk: format!("key-of-{name}"),
            ..Connection::usual()
        }]);
        let said = charon.initiate("ct");
        assert!(said.ok, "{}\n{}", said.text, culvertd.log());
        until_ping(&left, "10.1.0.1", "10.2.0.1");
        sites.push((charon, left, inside));
    }
    let received = |namespace: &str| -> u64 {
        let text = run("ip", &["-n", namespace, "-s", "-j", "link", "show", "tun0"]).text;
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        json[0]["stats64"]["rx"]["packets"].as_u64().unwrap()
    };
    for (from, other) in [(0, 1), (1, 0)] {
        let before = (received(&sites[from].2), received(&sites[other].2));
        assert_eq!(ping(&sites[from].1, "10.1.0.1", "10.2.0.1", 20).received, 20);
        let after = (received(&sites[from].2), received(&sites[other].2));
        assert_eq!(
            (after.0 - before.0, after.1 - before.1),
            (20, 0),
            "all to the own tenant, none to the other"
        );
    }
}

/// The gateway offers what another tenant's peer allows first, and what its own allows after it.
#[test]
fn a_peer_that_may_use_one_suite_alone_comes_up_beside_one_that_may_not() {
    let Some(mut lab) = Lab::open() else { return };
    let (left, right, inside) = (lab.namespace("left"), lab.namespace("right"), lab.namespace("inside"));
    lab.wire((&left, "vl", "10.99.0.1/24"), (&right, "vr", "10.99.0.2/24"));
    lab.protect(&left, "10.1.0.1/32");
    let culvertd = Daemon::start(&lab, &right);
    culvertd.apply(&[
        tenant("acme", "acme0", "10.2.0.1/32", None),
        tenant("globex", "globex0", "10.2.0.1/32", Some(&inside)),
    ]);
    let (strict, lax) = ("aes256gcm16-prfsha384-ecp384", "aes128gcm16-prfsha256-x25519");
    culvertd.peer(&Peer {
        name: "globex/other".into(),
        identities: ("right.example".into(), "other.example".into()),
        address: String::new(),
        proposals: (lax.into(), "aes128gcm16".into()),
        ..Peer::usual()
    });
    culvertd.peer(&Peer {
        address: String::new(),
        proposals: (strict.into(), "aes128gcm16".into()),
        ..Peer::usual()
    });
    let charon = Charon::start(&lab, &left);
    let proposals = (format!("{lax},{strict}"), "aes128gcm16".into());
    charon.load(&[Connection { proposals, ..Connection::usual() }]);
    let said = charon.initiate("ct");
    assert!(said.ok, "{}\n{}", said.text, culvertd.log());
    until(
        "it has gone over to what it may use",
        || culvertd.status("acme/left")["ikeProposal"].clone(),
        |proposal| proposal == strict,
    );
    until_ping(&left, "10.1.0.1", "10.2.0.1");
    assert_eq!(ping(&left, "10.1.0.1", "10.2.0.1", 20).received, 20);
    // Known now, it is answered with that at once.
    assert_eq!(culvertd.counter("ike_init_misjudged"), 1);
    charon.swanctl(&["--terminate", "--ike", "t"]);
    let said = charon.initiate("ct");
    assert!(said.ok, "{}\n{}", said.text, culvertd.log());
    until_ping(&left, "10.1.0.1", "10.2.0.1");
    assert_eq!(culvertd.counter("ike_init_misjudged"), 1, "{}", culvertd.log());
}
