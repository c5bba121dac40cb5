//! The exchange manager of one IKE_SA: Message IDs, the window of one, stored answers and retransmission
//! (RFC 7296 sections 2.1 to 2.3). It recognises a retransmission before anything else is looked at.

use std::time::Instant;

use super::request::Request;
use crate::config::Retransmit;
use crate::wire::numbers::ExchangeType;

/// A request of ours without an answer.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Pending {
    /// Its Message ID.
    pub(crate) id: u32,
    /// Its exchange type.
    pub(crate) exchange: ExchangeType,
    /// What it is for.
    pub(crate) request: Request,
    /// The message as sent: one datagram, or its fragments.
    pub(crate) datagrams: Vec<Vec<u8>>,
    /// Transmissions so far.
    pub(crate) sent: u32,
    /// When the next is due.
    pub(crate) due: Instant,
}

/// What to do with an incoming request, judged by its Message ID alone.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// The next one: look at it.
    New,
    /// The one answered last: the stored answer goes out again.
    Retransmission,
    /// Outside the window.
    Unexpected,
}

/// Message IDs, the pending request and the stored answer of one IKE_SA.
#[derive(Debug, Default)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Exchanges {
    next_id: u32,
    expected: u32,
    pending: Option<Pending>,
    answer: Option<Vec<Vec<u8>>>,
}

impl Exchanges {
    /// State after IKE_SA_INIT, whose ID was 0 in the initiator's direction.
    pub(crate) fn after_init(initiator: bool) -> Self {
        let (next_id, expected) = if initiator { (1, 0) } else { (0, 1) };
        Self { next_id, expected, pending: None, answer: None }
    }

    /// The ID of the next request; it counts up with [`Self::sent`].
    pub(crate) const fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Whether a request may be sent: the window is one.
    pub(crate) const fn idle(&self) -> bool {
        self.pending.is_none()
    }

    /// Notes a request that goes out now.
    pub(crate) fn sent(
        &mut self,
        now: Instant,
        exchange: ExchangeType,
        request: Request,
        datagrams: Vec<Vec<u8>>,
        retransmit: Retransmit,
    ) {
        let due = now + retransmit.wait(0);
        self.pending = Some(Pending { id: self.next_id, exchange, request, datagrams, sent: 1, due });
        self.next_id = self.next_id.wrapping_add(1);
    }

    /// The request without an answer.
    pub(crate) const fn pending(&self) -> Option<&Pending> {
        self.pending.as_ref()
    }

    /// The request without an answer, to note what happens while it is under way.
    pub(crate) fn pending_request(&mut self) -> Option<&mut Request> {
        self.pending.as_mut().map(|p| &mut p.request)
    }

    /// Takes the pending request if `id` answers it.
    pub(crate) fn take_answered(&mut self, id: u32) -> Option<Request> {
        self.pending.take_if(|p| p.id == id).map(|p| p.request)
    }

    /// Whether a response with this ID is waited for.
    pub(crate) fn awaits(&self, id: u32) -> bool {
        self.pending.as_ref().is_some_and(|p| p.id == id)
    }

    /// Forgets the pending request.
    pub(crate) fn abandon(&mut self) -> Option<Request> {
        self.pending.take().map(|p| p.request)
    }

    /// Judges an incoming request.
    pub(crate) const fn incoming(&self, id: u32) -> Incoming {
        if id == self.expected {
            Incoming::New
        } else if id.wrapping_add(1) == self.expected {
            Incoming::Retransmission
        } else {
            Incoming::Unexpected
        }
    }

    /// Stores the answer to the expected request, which is thereby done.
    pub(crate) fn answered(&mut self, datagrams: Vec<Vec<u8>>) {
        self.expected = self.expected.wrapping_add(1);
        self.answer = Some(datagrams);
    }

    /// The answer that was sent last.
    pub(crate) fn stored_answer(&self) -> Option<&[Vec<u8>]> {
        self.answer.as_deref()
    }

    /// When the pending request is due again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.pending.as_ref().map(|p| p.due)
    }

    /// If a retransmission is due: the message to send again, or the pending request when its tries are used up.
    pub(crate) fn retransmit(
        &mut self,
        now: Instant,
        policy: Retransmit,
    ) -> Option<Result<Vec<Vec<u8>>, Pending>> {
        let pending = self.pending.as_mut().filter(|p| p.due <= now)?;
        let tries = match pending.request {
            // A peer that does not answer a delete is gone; no use waiting long.
            Request::DeleteIke => policy.tries.min(DELETE_TRIES),
            _ => policy.tries,
        };
        if pending.sent > tries {
            return self.pending.take().map(Err);
        }
        pending.due = now + policy.wait(pending.sent);
        pending.sent += 1;
        Some(Ok(pending.datagrams.clone()))
    }
}

/// Retransmissions of a request that deletes the IKE_SA.
const DELETE_TRIES: u32 = 2;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_window_is_one_and_the_last_request_counts_as_retransmission() {
        let mut e = Exchanges::after_init(false);
        assert_eq!(e.incoming(1), Incoming::New);
        assert_eq!(e.incoming(0), Incoming::Retransmission);
        e.answered(vec![vec![1]]);
        assert_eq!(e.incoming(1), Incoming::Retransmission);
        assert_eq!(e.incoming(2), Incoming::New);
        assert_eq!(e.incoming(3), Incoming::Unexpected);
        assert_eq!(e.stored_answer(), Some(&[vec![1]][..]));
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_request_is_sent_as_often_as_the_policy_says() {
        let mut e = Exchanges::after_init(true);
        let mut now = Instant::now();
        let policy = Retransmit { first: Duration::from_secs(1), factor_tenths: 20, tries: 2 };
        e.sent(now, ExchangeType::INFORMATIONAL, Request::Liveness, vec![vec![7]], policy);
        assert!(!e.idle() && e.retransmit(now, policy).is_none());
        for wait in [1, 2] {
            now += Duration::from_secs(wait);
            assert_eq!(e.retransmit(now, policy).unwrap().unwrap(), [[7]]);
        }
        now += Duration::from_secs(4);
        assert!(e.retransmit(now, policy).unwrap().is_err());
        assert!(e.idle());
    }
}
