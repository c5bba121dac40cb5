//! From a datagram to the exchange it belongs to. What cannot be authenticated changes nothing but a counter.

use std::time::Instant;

use super::exchange::Incoming;
use super::fragment::{MAX_MESSAGE, MAX_UNAUTHENTICATED};
use super::request::Request;
use super::{Connection, Phase};
use crate::event::Datagram;
use crate::failure::Failure;
use crate::host::Host;
use crate::wire::error::WireError;
use crate::wire::header::Header;
use crate::wire::message::Payloads;
use crate::wire::numbers::{ExchangeType, NotifyType, ProtocolId};
use crate::wire::payload::{Notify, Payload};
use crate::wire::reader::Reader;

impl Connection {
    pub(crate) fn receive(&mut self, now: Instant, host: &mut dyn Host, datagram: Datagram<'_>) {
        let Ok(header) = Header::parse(&mut Reader::new(datagram.bytes), datagram.bytes.len()) else {
            return self.counters.dropped += 1;
        };
        match &self.phase {
            Phase::Finished => return self.counters.dropped += 1,
            Phase::InitSent(init) => {
                let answers = header.spi_i == init.spi()
                    && (header.exchange, header.message_id) == (ExchangeType::IKE_SA_INIT, 0)
                    && header.response
                    && !header.from_initiator;
                return if answers {
                    self.init_answered(now, host, datagram)
                } else {
                    self.counters.dropped += 1
                };
            }
            _ => {}
        }
        if header.exchange == ExchangeType::IKE_SA_INIT {
            return self.init_again(datagram);
        }
        let Some(sa) = self.sas.iter_mut().find(|sa| sa.owns(&header)) else {
            return self.counters.dropped += 1;
        };
        let spi = sa.spi_local;
        if header.response {
            match sa.exchanges.awaited(header.message_id) {
                Some(exchange) => self.receive_response(now, host, spi, header, exchange, datagram),
                None => self.counters.dropped += 1,
            }
            return;
        }
        if let Some(payloads) =
            sa.peek_sync(&header, datagram.bytes).filter(|_| matches!(self.phase, Phase::Up))
        {
            return self.sync_requested(now, host, spi, Payloads(&payloads), datagram);
        }
        match sa.exchanges.incoming(header.message_id) {
            Incoming::New => self.receive_request(now, host, spi, header, datagram),
            Incoming::Retransmission => {
                // Whoever only knows the SPIs must not have us send, least of all many datagrams for a short one.
                let Some(fragment) = sa.authentic(datagram.bytes) else { return self.counters.dropped += 1 };
                // Of a request in fragments only the first is answered (RFC 7383 section 2.6.1).
                let first = fragment.is_none_or(|number| number == 1);
                let answer =
                    sa.exchanges.stored_answer(header.message_id).filter(|_| first).map(<[Vec<u8>]>::to_vec);
                if let Some(answer) = answer {
                    self.counters.answered_again += 1;
                    self.answer(answer);
                }
            }
            Incoming::Unexpected => self.counters.dropped += 1,
        }
    }

    fn receive_request(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        header: Header,
        datagram: Datagram<'_>,
    ) {
        let limit = self.message_limit();
        if datagram.bytes.len() > limit {
            return self.counters.dropped += 1;
        }
        let Some(sa) = self.sa_mut(spi) else { return };
        let opened = match sa.open(datagram.bytes, limit) {
            Ok(Some(opened)) => opened,
            Ok(None) => return,
            Err(_) => return self.counters.dropped += 1,
        };
        if matches!(self.phase, Phase::Lingering(_)) {
            // Nothing is done any more, but a delete that crossed ours deserves its empty answer.
            if header.exchange == ExchangeType::INFORMATIONAL {
                self.respond_with(now, host, spi, header.exchange, header.message_id, &[]);
            }
            return;
        }
        let payloads = match opened {
            Ok((_, payloads)) => payloads,
            Err(_) if matches!(self.phase, Phase::AuthSent(_)) => return self.counters.dropped += 1,
            Err(error) => return self.malformed_request(now, host, spi, header, error),
        };
        let payloads = Payloads(&payloads);
        self.silence.broken(now);
        self.note_window(spi, payloads);
        match (&self.phase, header.exchange) {
            (Phase::AwaitAuth(_), ExchangeType::IKE_AUTH) => {
                return self.auth_requested(now, host, header, payloads, datagram);
            }
            // Nothing else is served before the peer is authenticated. One that is ahead of us, because its IKE_AUTH
            // answer was lost, will ask again.
            (Phase::AwaitAuth(_) | Phase::AuthSent(_), _) => return self.counters.dropped += 1,
            _ => {}
        }
        if datagram.natt {
            self.moved(now, datagram.remote);
        }
        match header.exchange {
            ExchangeType::CREATE_CHILD_SA if rekeys_ike(payloads) => {
                self.ike_rekey_requested(now, host, spi, header, payloads);
            }
            ExchangeType::CREATE_CHILD_SA => self.create_child_requested(now, host, spi, header, payloads),
            ExchangeType::INFORMATIONAL => self.informational_requested(now, host, spi, header, payloads),
            _ => {
                let notify = [Payload::Notify(Notify::new(NotifyType::INVALID_SYNTAX))];
                self.respond_with(now, host, spi, header.exchange, header.message_id, &notify);
            }
        }
    }

    /// The largest message that is taken: little from whom nobody knows.
    const fn message_limit(&self) -> usize {
        match self.phase {
            Phase::AwaitAuth(_) => MAX_UNAUTHENTICATED,
            _ => MAX_MESSAGE,
        }
    }

    /// An authentic request that makes no sense (RFC 7296 section 2.21.3).
    fn malformed_request(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        header: Header,
        error: WireError,
    ) {
        let notify = match error {
            // The data is the payload type (section 3.10.1).
            WireError::CriticalPayload(kind) => {
                Notify::with_data(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, vec![kind.0])
            }
            _ => Notify::new(NotifyType::INVALID_SYNTAX),
        };
        self.respond_with(now, host, spi, header.exchange, header.message_id, &[Payload::Notify(notify)]);
        // In IKE_AUTH nothing is established yet, and nothing will be.
        if matches!(self.phase, Phase::AwaitAuth(_)) {
            self.failed(now, Failure::Malformed { exchange: header.exchange, error });
        }
    }

    fn receive_response(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        header: Header,
        expected: ExchangeType,
        datagram: Datagram<'_>,
    ) {
        let limit = self.message_limit();
        let Some(sa) = self.sa_mut(spi) else { return };
        let opened = match sa.open(datagram.bytes, limit) {
            Ok(Some(opened)) if expected == header.exchange => opened,
            Ok(None) => return,
            _ => return self.counters.dropped += 1,
        };
        let Some(request) = sa.exchanges.take_answered(header.message_id) else { return };
        self.silence.broken(now);
        let payloads = match opened {
            Ok((_, payloads)) => payloads,
            Err(error) => {
                // An authentic answer that makes no sense: the peer is broken (RFC 7296 section 2.21.3).
                let makes_ike_sa = matches!(request, Request::RekeyIke(_) | Request::Auth);
                self.release_requests([request]);
                if matches!(self.phase, Phase::Lingering(_)) {
                    return self.misunderstood_after_close(now, host, spi, makes_ike_sa);
                }
                return self.failed(now, Failure::Malformed { exchange: header.exchange, error });
            }
        };
        let payloads = Payloads(&payloads);
        self.note_window(spi, payloads);
        if matches!(self.phase, Phase::Lingering(_)) {
            return self.answered_after_close(now, host, spi, request, payloads);
        }
        // Of IKE_AUTH there is more to tell.
        if payloads.notify(NotifyType::INVALID_SYNTAX).is_some() && !matches!(request, Request::Auth) {
            return self.ike_sa_given_up(now, spi, header.exchange, request);
        }
        match request {
            Request::Auth => self.auth_answered(now, host, payloads),
            Request::Child(offer) => self.child_answered(now, host, spi, *offer, payloads),
            Request::RekeyIke(offer) => self.ike_rekey_answered(now, host, spi, *offer, payloads),
            Request::DeleteChild(spi_in) => self.delete_answered(spi_in),
            Request::DeleteIke => self.ike_delete_answered(now, spi),
            Request::Liveness => self.answered_from(datagram),
        }
    }
}

/// A CREATE_CHILD_SA request without traffic selectors whose proposals are for IKE rekeys the IKE_SA.
fn rekeys_ike(payloads: Payloads<'_>) -> bool {
    payloads.sa().is_some_and(|sa| sa.iter().all(|p| p.protocol == ProtocolId::IKE))
        && payloads.ts_i().is_none()
}
