//! Pairs that go from node to node: two routers of one cluster in one process.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use common::cluster::Cluster;
use common::{Gateway, PATIENCE, Remote, socket, udp};
use esp::{Lease, Limits, Resume, Spi};
use router::{
    Carried, Encapsulation, PairSnapshot, Passed, Reserve, RouterError, RouterEvent, RouterHandle, SaStats,
    TenantId, TunnelId,
};
use tokio::runtime::Builder;

const ANY: &str = "0.0.0.0/0";
/// Slots that stay where they are.
const FIRST: u8 = 9;
const SECOND: u8 = 10;
/// The slot that moves.
const MOVING: u8 = 33;
const TENANT: TenantId = TenantId(1);

/// Two routers, of which the first has the slot, and two sites of one tenant in it that send to the first.
struct World {
    cluster: Arc<Cluster>,
    first: Gateway,
    second: Gateway,
    far: Remote,
    near: Remote,
}

impl World {
    fn new(shards: usize) -> Self {
        let cluster = Arc::new(Cluster::default());
        let (first, second) = (cluster.gateway(FIRST, shards), cluster.gateway(SECOND, shards));
        first.handle.open_slot(MOVING).unwrap();
        cluster.give(MOVING, &first);
        for gateway in [&first, &second] {
            gateway.hub(TENANT.0);
        }
        let far = site(&first, MOVING, 1, 21, "10.1.0.0/16");
        let near = site(&first, MOVING, 2, 22, "10.2.0.0/16");
        Self { cluster, first, second, far, near }
    }
}

/// A site of a gateway with an activated pair of this slot.
fn site(gateway: &Gateway, slot: u8, tunnel: u64, host: u8, remote: &str) -> Remote {
    let spi = gateway.handle.allocate_spi(slot, [127, 0, 0, host].into()).unwrap();
    let site = gateway.install_under(spi, socket(host), TENANT, tunnel, (ANY, remote), |_| {});
    gateway.handle.activate(spi);
    site
}

/// Installs what another node has made snapshots of, by way of their octets.
fn restore(to: &RouterHandle, pairs: &[PairSnapshot], resume: Resume, reserve: Reserve) {
    for pair in pairs {
        let octets = snapshot::encode(pair);
        let pair: PairSnapshot = snapshot::decode(&octets).unwrap();
        to.restore_pair(&pair, resume, reserve, None).unwrap();
        if pair.is_active() {
            to.activate_first(pair.spi());
        }
    }
}

fn snapshots(pairs: Vec<(PairSnapshot, SaStats)>) -> Vec<PairSnapshot> {
    pairs.into_iter().map(|(pair, _)| pair).collect()
}

/// The slot goes over as it does when a node is drained.
async fn hand_over(cluster: &Cluster, from: &RouterHandle, to: &RouterHandle, spis: &[Spi]) {
    to.expect_slot(MOVING).unwrap();
    from.expect_slot(MOVING).unwrap();
    let pairs = snapshots(from.extract_pairs(spis.to_vec()).await);
    assert_eq!(pairs.len(), spis.len());
    restore(to, &pairs, Resume::Exactly, Reserve::default());
    to.open_slot(MOVING).unwrap();
    cluster.give_to(MOVING, to);
    from.close_slot(MOVING).unwrap();
}

#[test]
fn a_slot_moves_to_and_fro_under_traffic_and_nothing_is_lost_or_opened_twice() {
    const PACKETS: u32 = 3000;
    const UNDER_WAY: u32 = 8;
    let World { cluster, first, second, mut far, .. } = World::new(2);
    // Of each node one that stays, so that what comes in at either gets through.
    let near =
        [(&first, FIRST), (&second, SECOND)].map(|(gateway, slot)| site(gateway, slot, 3, 25, "10.3.0.0/16"));
    let (spis, done) = ([far.spi], AtomicBool::new(false));
    let (ends, moves) = ([&first, &second].map(|gateway| gateway.handle.clone()), AtomicUsize::new(0));
    let (came_in, came) = channel();
    thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = Builder::new_current_thread().build().unwrap();
            while !done.load(Ordering::Acquire) {
                runtime.block_on(hand_over(&cluster, &ends[0], &ends[1], &spis));
                runtime.block_on(hand_over(&cluster, &ends[1], &ends[0], &spis));
                moves.fetch_add(2, Ordering::Relaxed);
            }
        });
        for mut site in near {
            let (came_in, done) = (came_in.clone(), &done);
            site.socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            scope.spawn(move || {
                while !done.load(Ordering::Acquire) {
                    if let Some(inner) = site.receive_now() {
                        let number = u32::from_be_bytes(inner[28..32].try_into().unwrap());
                        came_in.send(number).unwrap();
                    }
                }
            });
        }
        let (mut sent, mut numbers) = (0, HashSet::new());
        for number in 0..PACKETS {
            while sent < PACKETS.min(number + UNDER_WAY) {
                far.send(&udp("10.1.0.1", "10.3.0.1", sent, 100));
                sent += 1;
            }
            // Those that come in at the old node and at the new one may cross.
            assert!(numbers.insert(came.recv_timeout(PATIENCE).expect("it comes in time")));
        }
        done.store(true, Ordering::Release);
    });
    assert!(moves.into_inner() >= 2);
    assert_eq!(first.stats_of(far.spi).packets_in, PACKETS.into());
    assert_eq!([dropped(&first), dropped(&second)], [vec![], vec![]]);
}

#[test]
fn both_ends_of_a_conversation_move_and_nothing_is_lost_or_sent_twice() {
    const PACKETS: u32 = 3000;
    const UNDER_WAY: u32 = 8;
    let World { cluster, first, second, mut far, mut near } = World::new(2);
    let (spis, done) = ([far.spi, near.spi], AtomicBool::new(false));
    for (number, gateway) in [(1, &first), (2, &second)] {
        cluster.name(number, gateway);
        for (tunnel, remote) in [(1, "10.1.0.0/16"), (2, "10.2.0.0/16")] {
            gateway.declare(TENANT, tunnel, remote, false);
        }
    }
    let moves = AtomicUsize::new(0);
    let ends = [(&first, 1), (&second, 2)].map(|(gateway, number)| (gateway.handle.clone(), number));
    let go = async |from: &(RouterHandle, u32), to: &(RouterHandle, u32)| {
        for tunnel in [1, 2] {
            from.0.set_elsewhere(TENANT, TunnelId(tunnel), Some(to.1));
        }
        hand_over(&cluster, &from.0, &to.0, &spis).await;
        for tunnel in [1, 2] {
            to.0.set_elsewhere(TENANT, TunnelId(tunnel), None);
        }
    };
    thread::scope(|scope| {
        scope.spawn(|| {
            let runtime = Builder::new_current_thread().build().unwrap();
            while !done.load(Ordering::Acquire) {
                runtime.block_on(go(&ends[0], &ends[1]));
                runtime.block_on(go(&ends[1], &ends[0]));
                moves.fetch_add(2, Ordering::Relaxed);
            }
        });
        let (mut sent, mut numbers) = (0, HashSet::new());
        for number in 0..PACKETS {
            while sent < PACKETS.min(number + UNDER_WAY) {
                far.send(&udp("10.1.0.1", "10.2.0.1", sent, 100));
                sent += 1;
            }
            // Of a number that came twice nothing would come out. Those of the old node and of the new one may cross.
            let inner = near.receive_from_anywhere().1;
            assert!(numbers.insert(u32::from_be_bytes(inner[28..32].try_into().unwrap())));
        }
        done.store(true, Ordering::Release);
    });
    assert!(moves.into_inner() >= 2);
    let stats = first.stats_of(near.spi);
    assert_eq!((stats.packets_out, stats.sequence_out), (PACKETS.into(), PACKETS.into()));
    assert_eq!([dropped(&first), dropped(&second)], [vec![], vec![]]);
}

/// What was dropped for whatever reason.
fn dropped(gateway: &Gateway) -> Vec<(&'static str, u64)> {
    gateway.has_been_told();
    let counters = gateway.handle.counters().into_iter();
    counters.filter(|(name, count)| *count > 0 && name.starts_with("drop_")).collect()
}

#[test]
fn whoever_takes_over_begins_beyond_the_block_and_the_old_owner_stops_at_its_end() {
    let World { cluster, mut first, second, mut far, mut near } = World::new(1);
    first.handle.reserve(near.spi, Reserve { lease: Lease::up_to(10), warn_at: 8 });
    let mut ping = |number| far.send(&udp("10.1.0.1", "10.2.0.1", number, 100));
    ping(1);
    near.receive_from_anywhere();
    // All that the standby ever hears.
    let pairs = first.runtime.block_on(first.handle.snapshot_pairs(vec![near.spi, Spi(7)]));
    assert_eq!((pairs.len(), pairs[0].sequence_out(), pairs[0].is_active()), (1, 1, true));
    (2..=12).for_each(&mut ping);
    let low = loop {
        match first.next_event() {
            RouterEvent::FirstInbound { .. } => {}
            other => break other,
        }
    };
    assert!(matches!(low, RouterEvent::NumbersLow { spi, sequence: 8 } if spi == near.spi), "{low:?}");
    first.wait_for("esp_lease_used_up", 2);
    let drops = first.stats_of(near.spi).drops;
    assert_eq!(drops, [("esp_lease_used_up", 2)]);
    // Whoever was told may not have been able to reserve any.
    let again = first.next_event();
    assert!(matches!(again, RouterEvent::NumbersLow { spi, sequence: 10 } if spi == near.spi), "{again:?}");

    // The owner is cut off and knows nothing of it.
    second.handle.open_slot(MOVING).unwrap();
    cluster.give(MOVING, &second);
    let block = Reserve { lease: Lease::up_to(20), warn_at: 20 };
    restore(&second.handle, &pairs, Resume::Beyond(0), block);
    let mut site = self::site(&second, SECOND, 3, 23, "10.1.0.0/16");
    site.send(&udp("10.1.0.1", "10.2.0.1", 13, 100));
    let numbers: HashSet<u32> = (0..10)
        .map(|_| {
            let (_, inner) = near.receive_from_anywhere();
            u32::from_be_bytes(inner[28..32].try_into().unwrap())
        })
        .collect();
    assert_eq!(numbers, (2..=10).chain([13]).collect());
    assert_eq!(second.stats_of(near.spi).sequence_out, 11);
}

#[test]
fn numbers_are_skipped_and_more_reserved_where_that_goes_beyond() {
    let World { mut first, mut far, mut near, .. } = World::new(1);
    let mut ping = |number| far.send(&udp("10.1.0.1", "10.2.0.1", number, 100));
    // Of one that is not there.
    first.handle.advance(Spi(7), 1);
    first.handle.advance(near.spi, 1000);
    first.has_been_told();
    ping(1);
    near.receive_from_anywhere();
    assert_eq!(first.stats_of(near.spi).sequence_out, 1001);
    first.handle.reserve(near.spi, Reserve { lease: Lease::up_to(1010), warn_at: 1008 });
    first.handle.advance(near.spi, 500);
    let low = loop {
        match first.next_event() {
            RouterEvent::FirstInbound { .. } => {}
            other => break other,
        }
    };
    assert!(matches!(low, RouterEvent::NumbersLow { spi, sequence: 1501 } if spi == near.spi), "{low:?}");
    ping(2);
    first.wait_for("esp_lease_used_up", 1);
    let again = first.next_event();
    assert!(matches!(again, RouterEvent::NumbersLow { spi, sequence: 1501 } if spi == near.spi), "{again:?}");
    first.handle.reserve(near.spi, Reserve { lease: Lease::up_to(1600), warn_at: 1550 });
    first.has_been_told();
    ping(3);
    near.receive_from_anywhere();
    assert_eq!(first.stats_of(near.spi).sequence_out, 1502);
    // There are no more.
    first.handle.reserve(near.spi, Reserve::default());
    first.handle.advance(near.spi, u64::MAX);
    let soft = first.next_event();
    assert!(matches!(soft, RouterEvent::SoftLimit { spi } if spi == near.spi), "{soft:?}");
}

#[test]
fn packets_of_a_slot_that_comes_wait_for_their_pairs_and_keep_their_order() {
    let World { first, second, mut far, mut near, .. } = World::new(2);
    let spis = vec![far.spi, near.spi];
    let early: Vec<Vec<u8>> =
        (0..20).map(|number| far.seal(&udp("10.1.0.1", "10.2.0.1", number, 10))).collect();
    let pairs = snapshots(first.runtime.block_on(first.handle.extract_pairs(spis)));
    assert_eq!(pairs.len(), 2);

    second.handle.expect_slot(MOVING).unwrap();
    let (by_socket, passed_on) = early.split_at(10);
    for packet in by_socket {
        far.socket.send_to(packet, second.natt()).unwrap();
    }
    second.wait_for("slot_held", 10);
    let passed = Passed {
        local: first.natt(),
        from: far.socket.local_addr().unwrap(),
        encapsulation: Encapsulation::Udp,
        class: 0,
    };
    for packet in passed_on {
        second.handle.passed_in(packet.clone(), passed);
    }
    second.wait_for("slot_held", 20);
    restore(&second.handle, &pairs, Resume::Exactly, Reserve::default());
    second.handle.open_slot(MOVING).unwrap();
    for number in 0..20u32 {
        assert_eq!(near.receive_from_anywhere().1[28..32], number.to_be_bytes());
    }
    assert_eq!(second.counter("drop_slot_hold_expired"), 0);
}

/// What waits for the slot may lie at another shard than its pairs come to: of eight destinations some are the other's.
#[test]
fn what_waits_for_a_slot_goes_before_what_comes_with_its_pairs() {
    for host in 1..=8 {
        let World { first, second, far: _far, mut near, .. } = World::new(2);
        second.declare(TENANT, 2, "10.2.0.0/16", false);
        let pairs = snapshots(first.runtime.block_on(first.handle.extract_pairs(vec![near.spi])));
        second.handle.expect_slot(MOVING).unwrap();
        let pass = |number| {
            let inner = udp("10.1.0.1", &format!("10.2.0.{host}"), number, 10);
            second.handle.inner_in(TENANT, inner);
            second.wait_for("slot_held", u64::from(number) + 1);
        };
        pass(0);
        restore(&second.handle, &pairs, Resume::Exactly, Reserve::default());
        pass(1);
        second.handle.open_slot(MOVING).unwrap();
        for number in 0..2u32 {
            assert_eq!(near.receive_from_anywhere().1[28..32], number.to_be_bytes(), "to host {host}");
        }
    }
}

#[test]
fn a_standby_keeps_up_with_windows() {
    let World { first, second, mut far, near, .. } = World::new(2);
    let changed = || first.runtime.block_on(first.handle.changed_windows());
    let mut pairs = first.runtime.block_on(first.handle.snapshot_pairs(vec![far.spi]));
    assert!(changed().is_empty());
    let ping = udp("10.1.0.1", "10.2.0.1", 1, 100);
    let old: Vec<Vec<u8>> = (0..5).map(|_| far.seal(&ping)).collect();
    for packet in &old {
        far.socket.send_to(packet, first.natt()).unwrap();
    }
    first.wait_for("esp_sent", 5);
    let windows = changed();
    let told: Vec<u32> = windows.iter().map(|window| window.spi).collect();
    assert_eq!(told, [far.spi.0, near.spi.0], "each once, by what came in and by what went out");
    assert!(changed().is_empty());
    pairs[0].set_window(&windows[0]).unwrap();
    let mut other = first.runtime.block_on(first.handle.snapshot_pairs(vec![near.spi]));
    assert!(other[0].set_window(&windows[0]).is_err());
    other[0].set_window(&windows[1]).unwrap();
    pairs.append(&mut other);

    second.handle.open_slot(MOVING).unwrap();
    restore(&second.handle, &pairs, Resume::Beyond(0), Reserve::default());
    for packet in &old {
        far.socket.send_to(packet, second.natt()).unwrap();
    }
    second.wait_for("esp_replay_duplicate", 5);
    assert_eq!(second.stats_of(far.spi).packets_in, 5);
    // Its limits in octets and packets go on, though nothing ever came in by it.
    assert_eq!(second.stats_of(near.spi).packets_out, 5);
}

/// The peer has begun anew before anybody went on with what it had. Whoever sends on the newer one hears nothing of the other.
#[test]
fn a_pair_that_comes_takes_nothing_from_a_newer_one() {
    let World { cluster, first, second, far, .. } = World::new(1);
    let mut newer = site(&second, SECOND, 1, 26, "10.1.0.0/16");
    let mut near = site(&second, SECOND, 2, 27, "10.2.0.0/16");
    first.runtime.block_on(hand_over(&cluster, &first.handle, &second.handle, &[far.spi]));
    for gone in [false, true] {
        if gone {
            second.handle.retire(far.spi);
            second.handle.remove(far.spi);
        }
        let packet = udp("10.2.0.1", "10.1.0.1", gone.into(), 100);
        near.send(&packet);
        assert_eq!(newer.receive().len(), packet.len());
    }
}

#[test]
fn a_pair_is_restored_where_its_number_is_free_and_nowhere_else() {
    let World { first, second, far, .. } = World::new(2);
    let pairs = first.runtime.block_on(first.handle.snapshot_pairs(vec![far.spi]));
    let restore = |to: &Gateway| to.handle.restore_pair(&pairs[0], Resume::Exactly, Reserve::default(), None);
    let refused = |result| matches!(result, Err(RouterError::SpiNotFree(spi)) if spi == far.spi);
    assert!(refused(restore(&first)), "it is in use");
    assert!(refused(restore(&second)), "its slot is not open");
    second.handle.open_slot(MOVING).unwrap();
    second.handle.remove_tenant(TENANT);
    assert!(matches!(restore(&second), Err(RouterError::UnknownTenant(TENANT))));
    second.hub(TENANT.0);
    restore(&second).unwrap();
    assert!(refused(restore(&second)));
    let nothing = PairSnapshot::default();
    let error = second.handle.restore_pair(&nothing, Resume::Exactly, Reserve::default(), None).unwrap_err();
    assert_eq!(error.to_string(), "the snapshot lacks the inbound SA");
    let elsewhere = Some("192.0.2.1:4500".parse().unwrap());
    let only = Gateway::start_with(1, vec!["127.0.0.1".parse().unwrap()], 10);
    only.handle.open_slot(MOVING).unwrap();
    let error = only.handle.restore_pair(&pairs[0], Resume::Exactly, Reserve::default(), elsewhere);
    assert!(matches!(error, Err(RouterError::NotLocal(_))));
}

#[test]
fn what_a_pair_has_learned_moves_along() {
    let World { first, second, mut far, .. } = World::new(1);
    let limits = Limits { soft_packets: Some(1000), ..Limits::default() };
    let spi = first.handle.allocate_spi(MOVING, [127, 0, 0, 24].into()).unwrap();
    let limited = |child: &mut router::ChildSa| child.limits = limits;
    let site = first.install_under(spi, socket(24), TENANT, 9, (ANY, "10.9.0.0/16"), limited);
    far.send(&udp("10.1.0.1", "10.9.0.1", 1, 10));
    first.wait_for("drop_no_route", 1);
    let spis = vec![far.spi, site.spi];
    let before: Vec<_> = spis.iter().map(|spi| first.stats_of(*spi)).collect();
    let pairs = snapshots(first.runtime.block_on(first.handle.extract_pairs(spis.clone())));
    assert!(first.stats().iter().all(|stats| !spis.contains(&stats.spi)));
    second.handle.open_slot(MOVING).unwrap();
    restore(&second.handle, &pairs, Resume::Exactly, Reserve::default());
    for old in before {
        let mut new = second.stats_of(old.spi);
        // What happened on a node stays there.
        (new.drops, new.last_used_in) = (old.drops.clone(), old.last_used_in);
        let Carried { packets_in, bytes_in, .. } = std::mem::take(&mut new.elsewhere);
        assert_eq!((packets_in, bytes_in), (old.packets_in, old.bytes_in), "and is counted there");
        assert_eq!(new, old);
    }
}

/// As with a soft limit, whoever was told may have gone. A pair that is sent by has been heard of.
#[test]
fn a_first_packet_is_told_once_more_after_a_move() {
    let World { cluster: _cluster, first, mut second, mut far, mut near } = World::new(1);
    // The responder's new pair of a rekey: it is sent by once the peer is known to have it in place.
    let spi = first.handle.allocate_spi(MOVING, [127, 0, 0, 21].into()).unwrap();
    let mut new = first.install_under(spi, socket(21), TENANT, 1, (ANY, "10.1.0.0/16"), |_| {});
    for site in [&mut far, &mut new] {
        site.send(&udp("10.1.0.1", "10.2.0.1", 1, 10));
        near.receive();
    }
    let spis = vec![far.spi, new.spi];
    let pairs = snapshots(first.runtime.block_on(first.handle.extract_pairs(spis)));
    second.handle.open_slot(MOVING).unwrap();
    restore(&second.handle, &pairs, Resume::Exactly, Reserve::default());
    for site in [&mut far, &mut new] {
        (site.router, site.entry) = (second.natt(), second.natt());
        for number in 2..4 {
            site.send(&udp("10.1.0.1", "10.2.0.1", number, 10));
        }
    }
    // Where they are for there is no tunnel here.
    second.wait_for("drop_no_route", 4);
    let told = std::iter::from_fn(|| second.events.try_recv().ok());
    let told: Vec<Spi> = told
        .filter_map(|event| match event {
            RouterEvent::FirstInbound { spi } => Some(spi),
            _ => None,
        })
        .collect();
    assert_eq!(told, [new.spi]);
}

/// Whoever was told of a limit in the last moment may have been on its way itself.
#[test]
fn a_soft_limit_is_told_once_more_after_a_move() {
    let World { mut first, mut second, .. } = World::new(1);
    let spi = first.handle.allocate_spi(MOVING, [127, 0, 0, 24].into()).unwrap();
    let limits = Limits { soft_packets: Some(2), ..Limits::default() };
    let mut site = first.install_under(spi, socket(24), TENANT, 9, ("10.1.0.0/16", "10.9.0.0/16"), |child| {
        child.limits = limits;
    });
    let soft = |gateway: &mut Gateway| {
        while !matches!(gateway.next_event(), RouterEvent::SoftLimit { spi: told } if told == spi) {}
    };
    for _ in 0..3 {
        site.send(&udp("10.9.0.1", "10.1.0.1", 1, 10));
    }
    soft(&mut first);
    let pairs = snapshots(first.runtime.block_on(first.handle.extract_pairs(vec![spi])));
    second.handle.open_slot(MOVING).unwrap();
    restore(&second.handle, &pairs, Resume::Exactly, Reserve::default());
    let packet = site.seal(&udp("10.9.0.1", "10.1.0.1", 1, 10));
    site.socket.send_to(&packet, second.natt()).unwrap();
    soft(&mut second);
}
