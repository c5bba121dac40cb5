//! USE_TRANSPORT_MODE (RFC 7296 section 1.3.1) where it does not belong, and left out where it does.

use ike::Command;
use ike::config::Mode;
use ike::wire::numbers::{ExchangeType, NotifyType, ProtocolId};
use ike::wire::payload::{Notify, Payload};

use crate::kit::{A, Spec, ts};
use crate::peer::{Hostile, chain, child_request, errors, esp_answer, esp_offer, notify, selectors};

const CHILD: ExchangeType = ExchangeType::CREATE_CHILD_SA;

/// The hosts of the kit, and a pair in transport mode between them.
fn transport() -> Hostile {
    let (l, r) = (vec![ts("192.0.2.1", "192.0.2.1")], vec![ts("192.0.2.2", "192.0.2.2")]);
    let left = Spec { local: l.clone(), remote: r.clone(), mode: Mode::Transport, ..Spec::left() };
    let right = Spec { local: r, remote: l, mode: Mode::Transport, ..Spec::right() };
    Hostile::up_with(&left, &right)
}

fn hosts() -> [Payload; 2] {
    [Payload::TsI(vec![ts("192.0.2.1", "192.0.2.1")]), Payload::TsR(vec![ts("192.0.2.2", "192.0.2.2")])]
}

fn request() -> Vec<Payload> {
    let [i, r] = hosts();
    vec![esp_offer("aes128gcm16", 0x9999), Payload::Nonce(vec![7; 32]), i, r]
}

fn agrees(payloads: &[Payload]) -> bool {
    payloads.iter().any(|p| matches!(p, Payload::Notify(n) if n.kind == NotifyType::USE_TRANSPORT_MODE))
}

#[test]
fn the_rekeying_of_a_transport_pair_cannot_make_a_tunnel_of_it() {
    let mut h = transport();
    let rekey = Payload::Notify(Notify::about_esp(NotifyType::REKEY_SA, h.pair.spi(A)));
    for request in [request(), [vec![rekey], request()].concat()] {
        h.assert_refused(A, CHILD, chain(&request), NotifyType::NO_PROPOSAL_CHOSEN);
    }
    h.assert_alive();
}

#[test]
fn only_the_hosts_themselves_may_be_asked_for() {
    let mut h = transport();
    let asks = notify(NotifyType::USE_TRANSPORT_MODE);
    let mut others = [vec![asks.clone()], request()].concat();
    others[3] = Payload::TsI(vec![ts("192.0.2.3", "192.0.2.9")]);
    h.assert_refused(A, CHILD, chain(&others), NotifyType::TS_UNACCEPTABLE);
    // More than the hosts is narrowed to them.
    let mut wide = [vec![asks], request()].concat();
    wide[3] = Payload::TsI(vec![ts("0.0.0.0", "255.255.255.255")]);
    let answer = h.ask(A, CHILD, &wide).unwrap();
    assert!(errors(&answer).is_empty() && agrees(&answer), "{answer:?}");
    assert!(answer.contains(&hosts()[0]), "{answer:?}");
    assert!(h.pair.b.installed.values().all(|sa| sa.mode == Mode::Transport));
}

#[test]
fn a_tunnel_stays_one_however_it_is_asked() {
    let odd = Notify {
        protocol: ProtocolId::ESP,
        spi: vec![1, 2, 3, 4],
        kind: NotifyType::USE_TRANSPORT_MODE,
        data: vec![0; 900],
    };
    let plain = notify(NotifyType::USE_TRANSPORT_MODE);
    for asks in [vec![plain.clone()], vec![plain.clone(), plain], vec![Payload::Notify(odd)]] {
        let mut h = Hostile::up();
        let answer = h.ask(A, CHILD, &[asks, child_request(A, 0x9999)].concat()).unwrap();
        assert!(errors(&answer).is_empty() && !agrees(&answer), "{answer:?}");
        assert!(h.pair.b.installed.values().all(|sa| sa.mode == Mode::Tunnel));
    }
}

#[test]
fn an_answer_of_another_mode_is_not_used() {
    for transport_child in [false, true] {
        let mut h = if transport_child { transport() } else { Hostile::up() };
        let [i, r] = if transport_child { hosts() } else { selectors(A) };
        let spi = h.pair.spi(A);
        h.command(A, Command::RekeyChild(spi));
        assert_eq!(agrees(&h.asked(A).unwrap()), transport_child);
        let mut answer = vec![esp_answer("aes128gcm16-esn", 7), Payload::Nonce(vec![9; 32]), i, r];
        if !transport_child {
            answer.push(notify(NotifyType::USE_TRANSPORT_MODE));
        }
        h.answer(A, &answer);
        assert!(h.pair.a.log.iter().any(|line| line.contains("mode, configured is")), "{:?}", h.pair.a.log);
        assert_eq!(h.pair.a.installed.len(), 1, "the old pair stays");
        assert_eq!(h.pair.spi(A), spi);
        let told = h.asked(A).expect("a delete");
        assert!(matches!(&told[0], Payload::Delete { protocol: ProtocolId::ESP, .. }), "{told:?}");
    }
}

/// A peer that has used the tunnel it got in place of transport mode, or ends the whole IKE_SA for it.
#[test]
fn a_tunnel_in_place_of_transport_mode_that_is_deleted_at_once_is_told_as_one() {
    let told =
        |log: &[String]| log.iter().any(|line| line.contains("in transport mode, configured is tunnel mode"));
    for (wait, whole, expected) in [(0, false, true), (0, true, true), (11, false, false), (11, true, false)]
    {
        let mut h = Hostile::up();
        let answer = h.ask(
            A,
            CHILD,
            &[vec![notify(NotifyType::USE_TRANSPORT_MODE)], child_request(A, 0x9999)].concat(),
        );
        assert!(!agrees(&answer.unwrap()));
        h.pair.pass(std::time::Duration::from_secs(wait));
        let delete = match whole {
            true => Payload::Delete { protocol: ProtocolId::IKE, spis: vec![] },
            false => Payload::Delete { protocol: ProtocolId::ESP, spis: vec![0x9999] },
        };
        h.ask(A, ExchangeType::INFORMATIONAL, &[delete]).expect("an answer");
        assert_eq!(told(&h.pair.b.log), expected, "{:?}", h.pair.b.log);
        assert_eq!(h.pair.b.conn.as_ref().unwrap().is_up(), !whole);
    }
}
