//! The route of an inner packet: longest prefix of the destination first, then source, protocol and ports.
//!
//! A table belongs to one tenant. Shards read it without locks while the control plane changes it: the table is a set of
//! small immutable buckets, and a change replaces those it touches. So adding the ten-thousandth tunnel costs as much as
//! adding the hundredth. A rekey with the same selectors changes nothing here, because an entry names the tunnel and the
//! tunnel names the pair.

use std::collections::BTreeMap;
use std::hash::BuildHasher;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use esp::ip::PacketInfo;
use esp::{SelectorPair, Spi};
use foldhash::quality::RandomState;

use crate::edition::Edition;
use crate::policy::Tunnels;
use crate::prefix::{key_of, mask, prefixes};
use crate::tunnel::Tunnel;

/// Traffic that may leave by a tunnel.
pub(crate) struct Route {
    pub(crate) tunnel: Arc<Tunnel>,
    pub(crate) selectors: Arc<SelectorPair>,
    /// It is there because the tunnel is configured, not because a pair is up: its traffic goes this way or none.
    pub(crate) declared: bool,
}

/// Where a packet goes.
pub(crate) enum Target {
    /// On this pair.
    Pair(Spi),
    /// Through this tunnel, which has no pair now.
    Down(Arc<Tunnel>),
}

/// Routes to the tunnels of one tenant.
#[derive(Default)]
pub(crate) struct Forwarding {
    v4: Family,
    v6: Family,
    edition: Edition,
}

impl Forwarding {
    /// Which one of them these are.
    pub(crate) fn edition(&self) -> &Edition {
        &self.edition
    }

    /// Adds a route. It takes precedence over equal ones that were there before.
    pub(crate) fn add(&self, route: &Arc<Route>) {
        for selector in &route.selectors.remote {
            let family = if selector.start.is_ipv4() { &self.v4 } else { &self.v6 };
            for (key, length) in prefixes(selector) {
                family.add(Key { length, key }, route);
            }
        }
        self.edition.next();
    }

    /// Removes a route that was added.
    pub(crate) fn remove(&self, route: &Arc<Route>) {
        for selector in &route.selectors.remote {
            let family = if selector.start.is_ipv4() { &self.v4 } else { &self.v6 };
            for (key, length) in prefixes(selector) {
                family.remove(Key { length, key }, route);
            }
        }
        self.edition.next();
    }

    /// Where this shard sends the packet, by one of these tunnels. `None` when none of them takes it.
    pub(crate) fn lookup(&self, shard: usize, packet: &PacketInfo, tunnels: &Tunnels) -> Option<Target> {
        let family = if packet.destination.is_ipv4() { &self.v4 } else { &self.v6 };
        let buckets = family.buckets.load();
        let address = key_of(packet.destination);
        buckets.lengths.iter().find_map(|&length| {
            let key = Key { length, key: address & mask(length) };
            let bucket = buckets.of(key)?.load();
            let entry = bucket.binary_search_by_key(&key, |entry| entry.key).ok()?;
            bucket.get(entry)?.routes.iter().find_map(|route| {
                let current = route.tunnel.pair_for(shard);
                if current.is_none() && !route.declared
                    || !tunnels.contains(route.tunnel.id)
                    || !route.selectors.matches_outbound(packet)
                {
                    return None;
                }
                Some(current.map_or_else(|| Target::Down(route.tunnel.clone()), Target::Pair))
            })
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    length: u8,
    key: u128,
}

/// The routes of one prefix, the newest first.
#[derive(Clone)]
struct Entry {
    key: Key,
    routes: Vec<Arc<Route>>,
}

/// Sorted by key.
type Bucket = Vec<Entry>;

/// One address family.
#[derive(Default)]
struct Family {
    buckets: ArcSwap<Buckets>,
    writer: Mutex<Writer>,
}

/// What a look-up reads.
struct Buckets {
    /// The prefix lengths in use, the longest first. A tenant uses few, so a look-up is a few probes.
    lengths: Vec<u8>,
    /// A power of two of them.
    buckets: Arc<[ArcSwap<Bucket>]>,
    /// Keyed at random, so that nobody can choose networks that meet in one bucket.
    hasher: RandomState,
}

/// What only changes need.
#[derive(Default)]
struct Writer {
    /// Entries by prefix length.
    counts: BTreeMap<u8, usize>,
}

impl Default for Buckets {
    fn default() -> Self {
        Self { lengths: Vec::new(), buckets: empty_buckets(1), hasher: RandomState::default() }
    }
}

impl Buckets {
    fn of(&self, key: Key) -> Option<&ArcSwap<Bucket>> {
        self.buckets.get(self.hasher.hash_one(key) as usize & (self.buckets.len() - 1))
    }

    /// Puts a changed copy of the key's bucket in its place.
    fn change(&self, key: Key, change: impl FnOnce(&mut Bucket)) {
        if let Some(cell) = self.of(key) {
            let mut bucket = Bucket::clone(&cell.load());
            change(&mut bucket);
            cell.store(Arc::new(bucket));
        }
    }
}

impl Family {
    fn add(&self, key: Key, route: &Arc<Route>) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut new_entry = false;
        self.buckets.load().change(key, |bucket| {
            match bucket.binary_search_by_key(&key, |entry| entry.key) {
                Ok(at) => {
                    // Two selectors of one route may cover the same prefix, for two protocols for instance.
                    if let Some(entry) = bucket.get_mut(at)
                        && !entry.routes.iter().any(|known| Arc::ptr_eq(known, route))
                    {
                        entry.routes.insert(0, route.clone());
                    }
                }
                Err(at) => {
                    new_entry = true;
                    bucket.insert(at, Entry { key, routes: vec![route.clone()] });
                }
            }
        });
        if new_entry {
            *writer.counts.entry(key.length).or_default() += 1;
            self.reshape(&writer);
        }
    }

    fn remove(&self, key: Key, route: &Arc<Route>) {
        let mut writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let mut entry_gone = false;
        self.buckets.load().change(key, |bucket| {
            let Ok(at) = bucket.binary_search_by_key(&key, |entry| entry.key) else { return };
            if let Some(entry) = bucket.get_mut(at) {
                entry.routes.retain(|known| !Arc::ptr_eq(known, route));
                if entry.routes.is_empty() {
                    entry_gone = true;
                    bucket.remove(at);
                }
            }
        });
        if entry_gone {
            if let Some(count) = writer.counts.get_mut(&key.length) {
                *count -= 1;
            }
            writer.counts.retain(|_, count| *count > 0);
            self.reshape(&writer);
        }
    }

    /// Keeps the list of lengths, and enough buckets that they stay small.
    fn reshape(&self, writer: &Writer) {
        let old = self.buckets.load();
        let lengths: Vec<u8> = writer.counts.keys().rev().copied().collect();
        let entries: usize = writer.counts.values().sum();
        let crowded = entries > old.buckets.len() * ENTRIES_PER_BUCKET && old.buckets.len() < MAX_BUCKETS;
        if lengths == old.lengths && !crowded {
            return;
        }
        let buckets = if crowded { empty_buckets(old.buckets.len() * GROWTH) } else { old.buckets.clone() };
        let new = Buckets { lengths, buckets, hasher: old.hasher };
        if crowded {
            let mut grown = vec![Bucket::new(); new.buckets.len()];
            for entry in old.buckets.iter().flat_map(|cell| Bucket::clone(&cell.load())) {
                let at = new.hasher.hash_one(entry.key) as usize & (grown.len() - 1);
                if let Some(bucket) = grown.get_mut(at) {
                    bucket.push(entry);
                }
            }
            for (cell, mut bucket) in new.buckets.iter().zip(grown) {
                bucket.sort_unstable_by_key(|entry| entry.key);
                cell.store(Arc::new(bucket));
            }
        }
        self.buckets.store(Arc::new(new));
    }
}

/// Copying a bucket costs a microsecond, searching it six steps.
const ENTRIES_PER_BUCKET: usize = 64;
/// Growing moves everything, so it is done in large steps.
const GROWTH: usize = 8;
/// A million entries of one tenant, as many as a shard has SPIs; beyond it buckets grow.
const MAX_BUCKETS: usize = 1 << 15;

fn empty_buckets(count: usize) -> Arc<[ArcSwap<Bucket>]> {
    (0..count).map(|_| ArcSwap::default()).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use esp::Selector;

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
        Route { tunnel, selectors, declared: false }
    }

    fn pair(table: &Forwarding, packet: &PacketInfo) -> Option<Spi> {
        match table.lookup(0, packet, &Tunnels::Any)? {
            Target::Pair(spi) => Some(spi),
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
        assert_eq!(
            pair(&table, &packet("10.9.0.1", "10.1.1.3", 54)),
            Some(Spi(2)),
            "falls back to the shorter"
        );
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
        let narrow = Route { declared: true, ..route(70, any, selector("10.1.0.0/16")) };
        let tunnel = narrow.tunnel.clone();
        let table = build([route(1, any, any), narrow]);
        let packet = packet("10.9.0.1", "10.1.2.3", 1);
        assert_eq!(pair(&table, &packet), Some(Spi(70)));
        tunnel.retire(Spi(70));
        assert!(
            matches!(table.lookup(0, &packet, &Tunnels::Any), Some(Target::Down(down)) if down.id == tunnel.id)
        );
        let others = Tunnels::Range(0..=63);
        assert!(
            matches!(table.lookup(0, &packet, &others), Some(Target::Pair(Spi(1)))),
            "by leave of the policy only"
        );
        assert!(table.lookup(0, &packet, &Tunnels::Range(2..=63)).is_none());
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
        assert!(table.v4.buckets.load().buckets.len() > 64);
        for route in routes.iter().step_by(2) {
            table.remove(route);
        }
        assert!((0..5000).all(|number| find(number).is_some() == (number % 2 == 1)));
        for route in routes.iter().skip(1).step_by(2) {
            table.remove(route);
        }
        assert!(table.v4.buckets.load().lengths.is_empty());
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
}
