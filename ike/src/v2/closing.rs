//! The end that is ours: the peer is told by deletes, of whatever it may have taken for the IKE_SA in use (RFC 7296 section 1.4.1).

use std::time::Instant;

use super::exchange::Pending;
use super::informational::GIVES_UP;
use super::request::{IkeOffer, Request};
use super::{Connection, DELETE_TRIES, Phase};
use crate::event::{CloseReason, Event};
use crate::host::Host;
use crate::verbs::LINGER_IKE;
use crate::wire::message::Payloads;

impl Connection {
    /// Ends the connection, and tells the peer if that may take it to be up.
    pub(crate) fn close(&mut self, now: Instant, host: &mut dyn Host, reason: CloseReason) {
        let was_up = self.is_up();
        let spi = self.current;
        // Until one of these is answered nobody knows what the peer has.
        let unsure = matches!(self.phase, Phase::Up | Phase::AuthSent(_));
        let kept = self.sa_mut(spi).filter(|_| unsure).and_then(|sa| sa.exchanges.take_of_ike_sa());
        // `down` abandons what is under way, so our window is free. The peer's is not where a request was lost: it takes none before it has
        // that (RFC 7296 section 2.3). So that goes with the delete, though nobody waits for its answer.
        let before = self.current_sa().map(|sa| sa.exchanges.under_way().cloned().collect::<Vec<_>>());
        self.down(now, reason);
        if let Some(kept) = kept {
            self.close_when_answered(now, host, kept);
        } else if was_up {
            self.ask(before.iter().flatten().cloned().collect::<Vec<_>>());
            self.delete_ike_sa(now, host, spi);
            if let Some((sa, before)) = self.sa_mut(spi).zip(before) {
                sa.exchanges.precede(before);
            }
        }
    }

    /// Who has answered this request goes on by another IKE_SA than who has not seen it, and a delete reaches one of them only. So it
    /// follows the answer.
    fn close_when_answered(&mut self, now: Instant, host: &mut dyn Host, mut kept: Pending) {
        if let Request::RekeyIke(offer) = &kept.request {
            // One that the peer has made by a rekeying of its own may be the one it goes on by, and is known already.
            let crossing = offer.collision.as_ref().map(|crossing| crossing.passive);
            kept.policy.tries = kept.policy.tries.min(DELETE_TRIES);
            kept.due = kept.due.min(now + kept.policy.wait(0));
            kept.sent = 1;
            if let Some(crossing) = crossing.filter(|&spi| self.is_active(spi)) {
                self.delete_ike_sa(now, host, crossing);
            }
        } else {
            // IKE_AUTH is not sent again: where it was lost it would bring up what is to be closed, in place of what may be up by then.
            kept.policy.tries = 0;
            kept.due = now + LINGER_IKE;
        }
        if let Some(sa) = self.sa_mut(self.current) {
            sa.exchanges.put_back(kept);
        }
    }

    /// What was under way when the connection was closed is answered.
    pub(crate) fn answered_after_close(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        request: Request,
        payloads: Payloads<'_>,
    ) {
        match request {
            Request::Auth => {
                let given_up = payloads.notifies().any(|notify| GIVES_UP.contains(&notify.kind));
                if !given_up {
                    self.delete_late(now, host, spi);
                }
            }
            Request::RekeyIke(offer) => {
                if let Some(new) = self.made_after_close(spi, *offer, payloads) {
                    self.delete_late(now, host, new);
                }
                self.delete_late(now, host, spi);
            }
            Request::DeleteIke | Request::Child(_) | Request::DeleteChild(_) | Request::Liveness => {}
        }
        self.finish_if_idle();
    }

    /// The same, and the answer makes no sense.
    pub(crate) fn misunderstood_after_close(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        makes_ike_sa: bool,
    ) {
        if makes_ike_sa {
            self.delete_late(now, host, spi);
        }
        self.finish_if_idle();
    }

    /// The IKE_SA that the peer has made, if it has.
    fn made_after_close(&mut self, old: u64, offer: IkeOffer, payloads: Payloads<'_>) -> Option<u64> {
        let answer = payloads.error().is_none().then(|| self.rekeyed_sa(old, &offer, payloads));
        let Some(Ok(new)) = answer else {
            self.events.push_back(Event::IkeSpiRemoved(offer.spi));
            return None;
        };
        self.sas.push(Box::new(new));
        Some(offer.spi)
    }

    fn delete_late(&mut self, now: Instant, host: &mut dyn Host, spi: u64) {
        // As long as if it had been sent with the close.
        self.phase = Phase::Lingering(now + LINGER_IKE);
        self.delete_ike_sa(now, host, spi);
    }

    /// Ends the connection once there is nothing that it waits for.
    pub(crate) fn finish_if_idle(&mut self) {
        if self.is_over() && !self.is_end_unheard() {
            self.finish();
        }
    }
}
