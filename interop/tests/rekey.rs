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
use interop::traffic::Flood;

const STRONGSWAN: [[&str; 3]; 2] = [["--rekey", "--child", "ct"], ["--rekey", "--ike", "t"]];
const CULVERT: [&[&str]; 2] = [&["rekey", "acme/left"], &["rekey", "--ike", "acme/left"]];

#[test]
fn either_side_rekeys_under_traffic() {
    let Some(pair) = Pair::up() else { return };
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    for _ in 0..2 {
        for (theirs, ours) in STRONGSWAN.iter().zip(CULVERT) {
            let said = pair.charon.swanctl(theirs);
            assert!(said.ok, "{}", said.text);
            let said = pair.culvertd.cli(ours);
            assert!(said.ok, "{}", said.text);
        }
    }
    pair.settled();
    let pings = flood.stop();
    assert!(pings.sent > 500, "{pings:?}");
    assert_eq!(pings.sent, pings.received);
    let status = pair.culvertd.status("acme/left");
    assert_eq!((&status["childRekeys"], &status["ikeRekeys"]), (&"4".into(), &"4".into()), "{status:#}");
}

/// Both start at the same moment, again and again. `CULVERT_COLLISIONS` says how often.
#[test]
fn both_sides_rekey_at_once_under_traffic() {
    let Some(pair) = Pair::up() else { return };
    let rounds = std::env::var("CULVERT_COLLISIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    for round in 0..rounds {
        let (theirs, ours) = (STRONGSWAN[round % 2], CULVERT[round % 2]);
        let begin = std::time::Instant::now();
        std::thread::scope(|scope| {
            // One of the two may be told to wait; what counts is what is left.
            scope.spawn(|| pair.charon.swanctl(&theirs));
            scope.spawn(|| pair.culvertd.cli(ours));
        });
        eprintln!("round {round}: {:?}", begin.elapsed());
        if round % 5 == 4 {
            pair.settled();
        }
    }
    pair.settled();
    let pings = flood.stop();
    assert!(pings.sent > 500, "{pings:?}");
    assert_eq!(pings.sent, pings.received);
    assert_eq!(pair.culvertd.counter("actor_panics"), 0);
}
