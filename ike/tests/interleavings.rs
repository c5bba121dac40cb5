//! Every interleaving of two crossing exchanges of any two kinds, with up to one message lost: the schedules are
//! enumerated one by one, each from the start, and whatever the order, both ends must agree in the end.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    unused_crate_dependencies
)]

mod kit;

use ike::{Command, Connection};
use kit::schedules::{every_schedule, play};
use kit::{A, B, Pair, Spec, Who};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    RekeyChild,
    RekeyIke,
    DeleteChild,
    Close,
    Liveness,
}

const KINDS: [Kind; 5] = [Kind::RekeyChild, Kind::RekeyIke, Kind::DeleteChild, Kind::Close, Kind::Liveness];

fn start(pair: &mut Pair, who: Who, kind: Kind) {
    let spi = pair.spi(who);
    match kind {
        Kind::RekeyChild => pair.command(who, Command::RekeyChild(spi)),
        Kind::RekeyIke => pair.command(who, Command::RekeyIke),
        Kind::DeleteChild => pair.command(who, Command::DeleteChild(spi)),
        Kind::Close => pair.command(who, Command::Close),
        Kind::Liveness => {
            let side = pair.side(who);
            assert!(side.conn.as_deref().is_some_and(Connection::is_up));
            pair.command(who, Command::Probe);
        }
    }
}

/// Runs one schedule. `choices` is what to take at each step, zero beyond its end; returns how many there were.
fn run(kinds: (Kind, Kind), seed: usize, choices: &[usize]) -> Vec<usize> {
    let mut pair = Pair::up(&Spec::left(), &Spec::right());
    // Another seed places the lowest nonce elsewhere.
    for side in [&mut pair.a, &mut pair.b] {
        ike::Host::random(&mut side.host, &mut vec![0; seed]);
    }
    start(&mut pair, A, kinds.0);
    start(&mut pair, B, kinds.1);
    let (options, told) = play(&mut pair, choices);
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| conclude(&mut pair, kinds)));
    if let Err(panic) = outcome {
        eprintln!("{kinds:?}, seed {seed}, schedule {told:?}\nA: {:?}\nB: {:?}", pair.a.log, pair.b.log);
        std::panic::resume_unwind(panic);
    }
    options
}

fn conclude(pair: &mut Pair, kinds: (Kind, Kind)) {
    pair.settle();
    pair.run(200);
    let is = |kind| kinds.0 == kind || kinds.1 == kind;
    if is(Kind::Close) {
        pair.assert_children(0);
        assert!(pair.a.conn.as_ref().unwrap().is_finished() && pair.b.conn.as_ref().unwrap().is_finished());
        return;
    }
    pair.assert_ike(1);
    // A delete meets either the old pair, or none any more when a rekeying came first.
    let left = pair.a.installed.len();
    assert!(if is(Kind::DeleteChild) { left <= 1 } else { left == 1 }, "{left} pairs are left");
    pair.assert_children(left);
    if left == 1 {
        pair.assert_alive();
    }
    for side in [&pair.a, &pair.b] {
        let expected = if is(Kind::DeleteChild) { 1 - left } else { 0 };
        let down = side.log.iter().filter(|l| l.contains("DeletedByPeer") || *l == "removed Deleted").count();
        assert_eq!(down, expected, "one down event a side: {:?}", side.log);
    }
}

fn all_with(first: Kind) {
    let mut total = 0;
    for second in KINDS {
        for seed in [0, 1, 2] {
            total += every_schedule(|choices| run((first, second), seed, choices));
        }
    }
    eprintln!("{first:?} against every kind: {total} schedules");
    assert!(total > 100);
}

#[test]
fn child_rekey_against_every_kind() {
    all_with(Kind::RekeyChild);
}

#[test]
fn ike_rekey_against_every_kind() {
    all_with(Kind::RekeyIke);
}

#[test]
fn child_delete_against_every_kind() {
    all_with(Kind::DeleteChild);
}

#[test]
fn close_against_every_kind() {
    all_with(Kind::Close);
}

#[test]
fn liveness_against_every_kind() {
    all_with(Kind::Liveness);
}
