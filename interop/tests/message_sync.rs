//! strongSwan as a peer that knows of clusters (RFC 6311): what both say of it in IKE_AUTH, whoever begins.
//!
//! That is as far as it goes between the two: strongSwan answers a synchronization of Message IDs and begins none, and so does Culvert. Where
//! strongSwan answers IKE_AUTH it says nothing of it, though it knows the notifies: then nothing is agreed on.
#![allow(clippy::panic, missing_docs, unused_crate_dependencies)]

mod common;

use common::{LEFT, Pair, RIGHT};
use interop::traffic::Flood;

/// How strongSwan's log names the two notifies.
const MESSAGE_IDS: &str = "N(MSG_ID_SYN_SUP)";
const REPLAY_COUNTERS: &str = "N(RPL_CTR_SYN_SUP)";

/// The line about an IKE_AUTH that strongSwan has sent (`generating`) or got (`parsed`).
fn line(log: &str, what: &str) -> String {
    log.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{what} in {log}")).to_owned()
}

/// Both IKE SAs of the connection work: as it was negotiated, and rekeyed.
fn assert_works(pair: &Pair) {
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    for _ in 0..2 {
        let said = pair.charon.swanctl(&["--rekey", "--ike", "t"]);
        assert!(said.ok, "{}", said.text);
        let said = pair.culvertd.cli(&["rekey", "acme/left"]);
        assert!(said.ok, "{}", said.text);
    }
    pair.settled();
    let pings = flood.stop();
    assert_eq!(pings.sent, pings.received, "{pings:?}");
    assert_eq!(pair.culvertd.counter("ike_message_id_sync"), 0);
}

#[test]
fn strongswan_offers_it_and_is_answered() {
    let Some(pair) = Pair::up() else { return };
    let log = pair.charon.log();
    assert!(line(&log, "generating IKE_AUTH request 1").contains(MESSAGE_IDS), "{log}");
    let answer = line(&log, "parsed IKE_AUTH response 1");
    // Only what it has offered.
    assert!(answer.contains(MESSAGE_IDS) && !answer.contains(REPLAY_COUNTERS), "{answer}");
    assert_works(&pair);
}

#[test]
fn culvert_offers_it_and_goes_on_without_where_it_is_not_answered() {
    let Some(pair) = Pair::culvert_starts() else { return };
    let log = pair.charon.log();
    let offer = line(&log, "parsed IKE_AUTH request 1");
    assert!(offer.contains(MESSAGE_IDS) && offer.contains(REPLAY_COUNTERS), "{offer}");
    assert!(!line(&log, "generating IKE_AUTH response 1").contains(MESSAGE_IDS), "it does now: {log}");
    assert_works(&pair);
}
