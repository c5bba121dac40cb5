//! A tunnel from its installation to its removal: make before break, limits, moving peers.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::net::UdpSocket;
use std::time::Instant;

use common::{Gateway, PATIENCE, udp};
use esp::{Limits, OpenError, Spi};
use router::{RouterError, RouterEvent, TenantId, Uplink};

const ANY: &str = "0.0.0.0/0";

#[test]
fn a_rekey_loses_nothing() {
    let mut gateway = Gateway::start(2);
    let tenant = gateway.hub(1);
    let mut sender = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let mut old = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    let packet = |number| udp("10.1.0.1", "10.2.0.1", number, 50);
    let back = |number| udp("10.2.0.1", "10.1.0.1", number, 50);
    sender.send(&packet(1));
    assert_eq!(old.receive()[28..32], 1u32.to_be_bytes());
    assert!(matches!(gateway.next_event(), RouterEvent::FirstInbound { spi } if spi == sender.spi));

    // The new pair receives at once, but nothing is sent on it yet.
    let mut new =
        gateway.install_on(old.socket.try_clone().unwrap(), tenant, 2, ANY, "10.2.0.0/16", Limits::default());
    sender.send(&packet(2));
    assert_eq!(old.receive()[28..32], 2u32.to_be_bytes());
    new.send(&back(3));
    assert_eq!(sender.receive()[28..32], 3u32.to_be_bytes());
    assert!(matches!(gateway.next_event(), RouterEvent::FirstInbound { spi } if spi == new.spi));

    // Now it takes over, and the old one still receives.
    gateway.handle.activate(new.spi);
    sender.send(&packet(4));
    assert_eq!(new.receive()[28..32], 4u32.to_be_bytes());
    gateway.handle.retire(old.spi);
    old.send(&back(5));
    assert_eq!(sender.receive()[28..32], 5u32.to_be_bytes());
    assert!(matches!(gateway.next_event(), RouterEvent::FirstInbound { spi } if spi == old.spi));
    assert!(!gateway.stats_of(old.spi).active && gateway.stats_of(new.spi).active);

    gateway.handle.remove(old.spi);
    match gateway.next_event() {
        RouterEvent::Removed { spi, stats } => {
            assert_eq!(spi, old.spi);
            assert_eq!((stats.packets_in, stats.packets_out), (1, 2));
        }
        other => panic!("{other:?}"),
    }
    sender.send(&packet(6));
    assert_eq!(new.receive()[28..32], 6u32.to_be_bytes());
    old.send(&back(7));
    assert!(matches!(gateway.next_event(), RouterEvent::UnknownSpi { spi, remote }
            if spi == old.spi && remote == old.socket.local_addr().unwrap()));
}

#[test]
fn retirement_of_the_only_pair_leaves_no_route() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut sender = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let receiver = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    gateway.handle.retire(receiver.spi);
    sender.send(&udp("10.1.0.1", "10.2.0.1", 1, 50));
    gateway.wait_for("drop_no_route", 1);
    assert!(receiver.is_silent());
}

#[test]
fn the_first_packet_counts_when_it_is_delivered() {
    let mut gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut sender = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    sender.send(&udp("10.9.0.1", "10.2.0.1", 1, 50));
    gateway.wait_for("esp_selector_mismatch", 1);
    assert!(gateway.events.try_recv().is_err());
    sender.send(&udp("10.1.0.1", "10.2.0.1", 1, 50));
    assert!(matches!(gateway.next_event(), RouterEvent::FirstInbound { spi } if spi == sender.spi));
}

#[test]
fn a_narrower_pair_carries_only_what_it_may() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut sender = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let old = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    let socket = old.socket.try_clone().unwrap();
    let mut new = gateway.install_on(socket, tenant, 2, ANY, "10.2.3.0/24", Limits::default());
    gateway.handle.activate(new.spi);
    sender.send(&udp("10.1.0.1", "10.2.0.1", 1, 50));
    sender.send(&udp("10.1.0.1", "10.2.3.1", 2, 50));
    assert_eq!(new.receive()[28..32], 2u32.to_be_bytes());
    assert_eq!(gateway.stats_of(new.spi).drops, [("drop_outbound_selector", 1)]);
}

#[test]
fn limits_are_reported_once_and_hold() {
    let mut gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let limits = Limits { soft_packets: Some(2), hard_packets: Some(4), ..Limits::default() };
    let mut sender = gateway.install(tenant, 1, 11, ANY, "10.1.0.0/16", limits);
    let mut receiver = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    for number in 0..6 {
        sender.send(&udp("10.1.0.1", "10.2.0.1", number, 50));
    }
    for number in 0..4u32 {
        assert_eq!(receiver.receive()[28..32], number.to_be_bytes());
    }
    gateway.wait_for("esp_inbound_hard_limit", 2);
    assert!(receiver.is_silent());
    assert!(matches!(gateway.next_event(), RouterEvent::FirstInbound { .. }));
    assert!(matches!(gateway.next_event(), RouterEvent::SoftLimit { spi } if spi == sender.spi));
    assert!(matches!(gateway.next_event(), RouterEvent::HardLimit { spi } if spi == sender.spi));
    assert!(gateway.events.try_recv().is_err());
}

#[test]
fn that_no_number_is_left_is_told_by_the_first_packet_that_has_none() {
    let mut gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut sender = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let receiver = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    gateway.handle.advance(receiver.spi, u64::MAX);
    assert!(matches!(gateway.next_event(), RouterEvent::SoftLimit { spi } if spi == receiver.spi));
    sender.send(&udp("10.1.0.1", "10.2.0.1", 1, 50));
    assert!(matches!(gateway.next_event(), RouterEvent::FirstInbound { .. }));
    assert!(matches!(gateway.next_event(), RouterEvent::HardLimit { spi } if spi == receiver.spi));
    assert_eq!(gateway.counter("esp_sequence_exhausted"), 1);
}

#[test]
fn a_peer_that_moves_is_reported_and_followed_when_told() {
    let mut gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut mover = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let mut other = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    mover.send(&udp("10.1.0.1", "10.2.0.1", 1, 50));
    other.receive();
    assert!(matches!(gateway.next_event(), RouterEvent::FirstInbound { .. }));
    let late = mover.seal(&udp("10.1.0.1", "10.2.0.1", 2, 50));

    let old = std::mem::replace(&mut mover.socket, UdpSocket::bind("127.0.0.11:0").unwrap());
    mover.socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let address = mover.socket.local_addr().unwrap();
    for number in 3..5 {
        mover.send(&udp("10.1.0.1", "10.2.0.1", number, 50));
        other.receive();
    }
    assert!(
        matches!(gateway.next_event(), RouterEvent::RemoteMoved { spi, remote } if spi == mover.spi && remote == address)
    );
    // An older packet from the former address says nothing, nor does one that is not authentic.
    old.send_to(&late, mover.router).unwrap();
    other.receive();
    let mut forged = mover.seal(&udp("10.1.0.1", "10.2.0.1", 9, 50));
    *forged.last_mut().unwrap() ^= 1;
    other.socket.send_to(&forged, mover.router).unwrap();
    gateway.wait_for("esp_icv_mismatch", 1);
    assert!(gateway.events.try_recv().is_err());

    // Nothing changes until the control plane says so.
    assert_ne!(gateway.stats_of(mover.spi).remote, address);
    gateway.handle.set_remote(mover.spi, address);
    assert_eq!(gateway.stats_of(mover.spi).remote, address, "commands are carried out in order");
    other.send(&udp("10.2.0.1", "10.1.0.1", 5, 50));
    assert_eq!(mover.receive()[28..32], 5u32.to_be_bytes());
    assert!(matches!(gateway.next_event(), RouterEvent::FirstInbound { spi } if spi == other.spi));
}

#[test]
fn a_peer_that_alternates_its_port_is_reported_once_a_second() {
    let mut gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut mover = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let mut other = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    let sockets = [(); 2].map(|()| UdpSocket::bind("127.0.0.11:0").unwrap());
    let begun = Instant::now();
    for number in 0..200u32 {
        let sealed = mover.seal(&udp("10.1.0.1", "10.2.0.1", number, 50));
        sockets[number as usize % 2].send_to(&sealed, mover.router).unwrap();
        other.receive();
    }
    // As many as seconds have begun since, however slow this machine is.
    let seconds = begun.elapsed().as_secs() + 1;
    let mut moves = 0;
    while let Ok(event) = gateway.events.try_recv() {
        moves += u64::from(matches!(event, RouterEvent::RemoteMoved { .. }));
    }
    assert!((1..=seconds).contains(&moves), "{moves} moves in {seconds} s");
    assert!(gateway.counter("move_limited") > 0);
}

#[test]
fn unknown_spis_are_counted_all_and_reported_some() {
    let mut gateway = Gateway::start(2);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut spis =
        vec![Spi(0x2412_3456), Spi(0x2403_0201), Spi(0x27f0_0001), Spi(0x0000_0001), Spi(u32::MAX)];
    spis.extend((0..200).map(|index| Spi(0x2400_0000 | index)));
    for spi in &spis {
        let mut packet = vec![7; 60];
        packet[..4].copy_from_slice(&spi.0.to_be_bytes());
        socket.send_to(&packet, gateway.natt()).unwrap();
    }
    gateway.wait_for("drop_unknown_spi", spis.len() as u64);
    let mut reported = 0;
    assert!(matches!(gateway.next_event(), RouterEvent::UnknownSpi { .. }));
    while gateway.events.try_recv().is_ok() {
        reported += 1;
    }
    assert!(reported < 100, "{reported} reports");
}

#[test]
fn malformed_esp_is_counted_by_name() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut sender = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let mut receiver = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    let good = sender.seal(&udp("10.1.0.1", "10.2.0.1", 1, 50));
    for len in 4..good.len() {
        sender.socket.send_to(&good[..len], sender.router).unwrap();
    }
    sender.socket.send_to(&good, sender.router).unwrap();
    receiver.receive();
    sender.socket.send_to(&good, sender.router).unwrap();
    gateway.wait_for("esp_replay_duplicate", 1);
    let count = |name: &str| gateway.counter(name);
    let cut = (good.len() - 4) as u64;
    assert_eq!(count("esp_truncated") + count("esp_misaligned") + count("esp_icv_mismatch"), cut);
    assert!(count("esp_truncated") >= 30 && count("esp_misaligned") > 0 && count("esp_icv_mismatch") > 0);
}

#[test]
fn misuse_is_refused_and_changes_nothing() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    assert!(matches!(gateway.handle.add_tenant(tenant, Uplink::Hub), Err(RouterError::TenantExists(_))));
    let mut remote = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let mut beside = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    let child = |tenant, spi: Spi, local: &str, key_len| router::ChildSa {
        tenant,
        tunnel: router::TunnelId(7),
        inbound_spi: spi,
        own: false,
        follows: false,
        outbound_spi: 0x1234,
        suite: remote.inbound.suite(),
        inbound_keys: esp::SaKeys::new(vec![1; key_len], Vec::new()),
        outbound_keys: esp::SaKeys::new(vec![2; key_len], Vec::new()),
        iv_seed: [0; 32],
        mode: esp::Mode::Tunnel,
        selectors: esp::SelectorPair::default(),
        replay_window: 64,
        limits: Limits::default(),
        local: local.parse().unwrap(),
        remote: "127.0.0.11:4500".parse().unwrap(),
        encapsulation: router::Encapsulation::Udp,
        options: router::TunnelOptions::default(),
        reserve: router::Reserve::default(),
    };
    let fresh = || gateway.handle.allocate_spi(common::SLOT, [127, 0, 0, 11].into()).unwrap();
    let local = "127.0.0.1:4500";
    let install = |child| gateway.handle.install(child);
    let spi = fresh();
    assert!(matches!(install(child(tenant, remote.spi, local, 20)), Err(RouterError::SpiNotReserved(_))));
    assert!(matches!(install(child(tenant, Spi(spi.0 + 1), local, 20)), Err(RouterError::SpiNotReserved(_))));
    assert!(install(child(tenant, spi, local, 20)).is_ok(), "still reserved");
    // Whatever else is wrong with a pair, its SPI is free again.
    assert!(matches!(install(child(TenantId(9), fresh(), local, 20)), Err(RouterError::UnknownTenant(_))));
    assert!(matches!(install(child(tenant, fresh(), local, 19)), Err(RouterError::Sa(_))));
    assert!(matches!(install(child(tenant, fresh(), "[::1]:4500", 20)), Err(RouterError::NotLocal(_))));
    let mut refused = child(tenant, fresh(), local, 20);
    refused.encapsulation = router::Encapsulation::Raw;
    let refused_spi = refused.inbound_spi;
    assert!(matches!(install(refused), Err(RouterError::NoRawEsp(_))));
    assert!(matches!(install(child(tenant, refused_spi, local, 20)), Err(RouterError::SpiNotReserved(_))));
    for spi in [Spi(0), Spi(u32::MAX), Spi(spi.0 + 1)] {
        gateway.handle.activate(spi);
        gateway.handle.retire(spi);
        gateway.handle.remove(spi);
        gateway.handle.release_spi(spi);
        gateway.handle.set_remote(spi, "127.0.0.1:1".parse().unwrap());
    }
    gateway.handle.release_spi(remote.spi);
    beside.send(&udp("10.2.0.1", "10.1.0.9", 1, 50));
    assert_eq!(remote.try_receive().map(|inner| inner[28..32].to_vec()), Ok(vec![0, 0, 0, 1]));
    assert_eq!(remote.inbound.open(&mut [0; 80]).unwrap_err(), OpenError::WrongSpi);
}

#[test]
fn a_pair_that_expires_is_of_no_use_and_keeps_its_spi() {
    let mut gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut sender = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let mut receiver = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    sender.send(&udp("10.1.0.1", "10.2.0.1", 1, 50));
    receiver.receive();
    gateway.handle.expire(receiver.spi);
    gateway.stats(); // answered after it was carried out
    sender.send(&udp("10.1.0.1", "10.2.0.1", 2, 50));
    gateway.wait_for("esp_outbound_expired", 1);
    receiver.send(&udp("10.2.0.1", "10.1.0.1", 3, 50));
    gateway.wait_for("esp_inbound_expired", 1);
    assert!(receiver.is_silent() && sender.is_silent());
    assert_eq!(gateway.stats_of(receiver.spi).packets_out, 1, "it is there until it is removed");
    let mut twin = gateway.spare_pair(tenant);
    twin.inbound_spi = receiver.spi;
    assert!(matches!(gateway.handle.install(twin), Err(RouterError::SpiNotReserved(_))));
    gateway.handle.remove(receiver.spi);
    assert!(matches!(gateway.next_event(), RouterEvent::FirstInbound { .. }));
    assert!(matches!(gateway.next_event(), RouterEvent::Removed { spi, .. } if spi == receiver.spi));
}

#[test]
fn commands_are_never_lost() {
    let gateway = Gateway::start(2);
    let tenant = gateway.hub(1);
    let mut pairs = Vec::new();
    let socket = UdpSocket::bind("127.0.0.11:0").unwrap();
    for number in 0..3000u64 {
        let socket = socket.try_clone().unwrap();
        let network = format!("10.{}.{}.0/24", number >> 8, number & 255);
        pairs.push(gateway.install_on(socket, tenant, number, ANY, &network, Limits::default()).spi);
    }
    assert_eq!(gateway.stats().len(), pairs.len());
    for spi in &pairs {
        gateway.handle.remove(*spi);
    }
    assert!(gateway.stats().is_empty());
}
