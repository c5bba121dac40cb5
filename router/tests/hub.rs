//! Switching between the tunnels of a tenant, and never between tenants.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Gateway, Remote, hopped, udp, udp_v6};
use esp::Limits;
use proptest::prelude::*;
use router::policy::{Policy, PolicyAction, PolicyRule, Tunnels};

const ANY: &str = "0.0.0.0/0";

/// Two sites of one tenant, whose addresses put them on different shards.
fn two_sites(gateway: &Gateway) -> (Remote, Remote) {
    let tenant = gateway.hub(1);
    let first = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    // An address of the other shard, whichever that is.
    let host = (12..200)
        .find(|host| {
            let spi = gateway.handle.allocate_spi(common::SLOT, [127, 0, 0, *host].into()).unwrap();
            spi.shard() != first.spi.shard()
        })
        .unwrap();
    (first, gateway.connect(tenant, 2, host, ANY, "10.2.0.0/16"))
}

#[test]
fn packets_cross_from_tunnel_to_tunnel_and_shard_to_shard() {
    let gateway = Gateway::start(2);
    let (mut first, mut second) = two_sites(&gateway);
    assert_ne!(first.spi.shard(), second.spi.shard());
    for len in [4, 100, 1372, 4000] {
        let ping = udp("10.1.0.1", "10.2.0.1", 1, len);
        first.send(&ping);
        assert_eq!(second.receive(), hopped(&ping));
        let pong = udp("10.2.0.1", "10.1.0.1", 2, len);
        second.send(&pong);
        assert_eq!(first.receive(), hopped(&pong));
    }
    let stats = gateway.stats_of(first.spi);
    assert_eq!((stats.packets_in, stats.packets_out, stats.active), (4, 4, true));
    assert!(stats.last_used_in.is_some() && stats.last_used_out.is_some() && stats.drops.is_empty());
    gateway.wait_for("handed_over", 8);
}

#[test]
fn the_sixth_version_inside_and_outside() {
    let gateway = Gateway::start_with(2, vec!["::".parse().unwrap(), "0.0.0.0".parse().unwrap()], 100);
    let tenant = gateway.hub(1);
    let socket = std::net::UdpSocket::bind("[::1]:0").unwrap();
    socket.set_read_timeout(Some(common::PATIENCE)).unwrap();
    let mut first = gateway.install_on(socket, tenant, 1, "::/0", "2001:db8:1::/48", Limits::default());
    let mut second = gateway.connect(tenant, 2, 12, "::/0", "2001:db8:2::/48");
    gateway.handle.activate(first.spi);
    for len in [0, 1, 700, 1300] {
        let ping = udp_v6("2001:db8:1::9", "2001:db8:2::9", len);
        first.send(&ping);
        assert_eq!(second.receive(), hopped(&ping));
        let pong = udp_v6("2001:db8:2::9", "2001:db8:1::9", len);
        second.send(&pong);
        assert_eq!(first.receive(), hopped(&pong));
    }
}

#[test]
fn a_stream_keeps_its_order() {
    let gateway = Gateway::start(2);
    let (mut first, mut second) = two_sites(&gateway);
    // In portions that the sockets and rings hold, so that nothing is lost and the order can be told.
    for portion in 0..100u32 {
        for number in 0..32 {
            let number = portion * 32 + number;
            first.send(&udp("10.1.0.1", "10.2.0.1", number, 600 + (number % 7) as usize * 100));
        }
        for number in 0..32 {
            let inner = second.receive();
            assert_eq!(inner[28..32], (portion * 32 + number).to_be_bytes());
        }
    }
    assert_eq!(gateway.counter("drop_handoff_full"), 0);
}

#[test]
fn what_has_no_route_is_counted() {
    let gateway = Gateway::start(1);
    let (tenant, other) = (gateway.hub(1), gateway.hub(2));
    let mut first = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let mut second = gateway.connect(tenant, 2, 12, ANY, "10.2.0.0/16");
    let elsewhere = gateway.connect(other, 3, 13, ANY, "10.3.0.0/16");
    first.send(&udp("10.1.0.1", "10.3.0.1", 1, 10));
    let mut last_hop = udp("10.1.0.1", "10.2.0.1", 2, 10);
    last_hop[8] = 1;
    first.send(&last_hop);
    first.send(&udp("10.2.0.1", "10.2.0.1", 3, 10));
    first.send(&udp("10.1.0.1", "10.2.0.1", 4, 10));
    assert_eq!(second.receive()[28..32], 4u32.to_be_bytes(), "the ones before are through");
    let mut drops = gateway.stats_of(first.spi).drops;
    drops.sort_unstable();
    assert_eq!(drops, [("drop_no_route", 1), ("drop_ttl_expired", 1), ("esp_selector_mismatch", 1)]);
    for (name, count) in drops {
        assert_eq!(gateway.counter(name), count);
    }
    assert!(elsewhere.is_silent());
}

/// A later fragment, which shows no ports.
fn fragment(mut packet: Vec<u8>) -> Vec<u8> {
    packet[7] = 2;
    common::fix_checksum(&mut packet);
    packet
}

#[test]
fn nothing_goes_back_into_the_tunnel_that_it_came_out_of() {
    for shards in [1, 2] {
        let gateway = Gateway::start(shards);
        let tenant = gateway.hub(1);
        let mut all = gateway.connect(tenant, 1, 11, ANY, ANY);
        let (lost, fragment) =
            (udp("10.1.0.1", "10.9.0.1", 1, 10), fragment(udp("10.1.0.1", "10.9.0.1", 1, 10)));
        for packet in [&lost, &fragment, &lost] {
            all.send(packet);
        }
        gateway.wait_for("drop_no_route", 3);
        assert_eq!(gateway.stats_of(all.spi).drops, [("drop_no_route", 3)]);
        assert!(all.is_silent(), "{}", gateway.counter("switched"));
    }
}

#[test]
fn who_is_for_everything_reaches_the_others_and_they_it() {
    let gateway = Gateway::start(2);
    let tenant = gateway.hub(1);
    let mut all = gateway.connect(tenant, 1, 11, ANY, ANY);
    // Two children of one other peer.
    let mut narrow = gateway.connect(tenant, 64, 12, ANY, "10.2.0.0/16");
    let mut beside = gateway.connect(tenant, 65, 12, ANY, "10.3.0.0/16");
    for number in 0..3 {
        for (packet, by, to) in [
            (udp("10.1.0.1", "10.2.0.1", number, 10), 0, 1),
            (fragment(udp("10.1.0.1", "10.3.0.1", number, 10)), 0, 2),
            (udp("10.2.0.1", "10.1.0.1", number, 10), 1, 0),
            (udp("10.2.0.1", "10.3.0.1", number, 10), 1, 2),
            (fragment(udp("10.3.0.1", "10.2.0.1", number, 10)), 2, 1),
            // Its own network, of which there is a shorter prefix elsewhere.
            (udp("10.2.0.1", "10.2.0.2", number, 10), 1, 0),
        ] {
            let sites = [&mut all, &mut narrow, &mut beside];
            sites[by].send(&packet);
            assert_eq!(sites[to].receive(), hopped(&packet));
        }
    }
    assert!(all.is_silent() && narrow.is_silent() && beside.is_silent());
}

#[test]
fn a_policy_leads_nothing_back_either() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut all = gateway.connect(tenant, 1, 11, ANY, ANY);
    let protect = PolicyRule {
        action: PolicyAction::Protect(Tunnels::Any),
        local: Vec::new(),
        remote: Vec::new(),
        protocol: None,
        local_ports: Vec::new(),
        remote_ports: Vec::new(),
    };
    gateway.handle.set_policy(tenant, Policy::new(vec![protect]).unwrap()).unwrap();
    all.send(&udp("10.1.0.1", "10.9.0.1", 1, 10));
    gateway.wait_for("drop_policy_no_tunnel", 1);
    assert!(all.is_silent());
}

#[test]
fn tenants_with_the_same_addresses_do_not_meet() {
    let gateway = Gateway::start(2);
    let mut sites: Vec<(Remote, Remote)> = (0..4u32)
        .map(|number| {
            let tenant = gateway.hub(number);
            let tunnel = u64::from(number) * 2;
            let host = 20 + number as u8 * 2;
            (
                gateway.connect(tenant, tunnel, host, ANY, "10.1.0.0/16"),
                gateway.connect(tenant, tunnel + 1, host + 1, ANY, "10.2.0.0/16"),
            )
        })
        .collect();
    for round in 0..50u32 {
        for (number, (first, _)) in sites.iter_mut().enumerate() {
            first.send(&udp("10.1.0.1", "10.2.0.1", round << 8 | number as u32, 64));
        }
        for (number, (_, second)) in sites.iter_mut().enumerate() {
            assert_eq!(second.receive()[28..32], (round << 8 | number as u32).to_be_bytes());
        }
    }
    assert!(sites.iter().all(|(first, second)| first.is_silent() && second.is_silent()));
}

#[test]
fn a_removed_tenant_is_gone_alone() {
    let mut gateway = Gateway::start(2);
    let (tenant, other) = (gateway.hub(1), gateway.hub(2));
    let mut gone = gateway.connect(tenant, 1, 11, ANY, "10.1.0.0/16");
    let mut first = gateway.connect(other, 2, 12, ANY, "10.1.0.0/16");
    let mut second = gateway.connect(other, 3, 13, ANY, "10.2.0.0/16");
    gateway.handle.remove_tenant(tenant);
    let removed = gateway.next_event();
    assert!(matches!(removed, router::RouterEvent::Removed { spi, .. } if spi == gone.spi), "{removed:?}");
    gone.send(&udp("10.1.0.1", "10.2.0.1", 1, 10));
    gateway.wait_for("drop_unknown_spi", 1);
    first.send(&udp("10.1.0.1", "10.2.0.1", 2, 10));
    assert_eq!(second.receive()[28..32], 2u32.to_be_bytes());
    gateway.hub(1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 8, ..ProptestConfig::default() })]

    /// Whatever one tenant's peers send, within their selectors or not, nothing leaves by the other tenant's tunnels.
    #[test]
    fn nothing_ever_leaves_by_another_tenant(
        packets in proptest::collection::vec((any::<u16>(), any::<u16>(), 0u8..3, 0u8..4), 1..60),
        prefixes in proptest::collection::vec(0u8..=24, 2),
    ) {
        let gateway = Gateway::start(2);
        let (one, two) = (gateway.hub(1), gateway.hub(2));
        let mut one_a = gateway.connect(one, 1, 31, ANY, &format!("10.1.0.0/{}", prefixes[0]));
        let mut one_b = gateway.connect(one, 2, 32, ANY, "10.2.0.0/16");
        let two_a = gateway.connect(two, 3, 33, ANY, &format!("10.1.0.0/{}", prefixes[1]));
        let two_b = gateway.connect(two, 4, 34, ANY, "0.0.0.0/0");
        for (low, high, from, to) in &packets {
            let source = format!("10.{from}.{}.{}", high >> 8, low & 255);
            let destination = format!("10.{to}.{}.{}", low >> 8, high & 255);
            one_a.send(&udp(&source, &destination, 0, 20));
            one_b.send(&udp(&source, &destination, 0, 20));
        }
        // Every packet was received: then its fate is decided and, on this shard or another, carried out.
        gateway.wait_for("esp_received", 2 * packets.len() as u64);
        // A shard answers after the turn in which it did the work that came before.
        for stats in [gateway.stats(), gateway.stats()].concat() {
            if stats.tenant == two {
                prop_assert_eq!((stats.packets_out, stats.packets_in), (0, 0));
            }
        }
        prop_assert!(two_a.is_silent() && two_b.is_silent());
    }
}
