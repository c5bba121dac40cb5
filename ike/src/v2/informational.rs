//! INFORMATIONAL exchanges: deletes and liveness (RFC 7296 sections 1.4, 1.4.1, 2.4).

use std::time::Instant;

use super::Connection;
use super::child::ChildState;
use super::request::{ChildOffer, Request};
use crate::event::ChildEnd;
use crate::host::Host;
use crate::verbs::MAX_CHILDREN;
use crate::wire::header::Header;
use crate::wire::message::Payloads;
use crate::wire::numbers::{ExchangeType, NotifyType, ProtocolId};
use crate::wire::payload::Payload;

/// Errors by which a peer says that it cannot go on with the IKE_SA (section 2.21.2).
pub(super) const GIVES_UP: [NotifyType; 3] =
    [NotifyType::AUTHENTICATION_FAILED, NotifyType::INVALID_SYNTAX, NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD];

impl Connection {
    /// An INFORMATIONAL request of the peer.
    pub(crate) fn informational_requested(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        header: Header,
        payloads: Payloads<'_>,
    ) {
        if !self.replay_counters_requested(now, spi, payloads) {
            return self.counters.dropped += 1;
        }
        self.note_auth_lifetime(now, payloads);
        let mut delete_ike = false;
        let mut ours = Vec::new();
        for payload in payloads.0 {
            match payload {
                Payload::Delete { protocol: ProtocolId::IKE, .. } => delete_ike = true,
                Payload::Delete { protocol: ProtocolId::ESP, spis } => {
                    ours.extend(spis.iter().filter_map(|&theirs| self.child_deleted(spi, theirs)));
                }
                _ => {}
            }
        }
        // Other errors are of single packets or unknown, and unknown ones in a request are ignored (section 3.10.1).
        let fatal = payloads.notifies().map(|n| n.kind).find(|kind| GIVES_UP.contains(kind));
        let mut out = Vec::new();
        // The answer to a delete of the IKE_SA is empty; otherwise our halves of the pairs go into it (section 1.4.1).
        if !delete_ike && !ours.is_empty() {
            out.push(Payload::Delete { protocol: ProtocolId::ESP, spis: ours });
        }
        self.respond_with(now, host, spi, header.exchange, header.message_id, &out);
        if delete_ike {
            self.ike_sa_deleted(now, spi);
        } else if let Some(kind) = fatal {
            // The peer gave up on us, for example because it could not authenticate us (section 2.21.2).
            let failure = self.refusal(header.exchange, kind);
            self.failed(now, failure);
        }
    }

    /// The peer deleted the pair it receives on with SPI `theirs`. Returns our SPI of the pair for the answer.
    fn child_deleted(&mut self, ike: u64, theirs: u32) -> Option<u32> {
        let known = self.child_by_peer(theirs).map(|c| (c.spi_in, c.state));
        for offer in self.child_offers(ike) {
            match known {
                Some((spi_in, _)) if offer.replaces == Some(spi_in) => offer.old_gone = true,
                // Perhaps the pair whose answer has not arrived yet. A peer has as many as we do, not more.
                None if offer.deleted_unknown.len() < MAX_CHILDREN => offer.deleted_unknown.push(theirs),
                _ => {}
            }
        }
        let (spi_in, state) = known?;
        match state {
            // Both delete it: the answer names no SPI, and ours is removed when our own delete is answered.
            ChildState::Deleting(_) => None,
            ChildState::Installed | ChildState::Replaced => {
                let replaced = state == ChildState::Replaced || self.has_successor(spi_in);
                let policy = self.child(spi_in).map(|child| child.config.name.clone());
                self.remove_child(spi_in, if replaced { ChildEnd::Rekeyed } else { ChildEnd::DeletedByPeer });
                if let (Some(failure), Some(policy)) = (self.wanted_transport(Some(spi_in)), policy) {
                    self.tell_refused(&policy, failure);
                }
                Some(spi_in)
            }
        }
    }

    /// Our requests for Child SAs that are under way on an IKE_SA.
    pub(crate) fn child_offers(&mut self, ike: u64) -> impl Iterator<Item = &mut ChildOffer> {
        let requests = self.sa_mut(ike).into_iter().flat_map(|sa| sa.exchanges.pending_mut());
        requests.filter_map(|r| if let Request::Child(offer) = r { Some(&mut **offer) } else { None })
    }

    /// Whether a collision has left another pair of the same policy in place.
    fn has_successor(&self, spi_in: u32) -> bool {
        let Some(child) = self.child(spi_in) else { return false };
        self.children.iter().any(|c| {
            c.config.name == child.config.name && c.spi_in != spi_in && c.state == ChildState::Installed
        })
    }

    /// Asks the peer to delete a pair. A pair that is gone already needs nothing.
    pub(crate) fn request_delete(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi_in: u32,
        reason: ChildEnd,
    ) {
        let Some(child) = self.child_mut(spi_in) else { return };
        if matches!(child.state, ChildState::Deleting(_)) {
            return;
        }
        child.state = ChildState::Deleting(reason);
        self.send_delete(now, host, spi_in);
    }

    /// Sends a Delete for one pair.
    pub(crate) fn send_delete(&mut self, now: Instant, host: &mut dyn Host, spi_in: u32) {
        let spi = self.current;
        let out = [Payload::Delete { protocol: ProtocolId::ESP, spis: vec![spi_in] }];
        self.send_request(now, host, spi, ExchangeType::INFORMATIONAL, &out, Request::DeleteChild(spi_in));
    }

    /// Our delete was answered.
    pub(crate) fn delete_answered(&mut self, spi_in: u32) {
        if let Some(ChildState::Deleting(reason)) = self.child(spi_in).map(|c| c.state) {
            self.remove_child(spi_in, reason);
        }
    }
}
