//! Transport mode (RFC 7296 section 1.3.1): agreed to by both, kept by rekeyings, and what happens where only one wants it
//! or it is not possible.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use std::sync::Arc;

use ike::config::{ChildConfig, Mode};
use ike::wire::TrafficSelector;
use ike::{Command, Connection, Transmit};
use kit::{A, B, Pair, Spec, Who, ts};

const LEFT: &str = "192.0.2.1";
const RIGHT: &str = "192.0.2.2";

/// Both ends with the hosts as selectors, in these modes.
fn specs(left: Mode, right: Mode) -> (Spec, Spec) {
    let (l, r) = (vec![ts(LEFT, LEFT)], vec![ts(RIGHT, RIGHT)]);
    (
        Spec { local: l.clone(), remote: r.clone(), mode: left, ..Spec::left() },
        Spec { local: r, remote: l, mode: right, ..Spec::right() },
    )
}

fn up(left: Mode, right: Mode) -> Pair {
    let (left, right) = specs(left, right);
    Pair::up(&left, &right)
}

fn transport() -> Pair {
    let pair = up(Mode::Transport, Mode::Transport);
    assert_both(&pair, Mode::Transport);
    pair
}

/// One pair on both sides, of this mode.
fn assert_both(pair: &Pair, mode: Mode) {
    pair.assert_children(1);
    assert!(pair.a.installed.values().all(|sa| sa.mode == mode), "{:?}", pair.a.installed);
}

fn said(pair: &mut Pair, who: Who, words: &str) {
    let log = &pair.side(who).log;
    assert!(log.iter().any(|line| line.contains(words)), "{words:?} is not in {log:?}");
}

fn is_up(pair: &Pair) -> bool {
    [&pair.a, &pair.b].iter().all(|side| side.conn.as_deref().is_some_and(Connection::is_up))
}

#[test]
fn both_want_it() {
    transport();
}

#[test]
fn rekeying_from_either_side_keeps_the_mode() {
    let mut pair = transport();
    for who in [A, B, B, A] {
        let spi = pair.spi(who);
        pair.command(who, Command::RekeyChild(spi));
        pair.settle();
        assert_both(&pair, Mode::Transport);
        pair.command(who, Command::RekeyIke);
        pair.settle();
        pair.assert_ike(1);
        assert_both(&pair, Mode::Transport);
    }
    assert_eq!(pair.a.log.iter().filter(|line| *line == "rekeyed").count(), 4);
}

#[test]
fn crossing_rekeyings_keep_the_mode() {
    let mut pair = transport();
    for who in [A, B] {
        let spi = pair.spi(who);
        pair.command(who, Command::RekeyChild(spi));
    }
    pair.settle();
    pair.run(10);
    assert_both(&pair, Mode::Transport);
}

#[test]
fn a_child_of_its_own_exchange() {
    for who in [A, B] {
        let mut pair = transport();
        let spi = pair.spi(who);
        pair.command(who, Command::DeleteChild(spi));
        pair.settle();
        pair.assert_children(0);
        pair.command(who, Command::CreateChild("net".into()));
        pair.settle();
        assert_both(&pair, Mode::Transport);
    }
}

#[test]
fn a_tunnel_child_answers_with_a_tunnel_which_the_initiator_deletes() {
    let mut pair = up(Mode::Transport, Mode::Tunnel);
    said(&mut pair, A, "the peer has the Child SA in tunnel mode, configured is transport mode");
    said(&mut pair, B, "child up");
    said(&mut pair, B, "removed DeletedByPeer");
    // Who had the tunnel knows why it went.
    said(&mut pair, B, "the peer has the Child SA in transport mode, configured is tunnel mode");
    pair.assert_children(0);
    // By CREATE_CHILD_SA as well, and it is not asked for again and again.
    pair.command(A, Command::CreateChild("net".into()));
    pair.settle();
    pair.run(600);
    pair.assert_children(0);
    assert_eq!(pair.b.log.iter().filter(|line| *line == "child up").count(), 2);
    assert!(is_up(&pair));
}

#[test]
fn each_mode_finds_its_policy_among_several_that_fit() {
    for asked in [Mode::Transport, Mode::Tunnel] {
        for tunnel_first in [true, false] {
            let (left, right) = specs(asked, Mode::Transport);
            let mut pair = Pair::new(&left, &right);
            let mut config = right.config();
            let peer = Arc::get_mut(&mut config).unwrap();
            let wide = vec![ts("192.0.2.0", "192.0.2.255")];
            let tunnel = ChildConfig {
                name: "wide".into(),
                local: wide.clone(),
                remote: wide,
                proposals: peer.children[0].proposals.clone(),
                mode: Mode::Tunnel,
                life: ike::config::Life::default(),
                resources: 1,
            };
            peer.children.insert(usize::from(!tunnel_first), Arc::new(tunnel));
            (pair.b.config, pair.b.host.peer) = (config.clone(), config);
            pair.initiate();
            pair.settle();
            assert_both(&pair, asked);
            let taken: Vec<_> = pair.b.installed.values().map(|sa| &*sa.policy).collect();
            assert_eq!(taken, [if asked == Mode::Transport { "net" } else { "wide" }], "{tunnel_first}");
        }
    }
}

#[test]
fn a_transport_child_refuses_a_tunnel() {
    let mut pair = up(Mode::Tunnel, Mode::Transport);
    said(&mut pair, B, "the peer has the Child SA in tunnel mode, configured is transport mode");
    said(&mut pair, A, "NO_PROPOSAL_CHOSEN");
    pair.assert_children(0);
    assert!(is_up(&pair));
    pair.command(A, Command::CreateChild("net".into()));
    pair.settle();
    pair.assert_children(0);
}

fn forced(mut spec: (Spec, Spec), who: Who) -> Pair {
    let side = if who == A { &mut spec.0 } else { &mut spec.1 };
    side.force_encapsulation = true;
    Pair::up(&spec.0, &spec.1)
}

#[test]
fn not_where_esp_goes_in_udp() {
    for who in [A, B] {
        let mut pair = forced(specs(Mode::Transport, Mode::Transport), who);
        said(&mut pair, A, "no transport mode where ESP goes in UDP");
        said(&mut pair, B, "no transport mode where ESP goes in UDP");
        pair.assert_children(0);
        assert!(is_up(&pair));
        // Nothing is sent that would be declined.
        pair.command(A, Command::CreateChild("net".into()));
        assert!(pair.a.outbox.is_empty());
    }
}

#[test]
fn not_through_a_nat() {
    let (left, right) = specs(Mode::Transport, Mode::Transport);
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    // The translator gives it another address, and takes it back for what is answered.
    let translate = |message: Transmit, of: Who| {
        let (from, to) = ("203.0.113.9:500".parse().unwrap(), "192.0.2.1:500".parse().unwrap());
        if of == A { Transmit { local: from, ..message } } else { Transmit { remote: to, ..message } }
    };
    for of in [A, B, A, B] {
        let message = translate(pair.take(of), of);
        pair.put(of, &message);
    }
    said(&mut pair, A, "no transport mode where ESP goes in UDP");
    said(&mut pair, B, "no transport mode where ESP goes in UDP");
    assert!(pair.a.installed.is_empty() && pair.b.installed.is_empty());
}

#[test]
fn only_between_the_ends_of_the_ike_sa() {
    let other = || vec![ts("10.1.0.1", "10.1.0.1")];
    let (left, right) = specs(Mode::Transport, Mode::Transport);
    let (l, r) = (Spec { local: other(), ..left }, Spec { remote: other(), ..right });
    let mut pair = Pair::up(&l, &r);
    for who in [A, B] {
        said(&mut pair, who, "transport mode is between the ends of the IKE_SA, 192.0.2.");
        said(&mut pair, who, "10.1.0.1/32");
    }
    pair.assert_children(0);
    assert!(is_up(&pair));
}

#[test]
fn wider_selectors_are_narrowed_to_the_hosts() {
    // As a peer would send that leaves the choice to us.
    let (left, right) = specs(Mode::Tunnel, Mode::Transport);
    let wide = || vec![ts("192.0.2.0", "192.0.2.255")];
    let left = Spec { local: wide(), remote: wide(), ..left };
    let mut pair = Pair::new(&left, &right);
    pair.a.config = with_notify(&left);
    pair.initiate();
    pair.settle();
    // Ours has no hosts in its policy, so it takes no transport; the other side has answered with the hosts.
    said(&mut pair, A, "transport mode is between the ends");
    said(&mut pair, B, "child up");
    said(&mut pair, B, "removed DeletedByPeer");
}

/// The same in transport mode, which no validation has looked at.
fn with_notify(spec: &Spec) -> std::sync::Arc<ike::config::PeerConfig> {
    Spec { mode: Mode::Transport, ..spec.clone() }.config()
}

#[test]
fn ports_and_protocol_may_narrow_it() {
    let (left, right) = specs(Mode::Transport, Mode::Transport);
    let gre = |of: &str| vec![TrafficSelector { protocol: 47, ..ts(of, of) }];
    let left = Spec { local: gre(LEFT), remote: gre(RIGHT), ..left };
    assert_both(&Pair::up(&left, &right), Mode::Transport);
}

#[test]
fn a_refusal_is_told_as_one_of_transport_mode() {
    let (left, right) = specs(Mode::Transport, Mode::Transport);
    let mut pair = Pair::up(&left, &Spec { esp: vec!["aes256gcm16"], ..right });
    said(&mut pair, A, "refused a Child SA in transport mode");
}

/// The peer takes the new pair away, which it cannot use, and goes on with the one before.
#[test]
fn a_rekeying_that_the_peer_has_no_use_for_leaves_the_pair_before() {
    for seen in [false, true] {
        let mut pair = transport();
        let (old, theirs) = (pair.spi(A), pair.spi(B));
        let other = specs(Mode::Transport, Mode::Tunnel).1.config();
        pair.b.conn.as_mut().unwrap().set_config(other);
        pair.command(A, Command::RekeyChild(old));
        pair.deliver(A);
        if seen {
            let new = *pair.b.installed.keys().find(|spi| **spi != theirs).unwrap();
            pair.command(B, Command::InboundSeen(new));
        }
        pair.settle();
        assert_both(&pair, Mode::Transport);
        assert_eq!((pair.spi(A), pair.spi(B)), (old, theirs), "each sends by it");
        // Nothing of it is left: no delete that would be owed, and both may rekey.
        pair.run(200);
        assert_eq!((pair.spi(A), pair.spi(B)), (old, theirs));
        let same = specs(Mode::Transport, Mode::Transport).1.config();
        pair.b.conn.as_mut().unwrap().set_config(same);
        for who in [A, B] {
            let spi = pair.spi(who);
            pair.command(who, Command::RekeyChild(spi));
            pair.settle();
            assert_both(&pair, Mode::Transport);
            assert_ne!(pair.spi(who), spi, "{who:?}");
        }
    }
}
