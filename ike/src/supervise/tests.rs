//! What the supervisor decides.

use proptest::prelude::*;

use super::*;
use crate::event::ChildEnd;

const SECOND: Duration = Duration::from_secs(1);

fn due(s: &Supervisor) -> Instant {
    s.poll_timeout().unwrap()
}

#[test]
fn failures_back_off_and_success_resets() {
    let now = Instant::now();
    let mut s = Supervisor::new(now, Plan::starting(true));
    let mut waits = Vec::new();
    for _ in 0..9 {
        let at = due(&s);
        assert_eq!(s.handle_timeout(at), Some(Action::Connect));
        s.ended(at, 1, Ended::Failed, 0);
        waits.push((due(&s) - at).as_secs());
    }
    assert_eq!(waits, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    // Whoever takes it down and up again means a fresh start.
    s.terminate();
    assert!(s.try_now());
    s.ended(now, 1, Ended::Failed, 0);
    assert_eq!(due(&s) - now, SECOND);
    assert!(s.try_now());
    assert!(s.established(now, 2, now, true, 7, false).is_empty());
    // A connection is a success once it has served for a time.
    s.child_up(now, 2, "net");
    s.ended(now + PROVEN, 2, Ended::ByPeer, 0);
    assert_eq!(due(&s) - (now + PROVEN), SECOND);
}

#[test]
fn a_responder_waits() {
    let now = Instant::now();
    let mut s = Supervisor::new(now, Plan::starting(false));
    assert_eq!((s.state(), s.poll_timeout()), (State::Waiting, None));
    s.established(now, 1, now, false, 7, true);
    s.ended(now, 1, Ended::Failed, 0);
    assert_eq!(s.state(), State::Waiting);
    assert!(s.try_now());
}

#[test]
fn a_newer_connection_replaces_an_older_one() {
    let now = Instant::now();
    let mut s = Supervisor::new(now, Plan::starting(false));
    s.established(now, 1, now, false, 7, false);
    assert_eq!(s.established(now, 2, now, false, 8, true), [Disposal::Abandon(1)]);
    assert_eq!(s.established(now, 3, now, true, 9, false), [Disposal::Close(2)]);
    assert_eq!(s.current(), Some(3));
}

#[test]
fn a_peer_that_authenticates_anew_deletes_the_old_connection_itself() {
    let now = Instant::now();
    let mut s = Supervisor::new(now, Plan::starting(false));
    s.established(now, 1, now, false, 7, false);
    assert!(s.established(now, 2, now, false, 8, false).is_empty());
    assert_eq!((s.current(), s.poll_timeout()), (Some(2), Some(now + SUPERSEDED)));
    // Until the peer uses the new one, we do not.
    assert_eq!(s.sender(), Some(1));
    s.used(2);
    assert_eq!(s.sender(), Some(2));
    // What is under way by the old one still arrives when it goes, but not when the tunnel goes down.
    assert_eq!((s.linger(1, Duration::ZERO), s.linger(2, Duration::ZERO)), (LINGER_CHILD, Duration::ZERO));
    s.ended(now, 1, Ended::ByPeer, 0);
    assert_eq!((s.current(), s.poll_timeout()), (Some(2), None));
}

#[test]
fn a_connection_that_the_peer_replaced_and_forgot_is_closed() {
    let now = Instant::now();
    let mut s = Supervisor::new(now, Plan::starting(false));
    s.established(now, 1, now, false, 7, false);
    s.established(now, 2, now, false, 8, false);
    // A third: the first has had its time.
    assert_eq!(s.established(now, 3, now, false, 9, false), [Disposal::Close(1)]);
    assert_eq!(s.handle_timeout(now + SUPERSEDED), Some(Action::Close(2)));
    assert_eq!(s.handle_timeout(now + SUPERSEDED), None);
    assert_eq!(s.linger(2, Duration::ZERO), LINGER_CHILD);
}

#[test]
fn the_old_connection_stays_if_the_new_one_goes() {
    let now = Instant::now();
    let mut s = Supervisor::new(now, Plan::starting(false));
    s.established(now, 1, now, false, 7, false);
    s.established(now, 2, now, false, 8, false);
    s.ended(now, 2, Ended::Failed, 0);
    assert_eq!((s.current(), s.state(), s.poll_timeout()), (Some(1), State::Established, None));
}

#[test]
fn a_restarted_peer_is_no_crossing() {
    let now = Instant::now();
    let mut s = Supervisor::new(now, Plan::starting(true));
    s.established(now, 1, now, true, 7, false);
    let later = now + SECOND;
    assert_eq!(s.established(later + SECOND, 2, later, false, 9, true), [Disposal::Abandon(1)]);
}

#[test]
fn crossing_connections_are_settled_alike_on_both_sides() {
    let now = Instant::now();
    // Connection X was started by A with SPI 5, Y by B with SPI 9; each side sees them in another order.
    for x_first in [true, false] {
        let (mut a, mut b) =
            (Supervisor::new(now, Plan::starting(true)), Supervisor::new(now, Plan::starting(true)));
        let (mut closed, later) = (Vec::new(), now + SECOND + REAUTH_OVERLAP);
        for (name, side, is_a) in [("a", &mut a, true), ("b", &mut b, false)] {
            let order = if x_first == is_a { [(1, 5), (2, 9)] } else { [(2, 9), (1, 5)] };
            for (id, spi) in order {
                let initiator = (id == 1) == is_a;
                let disposals = side.established(now + SECOND, id, now, initiator, spi, true);
                closed.extend(disposals.into_iter().map(|d| (name, d)));
            }
            // One that was in use stays until the other side has the one that takes its place.
            let due = side.handle_timeout(later);
            closed.extend(due.map(|action| match action {
                Action::Close(id) => (name, Disposal::Close(id)),
                other => panic!("{other:?}"),
            }));
            assert_eq!(side.current(), Some(1), "both keep the lower");
        }
        assert_eq!(closed, [("b", Disposal::Close(2))], "its initiator closes the other");
        assert_eq!(a.sender(), Some(1), "it was made by this side");
        // Should it not, the other side does.
        assert_eq!(a.handle_timeout(now + SECOND + SUPERSEDED), Some(Action::Close(2)));
        assert_eq!(b.poll_timeout(), None);
    }
}

#[test]
fn a_child_that_is_refused_is_asked_for_ever_later() {
    let (now, net, other): (_, Arc<str>, Arc<str>) = (Instant::now(), "net".into(), "other".into());
    let mut s = Supervisor::new(now, Plan::starting(true));
    s.try_now();
    s.established(now, 4, now, true, 7, false);
    let mut at = now;
    let mut refused = |s: &mut Supervisor, wait: u64| {
        s.child_refused(at, &net, true);
        at += Duration::from_secs(wait);
        assert_eq!(s.poll_timeout(), Some(at));
        assert_eq!(s.handle_timeout(at), Some(Action::Restore(4, net.clone())));
    };
    for wait in [2, 4, 8, 16, 32, 60, 60] {
        refused(&mut s, wait);
    }
    s.child_up(now, 4, &other);
    refused(&mut s, 60);
    // To come up is no success yet.
    s.child_up(now, 4, &net);
    refused(&mut s, 60);
    // Another connection, another peer perhaps: it may be willing.
    s.established(now, 5, now, true, 8, true);
    s.child_refused(now, &net, true);
    assert_eq!(s.poll_timeout(), Some(now + RESTORE));
}

#[test]
fn a_lost_child_is_asked_for_again_by_the_side_that_starts() {
    let (now, net): (_, Arc<str>) = (Instant::now(), "net".into());
    for start in [true, false] {
        let mut s = Supervisor::new(now, Plan::starting(start));
        s.try_now();
        s.established(now, 4, now, true, 7, false);
        for reason in [ChildEnd::Rekeyed, ChildEnd::DeletedByPeer, ChildEnd::Deleted] {
            s.child_ended(now, 4, &net, (reason, PROVEN), true);
            assert_eq!(s.poll_timeout(), None, "another pair carries on");
        }
        // The successor of a rekeyed pair was deleted before it: the rekeyed one is the last to go.
        for reason in [ChildEnd::Rekeyed, ChildEnd::Redundant, ChildEnd::DeletedByPeer, ChildEnd::Expired] {
            s.child_ended(now, 4, &net, (reason, PROVEN), false);
            s.child_missing(now, &net);
            assert_eq!(s.poll_timeout(), start.then_some(now + RESTORE), "{reason}");
            let action = s.handle_timeout(now + RESTORE);
            assert_eq!(action, start.then(|| Action::Restore(4, net.clone())));
            assert_eq!(s.handle_timeout(now + RESTORE), None);
        }
    }
}

#[test]
fn a_terminated_peer_stays_down_until_told() {
    let now = Instant::now();
    let mut s = Supervisor::new(now, Plan::starting(true));
    s.try_now();
    s.established(now, 1, now, true, 7, false);
    s.terminate();
    s.ended(now, 1, Ended::ByPeer, 0);
    assert_eq!((s.state(), s.poll_timeout()), (State::Terminated, None));
    assert_eq!(s.wanted(now), Demand::Refused);
    assert!(s.try_now());
}

#[test]
fn a_peer_that_came_elsewhere_is_no_longer_kept_down() {
    let (t0, [us, other, demand]) = (Instant::now(), [Start::Us, Start::Peer, Start::OnDemand]);
    for (start, state) in [(us, State::BackingOff(t0)), (other, State::Waiting), (demand, State::Waiting)] {
        let mut s = Supervisor::new(t0, Plan { start, ..Plan::starting(true) });
        s.let_be(t0 + BACKOFF_FIRST);
        assert_ne!(s.poll_timeout(), Some(t0 + BACKOFF_FIRST), "it was not taken down");
        s.terminate();
        s.let_be(t0);
        assert_eq!(s.state(), state);
    }
}

fn on_demand() -> Plan {
    Plan { start: Start::OnDemand, lost: Start::OnDemand, reauth: None }
}

#[test]
fn a_packet_starts_the_negotiation_once() {
    let now = Instant::now();
    let mut s = Supervisor::new(now, on_demand());
    assert_eq!((s.state(), s.poll_timeout()), (State::Waiting, None));
    assert_eq!(s.wanted(now), Demand::Connect);
    assert_eq!(s.wanted(now), Demand::Pending);
    s.established(now, 1, now, true, 7, false);
    assert_eq!(s.wanted(now), Demand::Child(1));
    // Deleted by the peer after it has served: the next packet brings it up again, at once.
    s.child_up(now, 1, "net");
    s.ended(now + PROVEN, 1, Ended::ByPeer, 255);
    assert_eq!((s.state(), s.poll_timeout()), (State::Waiting, None));
    assert_eq!(s.wanted(now + PROVEN), Demand::Connect);
}

#[test]
fn packets_do_not_press_a_peer_that_refuses() {
    let mut now = Instant::now();
    let mut s = Supervisor::new(now, on_demand());
    for wait in [1, 2, 4] {
        assert_eq!(s.wanted(now), Demand::Connect);
        s.ended(now, 1, Ended::Failed, 0);
        let early = now + SECOND * wait - Duration::from_millis(1);
        assert_eq!(s.wanted(early), Demand::Refused);
        now += SECOND * wait;
    }
    assert_eq!(s.wanted(now), Demand::Connect);
}

#[test]
fn packets_for_a_peer_that_begins_itself_do_not_wait() {
    let now = Instant::now();
    assert_eq!(Supervisor::new(now, Plan::starting(false)).wanted(now), Demand::Refused);
    // One that we start to anyway comes by itself.
    assert_eq!(Supervisor::new(now, Plan::starting(true)).wanted(now), Demand::Pending);
}

#[test]
fn a_lost_peer_is_restarted_held_or_cleared_as_planned() {
    let now = Instant::now();
    for start in [Start::Peer, Start::OnDemand, Start::Us] {
        for lost in [Start::Peer, Start::OnDemand, Start::Us] {
            let mut s = Supervisor::new(now, Plan { start, lost, reauth: None });
            s.established(now, 1, now, true, 7, false);
            s.ended(now, 1, Ended::Failed, 0);
            match lost {
                Start::Us => assert_eq!(s.handle_timeout(due(&s)), Some(Action::Connect)),
                Start::OnDemand => assert_eq!(s.wanted(now + SECOND), Demand::Connect),
                Start::Peer => {
                    assert_eq!((s.poll_timeout(), s.wanted(now)), (None, Demand::Refused));
                }
            }
            // An attempt that fails goes on the same way.
            if lost == Start::Us {
                s.ended(now, 2, Ended::Failed, 0);
                assert_eq!(s.handle_timeout(due(&s)), Some(Action::Connect));
            }
            // Once up again, the ordinary plan stands.
            s.established(now, 3, now, true, 9, false);
            s.ended(now, 3, Ended::ByPeer, 0);
            let expected = if start == Start::Us { State::BackingOff(due(&s)) } else { State::Waiting };
            assert_eq!(s.state(), expected);
        }
    }
}

#[test]
fn we_authenticate_anew_before_the_old_connection_goes() {
    let now = Instant::now();
    let hour = SECOND * 3600;
    let mut s = Supervisor::new(now, Plan { reauth: Some(hour), ..Plan::starting(true) });
    s.try_now();
    s.established(now, 1, now, true, 7, false);
    assert_eq!(due(&s), now + hour);
    assert_eq!(s.handle_timeout(now + hour), Some(Action::Connect));
    // Refused: the old one stays, and it is tried again.
    s.ended(now + hour, 2, Ended::Failed, 0);
    assert_eq!((s.state(), s.current()), (State::Established, Some(1)));
    let again = due(&s);
    assert_eq!(again, now + hour + BACKOFF_LAST);
    assert_eq!(s.handle_timeout(again), Some(Action::Connect));
    assert!(s.established(again, 3, again, true, 9, false).is_empty());
    assert_eq!((s.sender(), s.current()), (Some(3), Some(3)));
    assert_eq!(due(&s), again + REAUTH_OVERLAP);
    assert_eq!(s.handle_timeout(again + REAUTH_OVERLAP), Some(Action::Close(1)));
    s.ended(again, 1, Ended::ByPeer, 0);
    assert_eq!(due(&s), again + hour);
}

/// While two connections that crossed still stand, a policy's pair on the one that stays is deleted. The other one's pair is
/// no consolation: it goes with it.
#[test]
fn a_pair_of_a_connection_that_goes_is_no_consolation() {
    let (now, net): (_, Arc<str>) = (Instant::now(), "net".into());
    let mut s = Supervisor::new(now, Plan::starting(true));
    s.try_now();
    s.established(now + SECOND, 1, now, false, 9, false);
    s.established(now + SECOND, 2, now, true, 5, false);
    assert_eq!(s.current(), Some(2));
    s.child_ended(now, 2, &net, (ChildEnd::DeletedByPeer, PROVEN), false);
    assert_eq!(s.handle_timeout(now + RESTORE), Some(Action::Restore(2, net.clone())));
    // The last pair of a policy was on the one that goes.
    s.child_ended(now, 1, &net, (ChildEnd::IkeClosed, PROVEN), false);
    assert_eq!(s.handle_timeout(now + RESTORE), Some(Action::Restore(2, net.clone())));
    // With one on the other it is not missed, and the end of the connection in use decides for its own.
    s.child_ended(now, 1, &net, (ChildEnd::IkeClosed, PROVEN), true);
    s.child_ended(now, 2, &net, (ChildEnd::IkeClosed, PROVEN), false);
    assert_eq!(s.handle_timeout(now + RESTORE), None);
}

#[test]
fn a_changed_plan_holds_at_once_where_nothing_is_up_and_afterwards_where_something_is() {
    let now = Instant::now();
    let plan = |start| Plan { start, lost: start, reauth: None };
    let every = [Start::Peer, Start::OnDemand, Start::Us];
    // What the supervisor does by itself and for a packet, when nothing is up.
    let idle = |s: &mut Supervisor, start: Start, at: Instant| match start {
        Start::Us => assert_eq!(s.handle_timeout(due(s)), Some(Action::Connect)),
        Start::OnDemand => {
            assert_eq!((s.poll_timeout(), s.wanted(at)), (None, Demand::Connect));
        }
        Start::Peer => assert_eq!((s.poll_timeout(), s.wanted(at)), (None, Demand::Refused)),
    };
    for before in every {
        for after in every {
            let mut s = Supervisor::new(now, plan(before));
            s.set_plan(now, plan(after));
            idle(&mut s, after, now);

            let mut s = Supervisor::new(now, plan(before));
            s.established(now, 1, now, true, 7, false);
            s.set_plan(now, plan(after));
            assert_eq!((s.state(), s.poll_timeout()), (State::Established, None));
            s.ended(now, 1, Ended::ByPeer, 0);
            idle(&mut s, after, now + SECOND);

            // Taken down by command it stays down, until somebody orders that we begin or that packets do.
            let mut s = Supervisor::new(now, plan(before));
            s.terminate();
            s.set_plan(now, plan(after));
            assert_eq!((s.state(), s.poll_timeout()), (State::Terminated, None));
            assert_eq!(s.wanted(now), Demand::Refused);
            s.lift(now);
            if after == Start::Peer {
                assert_eq!((s.state(), s.poll_timeout()), (State::Terminated, None));
            } else {
                idle(&mut s, after, now);
            }
        }
    }
}

#[test]
fn another_time_for_authenticating_anew_begins_nothing() {
    let now = Instant::now();
    let plan = |reauth| Plan { start: Start::Us, lost: Start::Peer, reauth: Some(SECOND * reauth) };
    // Lost, and left to the peer.
    let mut s = Supervisor::new(now, plan(100));
    s.established(now, 1, now, true, 7, false);
    s.ended(now, 1, Ended::Failed, 0);
    let after = (s.state(), s.poll_timeout());
    assert_eq!(after, (State::Waiting, None));
    s.set_plan(now, plan(99));
    assert_eq!((s.state(), s.poll_timeout()), after);
    assert_eq!(s.wanted(now), Demand::Refused);
}

/// The same of a tunnel that we restart though it is not up to us to begin with it.
#[test]
fn another_time_for_authenticating_anew_ends_no_restart() {
    let now = Instant::now();
    for start in [Start::Peer, Start::OnDemand] {
        let plan = |reauth| Plan { start, lost: Start::Us, reauth: Some(SECOND * reauth) };
        let mut s = Supervisor::new(now, plan(100));
        s.established(now, 1, now, false, 7, false);
        s.ended(now, 1, Ended::Failed, 0);
        let after = (s.state(), s.poll_timeout());
        assert!(matches!(after.0, State::BackingOff(_)), "{after:?}");
        s.set_plan(now, plan(99));
        assert_eq!((s.state(), s.poll_timeout()), after, "{start:?}");
        // Who begins is said anew: that ends it.
        s.set_plan(now, Plan { lost: Start::Peer, ..plan(99) });
        assert_eq!(s.state(), State::Waiting);
    }
}

#[test]
fn a_changed_time_for_authenticating_anew_counts_from_when_the_connection_came_up() {
    let now = Instant::now();
    let hour = SECOND * 3600;
    let plan = |reauth| Plan { reauth, ..Plan::starting(true) };
    let mut s = Supervisor::new(now, plan(None));
    s.established(now, 1, now, true, 7, false);
    assert_eq!(s.attempts(), 0);
    s.set_plan(now + hour, plan(Some(hour * 3)));
    assert_eq!(due(&s), now + hour * 3);
    // What has passed is due at once.
    s.set_plan(now + hour * 2, plan(Some(hour)));
    assert_eq!(due(&s), now + hour * 2);
    assert_eq!(s.handle_timeout(now + hour * 2), Some(Action::Connect));
    assert_eq!(s.attempts(), 1);
    s.set_plan(now + hour * 2, plan(None));
    assert_eq!(s.poll_timeout(), None);
}

#[test]
fn refusals_are_remembered_for_so_many_policies_only() {
    let mut now = Instant::now();
    let mut s = Supervisor::new(now, Plan::starting(true));
    s.established(now, 1, now, true, 7, false);
    for n in 0..3 * MAX_RESTORES {
        let name: Arc<str> = format!("net{n}").into();
        s.child_refused(now, &name, true);
        now = due(&s);
        assert_eq!(s.handle_timeout(now), Some(Action::Restore(1, name)));
        assert!(s.refusals.len() <= MAX_RESTORES);
    }
}

/// What a peer makes of a connection: how long it lets us wait for it, whether it comes up and carries a Child SA, and how
/// long it lasts. It never lasts long enough to be a success.
fn short_lives() -> impl Strategy<Value = Vec<(u64, bool, bool, u64, bool)>> {
    let lasts = 0..PROVEN.as_secs();
    prop::collection::vec((0u64..60, any::<bool>(), any::<bool>(), lasts, any::<bool>()), 1..40)
}

proptest! {
    /// However a peer ends connections before they have served, it is asked ever more seldom.
    #[test]
    fn connections_that_do_not_last_are_no_success(lives in short_lives(), on_demand: bool) {
        let net: Arc<str> = "net".into();
        let mut now = Instant::now();
        let mut s = Supervisor::new(now, if on_demand { self::on_demand() } else { Plan::starting(true) });
        for (id, (before, comes_up, carries, lasts, by_peer)) in (1..).zip(lives) {
            if on_demand {
                prop_assert_eq!(s.wanted(now), Demand::Connect);
            } else {
                prop_assert_eq!(s.handle_timeout(now), Some(Action::Connect));
            }
            let began = now;
            now += SECOND * u32::try_from(before).unwrap();
            if comes_up {
                s.established(now, id, began, true, id, false);
                if carries {
                    s.child_up(now, id, &net);
                }
                now += SECOND * u32::try_from(lasts).unwrap();
            }
            let how = if comes_up && by_peer { Ended::ByPeer } else { Ended::Failed };
            s.ended(now, id, how, 0);
            let wait = (BACKOFF_FIRST * 2u32.pow(u32::try_from(id - 1).unwrap().min(10))).min(BACKOFF_LAST);
            if on_demand {
                // After the first that came up a packet is welcome at once.
                if id > 1 || !comes_up {
                    prop_assert_eq!(s.wanted(now + wait - Duration::from_millis(1)), Demand::Refused);
                }
            } else {
                prop_assert_eq!(s.poll_timeout(), Some(now + wait));
            }
            now += wait;
        }
        // One that serves is a success, however it ends, and the next wait is the first again.
        s.try_now();
        s.established(now, 1000, now, true, 7, false);
        s.child_up(now, 1000, &net);
        s.ended(now + PROVEN, 1000, Ended::Failed, 0);
        match on_demand {
            true => prop_assert_eq!(s.wanted(now + PROVEN), Demand::Connect),
            false => prop_assert_eq!(s.poll_timeout(), Some(now + PROVEN + BACKOFF_FIRST)),
        }
    }
}

#[test]
fn what_we_close_ourselves_is_not_held_against_the_peer() {
    let now = Instant::now();
    let mut s = Supervisor::new(now, Plan::starting(true));
    for id in 1..9 {
        assert!(s.try_now());
        s.established(now, id, now, true, id, false);
        s.ended(now, id, Ended::ByUs, 0);
        assert_eq!(due(&s), now + BACKOFF_FIRST);
    }
}
