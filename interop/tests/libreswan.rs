//! Libreswan takes what `culvert export` writes for it as it stands, and the tunnel comes up as far as IKE goes.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

use interop::daemon::{Daemon, Peer, tenant};
use interop::lab::Lab;
use interop::pluto::Pluto;
use interop::wait::until;

/// In quotes it would end at the second of its own, or lose the backslash.
const AWKWARD: &str = r#"interop "secret"\1"#;

/// The peer is exported, Libreswan loads that and nothing else, and both sides have one Child SA.
fn comes_up(peer: &Peer) {
    let Some(mut lab) = Lab::open() else { return };
    if !Pluto::is_here() {
        return;
    }
    let (left, right) = (lab.namespace("left"), lab.namespace("right"));
    lab.wire((&left, "vl", "10.99.0.1/24"), (&right, "vr", "10.99.0.2/24"));
    let culvertd = Daemon::start(&lab, &right);
    culvertd.apply(&[tenant("acme", "acme0", "10.2.0.1/32", None)]);
    culvertd.peer(peer);
    let said = culvertd.export(peer, "libreswan", "10.99.0.2");
    let mut pluto = Pluto::start(&lab, &left, &said.out);
    let seen = until(
        "one Child SA on both sides",
        || (pluto.children(), culvertd.status("acme/left"), pluto.log()),
        |(children, status, _)| {
            let theirs = status["children"].as_array().map_or(0, Vec::len);
            status["state"] == "ESTABLISHED" && (children.len(), theirs) == (1, 1)
        },
    );
    let (children, _, log) = seen;
    assert!(children[0].contains("\"left--c\""), "{children:?}");
    let version = if peer.ike.is_empty() { "IKEv2" } else { "IKEv1" };
    assert!(log.contains(&format!("\"left--c\": added {version} connection")), "{}\n{log}", said.text);
    // INITIAL-CONTACT is said to it too, which it does not heed as initiator.
    let lines = || log.lines().filter(|line| !line.contains("IPSEC_INITIAL_CONTACT"));
    for complaint in ["failed to add", "duplicate key", "while loading", "ignored"] {
        assert!(!lines().any(|line| line.contains(complaint)), "{}\n{log}", said.text);
    }
    // A group that is agreed on here is tried in a renewal only.
    let said = culvertd.cli(&["rekey", "acme/left"]);
    assert!(said.ok, "{}\n{}", said.text, pluto.log());
    assert!(pluto.alive());
}

#[test]
fn it_starts_the_tunnel_of_each_kind() {
    for peer in [Peer::usual(), Peer::ikev1("MAIN"), Peer::ikev1("AGGRESSIVE")] {
        comes_up(&peer);
        comes_up(&Peer { psk: AWKWARD.into(), ..peer });
    }
}

#[test]
fn it_answers_the_tunnel_of_each_kind() {
    for peer in [Peer::usual(), Peer::ikev1("MAIN"), Peer::ikev1("AGGRESSIVE")] {
        comes_up(&Peer { start: true, ..peer });
    }
}

/// Nothing but names is said of the tunnel: the proposals are those that each version has by default.
#[test]
fn it_takes_the_default_proposals() {
    for peer in [Peer::usual(), Peer::ikev1("MAIN"), Peer::ikev1("AGGRESSIVE")] {
        comes_up(&Peer { proposals: (String::new(), String::new()), ..peer });
    }
}

/// Of each kind of algorithm those that a list of its own was written for in a wrong way.
#[test]
fn it_takes_lists_of_algorithms() {
    let both = [
        ("aes256-aes128-sha256-sha1-modp2048-ecp256", "aes128gcm16-aes256gcm16-modp2048-modp3072"),
        ("aes128-sha512-modp1024-modp1536", "aes256-aes128-sha1-sha256-modp4096-nopfs"),
    ];
    for (ike, esp) in both {
        for peer in [Peer::usual(), Peer::ikev1("MAIN")] {
            comes_up(&Peer { proposals: (ike.into(), esp.into()), legacy: true, ..peer });
        }
    }
    let proposals =
        ("chacha20poly1305-aes256gcm16-prfsha384-prfsha256-x25519-ecp384", "chacha20poly1305-x25519");
    comes_up(&Peer { proposals: (proposals.0.into(), proposals.1.into()), ..Peer::usual() });
}
