//! Pairs for resources (RFC 9611) asked for and answered by peers that know little of it, or want too much.

use std::time::Duration;

use ike::Command;
use ike::wire::numbers::{ExchangeType, NotifyType};
use ike::wire::payload::{Notify, Payload};

use crate::kit::{A, B, Spec, ts};
use crate::peer::{Hostile, chain, child_request, errors, esp_answer, notify, selectors};

const CHILD: ExchangeType = ExchangeType::CREATE_CHILD_SA;

fn resource(data: &[u8]) -> Payload {
    Payload::Notify(Notify::with_data(NotifyType::SA_RESOURCE_INFO, data.to_vec()))
}

/// A connection of A that asks for two pairs beside its own, with the first request under way.
fn asking() -> Hostile {
    let mut h = Hostile::up();
    let config = Spec { resources: 3, ..Spec::left() }.config();
    h.pair.a.conn.as_mut().unwrap().set_config(config);
    h.pair.pass(Duration::ZERO);
    let asked = h.asked(A).unwrap();
    let info = asked.iter().find_map(|p| match p {
        Payload::Notify(n) if n.kind == NotifyType::SA_RESOURCE_INFO => Some(n.data.clone()),
        _ => None,
    });
    assert_eq!(info, Some(vec![0, 0, 0, 1]), "{asked:?}");
    h
}

fn answer(more: Vec<Payload>) -> Vec<Payload> {
    let [i, r] = selectors(A);
    [vec![esp_answer("aes128gcm16-esn", 0x7777), Payload::Nonce(vec![8; 32]), i, r], more].concat()
}

#[test]
fn whatever_identifies_a_resource_is_taken_and_the_bound_holds() {
    let mut h = Hostile::up_with(&Spec::left(), &Spec { resources: 4, ..Spec::right() });
    for (spi, data) in [(0x9001, vec![]), (0x9002, vec![0xff]), (0x9003, vec![7; 1000])] {
        let request = [vec![resource(&data)], child_request(A, spi)].concat();
        let answer = h.ask(A, CHILD, &request).unwrap();
        assert!(errors(&answer).is_empty(), "{answer:?}");
        let says = |p: &Payload| matches!(p, Payload::Notify(n) if n.kind == NotifyType::SA_RESOURCE_INFO);
        assert_eq!(answer.iter().filter(|p| says(p)).count(), 1, "{answer:?}");
    }
    let request = [vec![resource(&[1])], child_request(A, 0x9004)].concat();
    h.assert_refused(A, CHILD, chain(&request), NotifyType::TS_MAX_QUEUE);
    assert!(h.pair.b.log.iter().all(|line| !line.contains("failed")), "{:?}", h.pair.b.log);
    // They are no pairs for other selectors, and one for others is none of them.
    let mut request = [vec![resource(&[1])], child_request(A, 0x9005)].concat();
    request[3] = Payload::TsI(vec![ts("10.1.0.0", "10.1.0.255")]);
    let answer = h.ask(A, CHILD, &request).unwrap();
    assert!(errors(&answer).is_empty(), "{answer:?}");
    let mut names: Vec<_> = h.pair.b.installed.values().map(|sa| sa.policy.to_string()).collect();
    names.sort();
    assert_eq!(names, ["net", "net#1", "net#2", "net#3", "net/1"]);
    // Who says nothing of resources replaces the pair of the policy alone.
    let answer = h.ask(A, CHILD, &child_request(A, 0x9006)).unwrap();
    assert!(errors(&answer).is_empty(), "{answer:?}");
    let sending = h.pair.b.installed.values().filter(|sa| sa.active).count();
    assert_eq!((h.pair.b.installed.len(), sending), (6, 5));
}

#[test]
fn whoever_refuses_is_asked_no_more() {
    for error in [
        NotifyType::TS_MAX_QUEUE,
        NotifyType::NO_ADDITIONAL_SAS,
        NotifyType::NO_PROPOSAL_CHOSEN,
        NotifyType::TS_UNACCEPTABLE,
        NotifyType::CHILD_SA_NOT_FOUND,
        NotifyType::SINGLE_PAIR_REQUIRED,
        NotifyType(1234),
    ] {
        let mut h = asking();
        h.answer(A, &[notify(error)]);
        h.pair.pass(Duration::from_secs(3600));
        assert!(h.pair.a.outbox.is_empty(), "{error}");
        assert_eq!(h.pair.a.installed.len(), 1);
        assert!(h.pair.a.log.iter().all(|line| !line.contains("failed")), "{:?}", h.pair.a.log);
    }
}

#[test]
fn a_busy_peer_is_asked_again_later() {
    let mut h = asking();
    h.answer(A, &[notify(NotifyType::TEMPORARY_FAILURE)]);
    h.pair.pass(Duration::from_secs(1));
    assert!(h.pair.a.outbox.is_empty());
    h.pair.pass(Duration::from_secs(3));
    h.pair.a.outbox.truncate(1);
    h.answer(A, &answer(vec![resource(&[])]));
    assert_eq!(h.pair.a.installed.len(), 2);
    assert!(h.asked(A).is_some(), "and for the next");
}

#[test]
fn a_peer_that_does_not_say_what_it_makes_is_asked_for_no_more_of_it() {
    let mut h = asking();
    h.answer(A, &answer(vec![]));
    assert_eq!(h.pair.a.installed.len(), 2);
    h.pair.pass(Duration::from_secs(3600));
    assert!(h.pair.a.outbox.is_empty());
}

#[test]
fn a_pair_that_carries_less_stands_beside_nothing() {
    let mut h = asking();
    let mut less = answer(vec![resource(&[])]);
    less[3] = Payload::TsR(vec![ts("10.2.0.0", "10.2.0.255")]);
    h.answer(A, &less);
    assert_eq!(h.pair.a.installed.len(), 1);
    let asked = h.asked(A).unwrap();
    assert!(matches!(asked.as_slice(), [Payload::Delete { spis, .. }] if spis.len() == 1), "{asked:?}");
    h.answer(A, &[]);
    h.pair.pass(Duration::from_secs(3600));
    assert!(h.pair.a.outbox.is_empty());
    h.command(A, Command::Probe);
    assert!(h.asked(A).is_some_and(|asked| asked.is_empty()), "it goes on");
    assert_eq!(h.pair.side(B).installed.len(), 1);
}
