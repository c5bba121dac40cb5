//! strongSwan authenticates anew by a new IKE SA, instead of rekeying the old one (RFC 7296 2.8.3).
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

/// The new IKE SA is made before the old one goes.
#[test]
fn make_before_break_stays_up() {
    let Some(pair) = Pair::open_with("make_before_break = yes") else { return };
    pair.charon.load(&[again_and_again()]);
    pair.culvertd.peer(&Peer::usual());
    pair.initiate();
    two_more(&pair);
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
