//! Several slots of a cluster at one router.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Gateway, SLOT, hopped, socket, udp};
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
