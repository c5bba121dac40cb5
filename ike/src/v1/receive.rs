//! From a datagram to the exchange it belongs to. What cannot be authenticated changes nothing but a counter, and nothing of
//! phase 2 is looked at before phase 1 is done.

use std::time::{Duration, Instant};

use super::exchange::Digest;
use super::fragment;
use super::handshake::Step;
use super::wire::{Exchange, HEADER_LEN, Header, NotifyType, Payload, Payloads, parse_chain};
use super::{Connection, Phase, keys};
use crate::crypto::auth::equal;
use crate::event::Datagram;
use crate::failure::Failure;
use crate::host::Host;

/// How long a negotiation is kept whose initiator seems to object. As its third message would be repeated.
const OBJECTED: Duration = Duration::from_secs(4);

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
        self.handshake.as_ref().is_some_and(|h| h.owns(header) || h.owns_first(header))
            || self.sas.iter().any(|sa| sa.owns(header))
    }

    /// A message, whichever way it came.
    fn whole(&mut self, now: Instant, host: &mut dyn Host, header: &Header, datagram: Datagram<'_>) {
        if self.handshake.as_ref().is_some_and(|h| h.owns_first(header)) {
            return self.first_again(datagram);
        }
        let opening = matches!(header.exchange, Exchange::MAIN | Exchange::AGGRESSIVE);
        if let Some(handshake) = self.handshake.as_ref().filter(|h| h.owns(header)) {
            let (initiator, ours) = (handshake.initiator, handshake.is_of(header.exchange));
            return match (opening, initiator) {
                (true, _) if !ours || header.message_id != 0 => self.counters.dropped += 1,
                (true, true) => self.phase1_answered(now, host, header, datagram),
                (true, false) => self.phase1_requested(now, host, header, datagram),
                (false, true) => self.early_notify(now, host, header, datagram),
                // An initiator that is further than we are: our answer, or its last message, was lost.
                (false, false) => {
                    self.note_objection(now, header);
                    self.repeat_answer(datagram, true);
                }
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

    /// The first message of a phase 1 of the peer's has come again. It is answered as long as nothing has come after it.
    fn first_again(&mut self, datagram: Datagram<'_>) {
        let digest = Digest::of(datagram.bytes);
        if self.handshake.as_ref().is_some_and(|h| h.repeat.is_answer_to(digest)) {
            return self.repeat_answer(datagram, false);
        }
        self.counters.dropped += 1;
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
                    // Aggressive mode has moved to the port of NAT traversal with it (RFC 3947 section 4), and its NAT-D
                    // payloads are of that; what it answers comes to the port before.
                    self.ask(&message, fragments);
                } else {
                    self.answer(&message, fragments);
                }
            }
            None => self.counters.dropped += 1,
        }
    }

    /// A notify of the responder's before phase 1 is done. Only an error of it counts.
    fn early_notify(&mut self, now: Instant, host: &mut dyn Host, header: &Header, datagram: Datagram<'_>) {
        let body = datagram.bytes.get(HEADER_LEN..).unwrap_or_default();
        if header.exchange != Exchange::INFORMATIONAL {
            return self.counters.dropped += 1;
        }
        if header.encrypted {
            return self.objection(now, host, header, body);
        }
        let chain = parse_chain(header.next, body, false).ok();
        match chain.and_then(|chain| error_of(Payloads(&chain.payloads))) {
            Some(kind) => self.phase1_refused(now, kind),
            None => self.counters.dropped += 1,
        }
    }

    /// An initiator of aggressive mode that does not take our proof says so by keys of its own. It may also be the word of one
    /// whose third message is late; so it is given a moment, and told by what then was missing.
    fn note_objection(&mut self, now: Instant, header: &Header) {
        let Some(handshake) = &mut self.handshake else { return };
        let objects = header.encrypted && header.exchange == Exchange::INFORMATIONAL;
        if objects && matches!(handshake.step, Step::AggressiveAnswered(_)) {
            handshake.objected = true;
            handshake.deadline = handshake.deadline.map(|deadline| deadline.min(now + OBJECTED));
        }
    }

    /// A notify of a responder that has its keys already, before the message that proves them. If ours are the same it is
    /// authentic. If they are not, the responder cannot read us either, and says so again each time we repeat our proof; what
    /// was merely ahead of its answer on the way comes once.
    fn objection(&mut self, now: Instant, host: &mut dyn Host, header: &Header, body: &[u8]) {
        let Some(handshake) = &self.handshake else { return self.counters.dropped += 1 };
        let Step::MainProofSent(keyed) = &handshake.step else { return self.counters.dropped += 1 };
        let (suite, id) = (keyed.of.suite, header.message_id);
        let iv = suite.phase2_iv(&keyed.iv, id);
        let opened = keys::decrypt(suite, &keyed.skeyid.key, &iv, body).ok().and_then(|(plain, _)| {
            let chain = parse_chain(header.next, &plain, true).ok()?;
            let expected = keys::hash1(suite, &keyed.skeyid.a, id, plain.get(chain.rest.clone())?).ok()?;
            let authentic =
                matches!(chain.payloads.first(), Some(Payload::Hash(hash)) if equal(hash, &expected));
            authentic.then_some(chain)
        });
        match opened {
            Some(chain) => match error_of(Payloads(&chain.payloads)) {
                Some(kind) => {
                    let (exchange, notify) = (self.phase1_exchange(), kind.to_string());
                    self.phase1_failed(now, host, Failure::ProofRefused { exchange, notify });
                }
                None => self.counters.dropped += 1,
            },
            None if handshake.repeat.sent > 1 => {
                let remote = self.addresses().1;
                self.phase1_failed(now, host, Failure::ProofUnreadable { remote });
            }
            None => self.counters.dropped += 1,
        }
    }
}

fn error_of(payloads: Payloads<'_>) -> Option<NotifyType> {
    payloads.notifies().map(|notify| notify.kind).find(|kind| kind.is_error())
}
