//! Deletes from either side: the peer hears of them, and what is ours to start comes back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use common::Pair;
use interop::wait::until;

#[test]
fn strongswan_deletes_the_child_sa_and_the_ike_sa() {
    let Some(pair) = Pair::up() else { return };
    assert!(pair.charon.swanctl(&["--terminate", "--child", "ct"]).ok);
    until("the Child SA is gone", || pair.culvertd.children("acme/left"), |n| *n == 0);
    assert_eq!(
        pair.culvertd.status("acme/left")["state"],
        "DEGRADED",
        "the IKE SA stays, and carries nothing"
    );
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
    let Some(pair) = Pair::culvert_starts() else { return };
    assert!(pair.charon.swanctl(&["--terminate", "--child", "ct"]).ok);
    pair.flows();
}

#[test]
fn a_lost_ike_sa_comes_back_where_it_is_ours_to_start() {
    let Some(pair) = Pair::culvert_starts() else { return };
    let before = pair.culvertd.status("acme/left")["ikeSpis"].clone();
    assert!(pair.charon.swanctl(&["--terminate", "--ike", "t"]).ok);
    until(
        "another IKE SA is there",
        || pair.culvertd.status("acme/left")["ikeSpis"].clone(),
        |spis| *spis != before && *spis != "",
    );
    pair.flows();
    pair.settled();
}

#[test]
fn a_terminated_tunnel_stays_down_until_it_is_initiated() {
    let Some(pair) = Pair::culvert_starts() else { return };
    assert!(pair.culvertd.cli(&["terminate", "acme/left"]).ok);
    until("strongSwan has heard of it", || pair.charon.sas(), |sas| !sas.contains("ESTABLISHED"));
    assert_eq!(pair.culvertd.status("acme/left")["state"], "TERMINATED");
    let said = pair.culvertd.cli(&["initiate", "acme/left"]);
    assert!(said.ok, "{}", said.text);
    pair.flows();
    pair.settled();
}

#[test]
fn both_sides_delete_at_once() {
    let Some(pair) = Pair::up() else { return };
    for _ in 0..5 {
        std::thread::scope(|scope| {
            scope.spawn(|| pair.charon.swanctl(&["--terminate", "--ike", "t"]));
            scope.spawn(|| pair.culvertd.cli(&["terminate", "acme/left"]));
        });
        until(
            "nothing is left on either side",
            || (pair.charon.sas(), pair.culvertd.children("acme/left")),
            |(sas, children)| sas.trim().is_empty() && *children == 0,
        );
        pair.initiate();
    }
    pair.settled();
}
