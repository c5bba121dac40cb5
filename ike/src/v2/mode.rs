//! Transport mode (RFC 7296 section 1.3.1): how it is asked for, and when it may be.
//!
//! The mode of a Child SA is always that of its policy: what comes out otherwise is not used. Transport mode goes between
//! the two addresses of the IKE_SA only, and only without a NAT; that of section 2.23.1, where both sides replace
//! addresses in selectors and mend checksums, is not done here.

use std::time::{Duration, Instant};

use super::Connection;
use crate::config::{ChildConfig, Mode};
use crate::failure::Failure;
use crate::wire::message::Payloads;
use crate::wire::numbers::NotifyType;
use crate::wire::payload::{Notify, Payload};
use crate::wire::ts::TrafficSelector;

/// What asks for the mode, or agrees to it: nothing for a tunnel.
pub(crate) fn notify(mode: Mode) -> Option<Payload> {
    (mode == Mode::Transport).then(|| Payload::Notify(Notify::new(NotifyType::USE_TRANSPORT_MODE)))
}

/// The mode that a request asks for, or an answer agrees to.
pub(crate) fn of(payloads: Payloads<'_>) -> Mode {
    match payloads.notify(NotifyType::USE_TRANSPORT_MODE) {
        Some(_) => Mode::Transport,
        None => Mode::Tunnel,
    }
}

/// A peer that asked for transport mode and has no use for the tunnel that it got deletes it at once. One that deletes it
/// later has other reasons.
const DECLINED: Duration = Duration::from_secs(10);

/// A tunnel that was given to a peer that had asked for transport mode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Declined {
    pub(super) spi_in: u32,
    pub(super) at: Instant,
}

impl Connection {
    /// Notes that a request was answered, when the peer has asked for transport mode and gets a tunnel.
    pub(crate) fn note_mode(&mut self, asked: Mode, given: Mode, spi_in: u32) {
        if (asked, given) == (Mode::Transport, Mode::Tunnel) {
            self.declined = Some(Declined { spi_in, at: self.silence.since() });
        }
    }

    /// The peer deletes a pair, or the IKE_SA and all of them: why, if that is because it did not get transport mode.
    pub(crate) fn wanted_transport(&self, spi_in: Option<u32>) -> Option<Failure> {
        let tunnel = self.declined.filter(|declined| spi_in.is_none_or(|spi| spi == declined.spi_in));
        let at_once = tunnel.filter(|tunnel| self.silence.since() < tunnel.at + DECLINED);
        at_once.map(|_| Failure::Mode { peer: Mode::Transport, configured: Mode::Tunnel })
    }

    /// Why transport mode is not possible for these selectors, if it is not.
    pub(crate) fn no_transport(
        &self,
        local_ts: &[TrafficSelector],
        remote_ts: &[TrafficSelector],
    ) -> Option<Failure> {
        let ends = (self.addresses().0.ip(), self.addresses().1.ip());
        crate::mode::no_transport(self.encapsulates(), ends, (local_ts, remote_ts))
    }

    /// [`Self::no_transport`] for a policy, whose mode may be another.
    pub(crate) fn mode_obstacle(&self, config: &ChildConfig) -> Option<Failure> {
        let transport = config.mode == Mode::Transport;
        transport.then(|| self.no_transport(&config.local, &config.remote)).flatten()
    }

    /// Checks that an answer agrees to the mode that was asked for. If it does not, the Child SA is deleted: the peer takes
    /// it for one of the other mode.
    pub(crate) fn check_mode(&self, config: &ChildConfig, payloads: Payloads<'_>) -> Result<(), Failure> {
        let peer = of(payloads);
        if peer != config.mode {
            return Err(Failure::Mode { peer, configured: config.mode });
        }
        self.mode_obstacle(config).map_or(Ok(()), Err)
    }
}
