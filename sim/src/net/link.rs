//! Loss, delay, reordering, duplication, corruption, partition, MTU; and the way through the NATs.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use super::{Nat, Packet};
use crate::random::Random;

/// How bad the network is. Chances are in thousandths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Conditions {
    /// Packets lost.
    pub loss: u64,
    /// Packets that arrive twice.
    pub duplication: u64,
    /// Packets in which one bit is flipped.
    pub corruption: u64,
    /// The shortest way.
    pub latency: Duration,
    /// What may come on top; more than the time between packets means reordering.
    pub jitter: Duration,
    /// The largest payload that gets through.
    pub mtu: usize,
}

impl Conditions {
    /// A clean network that still reorders.
    pub const GOOD: Self = Self {
        loss: 0,
        duplication: 0,
        corruption: 0,
        latency: Duration::from_millis(10),
        jitter: Duration::from_millis(30),
        mtu: 65_507,
    };

    /// Bad in every way.
    pub const BAD: Self = Self {
        loss: 100,
        duplication: 50,
        corruption: 20,
        latency: Duration::from_millis(20),
        jitter: Duration::from_millis(2_000),
        mtu: 65_507,
    };

    /// Whether something may be lost on the way.
    pub const fn lossless(&self) -> bool {
        self.loss == 0 && self.corruption == 0
    }
}

/// Whether a packet is a message of IKEv1 in clear, or one of aggressive mode, whose last one may be encrypted and is proved no better. Nothing
/// in IKEv1 proves the vendor IDs and NAT-D payloads of phase 1 (RFC 2409 section 5, RFC 3947), so that a flipped bit there has two sides
/// that honestly see different things. UDP's checksum is what there is against that; the packet is lost by it.
fn is_unproved(packet: &[u8]) -> bool {
    const AGGRESSIVE: u8 = 4;
    let message = packet.strip_prefix(&[0; 4]).unwrap_or(packet);
    let length = message.get(24..28).and_then(|length| length.try_into().ok()).map(u32::from_be_bytes);
    let whole =
        length.is_some_and(|length| usize::try_from(length).is_ok_and(|length| length == message.len()));
    let clear = message.get(19).is_some_and(|flags| flags & 1 == 0);
    whole && message.get(17) == Some(&0x10) && (clear || message.get(18) == Some(&AGGRESSIVE))
}

/// Carries packets between addresses.
#[derive(Debug)]
pub struct Network {
    /// How bad it is now.
    pub conditions: Conditions,
    /// Addresses that nothing gets to or from.
    pub cut_off: Vec<IpAddr>,
    nats: Vec<Nat>,
    /// NAT of a private address.
    behind: BTreeMap<IpAddr, usize>,
    random: Random,
}

impl Network {
    /// An empty network.
    pub fn new(random: Random) -> Self {
        Self {
            conditions: Conditions::GOOD,
            cut_off: Vec::new(),
            nats: Vec::new(),
            behind: BTreeMap::new(),
            random,
        }
    }

    /// Puts a NAT in front of private addresses.
    pub fn add_nat(&mut self, nat: Nat, inside: &[IpAddr]) {
        let at = self.nats.len();
        self.nats.push(nat);
        self.behind.extend(inside.iter().map(|ip| (*ip, at)));
    }

    /// NATs forget all mappings, as after a reboot.
    pub fn reboot_nats(&mut self) {
        for nat in &mut self.nats {
            nat.forget();
        }
    }

    /// How many NATs there are.
    pub const fn nats(&self) -> usize {
        self.nats.len()
    }

    /// Sends a packet at `now`: the copies that will arrive, and when. None if it is lost or filtered.
    pub fn send(&mut self, now: Duration, mut packet: Packet) -> Vec<(Duration, Packet)> {
        if self.cut_off.contains(&packet.from.ip()) || self.cut_off.contains(&packet.to.ip()) {
            return Vec::new();
        }
        if packet.bytes.len() > self.conditions.mtu {
            return Vec::new();
        }
        if let Some(nat) = self.behind.get(&packet.from.ip()).and_then(|at| self.nats.get_mut(*at)) {
            match nat.outbound(now, packet.from, packet.to) {
                Some(from) => packet.from = from,
                None => return Vec::new(),
            }
        }
        if let Some(nat) = self.nats.iter_mut().find(|nat| nat.public() == packet.to.ip()) {
            match nat.inbound(now, packet.from, packet.to) {
                Some(to) => packet.to = to,
                None => return Vec::new(),
            }
        } else if self.behind.contains_key(&packet.to.ip()) {
            // Private addresses cannot be reached from outside.
            return Vec::new();
        }
        let Conditions { loss, duplication, corruption, latency, jitter, .. } = self.conditions;
        if self.random.chance(loss, 1000) {
            return Vec::new();
        }
        if self.random.chance(corruption, 1000) && !packet.bytes.is_empty() {
            if is_unproved(&packet.bytes) {
                return Vec::new();
            }
            let bits = u64::try_from(packet.bytes.len()).unwrap_or(u64::MAX) * 8;
            let bit = self.random.below(bits);
            let at = usize::try_from(bit / 8).unwrap_or(0);
            if let Some(octet) = packet.bytes.get_mut(at) {
                *octet ^= 1 << (bit % 8);
            }
        }
        let copies = if self.random.chance(duplication, 1000) { 2 } else { 1 };
        (0..copies).map(|_| (now + latency + self.random.time_up_to(jitter), packet.clone())).collect()
    }
}
