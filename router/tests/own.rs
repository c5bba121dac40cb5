//! Several pairs of one tunnel, one for each shard (RFC 9611).
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Gateway, Remote, hopped, udp};
use esp::Spi;
use router::TenantId;

const ANY: &str = "0.0.0.0/0";
const NETS: [&str; 2] = ["10.1.0.0/16", "10.2.0.0/16"];
const HOSTS: [&str; 2] = ["10.1.0.1", "10.2.0.1"];

/// A site with a pair for everybody and more for single shards, `pairs` altogether; by shard.
fn site(gateway: &Gateway, tenant: TenantId, at: usize, pairs: usize) -> Vec<Remote> {
    let (tunnel, host) = (at as u64, 11 + 50 * at as u8);
    let mut remotes = vec![gateway.connect(tenant, tunnel, host, ANY, NETS[at])];
    for number in 1..pairs {
        let beside: Vec<Spi> = remotes.iter().map(|remote| remote.spi).collect();
        let address = [127, 0, 0, host].into();
        let spi = gateway.handle.allocate_own_spi(common::SLOT, address, &beside, None).unwrap();
        remotes.push(gateway.connect_own(spi, tenant, tunnel, host + number as u8, NETS[at]));
    }
    remotes.sort_by_key(|remote| remote.spi.shard());
    remotes
}

/// What comes by this pair of a site goes out by that pair of the other.
fn crosses(from: &mut Remote, to: &mut Remote, at: usize, number: u32) {
    let packet = udp(HOSTS[at], HOSTS[1 - at], number, 100);
    from.send(&packet);
    assert_eq!(to.receive(), hopped(&packet));
}

#[test]
fn a_packet_stays_on_the_shard_it_came_to() {
    let gateway = Gateway::start(2);
    let tenant = gateway.hub(1);
    let [mut first, mut second] = [0, 1].map(|at| site(&gateway, tenant, at, 2));
    for shard in 0..2 {
        assert_eq!([&first, &second].map(|site| usize::from(site[shard].spi.shard())), [shard; 2]);
        for number in 0..10 {
            crosses(&mut first[shard], &mut second[shard], 0, number);
            crosses(&mut second[shard], &mut first[shard], 1, number);
        }
    }
    for remote in first.iter().chain(&second) {
        let stats = gateway.stats_of(remote.spi);
        assert_eq!((stats.packets_in, stats.packets_out, stats.active), (10, 10, true));
        assert!(stats.drops.is_empty());
    }
    assert_eq!(gateway.counter("handed_over"), 0);
}

#[test]
fn a_shard_without_a_pair_hands_over_to_that_of_the_tunnel() {
    let gateway = Gateway::start(3);
    let tenant = gateway.hub(1);
    let mut first = site(&gateway, tenant, 0, 3);
    let mut shared = gateway.connect(tenant, 1, 61, ANY, NETS[1]);
    let home = shared.spi.shard();
    let spi =
        gateway.handle.allocate_own_spi(common::SLOT, [127, 0, 0, 61].into(), &[shared.spi], None).unwrap();
    let mut own = gateway.connect_own(spi, tenant, 1, 62, NETS[1]);
    for (shard, from) in (0u8..).zip(&mut first) {
        let to = if shard == spi.shard() { &mut own } else { &mut shared };
        crosses(from, to, 0, u32::from(shard));
    }
    assert_ne!(home, spi.shard());
    assert_eq!(gateway.counter("handed_over"), 1);
}

#[test]
fn one_is_rekeyed_or_goes_and_the_others_stay() {
    let gateway = Gateway::start(2);
    let tenant = gateway.hub(1);
    let [mut first, mut second] = [0, 1].map(|at| site(&gateway, tenant, at, 2));
    let shared =
        usize::from(gateway.handle.allocate_spi(common::SLOT, [127, 0, 0, 61].into()).unwrap().shard());
    let other = 1 - shared;
    let old = second[other].spi;
    let spi = gateway.handle.allocate_own_spi(common::SLOT, [127, 0, 0, 61].into(), &[], Some(old)).unwrap();
    assert_eq!(spi.shard(), old.shard());
    let mut newer = gateway.connect_own(spi, tenant, 1, 69, NETS[1]);
    gateway.handle.retire(old);
    crosses(&mut first[other], &mut newer, 0, 1);
    crosses(&mut first[shared], &mut second[shared], 0, 2);
    // The old one still receives.
    crosses(&mut second[other], &mut first[other], 1, 3);
    gateway.handle.remove(old);
    // Without that of the tunnel the other carries everything, and without that again this one.
    gateway.handle.retire(second[shared].spi);
    crosses(&mut first[shared], &mut newer, 0, 4);
    gateway.handle.activate(second[shared].spi);
    crosses(&mut first[shared], &mut second[shared], 0, 5);
    gateway.handle.remove(spi);
    crosses(&mut first[other], &mut second[shared], 0, 6);
}

#[test]
fn a_stream_keeps_its_order_on_each() {
    let gateway = Gateway::start(2);
    let tenant = gateway.hub(1);
    let [mut first, mut second] = [0, 1].map(|at| site(&gateway, tenant, at, 2));
    for portion in 0..50u32 {
        for number in portion * 32..(portion + 1) * 32 {
            for from in &mut first {
                from.send(&udp(HOSTS[0], HOSTS[1], number, 600 + (number % 7) as usize * 100));
            }
        }
        for number in portion * 32..(portion + 1) * 32 {
            for to in &mut second {
                assert_eq!(to.receive()[28..32], number.to_be_bytes());
            }
        }
    }
}
