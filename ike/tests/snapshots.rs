//! Connections on their way to another node. That one that has moved does the same as one that has not is looked at by
//! `kit/twin.rs` in every test; here are histories by lot, and what is no snapshot.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use std::net::Ipv4Addr;
use std::time::Duration;

use ike::config::Phase1;
use ike::wire::TrafficSelector;
use ike::{Command, Connection, NotNow, RestoreError, Resume, Snapshot};
use kit::{A, B, Pair, Spec, Who, ts};
use proptest::prelude::*;
use prost::Message as _;
use prost::encoding::{decode_varint, encode_varint};
use snapshot::{SnapshotError, decode, encode};

/// What happens next.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Of A or not; the pair by its place among those there are.
    Rekey(bool, usize),
    Delete(bool, usize),
    Expire(bool, usize),
    Seen(bool, usize),
    Create(bool, usize),
    RekeyIke(bool),
    Probe(bool),
    Heard(bool),
    Close(bool),
    Moved(bool),
    /// A message under way arrives, by its place; it may do so again later.
    Deliver(bool, usize, bool),
    Lose(bool, usize),
    Pass(u64),
    Settle,
}

fn step() -> impl Strategy<Value = Step> {
    let (side, at) = (any::<bool>, 0..4usize);
    prop_oneof![
        4 => (side(), at.clone()).prop_map(|(s, at)| Step::Rekey(s, at)),
        1 => (side(), at.clone()).prop_map(|(s, at)| Step::Delete(s, at)),
        1 => (side(), at.clone()).prop_map(|(s, at)| Step::Expire(s, at)),
        2 => (side(), at.clone()).prop_map(|(s, at)| Step::Seen(s, at)),
        2 => (side(), at.clone()).prop_map(|(s, at)| Step::Create(s, at)),
        3 => side().prop_map(Step::RekeyIke),
        1 => side().prop_map(Step::Probe),
        1 => side().prop_map(Step::Heard),
        1 => proptest::bool::weighted(0.5).prop_map(Step::Close),
        1 => side().prop_map(Step::Moved),
        20 => (side(), at.clone(), proptest::bool::weighted(0.2)).prop_map(|(s, at, again)| Step::Deliver(s, at, again)),
        3 => (side(), at).prop_map(|(s, at)| Step::Lose(s, at)),
        5 => prop_oneof![1..2_000u64, 1_000..100_000u64].prop_map(Step::Pass),
        2 => Just(Step::Settle),
    ]
}

fn many(side: u8) -> Vec<TrafficSelector> {
    let subnet = |n| (Ipv4Addr::new(10, side, n, 0).into(), Ipv4Addr::new(10, side, n, 99).into());
    (0..60)
        .map(|n| {
            let (start, end) = subnet(n);
            TrafficSelector::range(start, end)
        })
        .collect()
}

/// Both sides: in each version and mode as usual, of several policies with windows, behind a NAT, in fragments, and with parts as one side narrows.
fn specs() -> impl Strategy<Value = [Spec; 2]> {
    let usual = [Spec::left(), Spec::right()];
    let eager = usual.clone().map(|spec| Spec { dpd: Duration::from_secs(5), ..spec });
    let encapsulated = usual.clone().map(|spec| Spec { force_encapsulation: true, ..spec });
    let pfs = usual.clone().map(|spec| Spec { esp: vec!["aes256-sha256-ecp256-modp2048-noesn"], ..spec });
    let [left, right] = usual.clone();
    let large = [
        Spec { local: many(1), remote: many(2), ..left.clone() },
        Spec { local: many(2), remote: many(1), ..right.clone() },
    ];
    let narrow = [
        Spec { local: vec![ts("10.1.0.0", "10.1.0.255"), ts("10.1.2.0", "10.1.2.255")], ..left },
        Spec { remote: vec![ts("10.1.0.0", "10.1.0.255")], ..right },
    ];
    let v1 = |sides: &[Spec; 2], mode| sides.clone().map(|spec: Spec| spec.v1(mode));
    let (main, aggressive) = (v1(&usual, Phase1::Main), v1(&eager, Phase1::Aggressive));
    let several = Spec::with_policies(5);
    let (several_v1, hidden) = (v1(&several, Phase1::Main), v1(&encapsulated, Phase1::Main));
    let of_v1 = [main, aggressive, several_v1, hidden];
    let of_v2 = [usual, eager, encapsulated, pfs, large, narrow, several];
    prop::sample::select(of_v2.into_iter().chain(of_v1).collect::<Vec<_>>())
}

const fn who(a: bool) -> Who {
    if a { A } else { B }
}

fn act(pair: &mut Pair, step: Step) {
    let spi = |pair: &mut Pair, a, at: usize| {
        let installed = &pair.side(who(a)).installed;
        installed.keys().nth(at % installed.len().max(1)).copied().unwrap_or(7)
    };
    let command = |pair: &mut Pair, a, command| {
        if pair.side(who(a)).conn.is_some() {
            pair.command(who(a), command);
        }
    };
    match step {
        Step::Rekey(a, at) => {
            let spi = spi(pair, a, at);
            command(pair, a, Command::RekeyChild(spi));
        }
        Step::Delete(a, at) => {
            let spi = spi(pair, a, at);
            command(pair, a, Command::DeleteChild(spi));
        }
        Step::Expire(a, at) => {
            let spi = spi(pair, a, at);
            command(pair, a, Command::ExpireChild(spi));
        }
        Step::Seen(a, at) => {
            let spi = spi(pair, a, at);
            command(pair, a, Command::InboundSeen(spi));
        }
        Step::Create(a, 0) => command(pair, a, Command::CreateChild("net".into())),
        Step::Create(a, at) => command(pair, a, Command::CreateChild(format!("net{at}").into())),
        Step::RekeyIke(a) => command(pair, a, Command::RekeyIke),
        Step::Probe(a) => command(pair, a, Command::Probe),
        Step::Heard(a) => {
            let now = pair.now;
            command(pair, a, Command::Heard(Some(now)));
        }
        Step::Close(a) => command(pair, a, Command::Close),
        Step::Moved(a) => command(pair, a, Command::RemoteMoved("203.0.113.7:4999".parse().unwrap())),
        Step::Deliver(a, at, again) => {
            let outbox = &mut pair.side(who(a)).outbox;
            let Some(message) = outbox.remove(at % outbox.len().max(1)) else { return };
            if again {
                outbox.push_back(message.clone());
            }
            pair.put(who(a), &message);
        }
        Step::Lose(a, at) => {
            let outbox = &mut pair.side(who(a)).outbox;
            drop(outbox.remove(at % outbox.len().max(1)));
        }
        Step::Pass(milliseconds) => pair.pass(Duration::from_millis(milliseconds)),
        Step::Settle => pair.settle(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_happens_one_that_moves_does_the_same(specs in specs(), steps in prop::collection::vec(step(), 0..80)) {
        let [left, right] = specs;
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        steps.into_iter().for_each(|step| act(&mut pair, step));
        pair.run(5);
    }

    /// Whatever has happened, what a node that knows nothing of RFC 6311 writes of it is read without loss.
    #[test]
    fn what_an_older_node_has_written_is_read(specs in specs(), steps in prop::collection::vec(step(), 0..40)) {
        let [left, right] = specs;
        let mut pair = Pair::new(&left, &right);
        pair.initiate();
        steps.into_iter().for_each(|step| act(&mut pair, step));
        for side in [&pair.a, &pair.b] {
            let Some(conn) = &side.conn else { continue };
            let Ok(snapshot) = conn.snapshot(pair.now) else { continue };
            let older = without(&snapshot.encode_to_vec(), COUNTER_SYNC);
            let read = Snapshot::decode(older.as_slice()).unwrap();
            let config = conn.config().unwrap().clone();
            let read = Connection::restore(&read, pair.now, Resume::Exactly, config).unwrap();
            prop_assert!(read.snapshot(pair.now).unwrap().encode_to_vec() == older);
            // Or it would be made anew with each move.
            for (_, spi, ..) in read.child_sas() {
                prop_assert_eq!(read.is_overtaken(spi), conn.is_overtaken(spi));
            }
        }
    }

    #[test]
    fn whatever_is_altered_beneath_the_checksum_is_an_error_or_a_connection(
        v1 in any::<bool>(), at in any::<prop::sample::Index>(), with in 1u8.., cut in any::<prop::sample::Index>(),
    ) {
        let (pair, snapshot) = if v1 { up_v1() } else { up() };
        let mut octets = snapshot.encode_to_vec();
        let at = at.index(octets.len());
        octets[at] ^= with;
        let config = &pair.a.config;
        for octets in [&octets[..], &octets[..cut.index(octets.len())]] {
            if let Ok(odd) = Snapshot::decode(octets) {
                // Not looked at further: only another version of Culvert could have made it.
                drop(Connection::restore(&odd, pair.now, Resume::Exactly, config.clone()));
            }
        }
    }
}

/// Where a snapshot has what is agreed on with a peer that is a cluster: IKEv2, an IKE_SA, and there.
const COUNTER_SYNC: &[u64] = &[2, 9, 17];

/// The octets of a message without the field that these numbers lead to.
fn without(octets: &[u8], path: &[u64]) -> Vec<u8> {
    let (mut rest, mut out) = (octets, Vec::new());
    while !rest.is_empty() {
        let field = rest;
        let key = decode_varint(&mut rest).unwrap();
        let length = match key & 7 {
            0 => decode_varint(&mut rest).map(|_| 0).unwrap(),
            1 => 8,
            2 => decode_varint(&mut rest).unwrap(),
            _ => 4,
        };
        let (inner, behind) = rest.split_at(usize::try_from(length).unwrap());
        rest = behind;
        match path {
            [last] if *last == key >> 3 => {}
            [next, path @ ..] if *next == key >> 3 => {
                let inner = without(inner, path);
                encode_varint(key, &mut out);
                encode_varint(inner.len() as u64, &mut out);
                out.extend(inner);
            }
            _ => out.extend_from_slice(&field[..field.len() - rest.len()]),
        }
    }
    out
}

/// An established pair, and a snapshot of A.
fn up() -> (Pair, Snapshot) {
    up_with([Spec::left(), Spec::right()])
}

/// The same in IKEv1.
fn up_v1() -> (Pair, Snapshot) {
    up_with([Spec::left(), Spec::right()].map(|spec| spec.v1(Phase1::Main)))
}

fn up_with([left, right]: [Spec; 2]) -> (Pair, Snapshot) {
    let pair = Pair::up(&left, &right);
    let snapshot = pair.a.conn.as_ref().unwrap().snapshot(pair.now).unwrap();
    (pair, snapshot)
}

#[test]
fn a_node_that_takes_over_uses_other_ivs() {
    let (mut pair, snapshot) = up();
    let iv = |bytes: &[u8]| u64::from_be_bytes(bytes[32..40].try_into().unwrap());
    // The first owner goes on, unheard of.
    pair.command(A, Command::Probe);
    let before = iv(&pair.take(A).bytes);
    let taken = Connection::restore(&snapshot, pair.now, Resume::Beyond, pair.a.config.clone()).unwrap();
    pair.a.conn = Some(taken.into());
    pair.command(A, Command::Probe);
    let request = pair.take(A);
    assert!(iv(&request.bytes) >= 1 << 32 && before < 1 << 32);
    pair.put(A, &request);
    assert_eq!(pair.b.outbox.len(), 1, "the peer answers it");
    pair.settle();
    pair.assert_alive();
}

#[test]
fn who_is_not_authenticated_is_no_ones_to_take_over() {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    pair.deliver(A);
    assert_eq!(pair.b.conn.as_ref().unwrap().snapshot(pair.now).unwrap_err(), NotNow::HalfOpen);
    // The initiator knows whom it wants.
    assert!(pair.a.conn.as_ref().unwrap().snapshot(pair.now).is_ok());
}

/// The answer to what is under way comes by an SPI that only the request has named, and has to find the connection.
#[test]
fn what_leads_to_a_connection_leads_to_it_where_it_goes_on() {
    let v1 = |spec: Spec| spec.v1(Phase1::Main);
    for (left, right) in [(Spec::left(), Spec::right()), (v1(Spec::left()), v1(Spec::right()))] {
        let mut pair = Pair::up(&left, &right);
        pair.command(A, Command::RekeyIke);
        let snapshot = pair.a.conn.as_ref().unwrap().snapshot(pair.now).unwrap();
        let taken = Connection::restore(&snapshot, pair.now, Resume::Beyond, pair.a.config.clone()).unwrap();
        let leading: std::collections::BTreeSet<u64> = taken.local_spis().into_iter().collect();
        assert_eq!((leading.len(), &leading), (2, &pair.a.registered));
    }
}

#[test]
fn what_was_not_taken_would_be_lost() {
    let mut pair = Pair::up(&Spec::left(), &Spec::right());
    let (now, side) = (pair.now, &mut pair.a);
    let conn = side.conn.as_mut().unwrap();
    conn.handle_command(now, &mut side.host, Command::Probe);
    assert_eq!(conn.snapshot(now).unwrap_err(), NotNow::Undrained);
    side.drain();
    assert!(side.conn.as_ref().unwrap().snapshot(now).is_ok());
}

#[test]
fn what_is_over_has_no_snapshot() {
    let mut pair = Pair::up(&Spec::left(), &Spec::right());
    pair.command(A, Command::Close);
    pair.settle();
    pair.run(20);
    assert_eq!(pair.a.conn.as_ref().unwrap().snapshot(pair.now).unwrap_err(), NotNow::Finished);
}

#[test]
fn a_snapshot_of_another_peer_is_refused() {
    let (pair, snapshot) = up();
    assert_eq!(snapshot.peer(), "to right.example");
    let error = Connection::restore(&snapshot, pair.now, Resume::Exactly, pair.b.config.clone()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the snapshot is of a connection with to right.example, the configuration of to left.example was given"
    );
}

#[test]
fn what_was_negotiated_stays_where_the_configuration_is_another() {
    let (mut pair, snapshot) = up();
    let wider = Spec { local: vec![ts("10.0.0.0", "10.255.255.255")], ..Spec::left() }.config();
    let taken = Connection::restore(&snapshot, pair.now, Resume::Beyond, wider.clone()).unwrap();
    let before = pair.spi(A);
    assert_eq!(taken.child_sas().map(|child| child.1).collect::<Vec<_>>(), [before]);
    pair.a.conn = Some(taken.into());
    // The pair is one of the policy as it was, so the policy as it is now gets one of its own.
    pair.command(A, Command::CreateChild("net".into()));
    pair.settle();
    assert_eq!(pair.a.installed.len(), 2, "{:?}", pair.a.log);
}

#[test]
fn another_form_says_what_to_do() {
    let (_, snapshot) = up();
    let mut octets = encode(&snapshot).to_vec();
    octets[7] += 1;
    assert_eq!(
        decode::<Snapshot>(&octets).unwrap_err().to_string(),
        "the snapshot of an IKE connection has form 2, and this node reads form 1: nodes that take over from each other \
         must run versions of Culvert with the same form"
    );
}

#[test]
fn what_is_not_there_is_named() {
    let (pair, _) = up();
    let named = [0x0a, 16].iter().chain(b"to right.example").copied();
    let nothing = Snapshot::decode(named.collect::<Vec<_>>().as_slice()).unwrap();
    let error = Connection::restore(&nothing, pair.now, Resume::Exactly, pair.a.config).unwrap_err();
    assert_eq!(error, RestoreError::Snapshot(SnapshotError::Missing("which version of IKE is spoken")));
}

#[test]
fn no_key_is_printed() {
    let (_, snapshot) = up();
    assert_eq!(format!("{snapshot:?}"), r#"Snapshot("to right.example", Some(V2(..)))"#);
}

fn octets(hex: &str) -> Vec<u8> {
    let hex = hex.split_ascii_whitespace().collect::<String>();
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

/// A node that did not know of RFC 6311 has agreed on nothing of it.
#[test]
fn what_was_written_before_counters_were_synchronized_is_read_and_written_as_it_was() {
    let (pair, _) = up();
    let before = octets(include_str!("data/snapshot_v2_without_sync.hex"));
    let kept: Snapshot = decode(&before).unwrap();
    let conn = Connection::restore(&kept, pair.now, Resume::Exactly, pair.a.config).unwrap();
    assert!(conn.is_up() && conn.child_sas().count() == 1);
    assert!(*encode(&conn.snapshot(pair.now).unwrap()) == before);
}

/// What a node of this form has written. Whoever changes the form has to change its number as well, and then this.
#[test]
fn the_form_is_what_it_was() {
    for ((pair, now), hex) in
        [(up(), include_str!("data/snapshot_v2.hex")), (up_v1(), include_str!("data/snapshot_v1.hex"))]
    {
        let octets = octets(hex);
        let kept: Snapshot = decode(&octets).unwrap();
        let conn = Connection::restore(&kept, pair.now, Resume::Exactly, pair.a.config.clone()).unwrap();
        assert!(*encode(&conn.snapshot(pair.now).unwrap()) == octets, "nothing of it is lost");
        assert!(conn.is_up() && conn.child_sas().count() == 1);
        let now = encode(&now);
        let said: String = now.iter().map(|octet| format!("{octet:02x}")).collect();
        assert_eq!(now.len(), octets.len(), "nothing was added; now it is {said}");
    }
}
