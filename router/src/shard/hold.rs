//! Packets that wait for their tunnel to come up on demand.
//!
//! Policy when there is no more room: the packet that comes is dropped and counted, for those before it are closer to what
//! starts a conversation. What waits too long is dropped as well: its sender has sent it again by then.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::model::{TenantId, TunnelId};

/// The held packets of one shard.
#[derive(Default)]
pub(super) struct Holds {
    tunnels: HashMap<(TenantId, TunnelId), Held>,
    packets: usize,
}

struct Held {
    packets: VecDeque<Vec<u8>>,
    /// When the first packet came.
    since: Instant,
    /// When the control plane was last asked.
    asked: Instant,
}

/// What became of a packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Outcome {
    /// Whether it waits; otherwise there was no room.
    pub(super) held: bool,
    /// Whether to ask the control plane for an SA.
    pub(super) ask: bool,
}

impl Holds {
    /// Holds a packet if there is room.
    pub(super) fn hold(&mut self, now: Instant, key: (TenantId, TunnelId), packet: &[u8]) -> Outcome {
        let known = self.tunnels.contains_key(&key);
        if !known && self.packets >= HELD_PACKETS {
            return Outcome { held: false, ask: false };
        }
        let held = self.tunnels.entry(key).or_insert_with(|| Held {
            packets: VecDeque::new(),
            since: now,
            asked: now,
        });
        let ask = !known || now.saturating_duration_since(held.asked) >= ASK_INTERVAL;
        if ask {
            held.asked = now;
        }
        let room = held.packets.len() < HELD_PACKETS_PER_TUNNEL && self.packets < HELD_PACKETS;
        if room {
            held.packets.push_back(packet.to_vec());
            self.packets += 1;
        }
        Outcome { held: room, ask }
    }

    /// Takes what waits for a tunnel, in the order it came.
    pub(super) fn take(&mut self, key: (TenantId, TunnelId)) -> VecDeque<Vec<u8>> {
        let packets = self.tunnels.remove(&key).map(|held| held.packets).unwrap_or_default();
        self.packets -= packets.len();
        packets
    }

    /// Drops what has waited too long: how many packets.
    pub(super) fn expire(&mut self, now: Instant) -> usize {
        let mut expired = 0;
        self.tunnels.retain(|_, held| {
            let keep = now.saturating_duration_since(held.since) < HOLD_TIME;
            if !keep {
                expired += held.packets.len();
            }
            keep
        });
        self.packets -= expired;
        expired
    }

    /// When to call [`Holds::expire`] again; `None` when nothing waits.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.tunnels.values().map(|held| held.since + HOLD_TIME).min()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tunnels.is_empty()
    }
}

/// Packets held for one tunnel: what a host sends before it waits for an answer, several times over.
const HELD_PACKETS_PER_TUNNEL: usize = 32;
/// Packets held by a shard for all tunnels: at most 2 MiB of usual packets, whatever a scan of all networks asks for.
const HELD_PACKETS: usize = 1024;
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

    #[test]
    fn asks_once_and_again_after_a_while() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        assert_eq!(holds.hold(now, KEY, &[0]), Outcome { held: true, ask: true });
        assert_eq!(holds.hold(now, KEY, &[1]), Outcome { held: true, ask: false });
        assert_eq!(holds.hold(now + ASK_INTERVAL, KEY, &[2]), Outcome { held: true, ask: true });
        assert_eq!(holds.take(KEY), [[0], [1], [2]]);
        assert!(holds.is_empty() && holds.packets == 0);
    }

    #[test]
    fn both_bounds_hold() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        let key = |tunnel: usize| (TenantId(1), TunnelId(tunnel as u64));
        for tunnel in 0..HELD_PACKETS / HELD_PACKETS_PER_TUNNEL {
            for _ in 0..HELD_PACKETS_PER_TUNNEL {
                assert!(holds.hold(now, key(tunnel), &[0; 100]).held);
            }
            assert!(!holds.hold(now, key(tunnel), &[0; 100]).held);
        }
        assert_eq!(holds.hold(now, key(9999), &[0]), Outcome { held: false, ask: false });
        assert_eq!(holds.take(key(0)).len(), HELD_PACKETS_PER_TUNNEL);
        assert!(holds.hold(now, key(9999), &[0]).held);
    }

    #[test]
    fn what_waits_too_long_is_dropped() {
        let (mut holds, now) = (Holds::default(), Instant::now());
        let later = now + HOLD_TIME / 2;
        holds.hold(now, KEY, &[0]);
        holds.hold(later, (TenantId(2), TunnelId(64)), &[0]);
        assert_eq!(holds.next_expiry(), Some(now + HOLD_TIME));
        assert_eq!(holds.expire(later), 0);
        assert_eq!(holds.expire(now + HOLD_TIME), 1);
        assert_eq!(holds.expire(later + HOLD_TIME), 1);
        assert_eq!((holds.next_expiry(), holds.packets), (None, 0));
    }
}
