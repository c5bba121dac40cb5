//! The exchange manager of one IKE_SA: Message IDs, the windows, stored answers and retransmission (RFC 7296 sections 2.1
//! to 2.3). It recognises a retransmission before anything else is looked at.

mod snapshot;

use std::collections::VecDeque;
use std::time::Instant;

use super::request::Request;
use crate::config::Retransmit;
use crate::wire::numbers::ExchangeType;

pub(crate) use snapshot::ExchangesForm;

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
    /// Its schedule.
    pub(crate) policy: Retransmit,
}

/// What to do with an incoming request, judged by its Message ID alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Incoming {
    /// One that has not been answered: look at it.
    New,
    /// One that has: the stored answer goes out again.
    Retransmission,
    /// Outside the window.
    Unexpected,
}

/// Message IDs, the pending requests and the stored answers of one IKE_SA.
#[derive(Debug, Default)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Exchanges {
    next_id: u32,
    /// The lowest ID of the peer's requests that has not been answered.
    expected: u32,
    windows: Windows,
    pending: Vec<Pending>,
    /// By Message ID, oldest answer first: no more than the window that we have stated.
    answers: VecDeque<(u32, Vec<Vec<u8>>)>,
}

/// How many requests may be under way in each direction. One, until the receiver has stated more (RFC 7296 section 2.3).
#[derive(Clone, Copy, Debug)]
struct Windows {
    /// Stated by us.
    ours: u32,
    /// Stated by the peer, as far as we make use of it.
    theirs: u32,
}

impl Default for Windows {
    fn default() -> Self {
        Self { ours: 1, theirs: 1 }
    }
}

impl Exchanges {
    /// State after IKE_SA_INIT, whose ID was 0 in the initiator's direction.
    pub(crate) fn after_init(initiator: bool) -> Self {
        let (next_id, expected) = if initiator { (1, 0) } else { (0, 1) };
        Self { next_id, expected, ..Self::default() }
    }

    /// The ID of the next request; it counts up with [`Self::sent`].
    pub(crate) const fn next_id(&self) -> u32 {
        self.next_id
    }

    /// Whether no request is under way.
    pub(crate) const fn idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether another request may be sent: the peer has to have answered all up to that of a window before it.
    pub(crate) fn has_room(&self) -> bool {
        self.pending.iter().all(|p| self.next_id.wrapping_sub(p.id) < self.windows.theirs)
    }

    /// We have stated a window. There is no way to make it smaller.
    pub(crate) fn state_window(&mut self, size: u32) {
        self.windows.ours = self.windows.ours.max(size);
    }

    /// The peer has.
    pub(crate) fn window_stated(&mut self, size: u32) {
        self.windows.theirs = self.windows.theirs.max(size);
    }

    /// Requests, or answers, that may be under way to us.
    pub(crate) const fn inbound_window(&self, answers: bool) -> u32 {
        if answers { self.windows.theirs } else { self.windows.ours }
    }

    /// Notes a request that goes out now.
    pub(crate) fn sent(
        &mut self,
        now: Instant,
        exchange: ExchangeType,
        request: Request,
        datagrams: Vec<Vec<u8>>,
        policy: Retransmit,
    ) {
        let due = now + policy.wait(0);
        self.pending.push(Pending { id: self.next_id, exchange, request, datagrams, sent: 1, due, policy });
        self.next_id = self.next_id.wrapping_add(1);
    }

    /// What is under way is not sent again.
    pub(crate) fn send_once(&mut self) {
        for pending in &mut self.pending {
            pending.policy.tries = 0;
        }
    }

    /// The requests without an answer, in the order they were sent.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &Request> {
        self.pending.iter().map(|p| &p.request)
    }

    /// The requests without an answer, to note what happens while they are under way.
    pub(crate) fn pending_mut(&mut self) -> impl Iterator<Item = &mut Request> {
        self.pending.iter_mut().map(|p| &mut p.request)
    }

    /// The datagrams of what is under way.
    pub(crate) fn under_way(&self) -> impl Iterator<Item = &Vec<u8>> {
        self.pending.iter().flat_map(|p| &p.datagrams)
    }

    /// Takes out the request that makes an IKE_SA, if one is under way.
    pub(crate) fn take_of_ike_sa(&mut self) -> Option<Pending> {
        let makes = |p: &Pending| matches!(p.request, Request::RekeyIke(_) | Request::Auth);
        let at = self.pending.iter().position(makes)?;
        Some(self.pending.remove(at))
    }

    /// Waits on for the answer to what was taken out.
    pub(crate) fn put_back(&mut self, pending: Pending) {
        self.pending.push(pending);
    }

    /// Notes datagrams that are sent each time in front of the request that was sent last.
    pub(crate) fn precede(&mut self, mut before: Vec<Vec<u8>>) {
        if let Some(last) = self.pending.last_mut() {
            before.append(&mut last.datagrams);
            last.datagrams = before;
        }
    }

    /// Takes the request that `id` answers.
    pub(crate) fn take_answered(&mut self, id: u32) -> Option<Request> {
        let at = self.pending.iter().position(|p| p.id == id)?;
        let request = self.pending.remove(at).request;
        if self.pending.is_empty() {
            self.pending = Vec::new();
        }
        Some(request)
    }

    /// The exchange of the request that a response with this ID answers; `None` where none is waited for.
    pub(crate) fn awaited(&self, id: u32) -> Option<ExchangeType> {
        self.pending.iter().find(|p| p.id == id).map(|p| p.exchange)
    }

    /// Forgets the pending requests.
    pub(crate) fn abandon(&mut self) -> Vec<Request> {
        std::mem::take(&mut self.pending).into_iter().map(|p| p.request).collect()
    }

    /// The ID behind all that the peer has asked with.
    pub(crate) fn unused_by_peer(&self) -> u32 {
        let answered = self.answers.iter().map(|(id, _)| id.wrapping_add(1));
        answered.fold(
            self.expected,
            |behind, next| {
                if next.wrapping_sub(behind) < u32::MAX / 2 { next } else { behind }
            },
        )
    }

    /// Goes on with these IDs for the peer's requests and for ours (RFC 6311 section 5.1). What was asked under other IDs will
    /// not be answered, and is given back to be asked anew, in its order; nor is what was answered answered again.
    pub(crate) fn synchronize(&mut self, expected: u32, next_id: u32) -> Vec<Pending> {
        self.answers = VecDeque::new();
        (self.expected, self.next_id) = (expected, next_id);
        std::mem::take(&mut self.pending)
    }

    /// Judges an incoming request.
    pub(crate) fn incoming(&self, id: u32) -> Incoming {
        if self.stored_answer(id).is_some() {
            Incoming::Retransmission
        } else if id.wrapping_sub(self.expected) < self.windows.ours {
            Incoming::New
        } else {
            Incoming::Unexpected
        }
    }

    /// Stores the answer to a request, which is thereby done. Whoever sent it has the answers to all of a window before.
    pub(crate) fn answered(&mut self, id: u32, datagrams: Vec<Vec<u8>>) {
        while self.answers.len() >= self.windows.ours as usize {
            self.answers.pop_front();
        }
        let at = self.answers.partition_point(|(other, _)| id.wrapping_sub(*other) < u32::MAX / 2);
        self.answers.insert(at, (id, datagrams));
        while self.answers.iter().any(|(id, _)| *id == self.expected) {
            self.expected = self.expected.wrapping_add(1);
        }
    }

    /// The answer to a request that has been answered.
    pub(crate) fn stored_answer(&self, id: u32) -> Option<&[Vec<u8>]> {
        self.answers.iter().find(|(other, _)| *other == id).map(|(_, datagrams)| datagrams.as_slice())
    }

    /// When a pending request is due again.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.pending.iter().map(|p| p.due).min()
    }

    /// If a retransmission is due: the message to send again, or the pending request when its tries are used up. To be called
    /// until there is none.
    pub(crate) fn retransmit(&mut self, now: Instant) -> Option<Result<Vec<Vec<u8>>, Pending>> {
        let at = self.pending.iter().position(|p| p.due <= now)?;
        let pending = self.pending.get_mut(at)?;
        if pending.sent > pending.policy.tries {
            return Some(Err(self.pending.remove(at)));
        }
        pending.due = now + pending.policy.wait(pending.sent);
        pending.sent += 1;
        Some(Ok(pending.datagrams.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn answer(octet: u8) -> Vec<Vec<u8>> {
        vec![vec![octet]]
    }

    #[test]
    fn the_window_is_one_until_another_is_stated() {
        let mut e = Exchanges::after_init(false);
        assert_eq!(e.incoming(1), Incoming::New);
        assert_eq!(e.incoming(0), Incoming::Unexpected, "IKE_SA_INIT is answered elsewhere");
        e.answered(1, answer(1));
        assert_eq!(e.incoming(1), Incoming::Retransmission);
        assert_eq!(e.incoming(2), Incoming::New);
        assert_eq!(e.incoming(3), Incoming::Unexpected);
        assert_eq!(e.stored_answer(1), Some(&answer(1)[..]));
        e.answered(2, answer(2));
        assert_eq!((e.incoming(1), e.stored_answer(1)), (Incoming::Unexpected, None));
    }

    #[test]
    fn requests_within_the_window_come_in_any_order() {
        let mut e = Exchanges::after_init(false);
        e.state_window(3);
        e.state_window(2);
        assert_eq!([1, 2, 3].map(|id| e.incoming(id)), [Incoming::New; 3], "a window does not shrink");
        e.answered(3, answer(3));
        assert_eq!([1, 2, 4].map(|id| e.incoming(id)), [Incoming::New, Incoming::New, Incoming::Unexpected]);
        e.answered(1, answer(1));
        assert_eq!([2, 4, 5].map(|id| e.incoming(id)), [Incoming::New, Incoming::New, Incoming::Unexpected]);
        e.answered(2, answer(2));
        // The answers of a window are kept, whatever the order they were made in.
        assert_eq!([1, 2, 3].map(|id| e.incoming(id)), [Incoming::Retransmission; 3]);
        assert_eq!([4, 5, 6].map(|id| e.incoming(id)), [Incoming::New; 3]);
        e.answered(6, answer(6));
        assert_eq!(e.incoming(1), Incoming::Unexpected, "who sends 6 has the answer to 3 and all before");
        assert_eq!([2, 3, 6].map(|id| e.incoming(id)), [Incoming::Retransmission; 3]);
    }

    #[test]
    fn what_the_peer_has_used_ends_behind_its_last_request_whatever_is_missing() {
        let mut e = Exchanges::after_init(false);
        e.state_window(4);
        assert_eq!(e.unused_by_peer(), 1);
        e.answered(3, answer(3));
        assert_eq!((e.unused_by_peer(), e.incoming(1)), (4, Incoming::New));
        e.answered(1, answer(1));
        assert_eq!(e.unused_by_peer(), 4);
        let mut e = Exchanges { expected: u32::MAX, ..Exchanges::default() };
        e.answered(u32::MAX, answer(0));
        assert_eq!(e.unused_by_peer(), 0);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "any moment will do, and a test may ask for one")]
    fn synchronized_ids_are_gone_on_with_and_those_before_are_over() {
        let mut e = Exchanges::after_init(false);
        e.window_stated(2);
        e.answered(1, answer(1));
        let now = Instant::now();
        for octet in [8, 9] {
            let policy = Retransmit::DEFAULT;
            e.sent(now, ExchangeType::INFORMATIONAL, Request::Liveness, answer(octet), policy);
        }
        let again: Vec<_> = e.synchronize(7, 5).into_iter().map(|p| (p.id, p.datagrams)).collect();
        assert_eq!(again, [(0, answer(8)), (1, answer(9))]);
        assert!(e.idle() && e.has_room() && e.next_id() == 5);
        assert_eq!(
            [1, 6, 7].map(|id| e.incoming(id)),
            [Incoming::Unexpected, Incoming::Unexpected, Incoming::New]
        );
    }

    #[test]
    fn message_ids_come_round() {
        let mut e = Exchanges { expected: u32::MAX, ..Exchanges::default() };
        e.state_window(2);
        assert_eq!(
            [u32::MAX, 0, 1].map(|id| e.incoming(id)),
            [Incoming::New, Incoming::New, Incoming::Unexpected]
        );
        e.answered(0, answer(0));
        e.answered(u32::MAX, answer(9));
        e.answered(1, answer(1));
        assert_eq!(
            [u32::MAX, 0, 1, 2].map(|id| e.incoming(id)),
            [Incoming::Unexpected, Incoming::Retransmission, Incoming::Retransmission, Incoming::New]
        );
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn as_many_requests_are_under_way_as_the_peer_states() {
        let mut e = Exchanges::default();
        let now = Instant::now();
        let send = |e: &mut Exchanges| {
            assert!(e.has_room());
            e.sent(now, ExchangeType::INFORMATIONAL, Request::Liveness, answer(0), Retransmit::DEFAULT);
        };
        send(&mut e);
        assert!(!e.has_room());
        e.window_stated(3);
        send(&mut e);
        send(&mut e);
        assert!(!e.has_room());
        assert_eq!([0, 1, 2, 3].map(|id| e.awaited(id).is_some()), [true, true, true, false]);
        // The answers to later ones give no room: the peer keeps those of a window from the first unanswered on.
        assert!(e.take_answered(2).is_some() && e.take_answered(2).is_none() && !e.has_room());
        assert!(e.take_answered(0).is_some());
        send(&mut e);
        assert!(!e.has_room(), "1 is under way, so 4 has to wait");
    }

    #[test]
    #[allow(clippy::disallowed_methods)]
    fn a_request_is_sent_as_often_as_the_policy_says() {
        let mut e = Exchanges::after_init(true);
        let mut now = Instant::now();
        let policy = Retransmit { first: Duration::from_secs(1), factor_tenths: 20, tries: 2 };
        e.sent(now, ExchangeType::INFORMATIONAL, Request::Liveness, vec![vec![7]], policy);
        assert!(!e.idle() && e.retransmit(now).is_none());
        for wait in [1, 2] {
            now += Duration::from_secs(wait);
            assert_eq!(e.retransmit(now).unwrap().unwrap(), [[7]]);
        }
        now += Duration::from_secs(4);
        assert!(e.retransmit(now).unwrap().is_err());
        assert!(e.idle());
    }
}
