//! Pairs with equal selectors, one for each resource (RFC 9611).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use ike::Command;
use ike::resources::resource_of;
use kit::schedules::{every_schedule, play};
use kit::{A, B, Pair, Spec, Who};

fn up(left: u8, right: u8) -> Pair {
    let (left, right) = specs(left, right);
    Pair::up(&left, &right)
}

fn specs(left: u8, right: u8) -> (Spec, Spec) {
    (Spec { resources: left, ..Spec::left() }, Spec { resources: right, ..Spec::right() })
}

/// The names of the pairs of one side.
fn names(pair: &mut Pair, who: Who) -> Vec<String> {
    let mut names: Vec<_> = pair.side(who).installed.values().map(|sa| sa.policy.to_string()).collect();
    names.sort();
    names
}

/// The inbound SPI of the pair of this name.
fn of(pair: &mut Pair, who: Who, name: &str) -> u32 {
    *pair.side(who).installed.iter().find(|(_, sa)| *sa.policy == *name).unwrap().0
}

fn failures(pair: &Pair) -> Vec<&String> {
    let logs = pair.a.log.iter().chain(&pair.b.log);
    logs.filter(|line| line.contains("failed") || line.contains("down")).collect()
}

/// Nothing is sent any more, however long one waits.
fn assert_quiet(pair: &mut Pair, count: usize) {
    pair.run(1000);
    pair.assert_children(count);
    assert!(failures(pair).is_empty(), "{:?}", failures(pair));
}

#[test]
fn as_many_as_both_take() {
    for (left, right, count) in [(1, 1, 1), (4, 4, 4), (4, 1, 1), (1, 4, 1), (4, 3, 3), (2, 64, 2)] {
        let mut pair = up(left, right);
        pair.assert_children(count);
        let mut wanted = vec!["net".to_owned()];
        wanted.extend((1..count).map(|n| format!("net#{n}")));
        for who in [A, B] {
            assert_eq!(names(&mut pair, who), wanted, "{left} {right}");
        }
        assert_quiet(&mut pair, count);
    }
}

#[test]
fn each_policy_has_its_own() {
    let [left, right] = Spec::with_policies(3);
    let mut pair = Pair::up(&Spec { resources: 3, ..left }, &Spec { resources: 3, ..right });
    assert_quiet(&mut pair, 9);
}

#[test]
fn each_has_a_key_of_its_own() {
    let pair = up(4, 4);
    let mut keys: Vec<_> = pair.a.installed.values().flat_map(|sa| sa.keys.clone()).collect();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 8);
}

#[test]
fn who_asks_without_end_is_refused_and_stops() {
    let mut pair = up(64, 2);
    pair.assert_children(2);
    let sent = pair.a.conn.as_ref().unwrap().counters();
    assert_quiet(&mut pair, 2);
    assert_eq!(pair.a.conn.as_ref().unwrap().counters(), sent, "it has not asked again");
}

#[test]
fn the_responder_asks_for_what_it_was_not_asked_for() {
    // A asks for one and loses it; B wants it as well.
    let mut pair = up(2, 2);
    let spi = of(&mut pair, A, "net#1");
    pair.command(A, Command::DeleteChild(spi));
    pair.settle();
    pair.run(9);
    pair.assert_children(1);
    pair.run(2);
    assert_quiet(&mut pair, 2);
}

/// Gives a side another number of pairs.
fn reconfigure(pair: &mut Pair, who: Who, resources: u8) {
    let config = if who == A { specs(resources, 1).0.config() } else { specs(1, resources).1.config() };
    let side = pair.side(who);
    side.host.peer = config.clone();
    side.conn.as_mut().unwrap().set_config(config);
}

#[test]
fn another_number_is_taken_over() {
    let mut pair = up(1, 1);
    let shared = of(&mut pair, A, "net");
    // Whoever is first is refused, and the other asks.
    for (who, number, count) in [(A, 4, 1), (B, 3, 3), (A, 2, 2), (B, 1, 1), (B, 5, 2), (A, 5, 5)] {
        reconfigure(&mut pair, who, number);
        pair.run(20);
        pair.assert_children(count);
    }
    assert_quiet(&mut pair, 5);
    assert_eq!(of(&mut pair, A, "net"), shared, "it was never interrupted");
}

#[test]
fn a_rekeyed_pair_stays_that_of_its_resource() {
    let mut pair = up(3, 3);
    for who in [A, B] {
        for name in ["net", "net#1", "net#2"] {
            let old = of(&mut pair, who, name);
            pair.command(who, Command::RekeyChild(old));
            pair.settle();
            assert_ne!(of(&mut pair, who, name), old);
            assert_eq!(pair.side(who).ended.last(), Some(&(old, Ok(()))));
            assert_quiet(&mut pair, 3);
        }
    }
    // All at the same time, from both sides.
    for who in [A, B] {
        for name in ["net", "net#1", "net#2"] {
            let old = of(&mut pair, who, name);
            pair.command(who, Command::RekeyChild(old));
        }
    }
    pair.settle();
    assert_quiet(&mut pair, 3);
    assert_eq!(names(&mut pair, A), ["net", "net#1", "net#2"]);
    pair.command(B, Command::RekeyIke);
    pair.settle();
    assert_quiet(&mut pair, 3);
}

#[test]
fn one_that_goes_leaves_the_others() {
    for (command, end) in
        [(Command::DeleteChild as fn(u32) -> _, "Deleted"), (Command::ExpireChild as fn(u32) -> _, "Expired")]
    {
        for who in [A, B] {
            let mut pair = up(3, 3);
            // Until then B might ask as well.
            pair.run(20);
            let spi = of(&mut pair, who, "net#1");
            pair.command(who, command(spi));
            pair.settle();
            assert_eq!(names(&mut pair, A), ["net", "net#2"]);
            assert!(pair.side(who).log.contains(&format!("removed {end}")));
            assert_quiet(&mut pair, 2);
            // With the next fallback it is asked for again.
            let spi = of(&mut pair, A, "net");
            pair.command(A, Command::RekeyChild(spi));
            pair.settle();
            assert_eq!(names(&mut pair, A), ["net", "net#1", "net#2"]);
        }
    }
}

#[test]
fn without_the_fallback_the_others_stay_and_it_comes_back() {
    let mut pair = up(3, 3);
    let spi = of(&mut pair, B, "net");
    pair.command(B, Command::DeleteChild(spi));
    pair.settle();
    // They live on by themselves as long as that takes.
    for name in ["net#1", "net#2"] {
        let spi = of(&mut pair, A, name);
        pair.command(A, Command::RekeyChild(spi));
        pair.settle();
    }
    assert_quiet(&mut pair, 2);
    assert_eq!(names(&mut pair, A), ["net#1", "net#2"]);
    pair.command(A, Command::CreateChild("net".into()));
    pair.settle();
    assert_quiet(&mut pair, 3);
    assert_eq!(names(&mut pair, B), ["net", "net#1", "net#2"]);
}

#[test]
fn with_another_configuration_all_are_made_anew() {
    let mut pair = up(3, 3);
    let before: Vec<u32> = pair.a.installed.keys().copied().collect();
    let (left, right) = specs(3, 3);
    let esp = vec!["aes256gcm16", "aes128gcm16"];
    let config = Spec { esp, ..left }.config();
    pair.a.conn.as_mut().unwrap().set_config(config);
    pair.command(A, Command::CreateChild("net".into()));
    pair.settle();
    // The host lets the fallback go that was there before.
    pair.command(A, Command::DeleteChild(before[0]));
    pair.settle();
    assert_quiet(&mut pair, 3);
    assert!(pair.a.installed.keys().all(|spi| !before.contains(spi)));
    assert_eq!(right.resources, 3);
}

#[test]
fn a_busy_peer_is_asked_later_and_keeps_the_pair() {
    let (left, right) = specs(2, 2);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    for from in [A, B, A, B] {
        pair.deliver(from);
    }
    pair.b.conn.as_mut().unwrap().alone().refuse_everything();
    pair.settle();
    let mut asked = 0;
    for _ in 0..3600 {
        pair.pass(std::time::Duration::from_secs(1));
        asked += pair.a.outbox.len();
        pair.settle();
    }
    assert!((5..30).contains(&asked), "later each time: {asked} in an hour");
    pair.assert_children(1);
    assert!(failures(&pair).is_empty(), "{:?}", failures(&pair));
}

#[test]
fn both_may_ask_at_the_same_time() {
    let mut pair = up(1, 1);
    for (who, spec) in [(A, specs(3, 3).0), (B, specs(3, 3).1)] {
        let config = spec.config();
        pair.side(who).host.peer = config.clone();
        pair.side(who).conn.as_mut().unwrap().set_config(config);
    }
    // Both have made a fallback of their own.
    for who in [A, B] {
        pair.command(who, Command::CreateChild("net".into()));
    }
    pair.settle();
    pair.run(100);
    let count = pair.a.installed.len();
    for who in [A, B] {
        assert!(names(&mut pair, who).iter().filter(|name| resource_of(name).1 > 0).count() >= 2);
    }
    assert_eq!(pair.b.installed.len(), count);
    assert!(failures(&pair).is_empty(), "{:?}", failures(&pair));
}

/// What crosses: requests about the fallback, about the other pair, and about the IKE_SA they are on.
#[test]
fn whatever_crosses_both_sides_agree_in_the_end() {
    type Start = fn(&mut Pair, Who);
    let starts: [Start; 5] = [
        |pair, who| {
            let spi = of(pair, who, "net");
            pair.command(who, Command::RekeyChild(spi));
        },
        |pair, who| {
            let spi = of(pair, who, "net#1");
            pair.command(who, Command::RekeyChild(spi));
        },
        |pair, who| {
            let spi = of(pair, who, "net#1");
            pair.command(who, Command::DeleteChild(spi));
        },
        |pair, who| pair.command(who, Command::RekeyIke),
        // A fallback of its own, and then another pair beside it.
        |pair, who| {
            let config = pair.side(who).config.clone();
            let spi = of(pair, who, "net");
            pair.side(who).conn.as_mut().unwrap().set_config(config);
            pair.command(who, Command::ExpireChild(spi));
            pair.command(who, Command::CreateChild("net".into()));
        },
    ];
    let mut total = 0;
    for (a, first) in starts.iter().enumerate() {
        for (b, second) in starts.iter().enumerate() {
            total += every_schedule(|choices| {
                let mut pair = up(2, 2);
                pair.run(20);
                first(&mut pair, A);
                second(&mut pair, B);
                let (options, told) = play(&mut pair, choices);
                pair.settle();
                pair.run(200);
                let what = format!("{a} {b} {told:?}: {:?} {:?}", pair.a.log, pair.b.log);
                assert_eq!(pair.a.installed.len(), pair.b.installed.len(), "{what}");
                pair.assert_children(pair.a.installed.len());
                assert!(names(&mut pair, A).contains(&"net".to_owned()), "{what}");
                assert!(failures(&pair).is_empty(), "{what}");
                options
            });
        }
    }
    assert!(total > 1000, "{total}");
}

/// The answer for the fallback is on its way for so long that the other side asks for a resource beside it. If that were taken as the
/// fallback, each side would call another pair so, and one of them would be left without in the end.
#[test]
fn what_comes_before_the_fallback_waits_for_it() {
    let [left, right] = Spec::with_policies(2).map(|spec| Spec { resources: 2, ..spec });
    let mut pair = Pair::up(&left, &right);
    pair.run(60);
    for name in ["net1", "net1#1"] {
        let spi = of(&mut pair, A, name);
        pair.command(A, Command::DeleteChild(spi));
        pair.settle();
    }
    pair.run(60);
    pair.command(A, Command::CreateChild("net1".into()));
    pair.deliver(A);
    let answer = pair.take(B);
    // B asks, and A does not know yet that there is something to stand beside.
    for _ in 0..15 {
        pair.pass(std::time::Duration::from_secs(1));
        pair.a.outbox.clear();
        while !pair.b.outbox.is_empty() {
            let asked = pair.take(B);
            if asked.bytes[18] == 36 && asked.bytes[19] & 0x20 == 0 {
                pair.put(B, &asked);
                pair.deliver(A);
            }
        }
    }
    pair.put(B, &answer);
    pair.run(600);
    let all = names(&mut pair, A);
    assert_eq!(all[..4], ["net", "net#1", "net1", "net1#1"], "{:?}", pair.a.log);
    assert_eq!(names(&mut pair, B), all);
    // The numbers of the others are each side's own.
    for name in ["net", "net1"] {
        let (ours, theirs) = (of(&mut pair, A, name), of(&mut pair, B, name));
        assert_eq!(pair.a.installed[&ours].spi_out, theirs, "{name} is the same pair at both sides");
    }
}

/// Another pair is being rekeyed when one more is wanted, and that is refused: it does not take the wish along.
#[test]
fn one_more_is_asked_for_once_the_window_allows() {
    let [left, right] = Spec::with_policies(2);
    let (left, right) = (Spec { resources: 2, ..left }, Spec { resources: 3, ..right });
    let mut pair = Pair::up(&left, &right);
    // B asks for a third, and is refused.
    pair.run(60);
    pair.assert_children(4);
    let spi = of(&mut pair, A, "net#1");
    pair.command(A, Command::RekeyChild(spi));
    let config = Spec { resources: 3, ..left }.config();
    pair.a.host.peer = config.clone();
    pair.a.conn.as_mut().unwrap().set_config(config);
    pair.pass(std::time::Duration::from_secs(1));
    pair.b.host.free_spis = false;
    pair.deliver(A);
    pair.b.host.free_spis = true;
    pair.settle();
    assert_eq!(names(&mut pair, A), ["net", "net#1", "net#2", "net1", "net1#1", "net1#2"]);
    assert!(pair.a.ended[0].1.is_err(), "{:?}", pair.a.ended);
    pair.run(60);
    pair.assert_children(6);
    assert!(!pair.a.installed.contains_key(&spi), "and it is rekeyed");
}
