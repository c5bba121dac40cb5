//! `router`: whose a datagram is, where an inner packet goes, and a datagram on its way through a shard.

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};

use esp::ip::PacketInfo;
use esp::{Selector, SelectorPair, Spi};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use router::bench::{RouteTable, owner};

use super::bare::each;
use super::{Kind, Subject, Work};

fn steering(rounds: usize) -> Work {
    let packets = (0..rounds as u32).map(|at| Spi::compose(1, (at % 64) as u8, at).unwrap().0.to_be_bytes());
    each(packets.collect(), |packet| {
        black_box(owner(black_box(packet)));
    })
}

/// Networks of /24 from 16.0.0.0 on, and packets to addresses of theirs at random.
fn prefix_match(routes: u32, rounds: usize) -> Work {
    let table = RouteTable::default();
    let any = Selector::subnet(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
    for number in 0..routes {
        let network = Selector::subnet(IpAddr::V4(address(number)), 24);
        table.add(Spi(number + 1), SelectorPair { local: vec![any], remote: vec![network] });
    }
    let mut random = ChaCha20Rng::seed_from_u64(1);
    let packets = (0..rounds).map(|_| PacketInfo {
        source: [10, 0, 0, 1].into(),
        destination: IpAddr::V4(address(random.next_u32() % routes)),
        protocol: 17,
        source_port: Some(9),
        destination_port: Some(80),
        len: 64,
    });
    each(packets.collect(), move |packet| {
        assert!(table.lookup(black_box(packet)).is_some());
    })
}

fn address(network: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits((16 << 24) + (network << 8))
}

pub(crate) fn subjects() -> Vec<Subject> {
    let own = |name, rounds, prepare| Subject { name, kind: Kind::Own, over: None, rounds, prepare };
    vec![
        own("steering by SPI", 1000, steering),
        own("prefix match of 1", 1000, |rounds| prefix_match(1, rounds)),
        // Which bucket a network is in is random, so that many look-ups make a mean that stays.
        own("prefix match of 100,000", 20_000, |rounds| prefix_match(100_000, rounds)),
    ]
}
