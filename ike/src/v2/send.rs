//! Requests and answers on their way out: sealed, kept for retransmission, and addressed.

use std::net::SocketAddr;
use std::time::Instant;

use super::Connection;
use super::request::Request;
use super::tasks::Task;
use crate::event::{CloseReason, Transmit};
use crate::host::Host;
use crate::wire::message::Payloads;
use crate::wire::numbers::{ExchangeType, NotifyType};
use crate::wire::payload::Payload;

/// Our address, the peer's, and whether it is over the NAT traversal port.
pub(crate) type Way = (SocketAddr, SocketAddr, bool);

impl Connection {
    /// The way to where the peer is now.
    pub(crate) fn way(&self) -> Way {
        let (local, remote) = self.addresses();
        (local, remote, self.floated)
    }

    /// Queues the datagrams of a request for sending to where the peer is now, and to where it may be instead.
    pub(crate) fn ask(&mut self, datagrams: impl IntoIterator<Item = Vec<u8>>) {
        let (local, remote, natt) = self.way();
        match self.elsewhere.as_deref().copied() {
            None => self.transmit((local, remote, natt), datagrams),
            Some(elsewhere) => {
                let datagrams: Vec<_> = datagrams.into_iter().collect();
                self.transmit((local, remote, natt), datagrams.clone());
                self.transmit((local, elsewhere, natt), datagrams);
            }
        }
    }

    /// Queues the datagrams of an answer for sending to where the request came from, wherever the peer is (RFC 7296
    /// section 2.11).
    pub(crate) fn answer(&mut self, datagrams: impl IntoIterator<Item = Vec<u8>>) {
        self.transmit(self.detour.as_deref().copied().unwrap_or_else(|| self.way()), datagrams);
    }

    fn transmit(&mut self, (local, remote, natt): Way, datagrams: impl IntoIterator<Item = Vec<u8>>) {
        let sent =
            datagrams.into_iter().map(|bytes| Transmit { local, remote, natt, keepalive: false, bytes });
        self.transmits.extend(sent);
    }

    /// Sends a request on an IKE_SA whose window has room for it.
    pub(crate) fn send_request(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        exchange: ExchangeType,
        payloads: &[Payload],
        request: Request,
    ) {
        let policy = self.retransmit_policy(&request);
        let statement = self.window_statement(spi);
        let Some(sa) = self.sa_mut(spi) else { return };
        debug_assert!(sa.exchanges.has_room(), "the peer's window is exceeded");
        let id = sa.exchanges.next_id();
        match sa.seal(exchange, false, id, &with(payloads, statement), host) {
            Ok(datagrams) => {
                sa.exchanges.sent(now, exchange, request, datagrams.clone(), policy);
                self.ask(datagrams);
            }
            Err(error) => self.down(now, CloseReason::Failed(error.into())),
        }
    }

    /// Answers the request that is being handled, and stores the answer.
    pub(crate) fn respond_with(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        exchange: ExchangeType,
        id: u32,
        payloads: &[Payload],
    ) {
        let statement = self.window_statement(spi);
        let Some(sa) = self.sa_mut(spi) else { return };
        match sa.seal(exchange, true, id, &with(payloads, statement), host) {
            Ok(datagrams) => {
                sa.exchanges.answered(id, datagrams.clone());
                self.answer(datagrams);
                self.ask_after(now, spi, Payloads(payloads));
            }
            Err(error) => self.down(now, CloseReason::Failed(error.into())),
        }
    }

    /// By INVALID_SYNTAX the peer is told that the IKE_SA has ended, and one that goes by that says nothing more (RFC 7296 section 2.21.3).
    /// Many do not, and one request that cannot be read is no reason to end what works. So it is asked, and not only when it has been
    /// silent for long.
    fn ask_after(&mut self, now: Instant, spi: u64, answered: Payloads<'_>) {
        let has_ended = answered.notify(NotifyType::INVALID_SYNTAX).is_some();
        if has_ended && spi == self.current && self.is_up() {
            self.queue(Task::Liveness, now);
        }
    }
}

/// The payloads of a message, and one more.
fn with(payloads: &[Payload], more: Option<Payload>) -> std::borrow::Cow<'_, [Payload]> {
    match more {
        None => payloads.into(),
        Some(more) => payloads.iter().cloned().chain([more]).collect(),
    }
}
