//! strongSwan authenticates anew by a new IKE SA, instead of rekeying the old one (RFC 7296 2.8.3).
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use std::time::Duration;

use common::two::Two;
use common::{LEFT, Pair, RIGHT};
use interop::charon::Connection;
use interop::daemon::{Daemon, Peer};
use interop::traffic::Flood;
use interop::wait::{until, within};

fn again_and_again() -> Connection {
    let options = "reauth_time = 3s\n rekey_time = 0s\n over_time = 30s\n rand_time = 0s".into();
    Connection { options, ..Connection::usual() }
}

/// Waits until the tunnel had two more IKE SAs.
fn two_more(pair: &Pair) {
    let spis = || pair.culvertd.status("acme/left")["ikeSpis"].as_str().unwrap_or_default().to_owned();
    for _ in 0..2 {
        let before = spis();
        until("another IKE SA is there", spis, |s| !s.is_empty() && *s != before);
    }
}

/// Echoes that strongSwan may lose when it authenticates anew: libipsec opens ESP from a queue of its own, and drops what
/// waits there when the answer to its DELETE overtakes it. Both SAs are there for the rest of the time.
///
/// Those of fifty milliseconds: as long as that queue may wait for its turn. Without both SAs it would be a multiple.
const OVERTAKEN: u32 = 50;

/// The new IKE SA is made before the old one goes.
#[test]
fn make_before_break_stays_up() {
    let Some(pair) = Pair::open_with("make_before_break = yes") else { return };
    pair.charon.load(&[again_and_again()]);
    pair.culvertd.peer(&Peer::usual());
    pair.initiate();
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    two_more(&pair);
    let pings = flood.stop();
    let log = || format!("{}\n{}", pair.culvertd.counted(), pair.culvertd.log());
    assert!(pings.received + OVERTAKEN >= pings.sent, "{pings:?}\n{}", log());
    pair.flows();
}

/// The old IKE SA goes first, as strongSwan does it by default.
#[test]
fn break_before_make_comes_back() {
    let Some(pair) = Pair::open() else { return };
    pair.charon.load(&[again_and_again()]);
    pair.culvertd.peer(&Peer::usual());
    pair.initiate();
    two_more(&pair);
    pair.flows();
}

/// Culvert authenticates anew: the new IKE SA carries the traffic before the old one goes, and nothing is lost. A minute is
/// the shortest that may be configured.
#[test]
fn culvert_authenticates_anew_without_a_gap() {
    let Some(two) = Two::open(("", ""), &["reauthTime: 60s"]) else { return };
    let spis = || two.left.status("acme/right")["ikeSpis"].as_str().unwrap_or_default().to_owned();
    let before = spis();
    let flood = Flood::start(&two.names.0, LEFT, RIGHT);
    within(Duration::from_secs(90), "another IKE SA is there", spis, |s| !s.is_empty() && *s != before);
    until(
        "the old one is gone",
        || [&two.left, &two.right].map(|daemon| daemon.json(&["get", "node"])["ikeSas"].clone()),
        |count| count.iter().all(|count| *count == "1"),
    );
    let pings = flood.stop();
    let counted = [&two.left, &two.right].map(Daemon::counted).join("\n");
    assert_eq!(pings.sent, pings.received, "{pings:?}\n{counted}\n{}", two.left.log());
}
