//! What happens at once, message by message: q1 and so on.

use std::time::Duration;

use ike::config::Phase1;
use ike::{Command, Connection};

use crate::kit::{A, B, Pair, Spec, Who, ts};
use crate::{MODES, specs, up};

fn pair() -> Pair {
    let [left, right] = specs(Phase1::Main);
    up(&left, &right)
}

fn expire(pair: &mut Pair, who: Who) {
    let now = pair.now;
    let side = pair.side(who);
    side.conn.as_mut().unwrap().expire(now, &mut side.host);
    side.drain();
}

#[track_caller]
fn assert_settled(pair: &mut Pair) {
    pair.settle();
    pair.run(240);
    for side in [&pair.a, &pair.b] {
        assert!(side.conn.as_deref().is_some_and(Connection::is_up), "{:?}", side.log);
    }
    pair.assert_children(1);
    pair.assert_alive_in_time();
    pair.assert_ike(1);
}

fn rekey(pair: &mut Pair, who: Who) {
    let spi = pair.spi(who);
    pair.command(who, Command::RekeyChild(spi));
}

#[test]
fn q1_both_start_quick_mode() {
    let pair = &mut pair();
    rekey(pair, A);
    rekey(pair, B);
    pair.settle();
    pair.run(20);
    pair.assert_children(1);
    assert_settled(pair);
}

#[test]
fn q2_phase_1_expires_during_quick_mode() {
    for (at, who) in [(0, A), (0, B), (1, A), (1, B), (2, A), (2, B), (3, A), (3, B)] {
        let pair = &mut pair();
        let asked = pair.spi(A);
        rekey(pair, A);
        for number in 0..at {
            pair.deliver(if number % 2 == 0 { A } else { B });
        }
        expire(pair, who);
        pair.settle();
        pair.run(60);
        assert_eq!(pair.a.ended.first(), Some(&(asked, Ok(()))), "{at} {who:?}: {:?}", pair.a.log);
        assert_settled(pair);
    }
}

/// The first quick mode of all dies with its IKE_SA: it is asked for again.
#[test]
fn q3_phase_1_ends_before_the_first_pair_is_made() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        while !pair.a.conn.as_ref().unwrap().is_up() || pair.b.conn.is_none() {
            let from = if pair.a.outbox.is_empty() { B } else { A };
            pair.deliver(from);
        }
        pair.a.outbox.clear();
        expire(&mut pair, A);
        pair.settle();
        pair.run(60);
        pair.assert_children(1);
    }
}

#[test]
fn q4_a_delete_crosses_a_renewal() {
    for delivered in 0..4 {
        let pair = &mut pair();
        rekey(pair, A);
        for number in 0..delivered.min(3) {
            pair.deliver(if number % 2 == 0 { A } else { B });
        }
        let spi = pair.spi(B);
        pair.command(B, Command::DeleteChild(spi));
        pair.settle();
        pair.run(240);
        let left = pair.a.installed.len();
        assert!(left <= 1);
        pair.assert_children(left);
    }
}

#[test]
fn q5_the_third_message_is_lost() {
    for times in 1..=4 {
        let pair = &mut pair();
        rekey(pair, A);
        pair.deliver(A);
        for _ in 0..times {
            while pair.b.outbox.is_empty() {
                pair.pass(Duration::from_millis(100));
            }
            pair.deliver(B);
            let _ = pair.take(A);
        }
        pair.settle();
        assert_settled(pair);
    }
}

/// The third message never comes, but what the initiator sends by the pair does.
#[test]
fn q6_a_packet_shows_what_the_third_message_would_have() {
    let pair = &mut pair();
    let old = pair.spi(B);
    rekey(pair, A);
    pair.deliver(A);
    pair.deliver(B);
    let _ = pair.take(A);
    let new = *pair.b.installed.keys().find(|spi| **spi != old).unwrap();
    assert_eq!(pair.spi(B), old);
    pair.command(B, Command::InboundSeen(new));
    assert_eq!(pair.spi(B), new);
    assert_settled(pair);
}

#[test]
fn q7_the_second_message_is_repeated() {
    let pair = &mut pair();
    rekey(pair, A);
    pair.deliver(A);
    let second = pair.take(B);
    pair.put(B, &second);
    let third = pair.take(A);
    pair.put(B, &second);
    let again = pair.take(A);
    assert_eq!(third, again, "answered by the same octets");
    pair.put(A, &third);
    pair.put(A, &again);
    assert_settled(pair);
}

#[test]
fn q8_both_start_phase_1() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        pair.initiate_from(B);
        // One message of each in turn, so that both are done at the same time.
        for _ in 0..12 {
            for who in [A, B] {
                if !pair.side(who).outbox.is_empty() {
                    pair.deliver(who);
                }
            }
        }
        pair.settle();
        pair.run(20);
        pair.assert_children(1);
        assert_settled(&mut pair);
    }
}

#[test]
fn q9_both_renew_phase_1_and_keep_the_same() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = up(&left, &right);
        pair.command(A, Command::RekeyIke);
        pair.command(B, Command::RekeyIke);
        for _ in 0..12 {
            for who in [A, B] {
                if !pair.side(who).outbox.is_empty() {
                    pair.deliver(who);
                }
            }
        }
        pair.settle();
        pair.run(15);
        pair.assert_ike(1);
        assert_settled(&mut pair);
    }
}

#[test]
fn q10_a_message_of_the_old_phase_1_comes_after_the_new_one() {
    let pair = &mut pair();
    rekey(pair, A);
    let late = pair.take(A);
    pair.command(A, Command::RekeyIke);
    pair.settle();
    pair.put(A, &late);
    pair.settle();
    pair.run(5);
    assert_eq!(pair.a.ended.len(), 1, "on the one it was begun on");
    assert_settled(pair);
}

#[test]
fn q11_a_message_of_an_ike_sa_that_is_gone_is_dropped() {
    let pair = &mut pair();
    rekey(pair, A);
    let late = pair.take(A);
    pair.command(A, Command::RekeyIke);
    pair.settle();
    pair.run(100);
    let before = pair.b.installed.clone();
    pair.put(A, &late);
    assert_eq!(pair.b.installed, before);
    assert_settled(pair);
}

/// The last message of main mode is lost while the initiator's quick mode is not: it comes again.
#[test]
fn q12_quick_mode_overtakes_the_end_of_aggressive_mode() {
    let [left, right] = specs(Phase1::Aggressive);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    pair.deliver(A);
    pair.deliver(B);
    let third = pair.take(A);
    // Quick mode first.
    pair.deliver(A);
    pair.put(A, &third);
    pair.settle();
    pair.run(5);
    pair.assert_children(1);
    assert_settled(&mut pair);
}

#[test]
fn q13_an_initiator_that_is_asked_while_it_renews() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = up(&left, &right);
        pair.command(A, Command::RekeyIke);
        pair.deliver(A);
        rekey(&mut pair, B);
        pair.deliver(B);
        pair.settle();
        assert_settled(&mut pair);
    }
}

/// Whoever notices that its IKE_SA is known to nobody makes another rather than give up the pairs.
#[test]
fn q14_a_delete_of_phase_1_that_is_lost_costs_no_pair() {
    for who in [A, B] {
        let pair = &mut pair();
        pair.run(100);
        expire(pair, who);
        pair.side(who).outbox.clear();
        let other = if who == A { B } else { A };
        rekey(pair, other);
        pair.settle();
        pair.run(90);
        pair.assert_children(1);
        assert_settled(pair);
    }
}

/// So does one that asks whether the peer is alive: a new phase 1 decides.
#[test]
fn q14_a_delete_of_phase_1_that_is_lost_does_not_make_a_peer_dead() {
    for who in [A, B] {
        let [left, right] = specs(Phase1::Main);
        let dpd = Duration::from_secs(10);
        let mut pair = match who {
            A => up(&left, &Spec { dpd, ..right }),
            B => up(&Spec { dpd, ..left }, &right),
        };
        pair.run(100);
        let pairs = pair.a.installed.clone();
        // Who has ended it asks nothing, and so does not begin by itself.
        expire(&mut pair, who);
        pair.side(who).outbox.clear();
        pair.run(100);
        assert_eq!(pair.a.installed, pairs, "{who:?}: {:?}\n{:?}", pair.a.log, pair.b.log);
        assert_settled(&mut pair);
    }
}

/// But a peer that does not answer quick mode on a new one is gone, or does not want to.
#[test]
fn q15_a_peer_that_never_answers_quick_mode_is_given_up() {
    let [left, right] = specs(Phase1::Main);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    while !pair.a.conn.as_ref().unwrap().is_up() {
        let from = if pair.a.outbox.is_empty() { B } else { A };
        pair.deliver(from);
    }
    for _ in 0..100 {
        pair.a.outbox.clear();
        pair.pass(Duration::from_secs(1));
    }
    assert!(pair.a.conn.as_ref().unwrap().is_finished());
    assert!(pair.a.log.last().unwrap().contains("QUICK"), "{:?}", pair.a.log);
}

/// Delivers everything until both are silent, but what is to be lost.
fn settle_but(pair: &mut Pair, mut is_lost: impl FnMut(Who, &[u8]) -> bool) {
    while let Some(from) = [A, B].into_iter().find(|who| !pair.side(*who).outbox.is_empty()) {
        let message = pair.take(from);
        if !is_lost(from, &message.bytes) {
            pair.put(from, &message);
        }
    }
}

/// A peer that answers for one policy and says nothing to another is there: the pair of the one stays, and the other is asked for now and
/// then.
#[test]
fn q15_a_policy_that_the_peer_is_silent_about_costs_no_other() {
    const QUICK: u8 = 32;
    let [left, right] = specs(Phase1::Main).map(|spec| Spec { dpd: Duration::from_secs(10), ..spec });
    let alone = left.clone();
    let more = vec![(ts("10.7.0.0", "10.7.0.255"), ts("10.8.0.0", "10.8.0.255"))];
    let left = Spec { more, ..left };
    for is_old in [false, true] {
        let mut pair = if is_old { up(&alone, &right) } else { Pair::new(&left, &right) };
        if is_old {
            // The policy comes when the IKE_SA is old, and the peer is heard now and then.
            pair.run(100);
            pair.a.conn.as_mut().unwrap().set_config(left.config());
            pair.command(A, Command::CreateChild("net1".into()));
        } else {
            pair.initiate();
        }
        let mut of_first = None;
        for _ in 0..200 {
            settle_but(&mut pair, |from, message| {
                let id = message[20..24].to_vec();
                from == A && message[18] == QUICK && (is_old || *of_first.get_or_insert(id.clone()) != id)
            });
            pair.pass(Duration::from_secs(1));
        }
        let log = &pair.a.log;
        assert!(pair.a.conn.as_ref().unwrap().is_up() && pair.a.installed.len() == 1, "{is_old}: {log:?}");
        assert!(log.iter().filter(|told| told.contains("child failed")).count() >= 2, "{is_old}: {log:?}");
        assert_eq!(log.iter().filter(|told| *told == "established").count(), 1, "{is_old}: {log:?}");
    }
}

/// A pair whose third message never came is not kept where its IKE_SA ended, and the policy gets another.
#[test]
fn q16_a_pair_that_nobody_proved_goes() {
    let pair = &mut pair();
    rekey(pair, A);
    pair.deliver(A);
    pair.b.outbox.clear();
    assert_eq!(pair.b.installed.len(), 2);
    expire(pair, B);
    pair.settle();
    assert_settled(pair);
}

/// Of two quick modes that crossed one is deleted by who made it, and the one kept is not.
#[test]
fn q17_the_first_message_of_one_is_late() {
    for held in [A, B] {
        let pair = &mut pair();
        rekey(pair, A);
        rekey(pair, B);
        let late = pair.take(held);
        pair.settle();
        pair.run(1);
        pair.put(held, &late);
        assert_settled(pair);
    }
}

#[test]
fn q18_a_renewal_that_nobody_answers_leaves_the_pairs_for_a_while() {
    let pair = &mut pair();
    pair.command(A, Command::RekeyIke);
    for _ in 0..50 {
        pair.a.outbox.clear();
        pair.pass(Duration::from_secs(1));
    }
    assert!(pair.a.conn.as_ref().unwrap().is_up());
    assert!(pair.a.log.iter().any(|l| l.contains("not rekeyed")), "{:?}", pair.a.log);
    assert_settled(pair);
}

/// A peer that begins alone, and has ended phase 1 early, answers no first message. As long as packets come from it, it is there.
#[test]
fn q18_who_is_not_answered_without_an_ike_sa_keeps_pairs_that_carry_packets() {
    for dpd in [0, 10] {
        let [left, right] = specs(Phase1::Main).map(|spec| Spec { dpd: Duration::from_secs(dpd), ..spec });
        let mut pair = up(&left, &right);
        expire(&mut pair, A);
        pair.settle();
        rekey(&mut pair, A);
        let mut firsts = 0;
        for second in 0..900 {
            firsts += pair.a.outbox.drain(..).count();
            pair.b.outbox.clear();
            let asked = pair.a.asked;
            pair.pass(Duration::from_secs(1));
            if pair.a.asked > asked || second % 5 == 0 {
                let now = pair.now;
                pair.command(A, Command::Heard(Some(now)));
            }
        }
        assert_eq!(pair.a.installed.len(), 1, "{:?}", pair.a.log);
        assert!((10..60).contains(&firsts), "{firsts} first messages");
        // Its hard lifetime ends, or no packet comes any more.
        if dpd == 0 {
            let spi = pair.spi(A);
            pair.command(A, Command::ExpireChild(spi));
        }
        for _ in 0..700 {
            pair.a.outbox.clear();
            pair.pass(Duration::from_secs(1));
        }
        assert!(pair.a.conn.as_ref().unwrap().is_finished(), "{:?}", pair.a.log);
    }
}

/// An IKE_SA that was replaced and is kept for a while is no sign of life: who has none to go on by and hears nothing has to begin anew.
#[test]
fn q18_a_replaced_one_does_not_speak_for_a_peer_that_is_gone() {
    let pair = &mut pair();
    pair.command(B, Command::RekeyIke);
    pair.settle();
    let newest = pair.b.conn.as_ref().unwrap().spis().0.to_be_bytes();
    expire(pair, B);
    for message in std::mem::take(&mut pair.b.outbox) {
        if message.bytes[..8] == newest {
            pair.put(B, &message);
        }
    }
    assert_eq!(pair.a.conn.as_ref().unwrap().ike_sas(), 1, "the one that was replaced: {:?}", pair.a.log);
    rekey(pair, A);
    let mut firsts = 0;
    for _ in 0..80 {
        firsts += pair.a.outbox.drain(..).filter(|message| message.bytes[8..16] == [0; 8]).count();
        pair.pass(Duration::from_secs(1));
    }
    assert!(pair.a.conn.as_ref().unwrap().is_finished(), "{:?}", pair.a.log);
    assert!((2..10).contains(&firsts), "{firsts} first messages");
}

/// The peer starts from nothing while we renew phase 1: its new connection is the one.
#[test]
fn q19_initial_contact_comes_during_a_renewal() {
    for mode in MODES {
        for delivered in 0..4 {
            let [left, right] = specs(mode);
            let mut pair = up(&left, &right);
            pair.run(20);
            pair.command(B, Command::RekeyIke);
            for number in 0..delivered {
                let from = if number % 2 == 0 { B } else { A };
                if !pair.side(from).outbox.is_empty() {
                    pair.deliver(from);
                }
            }
            // A has lost everything, and what was on its way is lost as well.
            pair.a.outbox.clear();
            pair.a.conn = None;
            pair.a.half_open.clear();
            pair.a.installed.clear();
            pair.a.registered.clear();
            pair.a.host = Pair::new(&left, &right).a.host;
            pair.a.host.random_from(77);
            pair.a.host.skip_spis(3);
            pair.initiate();
            pair.settle();
            pair.run(120);
            // What B had begun crossed with it, and went with its old connection. If that was to be kept, A is alone with it
            // until nobody answers there, and its host begins anew.
            if pair.a.conn.as_ref().unwrap().is_finished() {
                pair.initiate();
                pair.settle();
            }
            pair.run(240);
            pair.assert_children(1);
            assert_settled(&mut pair);
        }
    }
}

/// Of two quick modes that crossed the peer may never get one. The other is used meanwhile, whichever is to be kept.
#[test]
fn q20_the_second_message_of_one_is_late() {
    for (late, other) in [(A, B), (B, A)] {
        let pair = &mut pair();
        let old = pair.spi(late);
        rekey(pair, A);
        rekey(pair, B);
        pair.deliver(late);
        pair.deliver(other);
        let answer = pair.take(other);
        pair.deliver(late);
        pair.deliver(other);
        let used = pair.spi(late);
        assert_ne!(used, old, "{late:?}");
        let seen = pair.side(late).installed[&used].spi_out;
        pair.command(other, Command::InboundSeen(seen));
        assert_eq!(pair.spi(other), seen, "{late:?}");
        pair.put(other, &answer);
        assert_settled(pair);
    }
}
