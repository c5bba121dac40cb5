//! strongSwan takes what `culvert export` writes for it as it stands, and the tunnel carries traffic.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use common::{LEFT, Pair, RIGHT};
use interop::daemon::Peer;
use interop::traffic::ping;

/// What strongSwan answers Aggressive Mode with a key for, and what an export notes where it has to.
const AGGRESSIVE: &str = "i_dont_care_about_security_and_use_aggressive_mode_psk = yes";

/// In quotes it would end at the second of its own, or lose the backslash.
const AWKWARD: &str = r#"interop "secret"\1"#;

/// The peer is exported, strongSwan loads that and nothing else, and packets go both ways.
fn carries(pair: &Pair, peer: &Peer) {
    pair.culvertd.peer(peer);
    let said = pair.culvertd.export(peer, "strongswan", "10.99.0.2");
    let noted = said.text.contains(AGGRESSIVE);
    let aggressive = said.out.contains("aggressive = yes");
    assert_eq!(noted, aggressive && peer.start, "{}", said.text);
    pair.charon.load_text(&said.out);
    pair.flows();
    pair.settled();
    assert_eq!(ping(&pair.left, LEFT, RIGHT, 5).received, 5, "{}", said.text);
    assert_eq!(ping(&pair.right, RIGHT, LEFT, 5).received, 5, "{}", said.text);
    let status = pair.culvertd.status("acme/left");
    assert_eq!(status["state"], "ESTABLISHED", "{status:#}");
    let sas = pair.charon.sas();
    let (version, other) = if peer.ike.is_empty() { ("IKEv2", "IKEv1") } else { ("IKEv1", "IKEv2") };
    assert!(sas.contains(version) && !sas.contains(other), "{sas}");
}

#[test]
fn it_starts_the_tunnel_of_each_kind() {
    for peer in [Peer::usual(), Peer::ikev1("MAIN"), Peer::ikev1("AGGRESSIVE")] {
        for psk in ["interop-secret", AWKWARD] {
            let Some(pair) = Pair::open() else { return };
            carries(&pair, &Peer { psk: psk.into(), ..peer.clone() });
        }
    }
}

#[test]
fn it_answers_the_tunnel_of_each_kind() {
    for peer in [Peer::usual(), Peer::ikev1("MAIN"), Peer::ikev1("AGGRESSIVE")] {
        let Some(pair) = Pair::open_with(AGGRESSIVE) else { return };
        carries(&pair, &Peer { start: true, ..peer });
    }
}

/// Nothing but names is said of the tunnel: the proposals are those that each version has by default.
#[test]
fn it_takes_the_default_proposals() {
    for peer in [Peer::usual(), Peer::ikev1("MAIN")] {
        let Some(pair) = Pair::open() else { return };
        carries(&pair, &Peer { proposals: (String::new(), String::new()), ..peer });
    }
}
