//! The route of an inner packet: longest prefix of the destination first, then source, protocol and ports.
//!
//! A table belongs to one tenant. Shards read it without locks while the control plane changes it: the table is a set of
//! small immutable buckets, and a change replaces those it touches. So adding the ten-thousandth tunnel costs as much as
//! adding the hundredth. A rekey with the same selectors changes nothing here, because an entry names the tunnel and the
//! tunnel names the pair.

mod family;
mod route;

use std::sync::Arc;

use esp::Spi;
use esp::ip::PacketInfo;

pub(crate) use route::Route;

use crate::edition::Edition;
use crate::model::TunnelId;
use crate::policy::Tunnels;
use crate::prefix::{key_of, prefixes};
use crate::published::Reading;
use crate::sys::prefetch::fetch;
use crate::tunnel::Tunnel;
use family::{Family, Key};

/// Where a packet goes.
pub(crate) enum Target {
    /// On this pair, which is this tunnel's.
    Pair(Spi, TunnelId),
    /// Through this tunnel, which has no pair now.
    Down(Arc<Tunnel>),
}

/// Who has a prefix, of all that have the same the newest.
pub(crate) enum Holder {
    Nobody,
    /// Tunnels without a pair.
    Down,
    Pair(Spi),
}

/// What a look-up reads, each behind a pointer in the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Buckets,
    Place,
    Bucket,
    Route,
    Tunnel,
}

impl Step {
    pub(crate) const ALL: [Self; 5] = [Self::Buckets, Self::Place, Self::Bucket, Self::Route, Self::Tunnel];
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
            for (key, length) in prefixes(selector) {
                self.family(selector.start.is_ipv4()).add(Key::new(key, length), route);
            }
        }
        self.edition.next();
    }

    /// Removes a route that was added.
    pub(crate) fn remove(&self, route: &Arc<Route>) {
        for selector in &route.selectors.remote {
            for (key, length) in prefixes(selector) {
                self.family(selector.start.is_ipv4()).remove(Key::new(key, length), route);
            }
        }
        self.edition.next();
    }

    /// Where this shard sends the packet, by one of these tunnels but not by the one that is left out: what came out of a tunnel
    /// does not go back into it, though its selectors may take the packet both ways. `None` when none of them takes it.
    pub(crate) fn lookup(
        &self,
        shard: usize,
        packet: &PacketInfo,
        tunnels: &Tunnels,
        leave_out: Option<TunnelId>,
    ) -> Option<Target> {
        let reading = Reading::new();
        let buckets = self.family(packet.destination.is_ipv4()).buckets(&reading)?;
        let address = key_of(packet.destination);
        buckets.lengths().iter().find_map(|&length| {
            let key = Key::new(address, length);
            buckets.bucket(key, &reading)?.get(key)?.iter().find_map(|route| {
                let current = route.tunnel.pair_for(shard);
                if current.is_none() && !route.declared
                    || leave_out == Some(route.tunnel.id)
                    || !tunnels.contains(route.tunnel.id)
                    || !route.selectors.matches_outbound(packet)
                {
                    return None;
                }
                Some(match current {
                    Some(spi) => Target::Pair(spi, route.tunnel.id),
                    None => Target::Down(route.tunnel.clone()),
                })
            })
        })
    }

    /// Who has this very prefix.
    pub(crate) fn holder(&self, v4: bool, address: u128, length: u8) -> Holder {
        let (reading, key) = (Reading::new(), Key::new(address, length));
        let bucket = self.family(v4).buckets(&reading).and_then(|buckets| buckets.bucket(key, &reading));
        let Some(routes) = bucket.and_then(|bucket| bucket.get(key)) else { return Holder::Nobody };
        routes.iter().find_map(|route| route.tunnel.pair()).map_or(Holder::Down, Holder::Pair)
    }

    /// Fetches what [`Forwarding::lookup`] for such a packet is going to read at this step, if all before has been fetched. Nothing comes
    /// of it but time.
    pub(crate) fn fetch(&self, step: Step, packet: &PacketInfo) {
        let reading = Reading::new();
        let Some(buckets) = self.family(packet.destination.is_ipv4()).buckets(&reading) else { return };
        if step == Step::Buckets {
            return fetch(buckets);
        }
        let address = key_of(packet.destination);
        for &length in buckets.lengths().iter().take(LENGTHS_AHEAD) {
            let key = Key::new(address, length);
            let Some(cell) = buckets.of(key) else { continue };
            if step == Step::Place {
                fetch(cell);
                continue;
            }
            let Some(bucket) = cell.read(&reading) else { continue };
            if step == Step::Bucket {
                fetch(bucket);
                continue;
            }
            let Some(route) = bucket.get(key).and_then(|routes| routes.first()) else { continue };
            match step {
                Step::Route => fetch(&**route),
                _ => fetch(&*route.tunnel),
            }
            // The others are looked at if this one does not take it.
            break;
        }
    }

    fn family(&self, v4: bool) -> &Family {
        if v4 { &self.v4 } else { &self.v6 }
    }
}

/// Prefix lengths that are looked ahead for. Most tenants have no more, and to look ahead costs time where all is in a cache.
const LENGTHS_AHEAD: usize = 2;

#[cfg(test)]
mod tests;
