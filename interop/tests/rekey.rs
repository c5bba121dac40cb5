//! Rekeying with strongSwan under a thousand packets a second: nothing is lost, whoever starts it.
#![allow(clippy::print_stderr)] // Figures, for who looks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use common::{LEFT, Pair, RIGHT};
use interop::charon::Connection;
use interop::daemon::Peer;
use interop::traffic::Flood;
use interop::wait::until;

const STRONGSWAN: [[&str; 3]; 2] = [["--rekey", "--child", "ct"], ["--rekey", "--ike", "t"]];
const CULVERT: [&[&str]; 2] = [&["rekey", "acme/left"], &["rekey", "--ike", "acme/left"]];

#[test]
fn either_side_rekeys_under_traffic() {
    let Some(pair) = Pair::up() else { return };
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    for _ in 0..2 {
        for ((theirs, ours), field) in STRONGSWAN.iter().zip(CULVERT).zip(["childRekeys", "ikeRekeys"]) {
            let rekeys = || pair.culvertd.status("acme/left")[field].to_string();
            let before = rekeys();
            let said = pair.charon.swanctl(theirs);
            assert!(said.ok, "{}", said.text);
            // It is not waited for; and what is being rekeyed at this moment is not rekeyed twice.
            until("rekeyed by strongSwan", rekeys, |now| *now != before);
            let said = pair.culvertd.cli(ours);
            assert!(said.ok, "{}", said.text);
        }
    }
    pair.settled();
    let pings = flood.stop();
    assert!(pings.sent > 500, "{pings:?}");
    assert_eq!(pings.sent, pings.received, "{pings:?}");
    let status = pair.culvertd.status("acme/left");
    assert_eq!((&status["childRekeys"], &status["ikeRekeys"]), (&"4".into(), &"4".into()), "{status:#}");
}

/// Both start at the same moment, again and again. `CULVERT_COLLISIONS` says how often.
#[test]
fn both_sides_rekey_at_once_under_traffic() {
    let Some(pair) = Pair::up() else { return };
    let rounds = std::env::var("CULVERT_COLLISIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    let mut mistaken = 0;
    for round in 0..rounds {
        let (theirs, ours) = (STRONGSWAN[round % 2], CULVERT[round % 2]);
        let begin = std::time::Instant::now();
        std::thread::scope(|scope| {
            // One of the two may be told to wait; what counts is what is left.
            scope.spawn(|| pair.charon.swanctl(&theirs));
            scope.spawn(|| pair.culvertd.cli(ours));
        });
        eprintln!("round {round}: {:?}", begin.elapsed());
        // An answer that comes while it is at work on a request of the same number strongSwan takes for that request, and drops. It asks again after
        // four seconds, which an IKE_SA that is exchanged by the next round would not live to see.
        let now = pair.charon.log().matches("ignoring request with ID").count();
        if round % 5 == 4 || now > mistaken {
            mistaken = now;
            pair.settled();
        }
    }
    pair.settled();
    let pings = flood.stop();
    assert!(pings.sent > 500, "{pings:?}");
    assert_eq!(pings.sent, pings.received, "{pings:?}");
    assert_eq!(pair.culvertd.counter("actor_panics"), 0);
}

fn child_rekeys(pair: &Pair) -> u64 {
    pair.culvertd.status("acme/left")["childRekeys"].as_str().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Nobody commands anything: packets use up one pair after the other.
#[test]
fn packets_use_up_child_sas() {
    let Some(pair) = Pair::open() else { return };
    pair.charon.load(&[Connection::usual()]);
    pair.culvertd.peer(&Peer { child: vec!["lifetime: {rekeyPackets: 600}".into()], ..Peer::usual() });
    pair.initiate();
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    until("pairs are used up", || child_rekeys(&pair), |n| *n >= 4);
    let pings = flood.stop();
    assert_eq!(pings.sent, pings.received, "{pings:?}");
    pair.settled();
}

/// Both sides rekey both kinds of SA every few seconds, so that they meet now and then.
#[test]
fn both_sides_rekey_by_time() {
    let Some(pair) = Pair::open() else { return };
    let options = "rekey_time = 3s\n over_time = 30s\n rand_time = 0s".to_owned();
    let child_options = "rekey_time = 2s\n life_time = 30s\n rand_time = 0s".to_owned();
    pair.charon.load(&[Connection { options, child_options, ..Connection::usual() }]);
    pair.culvertd.peer(&Peer {
        ike: vec!["lifetime: {rekeyTime: 3s, lifeTime: 30s}".into()],
        child: vec!["lifetime: {rekeyTime: 2s, lifeTime: 30s}".into()],
        ..Peer::usual()
    });
    pair.initiate();
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    until("many were rekeyed", || child_rekeys(&pair), |n| *n >= 6);
    let pings = flood.stop();
    assert_eq!(pings.sent, pings.received, "{pings:?}");
    let status = pair.culvertd.status("acme/left");
    assert!(status["ikeRekeys"].as_str().is_some_and(|n| n != "0"), "{status:#}");
    assert!(status["lastError"].is_null(), "{status:#}");
}
