//! From a datagram to the exchange it belongs to. What cannot be authenticated changes nothing but a counter, and nothing of
//! phase 2 is looked at before phase 1 is done.

use std::time::Instant;

use super::exchange::Digest;
use super::fragment;
use super::wire::{Exchange, HEADER_LEN, Header, NotifyType, Payloads, parse_chain};
use super::{Connection, Phase};
use crate::event::Datagram;
use crate::host::Host;

impl Connection {
    pub(crate) fn receive(&mut self, now: Instant, host: &mut dyn Host, datagram: Datagram<'_>) {
        let Ok(header) = Header::parse(datagram.bytes) else { return self.counters.dropped += 1 };
        if self.phase == Phase::Finished || !self.knows(&header) {
            return self.counters.dropped += 1;
        }
        if !fragment::is_fragment(&header) {
            return self.whole(now, host, &header, datagram);
        }
        let reassembly = self.reassembly.get_or_insert_default();
        match reassembly.add(&header, datagram.bytes) {
            Ok(None) => {}
            Err(_) => self.counters.dropped += 1,
            Ok(Some(message)) => {
                self.reassembly = None;
                match Header::parse(&message) {
                    Ok(header) if self.knows(&header) && !fragment::is_fragment(&header) => {
                        self.whole(now, host, &header, Datagram { bytes: &message, ..datagram });
                    }
                    _ => self.counters.dropped += 1,
                }
            }
        }
    }

    /// Whether a header names something of this connection.
    fn knows(&self, header: &Header) -> bool {
        self.handshake.as_ref().is_some_and(|h| h.owns(header)) || self.sas.iter().any(|sa| sa.owns(header))
    }

    /// A message, whichever way it came.
    fn whole(&mut self, now: Instant, host: &mut dyn Host, header: &Header, datagram: Datagram<'_>) {
        let opening = matches!(header.exchange, Exchange::MAIN | Exchange::AGGRESSIVE);
        if let Some(handshake) = self.handshake.as_ref().filter(|h| h.owns(header)) {
            let (initiator, ours) = (handshake.initiator, handshake.is_of(header.exchange));
            return match (opening, initiator) {
                (true, _) if !ours || header.message_id != 0 => self.counters.dropped += 1,
                (true, true) => self.phase1_answered(now, host, header, datagram),
                (true, false) => self.phase1_requested(now, host, header, datagram),
                (false, true) => self.early_notify(now, host, header, datagram),
                // An initiator that is further than we are: our answer, or its last message, was lost.
                (false, false) => self.repeat_answer(datagram.bytes.len()),
            };
        }
        let Some(sa) = self.sas.iter().find(|sa| sa.owns(header)) else {
            return self.counters.dropped += 1;
        };
        let spi = sa.spi_local;
        match header.exchange {
            Exchange::QUICK if header.message_id != 0 => self.quick_mode(now, host, spi, header, datagram),
            Exchange::INFORMATIONAL if header.encrypted && header.message_id != 0 => {
                self.informational(now, host, spi, header, datagram);
            }
            _ if opening => self.phase1_again(spi, datagram),
            _ => self.counters.dropped += 1,
        }
    }

    /// The last message of the peer's in phase 1 has come again: ours was lost.
    fn phase1_again(&mut self, spi: u64, datagram: Datagram<'_>) {
        let digest = Digest::of(datagram.bytes);
        let sa = self.sa(spi).filter(|sa| sa.last.as_ref().is_some_and(|last| last.is_answer_to(digest)));
        let last =
            sa.and_then(|sa| Some((sa.last.as_ref()?.message.clone(), sa.peer.fragments, sa.initiator)));
        match last {
            Some((message, fragments, initiator)) => {
                self.counters.answered_again += 1;
                if initiator {
                    // Aggressive mode has moved to the port of NAT traversal with it (RFC 3947 section 4), and its NAT-D payloads
                    // are of that; what it answers comes to the port before.
                    self.ask(&message, fragments);
                } else {
                    self.answer(&message, fragments);
                }
            }
            None => self.counters.dropped += 1,
        }
    }

    /// A notify of the responder's in clear before phase 1 is done. Only an error of it counts.
    fn early_notify(&mut self, now: Instant, host: &mut dyn Host, header: &Header, datagram: Datagram<'_>) {
        let body = datagram.bytes.get(HEADER_LEN..).unwrap_or_default();
        let clear = header.exchange == Exchange::INFORMATIONAL && !header.encrypted;
        let chain = parse_chain(header.next, body, false).ok().filter(|_| clear);
        let error = chain.and_then(|chain| {
            let kinds = Payloads(&chain.payloads).notifies().map(|notify| notify.kind);
            kinds.into_iter().find(|kind: &NotifyType| kind.is_error())
        });
        match error {
            Some(kind) => self.phase1_refused(now, host, kind),
            None => self.counters.dropped += 1,
        }
    }
}
