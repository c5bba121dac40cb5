//! `culvert explain` on broken configurations: it names the cause each time.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use std::time::Duration;

use common::Pair;
use interop::charon::Connection;
use interop::command::must;
use interop::daemon::Peer;
use interop::wait::{until, within};

/// The kinds of causes that are told, and the whole text for people.
fn explained(pair: &Pair) -> (Vec<String>, String) {
    let answer = pair.culvertd.json(&["explain", "acme/left"]);
    let attempts = answer["attempts"].as_array().cloned().unwrap_or_default();
    let kinds = attempts.iter().filter_map(|a| a["cause"]["kind"].as_str().map(str::to_owned)).collect();
    (kinds, pair.culvertd.cli(&["explain", "acme/left"]).text)
}

/// One broken configuration after the other between the same two; `kind` is told, and `words` stand in the text.
fn broken(pair: &Pair, connection: Connection, peer: &Peer, kind: &str, words: &[&str]) {
    pair.charon.load(&[connection]);
    pair.culvertd.peer(peer);
    if !peer.start {
        pair.charon.initiate("ct");
    }
    let (_, text) = until(
        &format!("{kind} is explained"),
        || explained(pair),
        |(kinds, text)| kinds.iter().any(|k| k == kind) && words.iter().all(|w| text.contains(w)),
    );
    assert!(text.lines().any(|l| l.trim_start().starts_with("- ")), "advice is given: {text}");
    pair.charon.swanctl(&["--terminate", "--ike", "t", "--force", "--timeout", "1"]);
    assert!(pair.culvertd.cli(&["delete", "tenants/acme/peers/left"]).ok);
}

#[test]
fn ten_broken_configurations() {
    let Some(pair) = Pair::open() else { return };
    let usual = Connection::usual;
    let ours = Peer::usual();
    let starting = Peer { start: true, ..Peer::usual() };

    let psk = Connection { psk: "another".into(), ..usual() };
    broken(&pair, psk.clone(), &ours, "psk", &["left.example", "keys differ"]);
    broken(&pair, psk, &starting, "psk", &["AUTHENTICATION_FAILED", "right.example"]);

    let mut identity = usual();
    identity.identities.0 = "stranger.example".into();
    broken(&pair, identity, &ours, "identity", &["stranger.example"]);

    let proposals = ("aes256-sha512-modp2048".to_owned(), "aes128gcm16".to_owned());
    let ike = Connection { proposals, ..usual() };
    broken(
        &pair,
        ike.clone(),
        &ours,
        "proposal",
        &["only the peer has", "modp2048", "only configured here", "x25519"],
    );
    broken(&pair, ike, &starting, "proposal", &["NO_PROPOSAL_CHOSEN", "aes128gcm16-prfsha256-x25519"]);

    let group = ("aes128gcm16-prfsha256-ecp384".to_owned(), "aes128gcm16".to_owned());
    broken(&pair, Connection { proposals: group, ..usual() }, &ours, "proposal", &["ecp384", "x25519"]);

    let esp = (usual().proposals.0, "aes256-sha256".to_owned());
    broken(
        &pair,
        Connection { proposals: esp, ..usual() },
        &ours,
        "proposal",
        &["only the peer has", "sha256"],
    );

    let selectors = ("10.1.0.1/32".to_owned(), "10.77.0.0/24".to_owned());
    let selectors = Connection { selectors, ..usual() };
    broken(&pair, selectors.clone(), &ours, "selectors", &["10.77.0.0/24", "10.2.0.1/32"]);
    broken(&pair, selectors, &starting, "selectors", &["TS_UNACCEPTABLE"]);

    let elsewhere = Peer { address: "10.99.0.77".into(), ..Peer::usual() };
    broken(&pair, usual(), &elsewhere, "address", &["10.99.0.1"]);
}

/// IKEv1 is another protocol: the text says so.
#[test]
fn the_wrong_version() {
    let Some(pair) = Pair::open() else { return };
    pair.culvertd.peer(&Peer::usual());
    pair.charon.load_text(&usual_with_version_1());
    pair.charon.swanctl(&["--initiate", "--child", "ct", "--timeout", "3"]);
    until("it is explained", || explained(&pair).0, |kinds| kinds.contains(&"version".to_owned()));
}

fn usual_with_version_1() -> String {
    interop::charon::swanctl_conf(&[Connection::usual()]).replace("version = 2", "version = 1")
}

/// A host without any IKE, and one whose UDP 4500 is blocked. Waits for every retransmission, so it takes a minute.
#[test]
fn silence_and_a_blocked_port() {
    let Some(pair) = Pair::open() else { return };
    pair.charon.load(&[Connection::usual()]);
    for rule in [
        "add table ip f",
        "add chain ip f in { type filter hook input priority 0 ; }",
        "add rule ip f in udp dport 4500 drop",
    ] {
        must("ip", &["netns", "exec", &pair.left, "nft", rule]);
    }
    pair.culvertd.peer(&Peer { start: true, ..Peer::usual() });
    let silent = Peer {
        name: "acme/silent".into(),
        address: "10.99.0.99".into(),
        identities: ("right.example".into(), "silent.example".into()),
        subnets: ("10.2.0.1/32".into(), "10.9.0.0/24".into()),
        start: true,
        ..Peer::usual()
    };
    pair.culvertd.peer(&silent);
    for (peer, kind) in [("acme/left", "nat"), ("acme/silent", "silent")] {
        let kinds = || {
            let answer = pair.culvertd.json(&["explain", peer]);
            answer["attempts"][0]["cause"]["kind"].as_str().unwrap_or_default().to_owned()
        };
        // 41 s of retransmission have to pass.
        within(Duration::from_secs(120), &format!("{peer} is explained"), kinds, |k| k == kind);
    }
}
