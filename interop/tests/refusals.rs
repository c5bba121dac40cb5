//! What does not fit: the right Notify on the wire, and a line in the log that names the values that differ.
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

/// strongSwan starts and is refused with `notify`; culvertd's log has all of `words` in one line.
fn refused(connection: Connection, peer: Peer, notify: &str, words: &[&str]) {
    let Some(pair) = Pair::open() else { return };
    pair.charon.load(&[connection]);
    pair.culvertd.peer(&peer);
    let said = pair.charon.initiate("ct");
    assert!(!said.ok, "{}", said.text);
    assert!(pair.charon.log().contains(notify), "{notify}: {}", pair.charon.log());
    logged(&pair, words);
}

/// Culvert starts and is refused.
fn refused_us(connection: Connection, peer: Peer, words: &[&str]) {
    let Some(pair) = Pair::open() else { return };
    pair.charon.load(&[connection]);
    pair.culvertd.peer(&Peer { start: true, ..peer });
    logged(&pair, words);
    let error = || pair.culvertd.status("acme/left")["lastError"].as_str().unwrap_or_default().to_owned();
    until("the status says why", error, |e| words.iter().all(|w| e.contains(w)));
}

fn logged(pair: &Pair, words: &[&str]) {
    let has = |log: &String| log.lines().any(|line| words.iter().all(|word| line.contains(word)));
    until("the log names the values", || pair.culvertd.log(), has);
}

fn wrong_key() -> Connection {
    Connection { psk: "another".into(), ..Connection::usual() }
}

fn other_ike() -> Connection {
    Connection { proposals: ("aes256-sha512-modp2048".into(), "aes128gcm16".into()), ..Connection::usual() }
}

fn other_esp() -> Connection {
    let ike = Connection::usual().proposals.0;
    Connection { proposals: (ike, "aes256-sha256".into()), ..Connection::usual() }
}

fn other_selector() -> Connection {
    Connection { selectors: ("10.1.0.1/32".into(), "10.77.0.0/24".into()), ..Connection::usual() }
}

#[test]
fn a_wrong_key() {
    refused(wrong_key(), Peer::usual(), "AUTHENTICATION_FAILED", &["left.example", "pre-shared keys differ"]);
}

#[test]
fn no_common_ike_proposal() {
    let words = ["aes256-sha512-prfsha512-modp2048", "aes128gcm16-prfsha256-x25519"];
    let offered = ["aes256", "modp2048", words[1]];
    refused(other_ike(), Peer::usual(), "NO_PROPOSAL_CHOSEN", &offered);
}

#[test]
fn no_common_esp_proposal() {
    refused(other_esp(), Peer::usual(), "NO_PROPOSAL_CHOSEN", &["aes256-sha256", "aes128gcm16"]);
}

#[test]
fn no_common_selectors() {
    refused(other_selector(), Peer::usual(), "TS_UNACCEPTABLE", &["10.77.0.0/24", "10.2.0.1/32"]);
}

#[test]
fn an_unknown_identity() {
    let mut connection = Connection::usual();
    connection.identities.0 = "stranger.example".into();
    refused(connection, Peer::usual(), "AUTHENTICATION_FAILED", &["stranger.example"]);
}

#[test]
fn our_key_is_wrong() {
    refused_us(wrong_key(), Peer::usual(), &["AUTHENTICATION_FAILED", "right.example"]);
}

#[test]
fn our_ike_proposal_is_refused() {
    refused_us(other_ike(), Peer::usual(), &["NO_PROPOSAL_CHOSEN", "aes128gcm16-prfsha256-x25519"]);
}

#[test]
fn our_esp_proposal_is_refused() {
    refused_us(other_esp(), Peer::usual(), &["NO_PROPOSAL_CHOSEN", "aes128gcm16"]);
}

#[test]
fn our_selectors_are_refused() {
    refused_us(other_selector(), Peer::usual(), &["TS_UNACCEPTABLE", "10.2.0.1/32"]);
}
