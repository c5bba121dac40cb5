//! How a connection stands, for its host and for people.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use super::ike_sa::SaState;
use super::request::Request;
use super::{Connection, Phase};
use crate::config::{ChildConfig, PeerConfig};
use crate::coverage::policy_of;
use crate::event::Nat;
use crate::verbs::Counters;

impl Connection {
    /// The configured peer, once known.
    pub(crate) const fn config(&self) -> Option<&Arc<PeerConfig>> {
        self.config.as_ref()
    }

    /// Takes over a changed configuration. What is negotiated stays; later negotiations use it.
    pub(crate) fn set_config(&mut self, config: Arc<PeerConfig>) {
        // Parts were agreed on, or refused, of the policy as it was.
        let stays = |part: &Arc<ChildConfig>| {
            let of = |policy: &&Arc<ChildConfig>| *policy.name == *policy_of(&part.name).0;
            let before = self.config.as_ref().and_then(|config| config.children.iter().find(of));
            let now = config.children.iter().find(of);
            before.zip(now).is_some_and(|(before, now)| before.asks_for_the_same(now))
        };
        self.parts.retain(stays);
        self.parts_refused.retain(stays);
        let old = self.config.replace(config);
        self.reconfigure_resources(old.as_deref());
    }

    /// Whether both sides are authenticated and nothing has ended it.
    pub(crate) const fn is_up(&self) -> bool {
        matches!(self.phase, Phase::Up)
    }

    /// Whether it has ended, so that it says nothing but what its peer asks for again.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Lingering(_) | Phase::Finished)
    }

    /// Whether we have ended it, and the peer has not said yet that it knows (RFC 7296 section 1.4.1).
    pub(crate) fn is_end_unheard(&self) -> bool {
        matches!(self.phase, Phase::Lingering(_)) && !self.sas.iter().all(|sa| sa.exchanges.idle())
    }

    /// Whether nothing more will come.
    pub(crate) const fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished)
    }

    /// We started it.
    pub(crate) const fn is_initiator(&self) -> bool {
        self.initiator
    }

    /// When its first message was sent or arrived.
    pub(crate) const fn began(&self) -> Instant {
        self.began
    }

    /// SPIs of the IKE_SA in use: ours and the peer's.
    pub(crate) fn spis(&self) -> (u64, u64) {
        match &self.phase {
            Phase::InitSent(init) => (init.spi(), 0),
            _ => self.current_sa().map_or((0, 0), |sa| (sa.spi_local, sa.spi_remote)),
        }
    }

    /// All SPIs of ours that lead to this connection, those of IKE_SAs that we have asked for included.
    pub(crate) fn local_spis(&self) -> Vec<u64> {
        let init = if let Phase::InitSent(init) = &self.phase { Some(init.spi()) } else { None };
        let asked =
            self.sas.iter().flat_map(|sa| sa.exchanges.pending()).filter_map(|request| match request {
                Request::RekeyIke(offer) => Some(offer.spi),
                Request::Auth
                | Request::Child(_)
                | Request::DeleteChild(_)
                | Request::DeleteIke
                | Request::Liveness => None,
            });
        self.sas.iter().map(|sa| sa.spi_local).chain(asked).chain(init).collect()
    }

    /// SPI of the initiator of the IKE_SA in use: both sides see the same.
    pub(crate) fn initiator_spi(&self) -> u64 {
        self.current_sa().map_or(0, |sa| if sa.initiator { sa.spi_local } else { sa.spi_remote })
    }

    /// The algorithms of the IKE_SA in use.
    pub(crate) fn choice(&self) -> Option<crate::proposal::IkeChoice> {
        self.current_sa().map(|sa| sa.choice)
    }

    /// Our address and the peer's, as they stand now.
    pub(crate) fn addresses(&self) -> (SocketAddr, SocketAddr) {
        self.path.ends(self.floated)
    }

    /// Who is behind a NAT.
    pub(crate) const fn nat(&self) -> Nat {
        self.nat
    }

    /// Whether ESP goes in UDP: somebody is behind a NAT, or we want it so (RFC 7296 section 2.23).
    pub(crate) const fn encapsulates(&self) -> bool {
        self.forced || self.nat.local || self.nat.remote
    }

    /// How many IKE_SAs are held, those being replaced included.
    pub(crate) fn ike_sas(&self) -> usize {
        self.sas.iter().filter(|sa| !matches!(sa.state, SaState::Dead(_))).count()
    }

    /// The Child SA pairs in place: policy name, inbound and outbound SPI, and whether this is the sending one.
    pub(crate) fn child_sas(&self) -> impl Iterator<Item = (&Arc<str>, u32, u32, bool)> {
        self.children.iter().map(|c| (&c.config.name, c.spi_in, c.spi_out, c.active))
    }

    /// Whether a pair was asked for as its policy was configured before.
    pub(crate) fn is_overtaken(&self, spi_in: u32) -> bool {
        let made = self.children.iter().find(|c| c.spi_in == spi_in);
        made.is_some_and(|made| made.config.is_overtaken(self.policies().iter().map(|policy| &**policy)))
    }

    /// Counters since the connection began.
    pub(crate) const fn counters(&self) -> Counters {
        self.counters
    }

    /// Forgets a pair without telling the peer, as a peer that lost state would. For tests of what the other side does.
    #[cfg(feature = "test-hooks")]
    pub(crate) fn forget_child(&mut self, spi_in: u32) {
        self.remove_child(spi_in, crate::event::ChildEnd::IkeClosed);
    }

    /// Answers every request to create or rekey with TEMPORARY_FAILURE from now on. For tests of what the other side does.
    #[cfg(feature = "test-hooks")]
    pub(crate) fn refuse_everything(&mut self) {
        let current = self.current;
        if let Some(sa) = self.sa_mut(current) {
            sa.state = SaState::Deleting;
        }
    }
}
