//! A peer that is a cluster (RFC 6311). When another member of it goes on with an IKE_SA, it may not know of the last Message IDs
//! and of the last numbers of ESP that were used. It sets them anew: by an INFORMATIONAL with Message ID 0 and
//! IKEV2_MESSAGE_ID_SYNC in it, and by IPSEC_REPLAY_COUNTER_SYNC.
//!
//! Both are offered to every peer and answered where they are agreed on. Neither is ever asked of a peer: a node that goes on with an
//! IKE_SA has every message that has left (`Resume`), so no ID of it is behind, and begins with numbers of ESP beyond the
//! reserved ones.

mod snapshot;

use std::time::{Duration, Instant};

use super::Connection;
use super::ike_sa::{IkeSa, SaState};
use crate::crypto::CryptoError;
use crate::event::{CloseReason, Datagram, Event};
use crate::host::Host;
use crate::wire::header::Header;
use crate::wire::message::Payloads;
use crate::wire::numbers::{ExchangeType, NotifyType};
use crate::wire::payload::{Notify, Payload};

pub(crate) use snapshot::CounterSyncForm;

/// Between two that are acted upon. Each has us ask again what is under way, and advance every pair: not for every message of a
/// peer that sends nothing else. A member that is ignored sends it again, and a cluster fails over less often than that.
const APART: Duration = Duration::from_secs(1);
/// The highest ID that is gone on with. Nobody comes there by counting; from the last ones there would be no way to go on, as IDs
/// must not wrap around (RFC 7296 section 2.2).
const HIGHEST: u32 = u32::MAX / 2;

const SUPPORTED: [NotifyType; 2] =
    [NotifyType::IKEV2_MESSAGE_ID_SYNC_SUPPORTED, NotifyType::IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED];

/// What was agreed on in IKE_AUTH, and what has come of it on one IKE_SA.
#[derive(Debug, Default)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct CounterSync {
    message_ids: bool,
    replay_counters: bool,
    /// The last one that was acted upon. Boxed, for most peers are no cluster.
    last: Option<Box<Last>>,
}

#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
struct Last {
    at: Instant,
    /// The last that has set Message IDs, and the answer to it.
    sync: Option<(Asked, Vec<Vec<u8>>)>,
}

/// What a member of the cluster asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Asked {
    nonce: [u8; 4],
    /// M1: its next request has this ID (EXPECTED_SEND_REQ_MESSAGE_ID).
    send: u32,
    /// P1: it expects this one in our next (EXPECTED_RECV_REQ_MESSAGE_ID).
    receive: u32,
    /// By how much we are to advance.
    delta: u64,
}

/// What becomes of a request.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Accept,
    /// The answer was lost.
    Again(Vec<Vec<u8>>),
    Ignore,
}

/// What goes into the first request of IKE_AUTH.
pub(super) fn offer() -> impl Iterator<Item = Payload> {
    SUPPORTED.into_iter().map(|kind| Payload::Notify(Notify::new(kind)))
}

impl CounterSync {
    /// What holds on the IKE_SA that this one is rekeyed to.
    pub(crate) const fn inherited(&self) -> Self {
        Self { message_ids: self.message_ids, replay_counters: self.replay_counters, last: None }
    }

    fn agree(&mut self, payloads: Payloads<'_>) {
        let [message_ids, replay_counters] = SUPPORTED.map(|kind| payloads.notify(kind).is_some());
        (self.message_ids, self.replay_counters) = (message_ids, replay_counters);
    }

    /// Judges a request, where the peer has used no ID from `unused` on.
    fn judge(&self, now: Instant, asked: &Asked, unused: u32) -> Verdict {
        let last = self.last.as_deref();
        let before = last.and_then(|last| last.sync.as_ref());
        if let Some((_, answer)) = before.filter(|(known, _)| known == asked && known.send == unused) {
            return Verdict::Again(answer.clone());
        }
        // RFC 6311 section 5.1: M1 is higher than all the peer has used, those of synchronizations included.
        let replayed = asked.send < unused || before.is_some_and(|(known, _)| asked.send <= known.send);
        let beyond = asked.send > HIGHEST || asked.receive > HIGHEST;
        if replayed || beyond || !self.may_act(now) { Verdict::Ignore } else { Verdict::Accept }
    }

    fn may_act(&self, now: Instant) -> bool {
        self.last.as_ref().is_none_or(|last| last.at + APART <= now)
    }

    /// Something was done.
    fn acted(&mut self, now: Instant, sync: Option<(Asked, Vec<Vec<u8>>)>) {
        let before = self.last.take().and_then(|last| last.sync);
        self.last = Some(Box::new(Last { at: now, sync: sync.or(before) }));
    }
}

impl Asked {
    /// `None` if it is none, or there is more in the message than there may be.
    fn read(payloads: Payloads<'_>) -> Option<Self> {
        let (mut ids, mut delta) = (None, None);
        for payload in payloads.0 {
            let Payload::Notify(notify) = payload else { return None };
            match notify.kind {
                NotifyType::IKEV2_MESSAGE_ID_SYNC if ids.is_none() => ids = Some(&notify.data),
                NotifyType::IPSEC_REPLAY_COUNTER_SYNC if delta.is_none() => delta = Some(read_delta(notify)?),
                _ => return None,
            }
        }
        let (nonce, rest) = ids?.split_first_chunk::<4>()?;
        let (send, rest) = rest.split_first_chunk::<4>()?;
        let receive = <[u8; 4]>::try_from(rest).ok()?;
        Some(Self {
            nonce: *nonce,
            send: u32::from_be_bytes(*send),
            receive: u32::from_be_bytes(receive),
            delta: delta.unwrap_or(0),
        })
    }
}

/// Four octets, or eight with extended sequence numbers (RFC 6311 section 6.4).
fn read_delta(notify: &Notify) -> Option<u64> {
    let octets = notify.data.as_slice();
    let short = octets.try_into().map(|octets| u32::from_be_bytes(octets).into());
    short.or_else(|_| octets.try_into().map(u64::from_be_bytes)).ok()
}

impl IkeSa {
    /// The payloads of a request that synchronizes Message IDs. Its own says nothing, so it is none of the window's.
    pub(super) fn peek_sync(&self, header: &Header, datagram: &[u8]) -> Option<Vec<Payload>> {
        let may_be = self.sync.message_ids
            && !matches!(self.state, SaState::Dead(_))
            && (header.exchange, header.message_id) == (ExchangeType::INFORMATIONAL, 0);
        let payloads = may_be.then(|| self.peek(datagram)).flatten()?;
        Payloads(&payloads).notify(NotifyType::IKEV2_MESSAGE_ID_SYNC).is_some().then_some(payloads)
    }
}

impl Connection {
    /// Answers the offer of an initiator: only what it has offered (RFC 6311 section 6.1).
    pub(super) fn answer_sync(&mut self, payloads: Payloads<'_>) -> impl Iterator<Item = Payload> + use<> {
        self.note_sync(payloads);
        let offered = SUPPORTED.map(|kind| payloads.notify(kind).is_some().then_some(kind));
        offered.into_iter().flatten().map(|kind| Payload::Notify(Notify::new(kind)))
    }

    /// Takes in what the peer says of itself in IKE_AUTH. It was offered from our side as well.
    pub(super) fn note_sync(&mut self, payloads: Payloads<'_>) {
        let spi = self.current;
        if let Some(sa) = self.sa_mut(spi) {
            sa.sync.agree(payloads);
        }
    }

    /// A member of the cluster says by which Message IDs it goes on. The message is authentic.
    pub(super) fn sync_requested(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        payloads: Payloads<'_>,
        datagram: Datagram<'_>,
    ) {
        let (Some(asked), Some(sa)) = (Asked::read(payloads), self.sa_mut(spi)) else {
            return self.counters.dropped += 1;
        };
        match sa.sync.judge(now, &asked, sa.exchanges.unused_by_peer()) {
            Verdict::Ignore => return self.counters.dropped += 1,
            Verdict::Again(answer) => {
                self.counters.answered_again += 1;
                return self.answer(answer);
            }
            Verdict::Accept => {}
        }
        let advanced = if sa.sync.replay_counters { asked.delta } else { 0 };
        self.silence.broken(now);
        if datagram.natt {
            self.moved(now, datagram.remote);
        }
        self.advance_outbound(spi, advanced);
        if let Err(error) = self.synchronize(now, host, spi, asked) {
            self.down(now, CloseReason::Failed(error.into()));
        }
    }

    fn synchronize(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        asked: Asked,
    ) -> Result<(), CryptoError> {
        let Some(sa) = self.sa_mut(spi) else { return Ok(()) };
        // RFC 6311 section 5.1. M2 is M1, which is beyond all that the peer has used. P2 is the higher of P1 and the one behind all
        // that we have used: a lower one is corrected by the answer.
        let (theirs, ours) = (asked.send, asked.receive.max(sa.exchanges.next_id()));
        let pending = sa.exchanges.synchronize(theirs, ours);
        let data = [asked.nonce, ours.to_be_bytes(), theirs.to_be_bytes()].concat();
        // Nothing else may be in the answer, not even a statement of our window.
        let notify = [Payload::Notify(Notify::with_data(NotifyType::IKEV2_MESSAGE_ID_SYNC, data))];
        let answer = sa.seal(ExchangeType::INFORMATIONAL, true, 0, &notify, host)?;
        sa.sync.acted(now, Some((asked, answer.clone())));
        // Who goes on expects none of the IDs that were under way, so all of that is asked anew. If it was done before and only the
        // answer is missing, it is done once more: what then is there twice ends as after every answer that is lost for good.
        let mut asked_anew = Vec::new();
        for request in pending {
            let id = sa.exchanges.next_id();
            let datagrams = sa.reseal(&request.datagrams, id, host)?;
            asked_anew.extend(datagrams.iter().cloned());
            sa.exchanges.sent(now, request.exchange, request.request, datagrams, request.policy);
        }
        self.answer(answer);
        self.ask(asked_anew);
        self.events.push_back(Event::MessageIdsSynced { ours, theirs });
        Ok(())
    }

    /// A request that advances our numbers of ESP without setting Message IDs. False if it is to be left alone for now, as if it
    /// had not come: the peer sends it again.
    pub(super) fn replay_counters_requested(
        &mut self,
        now: Instant,
        spi: u64,
        payloads: Payloads<'_>,
    ) -> bool {
        let delta = payloads.notify(NotifyType::IPSEC_REPLAY_COUNTER_SYNC).and_then(read_delta);
        let Some(sa) = self.sa_mut(spi).filter(|sa| sa.sync.replay_counters) else { return true };
        let Some(delta) = delta.filter(|delta| *delta > 0) else { return true };
        if !sa.sync.may_act(now) {
            return false;
        }
        sa.sync.acted(now, None);
        self.advance_outbound(spi, delta);
        true
    }

    /// The sender wants the numbers of what it receives to go on so much later (RFC 6311 section 6.4): those that we send, of all
    /// pairs of this IKE_SA. One that is replaced has none any more.
    fn advance_outbound(&mut self, spi: u64, by: u64) {
        if by > 0 && spi == self.current {
            let pairs = self.children.iter().map(|child| child.spi_in).collect();
            self.events.push_back(Event::AdvanceOutbound { pairs, by });
        }
    }
}
