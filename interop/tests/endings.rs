//! Deletes from either side, and death of either side.
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

#[test]
fn strongswan_deletes_the_child_sa_and_the_ike_sa() {
    let Some(pair) = Pair::up() else { return };
    assert!(pair.charon.swanctl(&["--terminate", "--child", "ct"]).ok);
    until("the Child SA is gone", || pair.culvertd.children("acme/left"), |n| *n == 0);
    assert_eq!(pair.culvertd.status("acme/left")["state"], "ESTABLISHED", "the IKE SA stays");
    pair.initiate();
    assert!(pair.charon.swanctl(&["--terminate", "--ike", "t"]).ok);
    until("the tunnel is down", || pair.culvertd.status("acme/left")["state"].clone(), |s| s == "WAITING");
    pair.initiate();
    pair.settled();
}

#[test]
fn culvert_deletes_the_tunnel() {
    let Some(pair) = Pair::up() else { return };
    assert!(pair.culvertd.cli(&["terminate", "acme/left"]).ok);
    until("strongSwan has heard of it", || pair.charon.sas(), |sas| !sas.contains("ESTABLISHED"));
    pair.initiate();
}

#[test]
fn a_stop_deletes_every_sa() {
    let Some(mut pair) = Pair::up() else { return };
    assert!(pair.culvertd.stop());
    until("strongSwan has heard of it", || pair.charon.sas(), |sas| !sas.contains("ESTABLISHED"));
}

#[test]
fn a_lost_child_sa_comes_back_where_it_is_ours_to_start() {
    let Some(pair) = Pair::open() else { return };
    pair.charon.load(&[Connection::usual()]);
    pair.culvertd.peer(&Peer { start: true, ..Peer::usual() });
    pair.flows();
    assert!(pair.charon.swanctl(&["--terminate", "--child", "ct"]).ok);
    pair.flows();
}

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
    let Some(mut pair) = Pair::open() else { return };
    pair.charon.load(&[Connection::usual()]);
    pair.culvertd.peer(&Peer { start: true, ..Peer::usual() });
    pair.flows();
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
