//! IPv4 in IPv6 and IPv6 in IPv4, with strongSwan in both roles.
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

struct Family {
    outer: (&'static str, &'static str),
    inner: (&'static str, &'static str),
    prefixes: (&'static str, &'static str),
}

fn run(family: &Family, culvert_starts: bool) {
    let Some(mut lab) = Lab::open() else { return };
    let (left, right) = (lab.namespace("left"), lab.namespace("right"));
    let (outer, inner) = (family.prefixes.0, family.prefixes.1);
    lab.wire(
        (&left, "vl", &format!("{}/{outer}", family.outer.0)),
        (&right, "vr", &format!("{}/{outer}", family.outer.1)),
    );
    // Usable at once, without duplicate address detection.
    for (namespace, device, address) in [(&left, "vl", family.outer.0), (&right, "vr", family.outer.1)] {
        if address.contains(':') {
            must("ip", &["-n", namespace, "addr", "del", &format!("{address}/{outer}"), "dev", device]);
            must(
                "ip",
                &["-n", namespace, "addr", "add", &format!("{address}/{outer}"), "dev", device, "nodad"],
            );
        }
    }
    lab.protect(&left, &format!("{}/{inner}", family.inner.0));
    let charon = Charon::start(&lab, &left);
    let culvertd = Daemon::start(&lab, &right);
    culvertd.apply(&[tenant("acme", "acme0", &format!("{}/{inner}", family.inner.1), None)]);
    let selectors = |address: &str| format!("{address}/{inner}");
    charon.load(&[Connection {
        addresses: (family.outer.0.into(), family.outer.1.into()),
        selectors: (selectors(family.inner.0), selectors(family.inner.1)),
        ..Connection::usual()
    }]);
    culvertd.peer(&Peer {
        address: format!("\"{}\"", family.outer.0),
        subnets: (selectors(family.inner.1), selectors(family.inner.0)),
        start: culvert_starts,
        ..Peer::usual()
    });
    if !culvert_starts {
        let said = charon.initiate("ct");
        assert!(said.ok, "{}\n{}", said.text, culvertd.log());
    }
    until_ping(&left, family.inner.0, family.inner.1);
    for command in [["rekey", "acme/left"].as_slice(), &["rekey", "--ike", "acme/left"]] {
        assert!(culvertd.cli(command).ok);
    }
    assert_eq!(ping(&left, family.inner.0, family.inner.1, 5).received, 5);
}

#[test]
fn ipv4_in_ipv6() {
    let family =
        Family { outer: ("fd99::1", "fd99::2"), inner: ("10.1.0.1", "10.2.0.1"), prefixes: ("64", "32") };
    run(&family, false);
    run(&family, true);
}

#[test]
fn ipv6_in_ipv4() {
    let family =
        Family { outer: ("10.99.0.1", "10.99.0.2"), inner: ("fd01::1", "fd02::1"), prefixes: ("24", "128") };
    run(&family, false);
    run(&family, true);
}

#[test]
fn ipv6_in_ipv6() {
    let family =
        Family { outer: ("fd99::1", "fd99::2"), inner: ("fd01::1", "fd02::1"), prefixes: ("64", "128") };
    run(&family, false);
}
