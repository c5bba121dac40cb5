//! Packets that wait for their tunnel to come up on demand.
//!
//! Room is shared out, so that tunnels that never come up delay nobody else's first packet: a tunnel, a tenant and the shard
//! each have a bound, in places of two kilobytes, of which a larger packet takes several. When one is reached, whoever holds less
//! takes the place of the newest packet of whoever holds most; among equals the packet that comes is dropped, for those before it
//! are closer to what starts a conversation. What waits too long is dropped as well: its sender has sent it again by then. A
//! question for an SA needs no room for a packet.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::came_from::CameFrom;
use crate::model::{TenantId, TunnelId};

/// The held packets of one shard.
#[derive(Default)]
pub(super) struct Holds {
    tenants: HashMap<TenantId, Share>,
    places: usize,
    /// Nothing has waited too long before then: not every turn looks at everything.
    next_expiry: Option<Instant>,
}

/// Those of one tenant. Never without a tunnel.
#[derive(Default)]
struct Share {
    tunnels: HashMap<TunnelId, Held>,
    places: usize,
}

struct Held {
    packets: VecDeque<Waits>,
    places: usize,
    /// When the first packet came.
    since: Instant,
    /// When the control plane was last asked.
    asked: Option<Instant>,
}

/// A packet, and where it came from.
type Waits = (CameFrom, Vec<u8>);

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Whether it waits; otherwise there was no room.
    pub(super) held: bool,
    /// How many others were dropped for it.
    pub(super) displaced: usize,
    /// Whether to ask the control plane for an SA.
    pub(super) ask: bool,
}

impl Holds {
    /// Holds a packet if there is room.
    pub(super) fn hold(
        &mut self,
        now: Instant,
        key: (TenantId, TunnelId),
        from: CameFrom,
        packet: &[u8],
    ) -> Outcome {
        let (tenant, tunnel) = key;
        let share = self.tenants.entry(tenant).or_default();
        if share.tunnels.len() >= TUNNELS_PER_TENANT && !share.tunnels.contains_key(&tunnel) {
            return Outcome { held: false, displaced: 0, ask: false };
        }
        let held = share.tunnels.entry(tunnel).or_insert_with(|| Held {
            packets: VecDeque::new(),
            places: 0,
            since: now,
            asked: None,
        });
        let ask = held.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= ASK_INTERVAL);
        if ask {
            held.asked = Some(now);
        }
        self.next_expiry.get_or_insert(now + HOLD_TIME);
        let places = places(packet);
        let (room, displaced) = self.make_room(key, places);
        if room
            && let Some(share) = self.tenants.get_mut(&tenant)
            && let Some(held) = share.tunnels.get_mut(&tunnel)
        {
            if held.packets.is_empty() {
                // Those before were refused, or were dropped for others.
                held.since = now;
            }
            held.packets.push_back((from, packet.to_vec()));
            held.places += places;
            share.places += places;
            self.places += places;
        }
        Outcome { held: room, displaced, ask }
    }

    /// Whether there is room for one more packet of a tunnel, and how many others had to go for it: none where they would not make room
    /// enough, or would then have less than what comes.
    fn make_room(&mut self, (tenant, tunnel): (TenantId, TunnelId), places: usize) -> (bool, usize) {
        let Some(share) = self.tenants.get(&tenant) else { return (false, 0) };
        let own = share.tunnels.get(&tunnel).map_or(0, |held| held.places) + places;
        let (of_tenant, of_all) = (share.places + places, self.places + places);
        if own > PLACES_PER_TUNNEL {
            return (false, 0);
        }
        let (victim, wanted) = if of_tenant > PLACES_PER_TENANT {
            // Within the tenant: a tunnel with fewer gets the place. The bound of all may be reached as well.
            let wanted = (of_tenant - PLACES_PER_TENANT).max(of_all.saturating_sub(PLACES));
            (share.largest().filter(|(_, most)| own + wanted <= *most).map(|_| tenant), wanted)
        } else if of_all > PLACES {
            let wanted = of_all - PLACES;
            let most = self.tenants.iter().max_by_key(|(_, share)| share.places);
            (most.filter(|(_, most)| of_tenant + wanted <= most.places).map(|(id, _)| *id), wanted)
        } else {
            return (true, 0);
        };
        let Some(victim) = victim else { return (false, 0) };
        let (before, mut displaced) = (self.places, 0);
        while before - self.places < wanted {
            let largest = self.tenants.get(&victim).and_then(Share::largest);
            if !largest.is_some_and(|(largest, _)| self.displace(victim, largest)) {
                return (false, displaced);
            }
            displaced += 1;
        }
        (true, displaced)
    }

    /// Drops the newest packet of a tunnel.
    fn displace(&mut self, tenant: TenantId, tunnel: TunnelId) -> bool {
        let Some(share) = self.tenants.get_mut(&tenant) else { return false };
        let Some(held) = share.tunnels.get_mut(&tunnel) else { return false };
        let Some((_, dropped)) = held.packets.pop_back() else { return false };
        let places = places(&dropped);
        held.places -= places;
        share.places -= places;
        self.places -= places;
        true
    }

    /// Takes what waits for a tunnel, in the order it came.
    pub(super) fn take(&mut self, (tenant, tunnel): (TenantId, TunnelId)) -> VecDeque<Waits> {
        let Some(share) = self.tenants.get_mut(&tenant) else { return VecDeque::new() };
        let Some(held) = share.tunnels.remove(&tunnel) else { return VecDeque::new() };
        share.places -= held.places;
        self.places -= held.places;
        if share.tunnels.is_empty() {
            self.tenants.remove(&tenant);
        }
        held.packets
    }

    /// Drops what waits for a tunnel that will not come up now: how many packets. That it was asked for stays known, or the answer to each
    /// packet would have the next one ask again.
    pub(super) fn refuse(&mut self, (tenant, tunnel): (TenantId, TunnelId)) -> usize {
        let Some(share) = self.tenants.get_mut(&tenant) else { return 0 };
        let Some(held) = share.tunnels.get_mut(&tunnel) else { return 0 };
        let places = std::mem::take(&mut held.places);
        share.places -= places;
        self.places -= places;
        std::mem::take(&mut held.packets).len()
    }

    /// Drops what has waited too long: how many packets.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        if self.next_expiry.is_none_or(|next| now < next) {
            return 0;
        }
        let mut expired = 0;
        self.tenants.retain(|_, share| {
            share.tunnels.retain(|_, held| {
                let keep = now.saturating_duration_since(held.since) < HOLD_TIME;
                if !keep {
                    expired += held.packets.len();
                    share.places -= held.places;
                    self.places -= held.places;
                }
                keep
            });
            !share.tunnels.is_empty()
        });
        let held = self.tenants.values().flat_map(|share| share.tunnels.values());
        self.next_expiry = held.map(|held| held.since + HOLD_TIME).min();
        expired
    }

    /// When to call [`Holds::expire`] again; `None` when nothing waits.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.next_expiry.filter(|_| !self.is_empty())
    }

    /// Whether a tunnel is remembered, with packets or without.
    pub(super) fn is_empty(&self) -> bool {
        self.tenants.is_empty()
    }

    /// Whether there are packets.
    pub(super) fn something_waits(&self) -> bool {
        self.places > 0
    }
}

impl Share {
    /// The tunnel with the most packets, and how many places they take.
    fn largest(&self) -> Option<(TunnelId, usize)> {
        let largest = self.tunnels.iter().max_by_key(|(_, held)| held.places);
        largest.map(|(tunnel, held)| (*tunnel, held.places))
    }
}

/// What a packet takes: a usual one a single place.
fn places(packet: &[u8]) -> usize {
    packet.len().div_ceil(PLACE).max(1)
}

/// Octets of a place.
const PLACE: usize = 2048;
/// Packets held for one tunnel: what a host sends before it waits for an answer, several times over, and the longest packet there is.
const PLACES_PER_TUNNEL: usize = 32;
/// Packets held by a shard for one tenant: some for each of a hundred tunnels that come up together.
const PLACES_PER_TENANT: usize = 256;
/// Packets held by a shard for all tunnels: at most 2 MiB, whatever a scan of all networks asks for.
const PLACES: usize = 1024;
/// Tunnels of a tenant that a shard remembers to have asked for. Beyond these a packet that finds no SA is dropped, and
/// asks again with its next copy. A hundred octets each, less than its configuration takes.
const TUNNELS_PER_TENANT: usize = 1024;
/// How long a packet is held: a negotiation that loses a message twice takes less, and the sender's patience ends about
/// here.
const HOLD_TIME: Duration = Duration::from_secs(10);
/// How often to ask again while packets keep coming: the question or its answer may have been lost to an overload.
const ASK_INTERVAL: Duration = Duration::from_secs(1);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    const KEY: (TenantId, TunnelId) = (TenantId(1), TunnelId(64));

    const HELD: Outcome = Outcome { held: true, displaced: 0, ask: false };
    const REFUSED: Outcome = Outcome { held: false, displaced: 0, ask: false };

    fn hold(holds: &mut Holds, now: Instant, key: (TenantId, TunnelId), packet: &[u8]) -> Outcome {
        holds.hold(now, key, CameFrom::Device, packet)
    }

    /// What waits for a tunnel.
    fn take(holds: &mut Holds, key: (TenantId, TunnelId)) -> Vec<Vec<u8>> {
        holds.take(key).into_iter().map(|(_, packet)| packet).collect()
    }

    fn key(tenant: usize, tunnel: usize) -> (TenantId, TunnelId) {
        (TenantId(tenant as u32), TunnelId((tenant << 16 | tunnel) as u64))
    }

    /// As many packets for one tunnel as it may have and one more; how many wait.
    fn flood(holds: &mut Holds, now: Instant, key: (TenantId, TunnelId)) -> usize {
        (0..=PLACES_PER_TUNNEL).filter(|_| hold(holds, now, key, &[0; 100]).held).count()
    }

    #[test]
    fn asks_once_and_again_after_a_while() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        assert_eq!(hold(&mut holds, now, KEY, &[0]), Outcome { ask: true, ..HELD });
        assert_eq!(hold(&mut holds, now, KEY, &[1]), HELD);
        assert_eq!(hold(&mut holds, now + ASK_INTERVAL, KEY, &[2]), Outcome { ask: true, ..HELD });
        assert_eq!(take(&mut holds, KEY), [[0], [1], [2]]);
        assert!(holds.is_empty() && holds.places == 0);
    }

    #[test]
    fn a_packet_waits_as_long_as_the_next_whatever_became_of_those_before() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        assert_eq!(hold(&mut holds, now, KEY, &[0]), Outcome { ask: true, ..HELD });
        assert_eq!(holds.refuse(KEY), 1);
        let later = now + HOLD_TIME * 7 / 10;
        assert!(hold(&mut holds, later, KEY, &[1]).held);
        assert_eq!(holds.expire(now + HOLD_TIME), 0);
        assert_eq!(holds.expire(later + HOLD_TIME), 1);
        assert!(holds.is_empty() && holds.places == 0);
    }

    #[test]
    fn who_was_refused_asks_no_more_often() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        assert_eq!(holds.refuse(KEY), 0);
        assert!(hold(&mut holds, now, KEY, &[0]).ask);
        let soon = now + ASK_INTERVAL / 2;
        for number in 0..3 {
            assert_eq!((holds.refuse(KEY), holds.places), (1, 0));
            assert_eq!(hold(&mut holds, soon, KEY, &[number]), HELD);
        }
        assert_eq!(hold(&mut holds, now + ASK_INTERVAL, KEY, &[3]), Outcome { ask: true, ..HELD });
        assert_eq!(holds.refuse(KEY), 2);
        assert_eq!(holds.expire(now + ASK_INTERVAL + HOLD_TIME), 0);
        assert!(holds.is_empty() && holds.places == 0, "forgotten once nothing came for a while");
    }

    #[test]
    fn a_tenant_has_its_share_and_so_has_each_of_its_tunnels() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        for tunnel in 0..100 {
            flood(&mut holds, now, key(1, tunnel));
        }
        assert_eq!(
            (holds.places, holds.tenants[&TenantId(1)].places),
            (PLACES_PER_TENANT, PLACES_PER_TENANT)
        );
        // Another tunnel's first packet finds a place and an ear, and another tenant's does not even need to look for one.
        let first = hold(&mut holds, now, key(1, 100), &[1]);
        assert_eq!(first, Outcome { held: true, displaced: 1, ask: true });
        assert_eq!(hold(&mut holds, now, key(2, 0), &[2]), Outcome { ask: true, ..HELD });
        assert_eq!(take(&mut holds, key(1, 100)), [[1]]);
        assert_eq!(flood(&mut holds, now, key(2, 1)), PLACES_PER_TUNNEL);
    }

    #[test]
    fn the_shard_is_shared_alike_by_all_who_want() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        let tenants = 4 * PLACES / PLACES_PER_TENANT;
        for tenant in 0..tenants {
            for tunnel in 0..100 {
                flood(&mut holds, now, key(tenant, tunnel));
            }
        }
        assert_eq!(holds.places, PLACES);
        let shares: Vec<_> = holds.tenants.values().map(|share| share.places).collect();
        assert!(shares.iter().all(|share| share.abs_diff(PLACES / tenants) <= 1), "{shares:?}");
        // A late one is heard, and its first packet waits.
        let outcome = hold(&mut holds, now, key(9999, 1), &[0]);
        assert_eq!(outcome, Outcome { held: true, displaced: 1, ask: true });
        assert_eq!(holds.places, PLACES);
    }

    #[test]
    fn whichever_bound_a_large_packet_reaches_neither_is_overstepped() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        for tenant in 0..PLACES / PLACES_PER_TENANT {
            for tunnel in 0..8 {
                let most = if tunnel < 7 { PLACES_PER_TUNNEL } else { 20 };
                (0..most).for_each(|_| _ = hold(&mut holds, now, key(tenant, tunnel), &[0; 100]));
            }
        }
        for tunnel in 0..4 {
            (0..12).for_each(|_| _ = hold(&mut holds, now, key(99, tunnel), &[0; 100]));
        }
        assert_eq!(holds.places, PLACES);
        // Of a tenant with twelve places left, which takes more than those.
        let jumbo = [0; 15 * PLACE];
        let outcome = hold(&mut holds, now, key(0, 100), &jumbo);
        assert_eq!((outcome.held, outcome.displaced, holds.places), (true, 15, PLACES));
    }

    #[test]
    fn a_scan_of_all_tunnels_has_an_end() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        let asked =
            (0..2 * TUNNELS_PER_TENANT).filter(|t| hold(&mut holds, now, key(1, *t), &[0]).ask).count();
        assert_eq!((asked, holds.places), (TUNNELS_PER_TENANT, PLACES_PER_TENANT));
        assert_eq!(hold(&mut holds, now, key(1, 2 * TUNNELS_PER_TENANT), &[0]), REFUSED);
        assert_eq!(holds.expire(now + HOLD_TIME), PLACES_PER_TENANT);
        assert!(holds.is_empty() && holds.places == 0);
    }

    #[test]
    fn what_waits_too_long_is_dropped() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        let later = now + HOLD_TIME / 2;
        hold(&mut holds, now, KEY, &[0]);
        hold(&mut holds, later, (TenantId(2), TunnelId(64)), &[0]);
        assert_eq!(holds.next_expiry(), Some(now + HOLD_TIME));
        assert_eq!(holds.expire(later), 0);
        assert_eq!(holds.expire(now + HOLD_TIME), 1);
        assert_eq!(holds.expire(later + HOLD_TIME), 1);
        assert_eq!((holds.next_expiry(), holds.places), (None, 0));
    }

    #[test]
    fn large_packets_take_the_room_of_several() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        // The longest there is has room, and nothing beside it.
        assert!(hold(&mut holds, now, KEY, &[0; 65_535]).held);
        assert_eq!(hold(&mut holds, now, KEY, &[0]), REFUSED);
        assert_eq!(take(&mut holds, KEY).len(), 1);
        let jumbo = [0; 9_000];
        for tunnel in 0..200 {
            (0..9).for_each(|_| _ = hold(&mut holds, now, key(1, tunnel), &jumbo));
        }
        assert!((PLACES_PER_TENANT - 4..=PLACES_PER_TENANT).contains(&holds.places), "{}", holds.places);
        // Among equals none goes for another, and a smaller one has one go.
        assert_eq!(hold(&mut holds, now, key(1, 500), &jumbo), Outcome { ask: true, ..REFUSED });
        let displaced = [501, 502].map(|tunnel| hold(&mut holds, now, key(1, tunnel), &[0; 3_000]).displaced);
        assert_eq!(displaced, [1, 0]);
        assert_eq!(holds.expire(now + HOLD_TIME), PLACES_PER_TENANT / 5 + 1);
        assert!(holds.is_empty() && holds.places == 0);
    }
}
