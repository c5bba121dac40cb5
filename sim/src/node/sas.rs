//! The ESP side of a simulated peer: what the router does in production.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use esp::transport::{Hosts, MAX_PACKET, Upper};
use esp::{InboundSa, Lifetime, Limits, Mode, OutboundSa, OutboundSnapshot, Spi};

use crate::invariants::{Witness, fingerprint};

/// Numbers that a node reserves at a time. Few, so that histories see what happens at the end of a block.
pub(super) const BLOCK: u64 = 16;

/// One pair in place.
pub struct Pair {
    pub(super) inbound: InboundSa,
    pub(super) outbound: OutboundSa,
    /// What a standby knows of it, from when the last block of numbers was reserved.
    pub(super) told: OutboundSnapshot,
    /// Which key it seals with.
    sealed_with: u64,
    /// The two ends, in transport mode.
    hosts: Option<Hosts>,
    /// Its policy.
    pub name: Arc<str>,
    /// SPI of the peer.
    pub spi_out: u32,
    pub(super) since: Instant,
    /// When it rekeys and ends.
    pub lifetime: Lifetime,
    /// Set when it only receives what is under way, until then.
    pub until: Option<Instant>,
    /// The connection that made it.
    pub conn: u64,
    /// When a packet came in last.
    pub heard: Option<Instant>,
}

/// The pairs of one peer.
#[derive(Default)]
pub struct Sas {
    /// By inbound SPI.
    pub pairs: BTreeMap<u32, Pair>,
    /// The sending pair of each policy.
    pub active: BTreeMap<Arc<str>, u32>,
}

impl Sas {
    /// Installs a pair; `None` for what ESP does not have.
    pub fn install(&mut self, since: Instant, sa: ike::ChildSa, conn: u64, lifetime: Lifetime) -> Option<()> {
        let suite = negotiated::suite(&sa.choice)?;
        let selectors = Arc::new(negotiated::selectors(&sa));
        let hosts = match negotiated::mode(&sa) {
            Mode::Tunnel => None,
            Mode::Transport => Some(Hosts::of(&selectors)?),
        };
        let limits = Limits::default();
        let sealed_with = fingerprint(&sa.keys_out.encryption);
        let (keys_in, keys_out) = (negotiated::keys(sa.keys_in), negotiated::keys(sa.keys_out));
        let inbound = InboundSa::new(Spi(sa.spi_in), suite, &keys_in, selectors, 256, &limits).ok()?;
        let outbound = OutboundSa::new(Spi(sa.spi_out), suite, &keys_out, &[7; 32], &limits).ok()?;
        let mut pair = Pair {
            inbound,
            told: outbound.snapshot(),
            outbound,
            sealed_with,
            hosts,
            name: sa.name,
            spi_out: sa.spi_out,
            since,
            lifetime,
            until: None,
            conn,
            heard: None,
        };
        pair.reserve();
        self.pairs.insert(sa.spi_in, pair);
        Some(())
    }

    /// Sends by this pair.
    pub fn activate(&mut self, spi_in: u32) {
        if let Some(pair) = self.pairs.get(&spi_in) {
            self.active.insert(pair.name.clone(), spi_in);
        }
    }

    /// Stops sending, and receives until `until`.
    pub fn retire(&mut self, spi_in: u32, until: Instant) {
        if let Some(pair) = self.pairs.get_mut(&spi_in) {
            pair.until = Some(until);
            self.active.retain(|_, active| *active != spi_in);
        }
    }

    /// Forgets pairs whose time is over.
    pub fn expire(&mut self, now: Instant) -> Vec<u32> {
        let over: Vec<u32> = self
            .pairs
            .iter()
            .filter(|(_, p)| p.until.is_some_and(|u| u <= now))
            .map(|(spi, _)| *spi)
            .collect();
        for spi in &over {
            self.pairs.remove(spi);
        }
        over
    }

    /// When something of a pair is due.
    pub fn next_timeout(&self) -> Option<Instant> {
        let due = |p: &Pair| p.until.or_else(|| p.lifetime.poll_timeout());
        self.pairs.values().filter_map(due).min()
    }

    /// Seals a packet of a policy; also returns the pair it went by.
    pub fn seal(
        &mut self,
        (tunnel, policy): (usize, &str),
        inner: &[u8],
        w: &mut Witness,
    ) -> Option<(u32, Vec<u8>)> {
        let spi = *self.active.get(policy)?;
        let pair = self.pairs.get_mut(&spi)?;
        if pair.outbound.lease().end() == Some(pair.outbound.sequence()) {
            pair.reserve();
        }
        let mut out = vec![0; pair.outbound.sealed_len(inner.len())];
        let sealed = match pair.hosts {
            None => pair.outbound.seal(inner, &mut out).ok()?,
            Some(_) => {
                let upper = Upper::of(inner).ok()?;
                let at = pair.outbound.payload_offset();
                out.get_mut(at..at + upper.len())?.copy_from_slice(inner.get(upper.header_len()..)?);
                pair.outbound.seal_transport(&mut out, &upper, 0).ok()?
            }
        };
        out.truncate(sealed.len);
        w.sealed(tunnel, pair.sealed_with, sealed.sequence);
        Some((spi, out))
    }

    /// Opens a packet; also says whether it is the pair's first.
    pub fn open(&mut self, now: Instant, packet: &mut [u8]) -> Option<(u32, bool, Vec<u8>)> {
        let spi = packet.first_chunk::<4>().map(|spi| u32::from_be_bytes(*spi))?;
        let pair = self.pairs.get_mut(&spi)?;
        let (opened, inner) = match &pair.hosts {
            None => {
                let opened = pair.inbound.open(packet).ok()?;
                let inner = packet.get(opened.inner.clone())?.to_vec();
                (opened, inner)
            }
            Some(hosts) => {
                let mut out = vec![0; MAX_PACKET];
                let opened = pair.inbound.open_transport(packet, hosts, 0, &mut out).ok()?;
                out.truncate(opened.inner.end);
                (opened, out)
            }
        };
        pair.heard = Some(now);
        Some((spi, opened.first, inner))
    }

    /// Pairs that are not on their way out: inbound and outbound SPI, policy, and whether it sends.
    pub fn current(&self) -> Vec<(u32, u32, Arc<str>, bool)> {
        let is_active = |spi: &u32, p: &Pair| self.active.get(&p.name) == Some(spi);
        let current = self.pairs.iter().filter(|(_, p)| p.until.is_none());
        current.map(|(spi, p)| (*spi, p.spi_out, p.name.clone(), is_active(spi, p))).collect()
    }
}
