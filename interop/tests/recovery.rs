//! Death of either side, and how the tunnel comes back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use std::time::Duration;

use common::{LEFT, Pair, RIGHT};
use interop::charon::Connection;
use interop::daemon::Peer;
use interop::traffic::ping;
use interop::wait::within;

/// A sign of life asked for and not given: six sendings of the request, 1 s after the first, then 1.8 times as long each
/// time, 41 s in all.
const GIVEN_UP: Duration = Duration::from_secs(80);

/// culvertd is killed as responder; strongSwan has no dead peer detection. The first packet it sends makes culvertd
/// start afresh.
#[test]
fn a_killed_culvertd_comes_back_by_the_first_packet() {
    let Some(mut pair) = Pair::up() else { return };
    pair.culvertd.restart();
    pair.flows();
    pair.settled();
}

#[test]
fn a_killed_culvertd_that_starts_comes_back_by_itself() {
    let Some(mut pair) = Pair::culvert_starts() else { return };
    pair.culvertd.restart();
    pair.flows();
    pair.settled();
}

#[test]
fn a_killed_strongswan_comes_back() {
    let Some(mut pair) = Pair::up() else { return };
    pair.charon.restart();
    pair.charon.load(&[Connection::usual()]);
    pair.initiate();
    pair.settled();
}

/// Culvert does not know where this peer is, so that it cannot start; strongSwan finds out by its own signs of life.
#[test]
fn a_killed_culvertd_comes_back_by_strongswans_signs_of_life() {
    let Some(mut pair) = Pair::open() else { return };
    let child_options = "dpd_action = restart".into();
    pair.charon.load(&[Connection { dpd: 1, child_options, ..Connection::usual() }]);
    pair.culvertd.peer(&Peer { address: String::new(), ..Peer::usual() });
    pair.initiate();
    pair.culvertd.restart();
    pair.flows();
    pair.settled();
}

fn watchful() -> Peer {
    Peer { ike: vec!["dpdInterval: 1s".into()], ..Peer::usual() }
}

#[test]
fn a_dead_strongswan_is_noticed_and_may_come_again() {
    let Some(mut pair) = Pair::open() else { return };
    pair.charon.load(&[Connection::usual()]);
    pair.culvertd.peer(&watchful());
    pair.initiate();
    pair.charon.kill();
    let state = || pair.culvertd.status("acme/left")["state"].clone();
    within(GIVEN_UP, "the tunnel is down", state, |s| s == "WAITING");
    assert_eq!(pair.culvertd.children("acme/left"), 0);
    pair.charon.restart();
    pair.charon.load(&[Connection::usual()]);
    pair.initiate();
    pair.settled();
}

/// strongSwan knows nothing of the tunnel after its restart, and starts nothing.
#[test]
fn culvert_that_starts_finds_a_restarted_strongswan() {
    let Some(mut pair) = Pair::open() else { return };
    pair.charon.load(&[Connection::usual()]);
    pair.culvertd.peer(&Peer { start: true, ..watchful() });
    pair.flows();
    pair.charon.restart();
    pair.charon.load(&[Connection::usual()]);
    within(GIVEN_UP, "strongSwan has a tunnel again", || pair.charon.installed(), |n| *n == 1);
    pair.flows();
    pair.settled();
}

/// The peer is lost: with `HOLD` nothing is sent to it until a packet is for it, and that packet is answered.
#[test]
fn a_lost_peer_is_held_until_a_packet_wants_it() {
    let Some(mut pair) = Pair::open() else { return };
    pair.charon.load(&[Connection::usual()]);
    let ike = vec!["dpdInterval: 1s".into(), "dpdAction: HOLD".into()];
    pair.culvertd.peer(&Peer { ike, ..Peer::usual() });
    pair.initiate();
    pair.charon.restart();
    within(
        GIVEN_UP,
        "the peer is given up",
        || pair.culvertd.status("acme/left"),
        |status| status["state"] == "WAITING",
    );
    pair.charon.load(&[Connection::usual()]);
    assert_eq!(ping(&pair.right, RIGHT, LEFT, 1).received, 1, "{}", pair.culvertd.log());
    pair.settled();
}
