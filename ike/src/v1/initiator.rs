//! Phase 1 from the initiator's side: how either mode begins and ends, and main mode (RFC 2409 section 5.4), with NAT traversal (RFC 3947
//! section 4).

use std::sync::Arc;
use std::time::Instant;

use super::accept;
use super::announced::{Announced, announcement};
use super::exchange::{Digest, Repeat};
use super::handshake::{
    AggressiveSent, Chosen, Handshake, KeySent, Keyed, NONCE_LEN, Packets, Step, Unproved, header, is,
};
use super::ike_sa::IkeSa;
use super::initiate_aggressive::only_group;
use super::keys::Suite;
use super::offer::{self, Method};
use super::responder::says_initial_contact;
use super::wire::{
    self, Exchange, HEADER_LEN, Header, Id, NotifyType, Payload, Payloads, parse_chain, rules,
};
use super::{Connection, Phase, lifetime, nat};
use crate::config::{PeerConfig, Phase1};
use crate::crypto::CryptoError;
use crate::crypto::auth::equal;
use crate::crypto::dh::KeyPair;
use crate::event::{Datagram, Event};
use crate::failure::Failure;
use crate::host::{Host, random_array};
use crate::proposal::negotiate;
use crate::reception::cost_of_exchange;
use crate::refusal::Refusal;
use crate::verbs::Path;
use crate::wire::numbers::ExchangeType;

impl Connection {
    /// Starts a connection with a peer.
    ///
    /// # Errors
    /// When the configuration has no IKE proposal or its group cannot be computed.
    pub(crate) fn initiate(
        now: Instant,
        host: &mut dyn Host,
        config: Arc<PeerConfig>,
        path: Path,
    ) -> Result<Self, Failure> {
        let mut this = Self::new(path, true, now);
        this.forced = config.force_encapsulation;
        this.config = Some(config);
        this.start_phase1(now, host)?;
        Ok(this)
    }

    /// Starts phase 1, be it the first or one that renews another.
    pub(crate) fn start_phase1(&mut self, now: Instant, host: &mut dyn Host) -> Result<(), Failure> {
        let config = self.config.clone().ok_or(CryptoError::Unsupported)?;
        let group = *negotiate::groups(&config.ike_proposals).first().ok_or(CryptoError::Unsupported)?;
        let settings = config.version.v1();
        let sa = offer::phase1(&config.ike_proposals, settings.life, Method::PreSharedKey);
        if sa.proposals.iter().all(|proposal| proposal.transforms.is_empty()) {
            return Err(CryptoError::Unsupported.into());
        }
        let (payloads, step) = match settings.mode {
            Phase1::Main => {
                let payloads = vec![Payload::Sa(sa.clone())];
                (payloads, Step::MainOffered(sa))
            }
            Phase1::Aggressive => {
                // The key goes with the offer, so there is one group (RFC 2409 section 5).
                let sa = only_group(&sa, group);
                let dh = KeyPair::generate(group, host)?;
                let nonce = random_array::<NONCE_LEN>(host).to_vec();
                let payloads = vec![
                    Payload::Sa(sa.clone()),
                    Payload::Ke(dh.public().to_vec()),
                    Payload::Nonce(nonce.clone()),
                    Payload::Id(Id::of_identity(&config.local_id)),
                ];
                (payloads, Step::AggressiveSent(Box::new(AggressiveSent { sa, dh, nonce })))
            }
        };
        let spi = host.allocate_ike_spi();
        self.events.push_back(Event::IkeSpiAdded(spi));
        let exchange = match settings.mode {
            Phase1::Main => Exchange::MAIN,
            Phase1::Aggressive => Exchange::AGGRESSIVE,
        };
        let payloads: Vec<Payload> = payloads.into_iter().chain(announcement()).collect();
        let message = wire::encode(header(spi, 0, exchange), &payloads);
        self.handshake = Some(Box::new(Handshake {
            began: now,
            spi_local: spi,
            spi_remote: 0,
            initiator: true,
            mode: settings.mode,
            step,
            repeat: Repeat::asking(now, message.clone(), None, self.phase1_policy()),
            peer: Announced::default(),
            deadline: None,
            octets: (0, 0),
            objected: false,
            refused: None,
            address_proved: false,
            packets: Packets::Unasked,
        }));
        self.ask(&message, false);
        Ok(())
    }

    /// An answer to a message of ours in phase 1.
    pub(crate) fn phase1_answered(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        header: &Header,
        datagram: Datagram<'_>,
    ) {
        let Some(mut handshake) = self.handshake.take() else { return };
        let digest = Digest::of(datagram.bytes);
        if handshake.repeat.is_answer_to(digest) {
            // The peer has not got what we answered it.
            let (message, fragments) = (handshake.repeat.message.clone(), handshake.peer.fragments);
            self.handshake = Some(handshake);
            self.counters.answered_again += 1;
            return self.ask(&message, fragments);
        }
        let body = datagram.bytes.get(HEADER_LEN..).unwrap_or_default();
        let step = std::mem::replace(&mut handshake.step, Step::Taken);
        let outcome = match step {
            Step::MainProofSent(keyed) => self.sixth(now, host, &mut handshake, *keyed, (header, body)),
            step if header.encrypted => Err(Rejected::Drop(step)),
            step => match parse_chain(header.next, body, false) {
                Ok(chain) => {
                    let payloads = Payloads(&chain.payloads);
                    let message = Answer { payloads, digest, datagram, spi: header.spi_r };
                    self.in_clear(now, host, &mut handshake, step, message)
                }
                Err(_) => Err(Rejected::Drop(step)),
            },
        };
        match outcome {
            Ok(None) => {
                handshake.refused = None;
                self.handshake = Some(handshake);
            }
            Ok(Some((keyed, contact))) => {
                // Aggressive mode ends with a message of ours, which may get lost.
                let last = (handshake.mode == Phase1::Aggressive).then(|| handshake.repeat.clone());
                let spi = handshake.spi_local;
                self.proved(now, host, *handshake, keyed, last);
                if contact {
                    self.contacted(now, spi);
                }
            }
            Err(Rejected::Drop(step)) => {
                handshake.step = step;
                self.handshake = Some(handshake);
                self.counters.dropped += 1;
            }
            Err(Rejected::Fail(failure)) => {
                self.handshake = Some(handshake);
                self.phase1_failed(now, host, failure);
            }
        }
    }

    fn in_clear(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        handshake: &mut Handshake,
        step: Step,
        message: Answer<'_>,
    ) -> Result<Option<(Keyed, bool)>, Rejected> {
        match step {
            Step::MainOffered(sa) => self.second(now, host, handshake, sa, message).map(|()| None),
            Step::MainKeySent(sent) => self.fourth(now, host, handshake, *sent, message).map(|()| None),
            Step::AggressiveSent(sent) => {
                self.aggressive_answered(host, handshake, *sent, message).map(|keyed| Some((keyed, false)))
            }
            step => Err(Rejected::Drop(step)),
        }
    }

    /// Main mode, second message: what was chosen. The third has our key.
    fn second(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        handshake: &mut Handshake,
        sa: wire::Sa,
        message: Answer<'_>,
    ) -> Result<(), Rejected> {
        let answer = match (rules::check(Exchange::MAIN, 2, message.payloads.0), message.payloads.sa()) {
            (Ok(()), Some(answer)) if message.spi != 0 => answer,
            _ => return Err(Rejected::Drop(Step::MainOffered(sa))),
        };
        let (choice, life) = accept::phase1(self.proposals(), answer)?;
        let suite = Suite::new(&choice)?;
        handshake.spi_remote = message.spi;
        handshake.peer.note(message.payloads);
        self.path.local.set_ip(message.datagram.local.ip());
        let dh = KeyPair::generate(choice.group, host)?;
        let nonce = random_array::<NONCE_LEN>(host).to_vec();
        let mut out = vec![Payload::Ke(dh.public().to_vec()), Payload::Nonce(nonce.clone())];
        if let Some(natt) = handshake.peer.natt {
            let ends = self.addresses();
            out.extend(nat::payloads(suite, handshake.spis(), ends, natt, self.forced, host));
        }
        let chosen = Chosen { offer: sa.body, choice, life };
        handshake.step = Step::MainKeySent(Box::new(KeySent { chosen, dh, nonce }));
        let out = handshake.plain(&out);
        self.go_on(now, handshake, out, message.digest);
        Ok(())
    }

    /// Main mode, fourth message: the peer's key. The fifth says who we are.
    fn fourth(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        handshake: &mut Handshake,
        sent: KeySent,
        message: Answer<'_>,
    ) -> Result<(), Rejected> {
        let fits = rules::check(Exchange::MAIN, 4, message.payloads.0).is_ok();
        let (Some(public), Some(nonce), true) = (message.payloads.ke(), message.payloads.nonce(), fits)
        else {
            return Err(Rejected::Drop(Step::MainKeySent(Box::new(sent))));
        };
        let KeySent { chosen, dh, nonce: ours } = sent;
        let suite = Suite::new(&chosen.choice)?;
        let shared = dh.agree(public)?;
        handshake.peer.note(message.payloads);
        let ends = (message.datagram.local, message.datagram.remote);
        self.note_nat(handshake, suite, message.payloads, ends);
        let of = Unproved {
            chosen,
            suite,
            shared,
            nonces: (ours, nonce.to_vec()),
            publics: (dh.public().to_vec(), public.to_vec()),
            spis: handshake.spis(),
        };
        let config = self.config.clone().ok_or(CryptoError::Library)?;
        let mut keyed = of.keyed(config.auth.psk().ok_or(CryptoError::Unsupported)?)?;
        let id = Id::of_identity(&config.local_id);
        let hash = keyed.of.proof(&keyed.skeyid, true, &id)?;
        let mut out = vec![Payload::Id(id), Payload::Hash(hash.to_vec())];
        out.extend(self.initial_contact(host, handshake.spis()));
        let out = handshake.seal(&mut keyed, &out)?;
        handshake.step = Step::MainProofSent(Box::new(keyed));
        self.go_on(now, handshake, out, message.digest);
        Ok(())
    }

    /// Main mode, sixth message: who the peer is, and whether it has nothing else with us.
    fn sixth(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        handshake: &mut Handshake,
        mut keyed: Keyed,
        (header, body): (&Header, &[u8]),
    ) -> Result<Option<(Keyed, bool)>, Rejected> {
        let opened = super::keys::decrypt(keyed.of.suite, &keyed.skeyid.key, &keyed.iv, body);
        let opened = opened.ok().filter(|_| header.encrypted).and_then(|(plain, iv)| {
            let chain = parse_chain(header.next, &plain, true).ok()?;
            rules::check(Exchange::MAIN, 6, &chain.payloads).ok()?;
            Some((chain, iv))
        });
        let Some((chain, iv)) = opened else {
            // Perhaps somebody else's; the peer repeats its own.
            return Err(Rejected::Drop(Step::MainProofSent(Box::new(keyed))));
        };
        let payloads = Payloads(&chain.payloads);
        let Some(id) = payloads.ids().next() else {
            return Err(Rejected::Drop(Step::MainProofSent(Box::new(keyed))));
        };
        let verdict = self.check_responder(&keyed, id, payloads.hash().unwrap_or_default());
        handshake.peer.note_late(payloads);
        keyed.of.chosen.life = keyed.of.chosen.life.least(lifetime::of_phase1_responder(payloads));
        keyed.iv = iv;
        match verdict {
            Ok(()) => Ok(Some((keyed, says_initial_contact(payloads)))),
            Err(Rejected::Fail(failure @ Failure::WrongIdentity { .. })) => {
                self.renounce(now, host, handshake, keyed);
                Err(Rejected::Fail(failure))
            }
            Err(other) => Err(other),
        }
    }

    /// To the responder phase 1 is done, but it is not who it has to be: it is told, or it would go on with nobody.
    fn renounce(&mut self, now: Instant, host: &mut dyn Host, handshake: &Handshake, keyed: Keyed) {
        let sa = IkeSa::new(now, handshake, keyed, None);
        let (spi, delete) = (sa.spi_local, sa.delete());
        self.sas.push(Box::new(sa));
        self.inform(host, spi, vec![delete]);
        self.sas.retain(|sa| sa.spi_local != spi);
    }

    /// Sends the next message, which is repeated until it is answered.
    fn go_on(&mut self, now: Instant, handshake: &mut Handshake, message: Vec<u8>, answers: Digest) {
        let policy = self.config.as_ref().map_or(crate::config::Retransmit::DEFAULT, |c| c.retransmit);
        handshake.repeat = Repeat::asking(now, message.clone(), Some(answers), policy);
        self.ask(&message, handshake.peer.fragments);
    }

    /// What the peer's message says of NATs; from here on the port of NAT traversal is used if there is one (RFC 3947 section
    /// 4).
    pub(super) fn note_nat(
        &mut self,
        handshake: &Handshake,
        suite: Suite,
        payloads: Payloads<'_>,
        ends: (std::net::SocketAddr, std::net::SocketAddr),
    ) {
        self.natt = handshake.peer.natt;
        if let Some(found) = nat::detect(suite, handshake.spis(), payloads, ends) {
            self.nat = found;
        }
        if self.encapsulates() {
            self.floated = true;
        }
    }

    /// Whether the responder is who it has to be (RFC 2409 section 5, HASH_R).
    pub(super) fn check_responder(&self, keyed: &Keyed, id: &Id, hash: &[u8]) -> Result<(), Rejected> {
        let config = self.config.as_ref().ok_or(CryptoError::Library)?;
        let expected = keyed.of.proof(&keyed.skeyid, false, id)?;
        if !equal(&expected, hash) {
            return Err(Rejected::Fail(Failure::Authentication { id: config.remote_id.clone() }));
        }
        if !is(id, &config.remote_id) {
            let got = id.told();
            return Err(Rejected::Fail(Failure::WrongIdentity { got, expected: config.remote_id.clone() }));
        }
        Ok(())
    }

    /// Phase 1 of ours failed. If it was to renew another, what there is stays.
    pub(crate) fn phase1_failed(&mut self, now: Instant, host: &mut dyn Host, failure: Failure) {
        let heard = self.handshake.as_ref().is_some_and(|handshake| handshake.packets == Packets::Heard);
        self.drop_handshake();
        if self.phase == Phase::Handshake {
            return self.failed(failure);
        }
        self.renewal_failed(now, host, failure, heard);
    }

    /// A notify in clear about phase 1 of ours. It proves nothing, but who knows our SPI has seen our message, and there is no
    /// other word for a refusal.
    pub(crate) fn phase1_refused(&mut self, now: Instant, kind: NotifyType) {
        let failure = match kind {
            NotifyType::NO_PROPOSAL_CHOSEN
            | NotifyType::BAD_PROPOSAL_SYNTAX
            | NotifyType::ATTRIBUTES_NOT_SUPPORTED => Failure::Phase1Refused {
                exchange: self.phase1_exchange(),
                offered: negotiate::describe_configured(self.proposals()),
            },
            kind => Failure::NotifyV1 { exchange: self.phase1_exchange(), notify: kind.to_string() },
        };
        if let Some(handshake) = &mut self.handshake {
            handshake.refused.get_or_insert_with(|| Refusal::new(now, failure));
        }
    }

    /// The exchange that is under way, for diagnostics.
    pub(crate) fn phase1_exchange(&self) -> ExchangeType {
        let exchange = self.handshake.as_ref().map_or(Exchange::MAIN, |handshake| handshake.exchange());
        ExchangeType(exchange.0)
    }

    /// What an exchange costs that is about to be computed for somebody else.
    pub(crate) fn spend(&mut self, group: u16) {
        self.spent = self.spent.saturating_add(cost_of_exchange(group));
    }
}

/// An answer in clear.
#[derive(Clone, Copy)]
pub(super) struct Answer<'a> {
    pub(super) payloads: Payloads<'a>,
    pub(super) digest: Digest,
    pub(super) datagram: Datagram<'a>,
    /// The responder's SPI.
    pub(super) spi: u64,
}

/// Why a message does not take phase 1 further.
#[allow(clippy::large_enum_variant)] // Short-lived.
pub(super) enum Rejected {
    /// It is not the one that was waited for.
    Drop(Step),
    /// It is, and nothing will come of it.
    Fail(Failure),
}

impl From<Failure> for Rejected {
    fn from(failure: Failure) -> Self {
        Self::Fail(failure)
    }
}

impl From<CryptoError> for Rejected {
    fn from(error: CryptoError) -> Self {
        Self::Fail(error.into())
    }
}
