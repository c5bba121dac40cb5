//! How a connection stands, for its host and for people.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Connection, Phase};
use crate::config::PeerConfig;
use crate::event::{Event, Nat};
use crate::verbs::Counters;

impl Connection {
    /// The configured peer, once known.
    pub(crate) const fn config(&self) -> Option<&Arc<PeerConfig>> {
        self.config.as_ref()
    }

    /// Takes over a changed configuration. What is negotiated stays; later negotiations use it.
    pub(crate) fn set_config(&mut self, config: Arc<PeerConfig>) {
        self.config = Some(config);
        self.gaps_changed = true;
    }

    /// Whether both sides are authenticated and nothing has ended it.
    pub(crate) fn is_up(&self) -> bool {
        self.phase == Phase::Up
    }

    /// Whether it has ended. What the peer asks for again is not answered then: there is nothing to acknowledge a delete with.
    pub(crate) fn is_over(&self) -> bool {
        self.is_finished()
    }

    /// Whether we have ended it, and the peer has not said yet that it knows: it never says so (RFC 2408 section 3.15).
    #[allow(clippy::unused_self, reason = "the other version has an answer")]
    pub(crate) const fn is_end_unheard(&self) -> bool {
        false
    }

    /// Whether nothing more will come.
    pub(crate) fn is_finished(&self) -> bool {
        self.phase == Phase::Finished
    }

    /// We started it.
    pub(crate) const fn is_initiator(&self) -> bool {
        self.initiator
    }

    /// When its first message was sent or arrived.
    pub(crate) const fn began(&self) -> Instant {
        self.began
    }

    /// SPIs of the IKE_SA in use, or of that being made: ours and the peer's.
    pub(crate) fn spis(&self) -> (u64, u64) {
        let current = self.current_sa().map(|sa| (sa.spi_local, sa.spi_remote));
        let made = self.handshake.as_ref().map(|h| (h.spi_local, h.spi_remote));
        current.or(made).unwrap_or((0, 0))
    }

    /// All SPIs of ours that lead to this connection.
    pub(crate) fn local_spis(&self) -> Vec<u64> {
        self.sas.iter().map(|sa| sa.spi_local).chain(self.handshake.iter().map(|h| h.spi_local)).collect()
    }

    /// SPI of the initiator of the IKE_SA in use: both sides see the same.
    pub(crate) fn initiator_spi(&self) -> u64 {
        self.current_sa().map_or(0, |sa| sa.spis().0)
    }

    /// The algorithms of the IKE_SA in use.
    pub(crate) fn choice(&self) -> Option<crate::proposal::IkeChoice> {
        self.current_sa().map(|sa| sa.choice)
    }

    /// How long both sides keep the IKE_SA in use: who keeps it for longer holds one that the other has thrown away.
    pub(crate) fn agreed_lifetime(&self) -> Option<Duration> {
        self.current_sa().and_then(|sa| sa.life.seconds).map(Duration::from_secs)
    }

    /// Our address and the peer's, as they stand now.
    pub(crate) fn addresses(&self) -> (SocketAddr, SocketAddr) {
        self.path.ends(self.floated)
    }

    /// Who is behind a NAT.
    pub(crate) const fn nat(&self) -> Nat {
        self.nat
    }

    /// Whether ESP goes in UDP: both do NAT traversal, and somebody is behind a NAT or we want it so.
    pub(crate) const fn encapsulates(&self) -> bool {
        self.natt.is_some() && (self.forced || self.nat.local || self.nat.remote)
    }

    /// How many IKE_SAs are held, those being replaced included.
    pub(crate) fn ike_sas(&self) -> usize {
        self.sas.len()
    }

    /// The Child SA pairs in place: policy name, inbound and outbound SPI, and whether this is the sending one.
    pub(crate) fn child_sas(&self) -> impl Iterator<Item = (&Arc<str>, u32, u32, bool)> {
        self.children.iter().map(|c| (&c.config.name, c.spi_in, c.spi_out, c.active))
    }

    /// Whether a pair was asked for as its policy was configured before.
    pub(crate) fn is_overtaken(&self, spi_in: u32) -> bool {
        let made = self.children.iter().find(|c| c.spi_in == spi_in);
        made.is_some_and(|made| made.config.is_overtaken(self.policies().into_iter()))
    }

    /// Counters since the connection began.
    pub(crate) const fn counters(&self) -> Counters {
        self.counters
    }

    /// Where ESP in UDP goes, if there is any: to the port of NAT traversal also where IKE has stayed on its own.
    pub(crate) fn esp_end(&self) -> Option<SocketAddr> {
        self.encapsulates().then(|| self.path.ends(true).1)
    }

    /// The peer sends from elsewhere now.
    pub(crate) fn moved(&mut self, remote: SocketAddr) {
        if self.path.follow(self.nat, self.floated, remote) {
            self.events.push_back(Event::RemoteMoved(remote));
        }
    }

    /// Whether its first message was answered as it would not have been, had it been known who asks: by the proposals of
    /// another that may come from there. Nothing can be agreed on anew but by another phase 1, whose host then knows.
    pub(crate) fn is_misjudged(&self) -> bool {
        let chosen = self.current_sa().map(|sa| crate::wire::sa::Proposal::of_ike(sa.choice.transforms()));
        let allowed = |chosen: [crate::wire::sa::Proposal; 1]| {
            crate::proposal::negotiate::choose_ike(self.proposals(), &chosen).is_some()
        };
        !self.initiator && chosen.is_some_and(|chosen| !allowed(chosen))
    }

    /// Answers every request to create or rekey with an error from now on. For tests of what the other side does.
    #[cfg(feature = "test-hooks")]
    pub(crate) fn refuse_everything(&mut self) {
        self.refuses = true;
    }

    /// Forgets a pair without telling the peer, as a peer that lost state would. For tests of what the other side does.
    #[cfg(feature = "test-hooks")]
    pub(crate) fn forget_child(&mut self, spi_in: u32) {
        self.remove_child(spi_in, crate::event::ChildEnd::IkeClosed);
    }
}
