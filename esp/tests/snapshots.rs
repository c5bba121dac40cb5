//! A pair that is restored on another node seals and opens the same as the one that it was, octet for octet; what was tampered
//! with is refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing)] // Tests stop at what they do not expect.
#![allow(clippy::disallowed_methods)] // A test needs one instant to start from.

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{SPI, everything, keys, pair, suites, udp_v4, udp_v6};
use esp::{
    InboundSa, InboundSnapshot, Lease, Lifetime, LifetimeSnapshot, LimitEvent, Limits, OutboundSa,
    OutboundSnapshot, RestoreError, Resume, SealError, Selector, SelectorPair, Suite,
};
use proptest::prelude::*;
use snapshot::{SnapshotError, decode, encode};

/// By way of the octets.
fn restored_out(sa: &OutboundSa, resume: Resume, lease: Lease) -> OutboundSa {
    let octets = encode(&sa.snapshot());
    OutboundSa::restore(&decode::<OutboundSnapshot>(&octets).unwrap(), resume, lease).unwrap()
}

fn restored_in(sa: &InboundSa) -> InboundSa {
    let octets = encode(&sa.snapshot());
    InboundSa::restore(&decode::<InboundSnapshot>(&octets).unwrap(), Arc::new).unwrap()
}

/// What happens to a pair.
#[derive(Debug, Clone, Copy)]
enum Step {
    /// So many octets, IPv6 or not; the packet arrives, or is late by so many steps, or lost.
    Packet {
        len: usize,
        v6: bool,
        late: Option<usize>,
    },
    Dummy,
    Jump(u64),
    Reserve(u64),
    Expire,
    /// Both halves go to another node.
    Move,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        20 => (0..200usize, any::<bool>(), prop::option::weighted(0.8, 0..6usize))
            .prop_map(|(len, v6, late)| Step::Packet { len, v6, late }),
        2 => Just(Step::Dummy),
        2 => (0..3000u64).prop_map(Step::Jump),
        2 => (0..3000u64).prop_map(Step::Reserve),
        1 => Just(Step::Expire),
        6 => Just(Step::Move),
    ];
    prop::collection::vec(step, 1..80)
}

/// A pair, and its copy that moves from node to node.
struct Both {
    outbound: [OutboundSa; 2],
    inbound: [InboundSa; 2],
}

impl Both {
    fn new(suite: Suite, limits: &Limits) -> Self {
        let outbound = || OutboundSa::new(SPI, suite, &keys(&suite), &[7; 32], limits).unwrap();
        let inbound = || InboundSa::new(SPI, suite, &keys(&suite), everything(), 64, limits).unwrap();
        Self { outbound: [outbound(), outbound()], inbound: [inbound(), inbound()] }
    }

    fn seal(&mut self, inner: Option<&[u8]>) -> Option<Vec<u8>> {
        let [stayed, moved] = self.outbound.each_mut().map(|sa| {
            let mut out = vec![0; 400];
            let sealed = match inner {
                Some(inner) => sa.seal(inner, &mut out),
                None => sa.seal_dummy(40, &mut out),
            };
            sealed.map(|sealed| (sealed, out[..sealed.len].to_vec()))
        });
        assert_eq!(stayed, moved);
        stayed.ok().map(|(_, packet)| packet)
    }

    fn open(&mut self, packet: &[u8]) {
        let [stayed, moved] = self.inbound.each_mut().map(|sa| {
            let mut packet = packet.to_vec();
            let opened = sa.open(&mut packet);
            opened.map(|o| (o.sequence, o.limit, o.first, o.info, packet[o.inner].to_vec()))
        });
        assert_eq!(stayed, moved);
    }

    fn relocate(&mut self) {
        let lease = self.outbound[1].lease();
        self.outbound[1] = restored_out(&self.outbound[1], Resume::Exactly, lease);
        self.inbound[1] = restored_in(&self.inbound[1]);
        let [stayed, moved] = self.outbound.each_ref().map(|sa| encode(&sa.snapshot()));
        assert_eq!(stayed, moved, "restored twice it is the same");
        let [stayed, moved] = self.inbound.each_ref().map(|sa| encode(&sa.snapshot()));
        assert_eq!(stayed, moved);
    }
}

proptest! {
    #[test]
    fn a_pair_that_moves_does_the_same_as_one_that_stays(
        suite in prop::sample::select(suites()), steps in steps(), soft in 1..60u64, hard in 1..200u64,
    ) {
        let limits = Limits { soft_packets: Some(soft), hard_bytes: Some(hard * 100), ..Limits::default() };
        let mut both = Both::new(suite, &limits);
        let mut under_way: Vec<(usize, Vec<u8>)> = Vec::new();
        for (at, step) in steps.into_iter().enumerate() {
            match step {
                Step::Packet { len, v6, late } => {
                    let inner = if v6 { udp_v6(len) } else { udp_v4(len) };
                    let packet = both.seal(Some(&inner));
                    under_way.extend(packet.zip(late).map(|(packet, late)| (at + late, packet)));
                }
                Step::Dummy => under_way.extend(both.seal(None).map(|packet| (at, packet))),
                Step::Jump(by) => both.outbound.iter_mut().for_each(|sa| sa.resume_at(sa.sequence() + by)),
                Step::Reserve(by) => {
                    both.outbound.iter_mut().for_each(|sa| sa.reserve(Lease::up_to(sa.sequence() + by)));
                }
                Step::Expire if at % 3 == 0 => both.inbound.iter_mut().for_each(InboundSa::expire),
                Step::Expire => both.outbound.iter_mut().for_each(OutboundSa::expire),
                Step::Move => both.relocate(),
            }
            let (due, later) = under_way.into_iter().partition(|(due, _)| *due <= at);
            under_way = later;
            for (_, packet) in due {
                both.open(&packet);
                both.open(&packet);
            }
        }
        both.relocate();
    }

    #[test]
    fn whatever_is_decodable_makes_an_sa_or_an_error(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        // Beneath the checksum, where only another version of Culvert could put it.
        use prost::Message;
        if let Ok(snapshot) = InboundSnapshot::decode(octets.as_slice()) {
            let _ = InboundSa::restore(&snapshot, Arc::new);
        }
        if let Ok(snapshot) = OutboundSnapshot::decode(octets.as_slice()) {
            let _ = OutboundSa::restore(&snapshot, Resume::Exactly, Lease::UNBOUNDED);
        }
    }
}

#[test]
fn a_node_that_takes_over_begins_beyond_what_was_reserved() {
    for suite in suites() {
        let (mut owner, mut peer) = pair(suite);
        owner.reserve(Lease::up_to(100));
        let packet = |sa: &mut OutboundSa| {
            let mut out = vec![0; 200];
            sa.seal(&udp_v4(9), &mut out).map(|sealed| (sealed.sequence, out[..sealed.len].to_vec()))
        };
        packet(&mut owner).unwrap();
        // The standby knows no more than this; the owner goes on to the end of its block, and not beyond.
        let snapshot = decode::<OutboundSnapshot>(&encode(&owner.snapshot())).unwrap();
        for number in 2..=100 {
            assert_eq!(packet(&mut owner).unwrap().0, number);
        }
        assert_eq!(packet(&mut owner), Err(SealError::LeaseUsedUp));

        let lease = Lease::up_to(300);
        let mut standby = OutboundSa::restore(&snapshot, Resume::Beyond(0), lease).unwrap();
        let (number, mut sealed) = packet(&mut standby).unwrap();
        assert_eq!(number, 101);
        assert!(peer.open(&mut sealed).is_ok());
        // A later block than the snapshot's was told by itself.
        let mut standby = OutboundSa::restore(&snapshot, Resume::Beyond(200), lease).unwrap();
        assert_eq!((packet(&mut standby).unwrap().0, standby.lease()), (201, lease));
    }
}

#[test]
fn whoever_runs_out_of_numbers_is_told_in_time_and_once() {
    for suite in suites() {
        let (mut sa, _) = pair(suite);
        let seal = |sa: &mut OutboundSa| sa.seal(&udp_v4(9), &mut [0; 200]).map(|sealed| sealed.limit);
        let (quiet, low) = (Ok(None), Ok(Some(LimitEvent::NumbersLow)));
        sa.reserve(Lease::up_to(5));
        sa.warn_at(3);
        let told: Vec<_> = (0..6).map(|_| seal(&mut sa)).collect();
        assert_eq!(told, [quiet, quiet, low, quiet, quiet, Err(SealError::LeaseUsedUp)]);
        // The next block; by the time that it is there its warning may be due already.
        sa.reserve(Lease::up_to(8));
        sa.warn_at(4);
        let told: Vec<_> = (0..4).map(|_| seal(&mut sa)).collect();
        assert_eq!(told, [low, quiet, quiet, Err(SealError::LeaseUsedUp)]);
        sa.reserve(Lease::UNBOUNDED);
        sa.warn_at(u64::MAX);
        assert!((0..100).all(|_| seal(&mut sa) == quiet));
    }
}

#[test]
fn numbers_that_a_peer_does_not_want_are_skipped_and_none_is_sent_twice() {
    for suite in suites() {
        let (mut sa, _) = pair(suite);
        let seal = |sa: &mut OutboundSa| sa.seal(&udp_v4(9), &mut [0; 200]).map(|sealed| sealed.sequence);
        assert_eq!(seal(&mut sa), Ok(1));
        assert_eq!(sa.advance(0), None);
        assert_eq!(sa.advance(1000), None);
        assert_eq!(seal(&mut sa), Ok(1002));
        // Beyond what is reserved nothing is sealed that could say so.
        sa.reserve(Lease::up_to(2000));
        sa.warn_at(1500);
        assert_eq!(sa.advance(997), None);
        assert_eq!((seal(&mut sa), sa.sequence()), (Ok(2000), 2000));
        assert_eq!(sa.advance(0), Some(LimitEvent::NumbersLow));
        assert_eq!(sa.advance(1 << 20), Some(LimitEvent::NumbersLow));
        assert_eq!(seal(&mut sa), Err(SealError::LeaseUsedUp));
        sa.reserve(Lease::up_to(sa.sequence() + 10));
        assert_eq!(seal(&mut sa), Ok(2001 + (1 << 20)));
        // There is an end, and nothing comes round.
        sa.reserve(Lease::UNBOUNDED);
        assert_eq!(sa.advance(u64::MAX), Some(LimitEvent::Soft));
        assert_eq!(seal(&mut sa), Err(SealError::SequenceExhausted));
        assert_eq!(sa.advance(1), Some(LimitEvent::Soft));
        assert_eq!(seal(&mut sa), Err(SealError::SequenceExhausted));
    }
}

#[test]
fn a_warning_waits_for_a_limit_to_be_told() {
    let suite = suites()[0];
    let limits = Limits { soft_packets: Some(2), ..Limits::default() };
    let mut sa = OutboundSa::new(SPI, suite, &keys(&suite), &[7; 32], &limits).unwrap();
    sa.warn_at(2);
    let told: Vec<_> = (0..4).map(|_| sa.seal(&udp_v4(9), &mut [0; 200]).unwrap().limit).collect();
    assert_eq!(told, [None, Some(LimitEvent::Soft), Some(LimitEvent::NumbersLow), None]);
}

#[test]
fn a_snapshot_keeps_up_by_what_has_come_since() {
    for suite in suites() {
        let (mut outbound, mut inbound) = pair(suite);
        let (mut out, mut kept) = (outbound.snapshot(), inbound.snapshot());
        let stale = inbound.progress();
        let mut sealed: Vec<Vec<u8>> = (0..40)
            .map(|_| {
                let mut packet = vec![0; 200];
                let len = outbound.seal(&udp_v4(9), &mut packet).unwrap().len;
                packet.truncate(len);
                packet
            })
            .collect();
        let copies = sealed.clone();
        for packet in sealed.iter_mut().step_by(2) {
            inbound.open(packet).unwrap();
        }
        out.advance(&outbound.progress());
        kept.advance(&inbound.progress()).unwrap();
        assert_eq!((&out, &kept), (&outbound.snapshot(), &inbound.snapshot()));
        kept.advance(&stale).unwrap();
        assert_eq!(kept, inbound.snapshot(), "what is older changes nothing");
        let mut restored = InboundSa::restore(&kept, Arc::new).unwrap();
        for (number, mut packet) in copies.into_iter().enumerate() {
            assert_eq!(restored.open(&mut packet).is_ok(), number % 2 == 1, "{number}");
        }
        // Of an SA with another window.
        let other = InboundSa::new(SPI, suite, &keys(&suite), everything(), 128, &Limits::default()).unwrap();
        let error = kept.advance(&other.progress()).unwrap_err();
        assert!(error.to_string().ends_with("the replay window: 128 packets, the SA has 1024"), "{error}");
        assert!(kept.advance(&esp::InboundProgress::default()).is_err());
    }
}

/// The last block of numbers ends with them. Whoever takes over goes on beyond it as beyond any other, though nothing is left then.
#[test]
fn the_last_block_is_a_block() {
    for suite in suites().into_iter().filter(|suite| !suite.esn) {
        let (mut owner, _) = pair(suite);
        owner.resume_at(u64::from(u32::MAX) - 5);
        owner.reserve(Lease::up_to(u64::from(u32::MAX) + 100));
        let snapshot = decode::<OutboundSnapshot>(&encode(&owner.snapshot())).unwrap();
        assert!(owner.seal(&udp_v4(9), &mut [0; 200]).is_ok());
        let mut standby = OutboundSa::restore(&snapshot, Resume::Beyond(0), Lease::UNBOUNDED).unwrap();
        assert_eq!(standby.seal(&udp_v4(9), &mut [0; 200]), Err(SealError::SequenceExhausted), "{suite}");
    }
}

#[test]
fn a_lease_never_reaches_beyond_the_numbers() {
    for suite in suites() {
        let (mut sa, _) = pair(suite);
        assert_eq!(sa.lease(), Lease::UNBOUNDED);
        let last = if suite.esn { u64::MAX } else { u64::from(u32::MAX) };
        sa.reserve(Lease::up_to(last));
        sa.resume_at(last);
        assert_eq!(sa.seal(&udp_v4(9), &mut [0; 200]), Err(SealError::SequenceExhausted), "{suite}");
    }
}

#[test]
fn selectors_come_back_and_are_shared() {
    let web = Selector {
        protocol: 6,
        start_port: 443,
        end_port: 443,
        ..Selector::subnet([10, 1, 2, 3].into(), 32)
    };
    let opaque = Selector { start_port: u16::MAX, end_port: 0, ..Selector::subnet([0u16; 8].into(), 0) };
    let selectors = Arc::new(SelectorPair { local: vec![web, opaque], remote: vec![web] });
    let suite = suites()[0];
    let sa = InboundSa::new(SPI, suite, &keys(&suite), selectors.clone(), 64, &Limits::default()).unwrap();
    let shared = InboundSa::restore(&sa.snapshot(), |read| {
        assert_eq!(read, *selectors);
        selectors.clone()
    });
    assert!(Arc::ptr_eq(shared.unwrap().selectors().shared(), &selectors));
}

#[test]
fn a_lifetime_goes_on_by_another_clock() {
    let (now, second) = (Instant::now(), Duration::from_secs(1));
    let lifetime = Lifetime::new(now, Some(100 * second), Some(120 * second), Duration::ZERO);
    let snapshot: LifetimeSnapshot = decode(&encode(&lifetime.snapshot(now + 30 * second))).unwrap();
    let there = now + 1_000_000 * second;
    let restored = Lifetime::restore(&snapshot, there);
    assert_eq!((restored.soft(), restored.hard()), (Some(there + 70 * second), Some(there + 90 * second)));
}

#[test]
fn one_kind_is_not_taken_for_another() {
    let (outbound, _) = pair(suites()[0]);
    let octets = encode(&outbound.snapshot());
    let error = decode::<InboundSnapshot>(&octets).unwrap_err();
    assert_eq!(error, SnapshotError::Kind { wanted: "an inbound SA", got: 2 });
}

#[test]
fn what_is_not_there_is_named() {
    let nothing = InboundSnapshot::default();
    let error = InboundSa::restore(&nothing, Arc::new).unwrap_err();
    assert_eq!(error, RestoreError::Snapshot(SnapshotError::Missing("the algorithms")));
}

#[test]
fn no_key_is_printed() {
    for suite in suites() {
        let (outbound, inbound) = pair(suite);
        let text = format!("{:?} {:?}", outbound.snapshot(), inbound.snapshot());
        assert_eq!(text, "OutboundSnapshot(04100007, after 0) InboundSnapshot(04100007)");
    }
}

/// Whoever changes the form has to change its version as well, and then this.
#[test]
fn the_form_is_what_it_was() {
    let suite = Suite::new(esp::Encryption::AesGcm16_128, None, true).unwrap();
    let (mut outbound, mut inbound) = pair(suite);
    outbound.reserve(Lease::up_to(4096));
    let mut out = [0; 200];
    let len = outbound.seal(&udp_v4(9), &mut out).unwrap().len;
    inbound.open(&mut out[..len]).unwrap();
    let hex = |octets: &[u8]| octets.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    assert_eq!(hex(&encode(&outbound.snapshot())[28..]), OUTBOUND);
    assert_eq!(hex(&encode(&inbound.snapshot())[28..]), INBOUND);
}

const OUTBOUND: &str =
    "0d070010041207081410800120011a180a160a14030405060708090a0b0c0d0e0f1011121314151628013080203a0428253001";
const INBOUND: &str = "0d070010041207081410800120011a180a160a14030405060708090a0b0c0d0e0f10111213141516220508800810\
    012a680a0c1204000000001a04ffffffff0a241210000000000000000000000000000000001a10ffffffffffffff\
    ffffffffffffffffff120c1204000000001a04ffffffff12241210000000000000000000000000000000001a10ff\
    ffffffffffffffffffffffffffffff320428253001";
