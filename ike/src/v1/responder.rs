//! Phase 1 from the responder's side: main mode and aggressive mode (RFC 2409 section 5), with NAT traversal (RFC 3947).
//!
//! Nothing is computed for whoever has not proved its address in main mode: its third message has to bring back the SPI that
//! our answer told it. That takes the place of IKEv2's cookies. Aggressive mode has no such round trip; its cost is on the
//! account of whoever the first message says it is from, and nobody may use it who is not configured to.

use std::sync::Arc;
use std::time::Instant;

use super::exchange::{Digest, Repeat};
use super::handshake::{
    Announced, Chosen, Expected, Handshake, Keyed, NONCE_LEN, Step, Unproved, header, is,
};
use super::keys::{self, Skeyid, Suite};
use super::offer;
use super::wire::{
    self, Chain, Exchange, HEADER_LEN, Header, Id, Notify, NotifyType, Payload, PayloadType, Payloads,
    parse_chain, rules,
};
use super::{Connection, nat};
use crate::config::{Opening, PeerConfig, Phase1};
use crate::crypto::auth::equal;
use crate::crypto::dh::{self, KeyPair};
use crate::crypto::{CryptoError, prf::Secret};
use crate::event::{Datagram, Event};
use crate::failure::Failure;
use crate::host::{Host, NoPeer, random_array};
use crate::identity::Identity;
use crate::proposal::{Candidates, negotiate};
use crate::reception::MAX_FIRST_MESSAGE;
use crate::verbs::{HALF_OPEN_TIMEOUT, InitReply, MAX_CANDIDATES, Path};
use crate::wire::WireError;
use crate::wire::numbers::{ExchangeType, ProtocolId};
use crate::wire::sa::Proposal;

/// Octets of a half-open connection beside its messages.
const HALF_OPEN_OCTETS: usize = 1_024;

/// A first message that was decoded, and what was chosen of it.
struct First<'a> {
    header: Header,
    chain: &'a Chain,
    chosen: Chosen,
    suite: Suite,
    answer: wire::Sa,
    peer: Announced,
}

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
        let (header, chain) = match decode(datagram.bytes) {
            Ok(decoded) => decoded,
            Err(failure) => return InitReply::Dropped(failure),
        };
        let first = match choose(header, &chain, candidates) {
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

    /// Main mode, first message. No exponentiation yet.
    fn answer_main(&mut self, now: Instant, host: &mut dyn Host, first: First<'_>, datagram: Datagram<'_>) {
        let spi = host.allocate_ike_spi();
        let out: Vec<Payload> = [Payload::Sa(first.answer)].into_iter().chain(first.peer.echo()).collect();
        let message = wire::encode(header(first.header.spi_i, spi, Exchange::MAIN), &out);
        let step = Step::MainAnswered(Box::new(first.chosen));
        self.half_open(now, (first.header.spi_i, spi), Phase1::Main, step, first.peer, (message, datagram));
    }

    /// The state of a negotiation whose first message is answered.
    fn half_open(
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
            address_proved: false,
        }));
    }

    /// Aggressive mode, first message. Whoever is called by an identity that nobody has is answered as everybody else is, in
    /// the same time: our answer must not tell who is configured.
    fn answer_aggressive(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        first: First<'_>,
        datagram: Datagram<'_>,
    ) -> Result<(), Failure> {
        let malformed = |error| Failure::Malformed { exchange: ExchangeType(Exchange::AGGRESSIVE.0), error };
        let missing = |kind: PayloadType| malformed(WireError::Payload(kind.told(), "is missing"));
        let payloads = Payloads(&first.chain.payloads);
        let public = payloads.ke().ok_or_else(|| missing(PayloadType::KE))?;
        let nonce = payloads.nonce().ok_or_else(|| missing(PayloadType::NONCE))?;
        let id = payloads.ids().next().ok_or_else(|| missing(PayloadType::ID))?;
        let group = first.chosen.choice.group;
        dh::check_public(group, public)?;
        let (config, decoy) = find_by_identity(host, id, datagram)?;
        self.spend(group);
        let ours = KeyPair::generate(group, host)?;
        let shared = ours.agree(public)?;
        let spi = host.allocate_ike_spi();
        let nr = random_array::<NONCE_LEN>(host).to_vec();
        let of = Unproved {
            chosen: first.chosen,
            suite: first.suite,
            shared,
            nonces: (nonce.to_vec(), nr.clone()),
            publics: (public.to_vec(), ours.public().to_vec()),
            spis: (first.header.spi_i, spi),
        };
        // Drawn in either case.
        let guess = random_array::<32>(host);
        let psk: &[u8] = config.as_ref().map_or(&guess, |config| config.psk.octets());
        let keyed = of.keyed(psk)?;
        let local = Id::of_identity(&config.as_ref().unwrap_or(&decoy).local_id);
        let hash = keyed.of.proof(&keyed.skeyid, false, &local)?;
        let mut out = vec![
            Payload::Sa(first.answer),
            Payload::Ke(ours.public().to_vec()),
            Payload::Nonce(nr),
            Payload::Id(local),
            Payload::Hash(hash.to_vec()),
        ];
        let spis = (first.header.spi_i, spi);
        if let Some(natt) = first.peer.natt {
            let ends = (datagram.local, datagram.remote);
            out.extend(nat::payloads(first.suite, spis, ends, natt, self.forced, host));
        }
        out.extend(first.peer.echo());
        let message = wire::encode(header(spis.0, spi, Exchange::AGGRESSIVE), &out);
        let step = Step::AggressiveAnswered(Box::new(Expected { keyed, config, id: id.clone() }));
        self.half_open(now, spis, Phase1::Aggressive, step, first.peer, (message, datagram));
        Ok(())
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

    /// Main mode, third message: the initiator's key. It has got our first answer, so its address is its own.
    fn third(
        &mut self,
        host: &mut dyn Host,
        handshake: &mut Handshake,
        chosen: Chosen,
        message: Message<'_>,
    ) -> Result<Option<Proved>, Rejected> {
        let back = |chosen| Rejected::Drop(Step::MainAnswered(Box::new(chosen)));
        let Some(chain) = message.plain(3) else { return Err(back(chosen)) };
        let payloads = Payloads(&chain.payloads);
        let (Some(public), Some(nonce)) = (payloads.ke(), payloads.nonce()) else { return Err(back(chosen)) };
        let group = chosen.choice.group;
        let told =
            |error: CryptoError| Rejected::Fail(error.into(), Some(NotifyType::INVALID_KEY_INFORMATION));
        dh::check_public(group, public).map_err(told)?;
        self.spend(group);
        let ours = KeyPair::generate(group, host)?;
        let shared = ours.agree(public).map_err(told)?;
        let suite = Suite::new(&chosen.choice)?;
        handshake.peer.note(payloads);
        self.natt = handshake.peer.natt;
        let ends = (message.datagram.local, message.datagram.remote);
        let nr = random_array::<NONCE_LEN>(host).to_vec();
        let mut out = vec![Payload::Ke(ours.public().to_vec()), Payload::Nonce(nr.clone())];
        match nat::detect(suite, handshake.spis(), payloads, ends) {
            Some(found) => {
                self.nat = found;
                if let Some(natt) = handshake.peer.natt {
                    out.extend(nat::payloads(suite, handshake.spis(), ends, natt, self.forced, host));
                }
            }
            // It does no NAT traversal with us, whatever it has announced.
            None => (handshake.peer.natt, self.natt) = (None, None),
        }
        let of = Unproved {
            chosen,
            suite,
            shared,
            nonces: (nonce.to_vec(), nr),
            publics: (public.to_vec(), ours.public().to_vec()),
            spis: handshake.spis(),
        };
        handshake.step = Step::MainKeyAnswered(Box::new(of));
        let out = handshake.plain(&out);
        self.answer(&out, handshake.peer.fragments);
        handshake.octets.1 = handshake.octets.1.saturating_add(out.len());
        handshake.repeat = Repeat::answering(out, message.digest);
        Ok(None)
    }

    /// Main mode, fifth message: who the initiator is. Only its key opens it, and only its address says whose that may be; so
    /// the keys of all who may come from there are tried.
    fn fifth(
        &mut self,
        host: &mut dyn Host,
        handshake: &mut Handshake,
        of: Unproved,
        message: Message<'_>,
    ) -> Result<Option<Proved>, Rejected> {
        let from = message.datagram.remote;
        let back = |of| Rejected::Drop(Step::MainKeyAnswered(Box::new(of)));
        if !message.header.encrypted || !message.body.len().is_multiple_of(of.suite.block()) {
            return Err(back(of));
        }
        let candidates = match host.peers_from(from, Opening::Main) {
            Ok(candidates) => candidates,
            Err(NoPeer::NotYet) => return Err(back(of)),
            Err(NoPeer::Unknown) => return Err(Rejected::Fail(Failure::UnknownAddress { from }, None)),
        };
        // Every key is tried, also after one that fits, so that the time tells nothing.
        let mut read: Vec<(Arc<PeerConfig>, Skeyid, Read)> = Vec::new();
        for config in candidates.iter().take(MAX_CANDIDATES) {
            let skeyid = of.skeyid(config.psk.octets())?;
            if let Some(opened) = message.read(&of, &skeyid)? {
                read.push((config.clone(), skeyid, opened));
            }
        }
        if read.is_empty() {
            let count = candidates.len().min(MAX_CANDIDATES);
            let failure = Failure::Undecryptable { from, count };
            return Err(Rejected::Fail(failure, Some(NotifyType::INVALID_HASH_INFORMATION)));
        }
        let named = read.iter().position(|(config, _, opened)| is(&opened.id, &config.remote_id));
        let (config, skeyid, opened) = match named {
            Some(at) => read.swap_remove(at),
            None => {
                let got = read.first().map(|(_, _, opened)| opened.id.told());
                let remote_id = got.unwrap_or_else(|| Identity::address(from.ip()));
                let failure = Failure::UnknownPeer { remote_id, local_id: None, from };
                return Err(Rejected::Fail(failure, Some(NotifyType::INVALID_ID_INFORMATION)));
            }
        };
        admit(host, &config, from)?;
        self.note_float(message.datagram);
        let iv = opened.iv;
        let mut keyed = Keyed { of, skeyid, iv };
        let id = Id::of_identity(&config.local_id);
        let hash = keyed.of.proof(&keyed.skeyid, false, &id)?;
        self.initial_contact = opened.initial_contact && self.met;
        self.config = Some(config);
        let mut out = vec![Payload::Id(id), Payload::Hash(hash.to_vec())];
        out.extend(self.initial_contact(host, handshake.spis()));
        let out = handshake.seal(&mut keyed, &out)?;
        self.answer(&out, handshake.peer.fragments);
        Ok(Some((keyed, Some(Repeat::answering(out, message.digest)))))
    }

    /// Aggressive mode, third message: the initiator proves who it is.
    fn last(
        &mut self,
        host: &mut dyn Host,
        handshake: &mut Handshake,
        expected: Expected,
        message: Message<'_>,
    ) -> Result<Option<Proved>, Rejected> {
        let from = message.datagram.remote;
        let Expected { mut keyed, config, id } = expected;
        let back = |keyed, config, id| {
            Rejected::Drop(Step::AggressiveAnswered(Box::new(Expected { keyed, config, id })))
        };
        let opened = if message.header.encrypted {
            let opened = keys::decrypt(keyed.of.suite, &keyed.skeyid.key, &keyed.iv, message.body);
            opened.ok().and_then(|(plain, iv)| {
                Some((parse_chain(message.header.next, &plain, true).ok()?, Some(iv)))
            })
        } else {
            parse_chain(message.header.next, message.body, false).ok().map(|chain| (chain, None))
        };
        let wrong = |config: Option<&Arc<PeerConfig>>, id: &Id| {
            let failure = match config {
                Some(config) => Failure::Authentication { id: config.remote_id.clone() },
                None => Failure::UnknownPeer { remote_id: id.told(), local_id: None, from },
            };
            Rejected::Fail(failure, Some(NotifyType::INVALID_HASH_INFORMATION))
        };
        // What cannot be read was encrypted with another key, if it is of the length of one.
        let Some((chain, iv)) = opened else {
            let whole = message.header.encrypted && message.body.len().is_multiple_of(keyed.of.suite.block());
            return Err(if whole { wrong(config.as_ref(), &id) } else { back(keyed, config, id) });
        };
        if rules::check(Exchange::AGGRESSIVE, 3, &chain.payloads).is_err() {
            return Err(if message.header.encrypted {
                wrong(config.as_ref(), &id)
            } else {
                back(keyed, config, id)
            });
        }
        let payloads = Payloads(&chain.payloads);
        let proof = keyed.of.proof(&keyed.skeyid, true, &id)?;
        let proved = payloads.hash().is_some_and(|hash| equal(hash, &proof));
        let Some(config) = config.clone().filter(|_| proved) else {
            return Err(wrong(config.as_ref(), &id));
        };
        admit(host, &config, from)?;
        handshake.peer.note(payloads);
        self.natt = handshake.peer.natt;
        let ends = (message.datagram.local, message.datagram.remote);
        if let Some(found) = nat::detect(keyed.of.suite, handshake.spis(), payloads, ends) {
            self.nat = found;
        }
        self.note_float(message.datagram);
        self.initial_contact = says_initial_contact(payloads) && self.met;
        self.config = Some(config);
        if let Some(iv) = iv {
            keyed.iv = iv;
        }
        Ok(Some((keyed, None)))
    }

    /// The initiator uses the port of NAT traversal if it has found a NAT.
    fn note_float(&mut self, datagram: Datagram<'_>) {
        if datagram.natt {
            self.floated = true;
            if self.path.remote.ip() == datagram.remote.ip() || self.may_move() {
                self.path.remote_natt = datagram.remote.port();
                self.path.remote.set_ip(datagram.remote.ip());
            }
        }
    }
}

/// A further message of an initiator.
#[derive(Clone, Copy)]
struct Message<'a> {
    header: &'a Header,
    body: &'a [u8],
    digest: Digest,
    datagram: Datagram<'a>,
}

/// What the fifth message of main mode says, opened by one of the keys.
struct Read {
    id: Id,
    initial_contact: bool,
    iv: Vec<u8>,
}

/// The keys of a phase 1 that has come to its end, and our last message.
type Proved = (Keyed, Option<Repeat>);

/// Why a message does not take phase 1 further.
#[allow(clippy::large_enum_variant)] // Short-lived.
enum Rejected {
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

impl Message<'_> {
    /// A message in clear that has what the one of this number in main mode has to have.
    fn plain(&self, number: u8) -> Option<Chain> {
        let chain =
            parse_chain(self.header.next, self.body, false).ok().filter(|_| !self.header.encrypted)?;
        rules::check(Exchange::MAIN, number, &chain.payloads).ok()?;
        Some(chain)
    }

    /// The fifth message of main mode by one key, if it was made with that.
    fn read(&self, of: &Unproved, skeyid: &Skeyid) -> Result<Option<Read>, CryptoError> {
        let iv = of.suite.first_iv(&of.publics.0, &of.publics.1);
        let (plain, iv): (Secret, Vec<u8>) = keys::decrypt(of.suite, &skeyid.key, &iv, self.body)?;
        let chain = parse_chain(self.header.next, &plain, true).ok();
        let chain = chain.filter(|chain| rules::check(Exchange::MAIN, 5, &chain.payloads).is_ok());
        let Some(chain) = chain else { return Ok(None) };
        let payloads = Payloads(&chain.payloads);
        let (Some(id), Some(hash)) = (payloads.ids().next(), payloads.hash()) else { return Ok(None) };
        let proved = equal(&of.proof(skeyid, true, id)?, hash);
        let initial_contact = says_initial_contact(payloads);
        Ok(proved.then(|| Read { id: id.clone(), initial_contact, iv }))
    }
}

/// Whether somebody who may come from there has a connection.
fn is_connected(host: &mut dyn Host, from: std::net::SocketAddr, exchange: Exchange) -> bool {
    let opening = if exchange == Exchange::AGGRESSIVE { Opening::Aggressive } else { Opening::Main };
    let all = host.peers_from(from, opening).unwrap_or_default();
    all.iter().take(MAX_CANDIDATES).any(|config| host.connected(config).is_some())
}

pub(crate) fn says_initial_contact(payloads: Payloads<'_>) -> bool {
    payloads.notifies().any(|notify| notify.kind == NotifyType::INITIAL_CONTACT)
}

/// Whether the peer may have a connection from there, where it has one already.
fn admit(host: &dyn Host, config: &PeerConfig, from: std::net::SocketAddr) -> Result<(), Rejected> {
    match host.connected(config).filter(|up| !config.uniqueness.admits(*up, from)) {
        None => Ok(()),
        Some(up) => {
            let (id, name) = (config.remote_id.clone(), config.name.clone());
            let failure = Failure::Duplicate { id, name, ends: Box::new((up, from)) };
            Err(Rejected::Fail(failure, Some(NotifyType::AUTHENTICATION_FAILED)))
        }
    }
}

/// Whose identity it is, if anybody's; and whose name an answer bears that must not tell that it is nobody's.
fn find_by_identity(
    host: &mut dyn Host,
    id: &Id,
    datagram: Datagram<'_>,
) -> Result<(Option<Arc<PeerConfig>>, Arc<PeerConfig>), Failure> {
    let from = datagram.remote;
    let unknown = || Failure::UnknownPeer { remote_id: id.told(), local_id: None, from };
    // Both look-ups in any case, for the time that they take.
    let all = host.peers_from(from, Opening::Aggressive);
    let identity = id.identity();
    let found = identity.map(|id| host.find_peers(&id, None, from, Opening::Aggressive));
    let all = match all {
        Ok(all) => all,
        Err(_) => return Err(unknown()),
    };
    // The same for the same identity, so that who asks twice learns nothing by it.
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(id.body());
    let pick = digest.first_chunk().copied().map_or(0, u64::from_be_bytes);
    let at = usize::try_from(pick % all.len().max(1) as u64).unwrap_or(0);
    let decoy = all.get(at).cloned().ok_or_else(unknown)?;
    match found {
        Some(Ok(found)) => match found.as_slice() {
            [one] => Ok((Some(one.clone()), decoy)),
            [] => Ok((None, decoy)),
            // The proof of the responder comes first here, and can be made with one key only.
            _ => Err(Failure::Ambiguous { remote_id: id.told(), from, count: found.len() }),
        },
        Some(Err(NoPeer::NotYet)) => Err(Failure::Replaced),
        Some(Err(NoPeer::Unknown)) | None => Ok((None, decoy)),
    }
}

/// Decodes a first message.
fn decode(bytes: &[u8]) -> Result<(Header, Chain), Failure> {
    let malformed = |exchange, error| Failure::Malformed { exchange: ExchangeType(exchange), error };
    if bytes.len() > MAX_FIRST_MESSAGE {
        return Err(malformed(Exchange::MAIN.0, WireError::TooLong(bytes.len())));
    }
    let header = Header::parse(bytes).map_err(|error| malformed(Exchange::MAIN.0, error))?;
    let exchange = header.exchange.0;
    let fits = matches!(header.exchange, Exchange::MAIN | Exchange::AGGRESSIVE)
        && !header.encrypted
        && (header.message_id, header.spi_r) == (0, 0)
        && header.spi_i != 0;
    if !fits {
        return Err(malformed(exchange, WireError::BadField("first message")));
    }
    let body = bytes.get(HEADER_LEN..).unwrap_or_default();
    let chain = parse_chain(header.next, body, false).map_err(|error| malformed(exchange, error))?;
    rules::check(header.exchange, 1, &chain.payloads).map_err(|error| malformed(exchange, error))?;
    Ok((header, chain))
}

/// Chooses from the offer of a first message.
fn choose<'a>(
    header: Header,
    chain: &'a Chain,
    candidates: &Candidates,
) -> Result<First<'a>, (NotifyType, Failure)> {
    let payloads = Payloads(&chain.payloads);
    let exchange = ExchangeType(header.exchange.0);
    let missing = WireError::Payload(PayloadType::SA.told(), "is missing");
    let sa = payloads
        .sa()
        .ok_or((NotifyType::PAYLOAD_MALFORMED, Failure::Malformed { exchange, error: missing }))?;
    let offers = offer::read_phase1(sa);
    let psk = offer::Method::PreSharedKey.value();
    let usable: Vec<Proposal> =
        offers.iter().filter(|o| o.method == psk).map(|o| o.proposal.clone()).collect();
    let refused = || {
        let all: Vec<Proposal> = offers.iter().map(|o| o.proposal.clone()).collect();
        let failure = match offers.first().filter(|_| usable.is_empty()) {
            Some(first) => Failure::MethodV1 { method: offer::Method::told(first.method) },
            None => Failure::NoProposal {
                offered: negotiate::describe(&all),
                configured: negotiate::describe_configured(candidates.proposals()),
            },
        };
        (NotifyType::NO_PROPOSAL_CHOSEN, failure)
    };
    let (accepted, choice) = candidates.choose(&usable).ok_or_else(refused)?;
    let offer = offers.iter().find(|o| o.proposal == accepted).cloned().ok_or_else(refused)?;
    let answer = offer::answer_phase1(sa, offer.number).ok_or_else(refused)?;
    let suite = Suite::new(&choice).map_err(|error| (NotifyType::NO_PROPOSAL_CHOSEN, error.into()))?;
    let mut peer = Announced::default();
    peer.note(payloads);
    let chosen = Chosen { offer: sa.body.clone(), choice, life: offer.life };
    Ok(First { header, chain, chosen, suite, answer, peer })
}

/// An answer to phase 1 that keeps no state: one Notify in clear (RFC 2408 section 5).
pub(crate) fn refuse(header: &Header, kind: NotifyType) -> Vec<u8> {
    let notify = Notify { protocol: ProtocolId::IKE, spi: Vec::new(), kind, data: Vec::new() };
    let header = self::header(header.spi_i, header.spi_r, Exchange::INFORMATIONAL);
    wire::encode(header, &[Payload::Notify(notify)])
}
