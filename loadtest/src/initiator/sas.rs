//! The ESP side of an initiator.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use esp::{InboundSa, Limits, OutboundSa, Spi};

/// Packets of the replay window; packets of one sender on loopback are hardly reordered.
const REPLAY_WINDOW: u32 = 1024;

/// The pairs in place.
#[derive(Default)]
pub(super) struct Sas {
    pairs: HashMap<u32, Pair>,
    active: Option<u32>,
    lingering: Vec<(Instant, u32)>,
}

struct Pair {
    inbound: InboundSa,
    outbound: OutboundSa,
}

/// What came out of a packet.
pub(super) struct Inner<'a> {
    pub(super) packet: &'a [u8],
    /// The first packet of this pair.
    pub(super) first_of: Option<u32>,
}

impl Sas {
    /// Installs a pair; `None` when its algorithms are none of ESP's.
    pub(super) fn install(&mut self, sa: ike::ChildSa, iv_seed: &[u8; 32]) -> Option<()> {
        let suite = negotiated::suite(&sa.choice)?;
        let selectors = Arc::new(negotiated::selectors(&sa));
        let limits = Limits::default();
        let (keys_in, keys_out) = (negotiated::keys(sa.keys_in), negotiated::keys(sa.keys_out));
        let inbound =
            InboundSa::new(Spi(sa.spi_in), suite, &keys_in, selectors, REPLAY_WINDOW, &limits).ok()?;
        let outbound = OutboundSa::new(Spi(sa.spi_out), suite, &keys_out, iv_seed, &limits).ok()?;
        self.pairs.insert(sa.spi_in, Pair { inbound, outbound });
        Some(())
    }

    pub(super) const fn activate(&mut self, spi_in: u32) {
        self.active = Some(spi_in);
    }

    /// Receives until `until`.
    pub(super) fn retire(&mut self, spi_in: u32, now: Instant, linger: Duration) {
        if self.active == Some(spi_in) {
            self.active = None;
        }
        self.lingering.push((now + linger, spi_in));
    }

    /// Forgets pairs whose time is over; returns their SPIs.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<u32> {
        let (over, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.lingering).into_iter().partition(|l| l.0 <= now);
        self.lingering = rest;
        for (_, spi) in &over {
            self.pairs.remove(spi);
        }
        over.into_iter().map(|(_, spi)| spi).collect()
    }

    /// When the next pair is to be forgotten.
    pub(super) fn next_expiry(&self) -> Option<Instant> {
        self.lingering.iter().map(|(at, _)| *at).min()
    }

    pub(super) const fn is_up(&self) -> bool {
        self.active.is_some()
    }

    /// Seals a packet with the pair in use.
    pub(super) fn seal(&mut self, inner: &[u8]) -> Option<Vec<u8>> {
        let pair = self.pairs.get_mut(&self.active?)?;
        let mut out = vec![0; pair.outbound.sealed_len(inner.len())];
        let sealed = pair.outbound.seal(inner, &mut out).ok()?;
        out.truncate(sealed.len);
        Some(out)
    }

    /// Opens a packet with the pair its SPI names.
    pub(super) fn open<'a>(&mut self, packet: &'a mut [u8]) -> Option<Inner<'a>> {
        let spi = packet.first_chunk::<4>().map(|spi| u32::from_be_bytes(*spi))?;
        let opened = self.pairs.get_mut(&spi)?.inbound.open(packet).ok()?;
        let first_of = opened.first.then_some(spi);
        Some(Inner { packet: packet.get(opened.inner)?, first_of })
    }
}
