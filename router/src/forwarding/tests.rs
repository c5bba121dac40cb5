use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use esp::{Selector, SelectorPair};

use super::*;
use crate::model::TunnelId;

fn build(routes: impl IntoIterator<Item = Route>) -> Forwarding {
    let table = Forwarding::default();
    for route in routes {
        table.add(&Arc::new(route));
    }
    table
}

fn selector(text: &str) -> Selector {
    let (address, prefix) = text.split_once('/').unwrap();
    Selector::subnet(address.parse().unwrap(), prefix.parse().unwrap())
}

fn route(spi: u32, local: Selector, remote: Selector) -> Route {
    let tunnel = Tunnel::new(TunnelId(u64::from(spi)), &Edition::default());
    tunnel.activate(Spi(spi));
    let selectors = Arc::new(SelectorPair { local: vec![local], remote: vec![remote] });
    Route::new(tunnel, selectors, false)
}

fn pair(table: &Forwarding, packet: &PacketInfo) -> Option<Spi> {
    pair_but(table, packet, None)
}

/// Without this tunnel.
fn pair_but(table: &Forwarding, packet: &PacketInfo, leave_out: Option<TunnelId>) -> Option<Spi> {
    match table.lookup(0, packet, &Tunnels::Any, leave_out)? {
        Target::Pair(spi, _) => Some(spi),
        Target::Down(tunnel) => panic!("{:?} is down", tunnel.id),
    }
}

fn packet(source: &str, destination: &str, port: u16) -> PacketInfo {
    PacketInfo {
        source: source.parse().unwrap(),
        destination: destination.parse().unwrap(),
        protocol: 17,
        source_port: Some(1000),
        destination_port: Some(port),
        len: 28,
    }
}

#[test]
fn longest_prefix_then_selectors() {
    let any = selector("0.0.0.0/0");
    let dns = Selector { protocol: 17, start_port: 53, end_port: 53, ..selector("10.1.1.0/24") };
    let table = build([
        route(1, any, any),
        route(2, any, selector("10.1.0.0/16")),
        route(3, any, dns),
        route(4, selector("10.2.0.0/16"), selector("10.1.1.0/24")),
    ]);
    assert_eq!(pair(&table, &packet("10.9.0.1", "8.8.8.8", 1)), Some(Spi(1)));
    assert_eq!(pair(&table, &packet("10.9.0.1", "10.1.2.3", 1)), Some(Spi(2)));
    assert_eq!(pair(&table, &packet("10.9.0.1", "10.1.1.3", 53)), Some(Spi(3)));
    assert_eq!(pair(&table, &packet("10.9.0.1", "10.1.1.3", 54)), Some(Spi(2)), "falls back to the shorter");
    assert_eq!(pair(&table, &packet("10.2.0.1", "10.1.1.3", 53)), Some(Spi(4)), "the later of equals");
    assert_eq!(pair(&table, &packet("2001:db8::1", "2001:db8::2", 53)), None);
}

#[test]
fn a_tunnel_without_a_pair_is_passed_over() {
    let any = selector("0.0.0.0/0");
    let narrow = route(2, any, selector("10.1.0.0/16"));
    let tunnel = narrow.tunnel.clone();
    let table = build([route(1, any, any), narrow]);
    let packet = packet("10.9.0.1", "10.1.2.3", 1);
    assert_eq!(pair(&table, &packet), Some(Spi(2)));
    tunnel.retire(Spi(3));
    assert_eq!(pair(&table, &packet), Some(Spi(2)), "another pair's retirement does nothing");
    tunnel.retire(Spi(2));
    assert_eq!(pair(&table, &packet), Some(Spi(1)));
    tunnel.activate(Spi(7));
    assert_eq!(pair(&table, &packet), Some(Spi(7)), "no new table for a rekey");
}

#[test]
fn what_is_declared_goes_its_way_or_none() {
    let any = selector("0.0.0.0/0");
    let mut narrow = route(70, any, selector("10.1.0.0/16"));
    narrow.declared = true;
    let tunnel = narrow.tunnel.clone();
    let table = build([route(1, any, any), narrow]);
    let packet = packet("10.9.0.1", "10.1.2.3", 1);
    assert_eq!(pair(&table, &packet), Some(Spi(70)));
    tunnel.retire(Spi(70));
    assert!(
        matches!(table.lookup(0, &packet, &Tunnels::Any, None), Some(Target::Down(down)) if down.id == tunnel.id)
    );
    let others = Tunnels::Range(0..=63);
    assert!(
        matches!(table.lookup(0, &packet, &others, None), Some(Target::Pair(Spi(1), _))),
        "by leave of the policy only"
    );
    assert!(table.lookup(0, &packet, &Tunnels::Range(2..=63), None).is_none());
}

#[test]
fn what_came_by_a_tunnel_goes_by_any_but_that() {
    let any = selector("0.0.0.0/0");
    let mut down = route(9, any, selector("10.1.1.0/24"));
    down.declared = true;
    down.tunnel.retire(Spi(9));
    let table = build([
        route(1, any, any),
        route(2, any, selector("10.1.0.0/16")),
        route(3, any, selector("10.1.0.0/16")),
        down,
    ]);
    let find = |packet: &PacketInfo, tunnel| pair_but(&table, packet, Some(TunnelId(tunnel)));
    let inside = packet("10.1.0.1", "10.1.2.3", 1);
    assert_eq!(find(&inside, 3), Some(Spi(2)), "another one of the same prefix");
    assert_eq!(find(&inside, 2), Some(Spi(3)));
    assert_eq!(find(&packet("10.1.0.1", "10.1.1.3", 1), 9), Some(Spi(3)), "nor does it wait for it");
    let outside = packet("10.1.0.1", "8.8.8.8", 1);
    assert_eq!(find(&outside, 2), Some(Spi(1)));
    assert_eq!(find(&outside, 1), None, "no other one takes it");
    let alone = build([route(2, any, selector("10.1.0.0/16")), route(1, any, any)]);
    assert_eq!(pair_but(&alone, &inside, Some(TunnelId(2))), Some(Spi(1)), "a shorter prefix");
}

#[test]
fn grows_and_shrinks() {
    let any = selector("0.0.0.0/0");
    let table = Forwarding::default();
    let routes: Vec<_> = (0..5000u32)
        .map(|number| {
            let network = Ipv4Addr::from_bits(10 << 24 | number << 8);
            Arc::new(route(number + 1, any, Selector::subnet(IpAddr::V4(network), 24)))
        })
        .collect();
    let find = |number: u32| {
        let target = Ipv4Addr::from_bits(10 << 24 | number << 8 | 7).to_string();
        pair(&table, &packet("10.9.0.1", &target, 1))
    };
    for route in &routes {
        table.add(route);
    }
    assert!((0..5000).all(|number| find(number) == Some(Spi(number + 1))));
    for route in routes.iter().step_by(2) {
        table.remove(route);
    }
    assert!((0..5000).all(|number| find(number).is_some() == (number % 2 == 1)));
    for route in routes.iter().skip(1).step_by(2) {
        table.remove(route);
    }
    assert!(table.v4.buckets(&Reading::new()).unwrap().lengths().is_empty());
}

proptest! {
    /// Against the plain reading: among the routes that match, the one whose remote network is smallest.
    #[test]
    fn agrees_with_a_linear_search(networks in proptest::collection::vec((any::<u32>(), 0u8..=32), 1..40),
                                   pick in any::<prop::sample::Index>(), noise in 0u32..65536) {
        let any = selector("0.0.0.0/0");
        let selectors: Vec<_> = networks.iter()
            .map(|(address, prefix)| Selector::subnet(IpAddr::V4(Ipv4Addr::from_bits(*address)), *prefix))
            .collect();
        let table = build(selectors.iter().enumerate().map(|(i, remote)| route(i as u32 + 1, any, *remote)));
        let target = Ipv4Addr::from_bits(pick.get(&networks).0 ^ noise);
        let expected = selectors.iter().enumerate()
            .filter(|(_, selector)| selector.contains(IpAddr::V4(target)))
            .max_by_key(|(i, selector)| (selector.prefix(), *i))
            .map(|(i, _)| Spi(i as u32 + 1));
        let packet = packet("10.0.0.1", &target.to_string(), 9);
        prop_assert_eq!(pair(&table, &packet), expected);
    }
}
