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
use interop::daemon::{Peer, tenant};
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
    broken(
        &pair,
        psk,
        &starting,
        "authentication",
        &["AUTHENTICATION_FAILED", "right.example", "pre-shared key"],
    );

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
    for (peer, kind) in [("acme/left", "nat"), ("acme/silent", "unreachable")] {
        let kinds = || {
            let answer = pair.culvertd.json(&["explain", peer]);
            answer["attempts"][0]["cause"]["kind"].as_str().unwrap_or_default().to_owned()
        };
        // 41 s of retransmission have to pass.
        within(Duration::from_secs(120), &format!("{peer} is explained"), kinds, |k| k == kind);
    }
}

/// One broken configuration as it stands, with all that is told in one cause: its kind, both values and what to change.
fn broken_text(pair: &Pair, text: &str, peer: &Peer, kind: &str, words: &[&str]) {
    pair.charon.load_text(text);
    pair.culvertd.peer(peer);
    if !peer.start {
        pair.charon.swanctl(&["--initiate", "--child", "ct", "--timeout", "5"]);
    }
    told(pair, kind, words);
    pair.charon.swanctl(&["--terminate", "--ike", "t", "--force", "--timeout", "1"]);
    assert!(pair.culvertd.cli(&["delete", "tenants/acme/peers/left"]).ok);
}

/// A cause of this kind is told, with these words in it or in its advice, and something to change on either side.
fn told(pair: &Pair, kind: &str, words: &[&str]) {
    let causes = || {
        let answer = pair.culvertd.json(&["explain", "acme/left"]);
        let attempts = answer["attempts"].as_array().cloned().unwrap_or_default();
        attempts.iter().map(|attempt| attempt["cause"].clone()).collect::<Vec<_>>()
    };
    let fits = |cause: &serde_json::Value| {
        let text = format!("{}\n{}", cause["summary"].as_str().unwrap_or_default(), cause["advice"]);
        cause["kind"] == kind && words.iter().chain(&["here: ", "there: "]).all(|w| text.contains(w))
    };
    until(&format!("{kind} with {words:?} is told"), causes, |causes| causes.iter().any(fits));
}

fn usual_text() -> String {
    interop::charon::swanctl_conf(&[Connection::usual()])
}

/// How the two prove who they are.
#[test]
fn certificates_and_eap() {
    let Some(pair) = Pair::open() else { return };
    pair.charon.certify("left.example");
    let ours = Peer::usual();
    let starting = Peer { start: true, ..Peer::usual() };
    let psk = "auth = psk\n id = left.example";
    let certificate = usual_text().replace(psk, "auth = pubkey\n certs = cert.pem\n id = left.example");
    let words = ["left.example", "certificate", "configured is a pre-shared key", "local.auth = psk"];
    broken_text(&pair, &certificate, &ours, "method", &words);
    broken_text(&pair, &certificate, &starting, "method", &words);

    let eap = usual_text().replace(psk, "auth = eap-md5\n id = left.example");
    let words = ["left.example", "EAP", "configured is a pre-shared key", "local.auth = psk"];
    broken_text(&pair, &eap, &ours, "method", &words);

    // It wants a certificate of us.
    let wants = usual_text()
        .replace("auth = psk\n id = right.example", "auth = pubkey\n cacerts = ca.pem\n id = right.example");
    let words =
        ["asked for a certificate", "we are right.example with a pre-shared key", "remote.auth = psk"];
    broken_text(&pair, &wants, &starting, "method", &words);
}

#[test]
fn another_identity_when_we_start() {
    let Some(pair) = Pair::open() else { return };
    let starting = Peer { start: true, ..Peer::usual() };
    for identities in [("other.example", "right.example"), ("left.example", "other.example")] {
        let identities = (identities.0.into(), identities.1.into());
        let text = interop::charon::swanctl_conf(&[Connection { identities, ..Connection::usual() }]);
        let words = [
            "AUTHENTICATION_FAILED",
            "we are right.example",
            "asked for left.example",
            "local.id",
            "remote.id",
        ];
        broken_text(&pair, &text, &starting, "authentication", &words);
    }
}

/// strongSwan has no connection for IKEv2 then, and refuses every proposal.
#[test]
fn ikev1_only_when_we_start() {
    let Some(pair) = Pair::open() else { return };
    let starting = Peer { start: true, ..Peer::usual() };
    let words = ["NO_PROPOSAL_CHOSEN", "aes128gcm16-prfsha256-x25519", "IKEv1", "version = 2"];
    broken_text(&pair, &usual_with_version_1(), &starting, "proposal", &words);
}

/// Transport mode on one side only. strongSwan's ESP in user space has none, so that it only asks for it.
#[test]
fn transport_mode_there_and_a_tunnel_here() {
    let Some(mut pair) = Pair::open() else { return };
    let inside = pair.lab.namespace("inside");
    pair.culvertd.apply(&[tenant("acme", "acme0", "10.99.0.2/32", Some(&inside))]);
    let (theirs, ours) = ("10.99.0.1/32".to_owned(), "10.99.0.2/32".to_owned());
    let connection = Connection { selectors: (theirs.clone(), ours.clone()), ..Connection::usual() };
    let text = interop::charon::swanctl_conf(&[connection]).replace("mode = tunnel", "mode = transport");
    let peer = Peer { subnets: (ours, theirs), ..Peer::usual() };
    let words = ["in transport mode, configured is tunnel mode", "mode: TRANSPORT", "mode = tunnel"];
    broken_text(&pair, &text, &peer, "mode", &words);
}

/// It shows with the first rekeying, for IKE_AUTH has no key exchange of its own for the Child SA.
#[test]
fn perfect_forward_secrecy_on_one_side_only() {
    let Some(pair) = Pair::open() else { return };
    let esp = |esp: &str| (Connection::usual().proposals.0, esp.to_owned());
    let (with, without) = ("aes128gcm16-x25519", "aes128gcm16");
    for (theirs, ours) in [(with, without), (without, with)] {
        let wanted = if theirs == with { "x25519" } else { "nopfs" };
        let configured = if ours == with { "x25519" } else { "nopfs" };
        pair.charon.load(&[Connection { proposals: esp(theirs), ..Connection::usual() }]);
        pair.culvertd.peer(&Peer { proposals: esp(ours), ..Peer::usual() });
        assert!(pair.charon.initiate("ct").ok, "{}", pair.culvertd.log());
        // Started by us: the peer says no more than NO_PROPOSAL_CHOSEN.
        pair.culvertd.cli(&["rekey", "acme/left", "--child", "c"]);
        told(
            &pair,
            "pfs",
            &["NO_PROPOSAL_CHOSEN", &format!("forward secrecy [{configured}]"), "espProposals"],
        );
        // Started by the peer.
        pair.charon.swanctl(&["--rekey", "--child", "ct"]);
        let words = [format!("wants [{wanted}]"), format!("configured is [{configured}]")];
        told(&pair, "pfs", &[&words[0], &words[1], "espProposals", "esp_proposals"]);
        pair.charon.swanctl(&["--terminate", "--ike", "t", "--force", "--timeout", "1"]);
        assert!(pair.culvertd.cli(&["delete", "tenants/acme/peers/left"]).ok);
    }
}

/// What the peer refuses is told as far as it says so: its own selectors it does not name.
#[test]
fn selectors_that_are_refused() {
    let Some(pair) = Pair::open() else { return };
    let selectors = ("10.1.0.1/32".to_owned(), "10.77.0.0/24".to_owned());
    let text = interop::charon::swanctl_conf(&[Connection { selectors, ..Connection::usual() }]);
    let starting = Peer { start: true, ..Peer::usual() };
    let words = ["TS_UNACCEPTABLE", "10.2.0.1/32", "10.1.0.1/32", "localSubnets", "remote_ts"];
    broken_text(&pair, &text, &starting, "selectors", &words);
    let words = ["10.77.0.0/24", "configured is 10.2.0.1/32 === 10.1.0.1/32", "localSubnets", "remote_ts"];
    broken_text(&pair, &text, &Peer::usual(), "selectors", &words);
}
