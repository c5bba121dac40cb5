//! A pair of SAs as a shard owns it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use esp::{InboundSa, LimitEvent, OutboundSa, SaError, Spi};

use crate::events::EventSink;
use crate::model::{ChildSa, RouterEvent, SaStats};
use crate::port::{Origin, Path};
use crate::registry::Enlisted;
use crate::tenant::{Tenant, Tunnel};

/// A pair of SAs. Made by the control plane, used and dropped by its shard; dropping wipes the keys.
pub(crate) struct Sa {
    pub(crate) tenant: Arc<Tenant>,
    pub(crate) tunnel: Arc<Tunnel>,
    pub(crate) inbound: InboundSa,
    pub(crate) outbound: OutboundSa,
    pub(crate) path: Path,
    pub(crate) last_in: Option<Instant>,
    pub(crate) last_out: Option<Instant>,
    drops: Vec<(&'static str, u64)>,
    /// The last address reported as new.
    reported: Option<SocketAddr>,
    soft_raised: bool,
    hard_raised: bool,
}

impl Sa {
    pub(crate) fn new(child: &ChildSa, enlisted: Enlisted, path: Path) -> Result<Self, SaError> {
        let Enlisted { tenant, tunnel, selectors } = enlisted;
        let inbound = InboundSa::new(
            child.inbound_spi,
            child.suite,
            &child.inbound_keys,
            selectors,
            child.replay_window,
            &child.limits,
        )?;
        let outbound = OutboundSa::new(
            Spi(child.outbound_spi),
            child.suite,
            &child.outbound_keys,
            &child.iv_seed,
            &child.limits,
        )?;
        Ok(Self {
            tenant,
            tunnel,
            inbound,
            outbound,
            path,
            last_in: None,
            last_out: None,
            drops: Vec::new(),
            reported: None,
            soft_raised: false,
            hard_raised: false,
        })
    }

    pub(crate) fn spi(&self) -> Spi {
        self.inbound.spi()
    }

    /// Counts a drop. A pair meets few kinds, so the list is short.
    pub(crate) fn count_drop(&mut self, name: &'static str) {
        match self.drops.iter_mut().find(|(known, _)| *known == name) {
            Some((_, count)) => *count += 1,
            None => self.drops.push((name, 1)),
        }
    }

    /// Reports a limit, each kind once whichever direction reaches it first.
    pub(crate) fn raise(&mut self, limit: LimitEvent, events: &mut EventSink) {
        let spi = self.spi();
        match limit {
            LimitEvent::Soft if !self.soft_raised => {
                self.soft_raised = true;
                events.send(RouterEvent::SoftLimit { spi });
            }
            LimitEvent::Hard if !self.hard_raised => {
                self.hard_raised = true;
                events.send(RouterEvent::HardLimit { spi });
            }
            _ => {}
        }
    }

    /// Reports where the newest packet came from, when that is new. Older packets say nothing: they may have been under
    /// way since before the move.
    pub(crate) fn note_origin(&mut self, origin: &Origin, sequence: u64, events: &mut EventSink) {
        if sequence != self.inbound.top() {
            return;
        }
        if origin.from == self.path.remote {
            self.reported = None;
        } else if self.reported != Some(origin.from) {
            self.reported = Some(origin.from);
            events.send(RouterEvent::RemoteMoved { spi: self.spi(), remote: origin.from });
        }
    }

    pub(crate) fn set_remote(&mut self, remote: SocketAddr) {
        self.path.remote = remote;
        self.reported = None;
    }

    pub(crate) fn stats(&self) -> SaStats {
        SaStats {
            spi: self.spi(),
            outbound_spi: self.outbound.spi(),
            tenant: self.tenant.id,
            tunnel: self.tunnel.id,
            active: self.tunnel.current() == Some(self.spi()),
            remote: self.path.remote,
            packets_in: self.inbound.packets(),
            bytes_in: self.inbound.bytes(),
            packets_out: self.outbound.packets(),
            bytes_out: self.outbound.bytes(),
            sequence_in: self.inbound.top(),
            sequence_out: self.outbound.sequence(),
            drops: self.drops.clone(),
            last_used_in: self.last_in,
            last_used_out: self.last_out,
        }
    }
}
