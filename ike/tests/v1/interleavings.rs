//! Every interleaving of two crossing exchanges with up to one message lost: the schedules are enumerated one by one, each from
//! the start, and whatever the order, both ends must agree in the end.

use std::collections::BTreeSet;

use ike::config::Phase1;
use ike::{Command, Connection};

use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::kit::{A, B, Pair, Spec, Who};
use crate::specs;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    RekeyChild,
    DeleteChild,
    RekeyIke,
    /// Phase 1 from the start.
    Begin,
    Liveness,
    Close,
    /// The IKE_SA's hard lifetime ends.
    Expire,
}

use Kind::{Begin, Close, DeleteChild, Expire, Liveness, RekeyChild, RekeyIke};

/// Choices made freely; what is sent after so many steps is delivered in order.
const STEPS: usize = 12;
/// Schedules drawn by lot where there are too many, with messages of one side that overtake each other.
const DRAWN: u64 = 400;

fn start(pair: &mut Pair, who: Who, kind: Kind) {
    match kind {
        RekeyChild => {
            let spi = pair.spi(who);
            pair.command(who, Command::RekeyChild(spi));
        }
        DeleteChild => {
            let spi = pair.spi(who);
            pair.command(who, Command::DeleteChild(spi));
        }
        RekeyIke => pair.command(who, Command::RekeyIke),
        Begin => pair.initiate_from(who),
        Liveness => pair.command(who, Command::Probe),
        Close => pair.command(who, Command::Close),
        Expire => {
            let now = pair.now;
            let side = pair.side(who);
            side.conn.as_mut().unwrap().expire(now, &mut side.host);
            side.drain();
        }
    }
}

/// One step: deliver or lose one of the messages under way.
#[derive(Clone, Copy, Debug)]
struct Step {
    from: Who,
    at: usize,
    lose: bool,
}

fn steps(pair: &Pair, may_lose: bool, overtaking: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for lose in [false, true] {
        if lose && !may_lose {
            continue;
        }
        for (from, side) in [(A, &pair.a), (B, &pair.b)] {
            steps.extend((0..side.outbox.len().min(overtaking)).map(|at| Step { from, at, lose }));
        }
    }
    steps
}

/// Runs one schedule. `choices` says what to take at each step of how many; returns how many there were. `overtaking` is how
/// many messages of one side may be under way out of order.
fn run(
    mode: Phase1,
    kinds: (Kind, Kind),
    seed: u64,
    overtaking: usize,
    choices: &mut dyn FnMut(usize, usize) -> usize,
) -> Vec<usize> {
    let [left, right] = specs(mode).map(|spec| Spec { ike: vec!["aes128-sha256-x25519"], ..spec });
    let mut pair = Pair::new(&left, &right);
    if kinds.0 != Begin {
        pair.initiate();
        pair.settle();
        pair.run(4);
        // Longer than an IKE_SA is taken for one that its peer cannot have forgotten.
        pair.run(70);
    }
    // Another seed places the higher SPIs and nonces elsewhere.
    pair.a.host.random_from(100 + seed);
    pair.a.host.skip_spis(seed);
    start(&mut pair, A, kinds.0);
    start(&mut pair, B, kinds.1);
    let (mut options, mut lost, mut told) = (Vec::new(), false, Vec::new());
    for depth in 0..STEPS {
        let steps = steps(&pair, !lost, overtaking);
        if steps.is_empty() {
            break;
        }
        options.push(steps.len());
        let step = steps[choices(depth, steps.len())];
        told.push(step);
        let message = pair.side(step.from).outbox.remove(step.at).unwrap();
        if step.lose {
            lost = true;
        } else {
            pair.put(step.from, &message);
        }
    }
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        conclude(&mut pair, kinds, lost || told.iter().any(|step| step.at > 0))
    }));
    if let Err(panic) = outcome {
        eprintln!(
            "{mode:?} {kinds:?}, seed {seed}, schedule {told:?}\nA: {:?}\n{:?}\nB: {:?}\n{:?}",
            pair.a.log, pair.a.installed, pair.b.log, pair.b.installed
        );
        std::panic::resume_unwind(panic);
    }
    options
}

fn conclude(pair: &mut Pair, kinds: (Kind, Kind), odd: bool) {
    pair.settle();
    pair.run(240);
    let is = |kind| kinds.0 == kind || kinds.1 == kind;
    if is(Close) {
        // Nobody acknowledges a Delete: who has missed it, or one of the two, has what was there, until it asks.
        if !odd {
            pair.assert_children(0);
            assert!([&pair.a, &pair.b].iter().all(|side| side.conn.as_ref().unwrap().is_finished()));
        }
        return assert_no_leak(pair);
    }
    if kinds == (Liveness, Expire) && odd {
        return assert_no_leak(pair);
    }
    for side in [&pair.a, &pair.b] {
        assert!(side.conn.as_deref().is_some_and(Connection::is_up), "not up");
        assert!(side.half_open.is_empty(), "half-open");
    }
    // A lost Delete of a pair leaves it on the other side, until its lifetime ends there.
    let deleted = is(DeleteChild);
    if !deleted {
        assert_eq!(pair.a.installed.len(), 1, "A");
        pair.assert_children(1);
    } else {
        assert!(pair.a.installed.len() <= 1 && pair.b.installed.len() <= 1);
    }
    assert_no_leak(pair);
    let most = pair.a.conn.as_ref().unwrap().ike_sas().max(pair.b.conn.as_ref().unwrap().ike_sas());
    assert!(most <= 1, "{most} IKE_SAs are left");
    if !deleted {
        pair.assert_alive_in_time();
        // One that the other side has never heard of, or has forgotten, goes in the end.
        pair.run(150);
        // Whoever needs one makes an IKE_SA.
        pair.assert_ike(1);
    }
}

/// What a side has given out is what its connection has.
fn assert_no_leak(pair: &Pair) {
    for side in [&pair.a, &pair.b] {
        let conn = side.conn.as_ref().unwrap();
        assert_eq!(side.held(), side.installed.keys().copied().collect::<BTreeSet<_>>(), "SPIs of ESP");
        assert_eq!(side.registered, conn.local_spis().into_iter().collect::<BTreeSet<_>>(), "SPIs of IKE");
    }
}

/// Counts through all choices, the last step fastest.
fn every_schedule(mode: Phase1, kinds: (Kind, Kind), seed: u64, overtaking: usize) -> usize {
    let (mut choices, mut count) = (Vec::<usize>::new(), 0);
    loop {
        let mut chosen = |depth: usize, _: usize| choices.get(depth).copied().unwrap_or(0);
        let options = run(mode, kinds, seed, overtaking, &mut chosen);
        count += 1;
        choices.resize(options.len(), 0);
        while choices.last().is_some_and(|last| last + 1 == options[choices.len() - 1]) {
            choices.pop();
        }
        match choices.last_mut() {
            Some(last) => *last += 1,
            None => return count,
        }
    }
}

/// All schedules, also with messages of one side that overtake each other.
fn all(mode: Phase1, kinds: (Kind, Kind)) {
    let total: usize = [0, 7].into_iter().map(|seed| every_schedule(mode, kinds, seed, 2)).sum();
    eprintln!("{mode:?} {kinds:?}: {total} schedules");
    assert!(total >= 12, "{total}");
}

/// All schedules where each side's messages arrive in order, and some where they do not: there are too many of those.
fn most(mode: Phase1, kinds: (Kind, Kind)) {
    let total = every_schedule(mode, kinds, 0, 1);
    eprintln!("{mode:?} {kinds:?}: {total} schedules in order");
    assert!(total >= 300, "{total}");
    for lot in 0..DRAWN {
        let mut rng = ChaCha20Rng::seed_from_u64(lot);
        run(mode, kinds, lot % 8, 2, &mut |_, count| {
            // A loss is one among many messages.
            let half = if rng.next_u32() % 8 == 0 { count } else { count.div_ceil(2) };
            rng.next_u32() as usize % half
        });
    }
}

#[test]
fn quick_mode_and_quick_mode() {
    all(Phase1::Main, (RekeyChild, RekeyChild));
}

#[test]
fn quick_mode_and_delete() {
    all(Phase1::Main, (RekeyChild, DeleteChild));
}

#[test]
fn delete_and_delete() {
    all(Phase1::Main, (DeleteChild, DeleteChild));
}

#[test]
fn quick_mode_and_renewal_in_main_mode() {
    all(Phase1::Main, (RekeyChild, RekeyIke));
}

#[test]
fn quick_mode_and_renewal_in_aggressive_mode() {
    all(Phase1::Aggressive, (RekeyChild, RekeyIke));
}

#[test]
fn renewal_and_renewal_in_main_mode() {
    most(Phase1::Main, (RekeyIke, RekeyIke));
}

#[test]
fn renewal_and_renewal_in_aggressive_mode() {
    most(Phase1::Aggressive, (RekeyIke, RekeyIke));
}

#[test]
fn phase_1_and_phase_1_in_main_mode() {
    most(Phase1::Main, (Begin, Begin));
}

#[test]
fn phase_1_and_phase_1_in_aggressive_mode() {
    most(Phase1::Aggressive, (Begin, Begin));
}

#[test]
fn quick_mode_and_close() {
    all(Phase1::Main, (RekeyChild, Close));
}

#[test]
fn quick_mode_and_the_end_of_phase_1() {
    all(Phase1::Main, (RekeyChild, Expire));
}

#[test]
fn renewal_and_the_end_of_phase_1() {
    all(Phase1::Main, (RekeyIke, Expire));
}

#[test]
fn quick_mode_and_liveness() {
    all(Phase1::Main, (RekeyChild, Liveness));
}

#[test]
fn liveness_and_the_end_of_phase_1() {
    all(Phase1::Main, (Liveness, Expire));
}
