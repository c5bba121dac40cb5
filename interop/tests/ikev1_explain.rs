//! `culvert explain` where IKEv1 is spoken and something differs: it names the cause each time, with both sides' values.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use common::Pair;
use interop::charon::Connection;
use interop::daemon::Peer;
use interop::wait::until;

const AGGRESSIVE: &str = "i_dont_care_about_security_and_use_aggressive_mode_psk = yes";

/// What was told: kind, summary and advice of each attempt.
fn told(pair: &Pair) -> Vec<(String, String)> {
    let answer = pair.culvertd.json(&["explain", "acme/left"]);
    let attempts = answer["attempts"].as_array().cloned().unwrap_or_default();
    let text = |cause: &serde_json::Value| {
        let summary = cause["summary"].as_str().unwrap_or_default();
        (cause["kind"].as_str().unwrap_or_default().to_owned(), format!("{summary}\n{}", cause["advice"]))
    };
    attempts.iter().map(|attempt| text(&attempt["cause"])).collect()
}

/// One broken configuration; whoever starts, a cause of this kind is told with these words in it.
fn broken(pair: &Pair, connection: &Connection, peer: &Peer, kind: &str, words: &[&str]) {
    pair.charon.load(std::slice::from_ref(connection));
    pair.culvertd.peer(peer);
    if !peer.start {
        pair.charon.swanctl(&["--initiate", "--child", "ct", "--timeout", "4"]);
    }
    until(
        &format!("{kind} with {words:?} is told"),
        || told(pair),
        |causes| causes.iter().any(|(k, text)| k == kind && words.iter().all(|word| text.contains(word))),
    );
    pair.charon.swanctl(&["--terminate", "--ike", "t", "--force", "--timeout", "1"]);
    assert!(pair.culvertd.cli(&["delete", "tenants/acme/peers/left"]).ok);
}

fn usual() -> Connection {
    Connection::ikev1()
}

fn theirs(ike: &str, esp: &str) -> Connection {
    Connection { proposals: (ike.into(), esp.into()), ..usual() }
}

const IKE: &str = "aes256-sha256-modp2048";
const ESP: &str = "aes128gcm16";

#[test]
fn phase_1() {
    let Some(pair) = Pair::open_with(AGGRESSIVE) else { return };
    let ours = Peer::ikev1("MAIN");
    let starting = Peer { start: true, ..ours.clone() };

    let psk = Connection { psk: "another".into(), ..usual() };
    broken(&pair, &psk, &ours, "psk", &["10.99.0.1", "pre-shared keys differ"]);
    broken(&pair, &psk, &starting, "psk", &["pre-shared key"]);
    let options = "aggressive = yes".to_owned();
    let aggressive = Connection { options, ..psk };
    broken(&pair, &aggressive, &Peer::ikev1("AGGRESSIVE"), "psk", &["left.example", "pre-shared key"]);
    let starting_aggressive = Peer { start: true, ..Peer::ikev1("AGGRESSIVE") };
    broken(&pair, &aggressive, &starting_aggressive, "psk", &["left.example", "pre-shared key"]);

    // Of another name, and of another type.
    for id in ["stranger.example", "left@example", "10.99.0.1"] {
        let mut identity = usual();
        identity.identities.0 = id.into();
        broken(&pair, &identity, &ours, "identity", &[id]);
        broken(&pair, &identity, &starting, "identity", &[id, "left.example"]);
    }

    let cipher = theirs("aes128-sha256-modp2048", ESP);
    broken(&pair, &cipher, &ours, "proposal", &["only the peer has", "aes128", "aes256"]);
    broken(&pair, &cipher, &starting, "proposal", &["NO_PROPOSAL_CHOSEN", IKE]);
    let group = theirs("aes256-sha256-ecp256", ESP);
    broken(&pair, &group, &ours, "proposal", &["ecp256", "modp2048"]);
    broken(&pair, &group, &starting, "proposal", &["NO_PROPOSAL_CHOSEN", "group"]);
    let hash = theirs("aes256-sha512-modp2048", ESP);
    broken(&pair, &hash, &ours, "proposal", &["sha512", "sha256"]);
    let legacy = theirs("3des-sha1-modp1024", ESP);
    broken(&pair, &legacy, &ours, "proposal", &["3des", "legacy: true"]);

    let elsewhere = Peer { address: "10.99.0.77".into(), ..ours };
    broken(&pair, &usual(), &elsewhere, "address", &["10.99.0.1"]);
}

#[test]
fn phase_2() {
    let Some(pair) = Pair::open_with(AGGRESSIVE) else { return };
    let ours = Peer::ikev1("MAIN");
    let starting = Peer { start: true, ..ours.clone() };

    let esp = theirs(IKE, "aes256-sha256");
    broken(&pair, &esp, &ours, "proposal", &["sha256", "aes128gcm16"]);
    broken(&pair, &esp, &starting, "proposal", &["NO_PROPOSAL_CHOSEN", "aes128gcm16"]);

    let pfs = theirs(IKE, "aes128gcm16-modp2048");
    broken(&pair, &pfs, &ours, "pfs", &["modp2048", "nopfs"]);
    let with_group =
        |start| Peer { proposals: (IKE.into(), "aes128gcm16-modp2048".into()), start, ..Peer::ikev1("MAIN") };
    broken(&pair, &usual(), &with_group(false), "pfs", &["modp2048", "nopfs"]);
    broken(
        &pair,
        &usual(),
        &with_group(true),
        "proposal",
        &["NO_PROPOSAL_CHOSEN", "perfect forward secrecy"],
    );

    let selectors = ("10.1.0.1/32".to_owned(), "10.77.0.0/24".to_owned());
    let proxy = Connection { selectors, ..usual() };
    broken(&pair, &proxy, &ours, "selectors", &["10.77.0.0/24", "10.2.0.1"]);
    broken(&pair, &proxy, &starting, "selectors", &["INVALID_ID_INFORMATION", "10.2.0.1"]);
}

#[test]
fn mode_and_version() {
    let Some(pair) = Pair::open_with(AGGRESSIVE) else { return };
    let aggressive = Connection { options: "aggressive = yes".into(), ..usual() };
    broken(
        &pair,
        &aggressive,
        &Peer::ikev1("MAIN"),
        "mode",
        &["Aggressive Mode", "Main Mode", "ike.v1.mode"],
    );
    broken(
        &pair,
        &usual(),
        &Peer::ikev1("AGGRESSIVE"),
        "mode",
        &["Aggressive Mode", "Main Mode", "ike.v1.mode"],
    );
    for (theirs, starting) in [("yes", "MAIN"), ("no", "AGGRESSIVE")] {
        let connection = Connection { options: format!("aggressive = {theirs}"), ..usual() };
        let peer = Peer { start: true, ..Peer::ikev1(starting) };
        broken(&pair, &connection, &peer, "authentication", &["ike.v1.mode", "aggressive ="]);
    }

    broken(&pair, &Connection::usual(), &Peer::ikev1("MAIN"), "version", &["IKEv2", "IKEv1", "ike.version"]);
    broken(&pair, &usual(), &Peer::usual(), "version", &["IKEv1", "IKEv2", "ike.version"]);
    let we_start = Peer { start: true, ..Peer::ikev1("MAIN") };
    broken(&pair, &Connection::usual(), &we_start, "proposal", &["version"]);
    broken(&pair, &usual(), &Peer { start: true, ..Peer::usual() }, "proposal", &["version"]);
}
