//! Several slots of a cluster at one router.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::cluster::Cluster;
use common::{Gateway, Remote, SLOT, hopped, socket, udp};
use esp::Spi;
use router::{RouterError, RouterEvent};

const ANY: &str = "0.0.0.0/0";

#[test]
fn pairs_of_several_slots_are_one_node() {
    let mut gateway = Gateway::start(2);
    let tenant = gateway.hub(1);
    let mut first = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    assert!(gateway.handle.allocate_spi(33, [127, 0, 0, 12].into()).is_none());
    for slot in [33, 33] {
        gateway.handle.open_slot(slot).unwrap();
    }
    let spi = gateway.handle.allocate_spi(33, [127, 0, 0, 12].into()).unwrap();
    let mut second = gateway.install_under(spi, socket(12), tenant, 2, (ANY, "10.2.0.0/16"), |_| {});
    gateway.handle.activate(spi);
    assert_eq!([first.spi.slot(), second.spi.slot()], [SLOT, 33]);
    let ping = udp("10.1.0.1", "10.2.0.1", 1, 100);
    first.send(&ping);
    assert_eq!(second.receive(), hopped(&ping));
    let pong = udp("10.2.0.1", "10.1.0.1", 2, 100);
    second.send(&pong);
    assert_eq!(first.receive(), hopped(&pong));

    let like = gateway.handle.allocate_own_spi(SLOT, [127, 0, 0, 12].into(), &[], Some(spi)).unwrap();
    assert_eq!((like.slot(), like.shard()), (33, spi.shard()));
    gateway.handle.close_slot(33).unwrap();
    let removed = loop {
        if let RouterEvent::Removed { spi, stats } = gateway.next_event() {
            break (spi, stats.packets_in);
        }
    };
    assert_eq!(removed, (spi, 1));
    second.send(&udp("10.2.0.1", "10.1.0.1", 3, 100));
    gateway.wait_for("drop_unknown_spi", 1);
    first.send(&ping);
    gateway.wait_for("drop_no_route", 1);
}

#[test]
fn nothing_is_installed_in_a_slot_that_is_not_open() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    gateway.handle.open_slot(33).unwrap();
    let mut child = gateway.spare_pair(tenant);
    child.inbound_spi = gateway.handle.allocate_spi(33, [127, 0, 0, 12].into()).unwrap();
    gateway.handle.close_slot(33).unwrap();
    let spi = child.inbound_spi;
    let refused = gateway.handle.install(child).unwrap_err();
    assert!(matches!(refused, RouterError::SpiNotReserved(of) if of == spi), "{refused}");
    for slot in [0, 64] {
        let refused = gateway.handle.open_slot(slot).unwrap_err();
        assert_eq!(refused.to_string(), format!("there is no slot {slot}: slots are 1 to 63"));
    }
}

/// A site of `gateway` in `slot` that sends to `entry`, and another one that it speaks with.
fn sites(gateway: &Gateway, slot: u8, entry: &Gateway) -> (Remote, Remote) {
    let tenant = gateway.hub(1);
    let spi = gateway.handle.allocate_spi(slot, [127, 0, 0, 21].into()).unwrap();
    let mut far = gateway.install_under(spi, socket(21), tenant, 1, (ANY, "10.1.0.0/16"), |_| {});
    gateway.handle.activate(spi);
    far.entry = entry.natt();
    let near = gateway.handle.allocate_spi(slot, [127, 0, 0, 22].into()).unwrap();
    let near = gateway.install_under(near, socket(22), tenant, 2, (ANY, "10.2.0.0/16"), |_| {});
    gateway.handle.activate(near.spi);
    (far, near)
}

#[test]
fn any_node_takes_the_packets_of_every_slot() {
    let cluster = Arc::new(Cluster::default());
    let (mut owner, entry) = (cluster.gateway(33, 2), cluster.gateway(SLOT, 2));
    cluster.give(33, &owner);
    let (mut far, mut near) = sites(&owner, 33, &entry);
    for len in [4, 1300] {
        let ping = udp("10.1.0.1", "10.2.0.1", 1, len);
        far.send(&ping);
        assert_eq!(near.receive(), hopped(&ping));
        let pong = udp("10.2.0.1", "10.1.0.1", 2, len);
        near.send(&pong);
        assert_eq!(far.receive(), hopped(&pong), "answered by the owner");
    }
    entry.wait_for("passed_on", 2);
    assert_eq!(owner.counter("passed_in"), 2);

    // The owner sees where it came from, as if it had been sent to it.
    far.socket = socket(23);
    let seen = far.socket.local_addr().unwrap();
    far.send(&udp("10.1.0.1", "10.2.0.1", 3, 10));
    let moved = loop {
        match owner.next_event() {
            RouterEvent::FirstInbound { .. } => {}
            other => break other,
        }
    };
    assert!(matches!(moved, RouterEvent::RemoteMoved { spi, remote } if spi == far.spi && remote == seen));
}

#[test]
fn what_is_passed_on_is_passed_on_once() {
    let cluster = Arc::new(Cluster::default());
    let (first, second) = (cluster.gateway(1, 1), cluster.gateway(2, 1));
    // Each takes the other for the owner of slot 33, and nobody has slot 34.
    cluster.give(33, &second);
    let socket = socket(24);
    let mut unknown = [0; 60];
    unknown[..4].copy_from_slice(&Spi::compose(33, 0, 7).unwrap().0.to_be_bytes());
    socket.send_to(&unknown, first.natt()).unwrap();
    second.wait_for("drop_passed_twice", 1);
    unknown[..4].copy_from_slice(&Spi::compose(34, 0, 7).unwrap().0.to_be_bytes());
    socket.send_to(&unknown, first.natt()).unwrap();
    first.wait_for("drop_not_passed_on", 1);
    // A shard that is not there: the control thread knows the slot as well.
    unknown[..4].copy_from_slice(&Spi::compose(33, 9, 7).unwrap().0.to_be_bytes());
    socket.send_to(&unknown, first.natt()).unwrap();
    second.wait_for("drop_unknown_spi", 1);
    // No slot, and a pair of our own that is gone.
    unknown[..4].copy_from_slice(&[0, 0, 2, 0]);
    socket.send_to(&unknown, first.natt()).unwrap();
    unknown[..4].copy_from_slice(&Spi::compose(1, 0, 7).unwrap().0.to_be_bytes());
    socket.send_to(&unknown, first.natt()).unwrap();
    first.wait_for("drop_unknown_spi", 2);
    first.wait_for("passed_on", 2);
}

#[test]
fn packets_of_a_slot_that_goes_follow_it() {
    let cluster = Arc::new(Cluster::default());
    let (old, new) = (cluster.gateway(33, 2), cluster.gateway(SLOT, 2));
    new.handle.open_slot(33).unwrap();
    let (mut far, mut near) = sites(&new, 33, &old);
    old.handle.expect_slot(33).unwrap();
    far.send(&udp("10.1.0.1", "10.2.0.1", 1, 10));
    old.wait_for("slot_held", 1);
    cluster.give(33, &new);
    old.handle.close_slot(33).unwrap();
    assert_eq!(near.receive()[28..32], 1u32.to_be_bytes());
    old.wait_for("passed_on", 1);
}

/// A third node has sent it to the one that gives its slot away, which takes longer than a packet waits.
#[test]
fn what_has_waited_long_enough_goes_where_the_slot_goes() {
    let (before, after) = (Arc::new(Cluster::default()), Arc::new(Cluster::default()));
    let third = before.gateway(50, 1);
    let (old, new) = (after.waiting_gateway(33, 2, Duration::from_millis(10)), after.gateway(SLOT, 2));
    before.give(33, &old);
    after.give(33, &new);
    new.handle.open_slot(33).unwrap();
    let (mut far, mut near) = sites(&new, 33, &third);
    old.handle.expect_slot(33).unwrap();
    far.send(&udp("10.1.0.1", "10.2.0.1", 1, 10));
    assert_eq!(near.receive()[28..32], 1u32.to_be_bytes());
    assert_eq!(["slot_held", "passed_on"].map(|name| old.counter(name)), [1, 1]);
}
