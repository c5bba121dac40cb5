//! Phase 1 from the responder's side (RFC 2409 section 5): what main mode and aggressive mode have in common.
//!
//! Nothing is computed for whoever has not proved its address in main mode: its third message has to bring back the SPI that
//! our answer told it. That takes the place of IKEv2's cookies. Aggressive mode has no such round trip; its cost is on the
//! account of whoever the first message says it is from, and nobody may use it who is not configured to.

use std::net::SocketAddr;
use std::time::Instant;

use super::Connection;
use super::announced::Announced;
use super::exchange::{Digest, Repeat};
use super::first;
use super::handshake::{Handshake, Keyed, Packets, Step, header};
use super::wire::{self, Exchange, HEADER_LEN, Header, Notify, NotifyType, Payload, Payloads};
use crate::config::{Opening, PeerConfig, Phase1};
use crate::crypto::CryptoError;
use crate::event::{Datagram, Event};
use crate::failure::Failure;
use crate::host::Host;
use crate::proposal::Candidates;
use crate::verbs::{HALF_OPEN_TIMEOUT, InitReply, MAX_CANDIDATES, Path};
use crate::wire::numbers::ProtocolId;

/// Octets of a half-open connection beside its messages.
const HALF_OPEN_OCTETS: usize = 1_024;

impl Connection {
    /// About how many octets a half-open connection holds. The peer can make them more by fragments, up to a bound.
    pub(crate) fn half_open_octets(&self) -> usize {
        let waiting = self.reassembly.as_ref().map_or(0, |reassembly| reassembly.octets());
        let state = self.handshake.as_ref().map_or(0, |h| h.step.octets() + h.repeat.message.len());
        HALF_OPEN_OCTETS + state + waiting
    }

    /// Answers the first message of phase 1. `candidates` are the peers of its mode that might send from there.
    pub(crate) fn respond(
        now: Instant,
        host: &mut dyn Host,
        datagram: Datagram<'_>,
        natt_ports: (u16, u16),
        candidates: &Candidates,
        force_encapsulation: bool,
    ) -> InitReply<Self> {
        let (header, chain) = match first::decode(datagram.bytes) {
            Ok(decoded) => decoded,
            Err(failure) => return InitReply::Dropped(failure),
        };
        let first = match first::choose(header, &chain, candidates) {
            Ok(first) => first,
            Err((kind, failure)) => return InitReply::Refused(refuse(&header, kind), failure),
        };
        let path = Path {
            local: datagram.local,
            remote: datagram.remote,
            local_natt: natt_ports.0,
            remote_natt: if datagram.natt { datagram.remote.port() } else { natt_ports.1 },
        };
        let mut this = Self::new(path, false, now);
        this.met = is_connected(host, datagram.remote, header.exchange);
        this.floated = datagram.natt;
        this.forced = force_encapsulation;
        let outcome = match header.exchange {
            Exchange::AGGRESSIVE => this.answer_aggressive(now, host, first, datagram),
            _ => {
                this.answer_main(now, host, first, datagram);
                Ok(())
            }
        };
        match outcome {
            Ok(()) => InitReply::Accepted(Box::new(this)),
            Err(failure) => InitReply::Dropped(failure),
        }
    }

    /// The state of a negotiation whose first message is answered.
    pub(crate) fn half_open(
        &mut self,
        now: Instant,
        (spi_i, spi): (u64, u64),
        mode: Phase1,
        step: Step,
        peer: Announced,
        (message, datagram): (Vec<u8>, Datagram<'_>),
    ) {
        self.events.push_back(Event::IkeSpiAdded(spi));
        self.answer(&message, peer.fragments);
        let octets = (datagram.bytes.len(), message.len());
        self.handshake = Some(Box::new(Handshake {
            began: now,
            spi_local: spi,
            spi_remote: spi_i,
            initiator: false,
            mode,
            step,
            repeat: Repeat::answering(message, Digest::of(datagram.bytes)),
            peer,
            deadline: Some(now + HALF_OPEN_TIMEOUT),
            octets,
            objected: false,
            refused: None,
            address_proved: false,
            packets: Packets::Unasked,
        }));
    }

    /// A further message of an initiator.
    pub(crate) fn phase1_requested(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        header: &Header,
        datagram: Datagram<'_>,
    ) {
        let digest = Digest::of(datagram.bytes);
        if self.handshake.as_ref().is_some_and(|handshake| handshake.repeat.is_answer_to(digest)) {
            return self.repeat_answer(datagram, true);
        }
        let Some(mut handshake) = self.handshake.take() else { return };
        handshake.octets.0 = handshake.octets.0.saturating_add(datagram.bytes.len());
        let body = datagram.bytes.get(HEADER_LEN..).unwrap_or_default();
        let step = std::mem::replace(&mut handshake.step, Step::Taken);
        let message = Message { header, body, digest, datagram };
        let outcome = match step {
            Step::MainAnswered(chosen) => self.third(host, &mut handshake, *chosen, message),
            Step::MainKeyAnswered(of) => self.fifth(host, &mut handshake, *of, message),
            Step::AggressiveAnswered(expected) => self.last(host, &mut handshake, *expected, message),
            step => Err(Rejected::Drop(step)),
        };
        match outcome {
            Ok(None) => self.handshake = Some(handshake),
            Ok(Some((keyed, repeat))) => {
                // Aggressive mode ends with the initiator's message, so it is told in one by itself.
                let contact = self.initial_contact(host, handshake.spis()).filter(|_| repeat.is_none());
                let spi = handshake.spi_local;
                self.proved(now, host, *handshake, keyed, repeat);
                if let Some(contact) = contact {
                    self.inform(host, spi, vec![contact]);
                }
            }
            Err(Rejected::Drop(step)) => {
                handshake.step = step;
                self.handshake = Some(handshake);
                self.counters.dropped += 1;
            }
            Err(Rejected::Fail(failure, notify)) => {
                if let Some(kind) = notify {
                    let (spi_i, spi_r) = handshake.spis();
                    let bytes = refuse(&wire::Header { spi_i, spi_r, ..*header }, kind);
                    self.answer(&bytes, false);
                }
                self.handshake = Some(handshake);
                self.failed(failure);
            }
        }
    }

    /// A message that was answered has come again, or one after it that cannot be read: our answer was lost.
    /// One that bears our SPI proves its address if it comes from where that was sent.
    pub(crate) fn repeat_answer(&mut self, datagram: Datagram<'_>, bears_spi: bool) {
        let proved = bears_spi && datagram.remote.ip() == self.path.remote.ip();
        if !self.may_repeat(datagram.bytes.len(), proved) {
            return self.counters.dropped += 1;
        }
        let Some(handshake) = &self.handshake else { return };
        let (message, fragments) = (handshake.repeat.message.clone(), handshake.peer.fragments);
        self.counters.answered_again += 1;
        self.answer(&message, fragments);
    }

    /// The initiator uses the port of NAT traversal if it has found a NAT.
    pub(crate) fn note_float(&mut self, datagram: Datagram<'_>) {
        if datagram.natt {
            self.floated = true;
            if self.path.remote.ip() == datagram.remote.ip() || self.nat.peer_may_move() {
                self.path.remote_natt = datagram.remote.port();
                self.path.remote.set_ip(datagram.remote.ip());
            }
        }
    }
}

/// A further message of an initiator.
#[derive(Clone, Copy)]
pub(crate) struct Message<'a> {
    pub(crate) header: &'a Header,
    pub(crate) body: &'a [u8],
    pub(crate) digest: Digest,
    pub(crate) datagram: Datagram<'a>,
}

/// The keys of a phase 1 that has come to its end, and our last message.
pub(crate) type Proved = (Keyed, Option<Repeat>);

/// Why a message does not take phase 1 further.
#[allow(clippy::large_enum_variant)] // Short-lived.
pub(crate) enum Rejected {
    /// It is not the one that was waited for.
    Drop(Step),
    /// It is, and nothing will come of it; what the peer is told.
    Fail(Failure, Option<NotifyType>),
}

impl From<CryptoError> for Rejected {
    fn from(error: CryptoError) -> Self {
        Self::Fail(error.into(), None)
    }
}

/// Whether somebody who may come from there has a connection.
fn is_connected(host: &mut dyn Host, from: SocketAddr, exchange: Exchange) -> bool {
    let opening = if exchange == Exchange::AGGRESSIVE { Opening::Aggressive } else { Opening::Main };
    let all = host.peers_from(from, opening).unwrap_or_default();
    all.iter().take(MAX_CANDIDATES).any(|config| host.connected(config).is_some())
}

/// Whether the peer says that it has nothing else with us.
pub(crate) fn says_initial_contact(payloads: Payloads<'_>) -> bool {
    payloads.notifies().any(|notify| notify.kind == NotifyType::INITIAL_CONTACT)
}

/// Whether the peer may have a connection from there, where it has one already.
pub(crate) fn admit(host: &dyn Host, config: &PeerConfig, from: SocketAddr) -> Result<(), Rejected> {
    match host.connected(config).filter(|up| !config.uniqueness.admits(*up, from)) {
        None => Ok(()),
        Some(up) => {
            let (id, name) = (config.remote_id.clone(), config.name.clone());
            let failure = Failure::Duplicate { id, name, ends: Box::new((up, from)) };
            Err(Rejected::Fail(failure, Some(NotifyType::AUTHENTICATION_FAILED)))
        }
    }
}

/// An answer to phase 1 that keeps no state: one Notify in clear (RFC 2408 section 5).
pub(crate) fn refuse(header: &Header, kind: NotifyType) -> Vec<u8> {
    let notify = Notify { protocol: ProtocolId::IKE, spi: Vec::new(), kind, data: Vec::new() };
    let header = self::header(header.spi_i, header.spi_r, Exchange::INFORMATIONAL);
    wire::encode(header, &[Payload::Notify(notify)])
}
