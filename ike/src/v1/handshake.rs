//! Phase 1 under way (RFC 2409 section 5): its state from message to message, and what both sides and both modes have in
//! common.

mod snapshot;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::announced::Announced;
use super::exchange::Repeat;
use super::ike_sa::IkeSa;
use super::keys::{self, Skeyid, Suite};
use super::offer::OfferedLife;
use super::tasks::Task;
use super::wire::{self, Exchange, Header, Id, Payload, PayloadType, Sa};
use super::{Connection, MAX_IKE_SAS, Phase, REPLACED_IKE};
use crate::config::{PeerConfig, Phase1};
use crate::crypto::CryptoError;
use crate::crypto::dh::KeyPair;
use crate::crypto::prf::Secret;
use crate::event::Event;
use crate::host::Host;
use crate::identity::Identity;
use crate::proposal::IkeChoice;
use crate::refusal::Refusal;
use crate::verbs::KEEPALIVE;

pub(crate) use snapshot::{AnnouncedForm, HandshakeForm, LifeForm, SkeyidForm, natt, natt_number};

/// Octets of our nonces. RFC 2409 section 5 wants 8 to 256.
pub(crate) const NONCE_LEN: usize = 32;
/// Seconds that an IKE_SA lasts where nothing was said of it (RFC 2407 section 4.5). One that was replaced is left to a peer of
/// another make for as long: some, strongSwan for one, hold their pairs by one IKE_SA, nobody knows by which, and end them with
/// it.
const LIFE: u64 = 28_800;
/// How long an IKE_SA stays that the peer has replaced and owes the delete of.
pub(crate) const OWED_IKE: Duration = Duration::from_secs(90);
/// How often an answer is sent again to who has proved its address, whatever it sends: as often as an initiator with the usual
/// schedule sends again what we cannot read because its message before that was lost.
const REPEATS: usize = 5;

/// Phase 1 under way.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Handshake {
    /// When its first message was sent, or came.
    pub(crate) began: Instant,
    pub(crate) spi_local: u64,
    /// Zero until the responder has said it.
    pub(crate) spi_remote: u64,
    pub(crate) initiator: bool,
    pub(crate) mode: Phase1,
    pub(crate) step: Step,
    /// Our last message.
    pub(crate) repeat: Repeat,
    pub(crate) peer: Announced,
    /// When a responder gives it up.
    pub(crate) deadline: Option<Instant>,
    /// Octets that came from an initiator which has not proved its address, and that it was sent.
    pub(crate) octets: (usize, usize),
    /// To an initiator of aggressive mode: it has objected to our proof by a message that cannot be read.
    pub(crate) objected: bool,
    /// Ours: our last message was refused.
    pub(crate) refused: Option<Refusal>,
    /// Something has come that bears our SPI, from where that was sent.
    pub(crate) address_proved: bool,
    /// Ours: what the host says of ESP since it began.
    pub(crate) packets: Packets,
}

/// Whether ESP has come from the peer since phase 1 began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Packets {
    Unasked,
    /// The host was asked.
    Asked,
    /// It has.
    Heard,
}

/// What phase 1 waits for. Each is consumed by the message that it waits for.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) enum Step {
    /// Initiator, main mode: the second message. We have sent this offer.
    MainOffered(Sa),
    /// The fourth.
    MainKeySent(Box<KeySent>),
    /// The sixth.
    MainProofSent(Box<Keyed>),
    /// Initiator, aggressive mode: the second message.
    AggressiveSent(Box<AggressiveSent>),
    /// Responder, main mode: the third message.
    MainAnswered(Box<Chosen>),
    /// The fifth. Nobody knows whose key it will be.
    MainKeyAnswered(Box<Unproved>),
    /// Responder, aggressive mode: the third message.
    AggressiveAnswered(Box<Expected>),
    /// A message is being looked at.
    Taken,
}

/// What was agreed on.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// SAi_b: what the initiator has offered.
    pub(crate) offer: Vec<u8>,
    pub(crate) choice: IkeChoice,
    pub(crate) life: OfferedLife,
}

/// Initiator of main mode, between its key and the peer's.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct KeySent {
    pub(crate) chosen: Chosen,
    pub(crate) dh: KeyPair,
    pub(crate) nonce: Vec<u8>,
}

/// Initiator of aggressive mode.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct AggressiveSent {
    pub(crate) sa: Sa,
    pub(crate) dh: KeyPair,
    pub(crate) nonce: Vec<u8>,
}

/// What the keys are made of: all but who the peer is.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Unproved {
    pub(crate) chosen: Chosen,
    pub(crate) suite: Suite,
    pub(crate) shared: Secret,
    /// Nonces of the initiator and the responder.
    pub(crate) nonces: (Vec<u8>, Vec<u8>),
    /// Public values of the initiator and the responder.
    pub(crate) publics: (Vec<u8>, Vec<u8>),
    /// SPIs of the initiator and the responder.
    pub(crate) spis: (u64, u64),
}

/// Phase 1 with its keys.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Keyed {
    pub(crate) of: Unproved,
    pub(crate) skeyid: Skeyid,
    /// The last block of ciphertext, or what stands for it before there is one.
    pub(crate) iv: Vec<u8>,
}

/// Responder of aggressive mode, which has said who it is.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Expected {
    pub(crate) keyed: Keyed,
    /// Whose key it was; none if nobody is called so, which the initiator is not to notice.
    pub(crate) config: Option<Arc<PeerConfig>>,
    pub(crate) id: Id,
}

impl Unproved {
    /// The keys with this pre-shared key (RFC 2409 section 5).
    pub(crate) fn keyed(self, psk: &[u8]) -> Result<Keyed, CryptoError> {
        let skeyid = self.skeyid(psk)?;
        let iv = self.suite.first_iv(&self.publics.0, &self.publics.1);
        Ok(Keyed { of: self, skeyid, iv })
    }

    pub(crate) fn skeyid(&self, psk: &[u8]) -> Result<Skeyid, CryptoError> {
        let (ni, nr) = (&self.nonces.0, &self.nonces.1);
        keys::skeyid_psk(self.suite, psk, ni, nr, &self.shared, self.spis.0, self.spis.1)
    }

    /// HASH_I, or HASH_R, over the identity of its sender (RFC 2409 section 5).
    pub(crate) fn proof(&self, skeyid: &Skeyid, initiators: bool, id: &Id) -> Result<Secret, CryptoError> {
        let ((gi, gr), (i, r)) = (&self.publics, self.spis);
        let (first, second, cookies) = if initiators { (gi, gr, (i, r)) } else { (gr, gi, (r, i)) };
        keys::phase1_hash(self.suite, &skeyid.id, first, second, cookies, &self.chosen.offer, &id.body())
    }
}

impl Step {
    /// About how many octets it holds.
    pub(crate) fn octets(&self) -> usize {
        match self {
            Self::MainAnswered(chosen) => chosen.offer.len(),
            Self::MainKeyAnswered(of) => of.octets(),
            Self::AggressiveAnswered(expected) => expected.keyed.of.octets(),
            _ => 0,
        }
    }
}

impl Unproved {
    fn octets(&self) -> usize {
        let ((ni, nr), (gi, gr)) = (&self.nonces, &self.publics);
        self.chosen.offer.len() + ni.len() + nr.len() + gi.len() + gr.len() + self.shared.len()
    }
}

/// Whether two identities are the same to RFC 2407 section 4.6.2.
pub(crate) fn is(id: &Id, identity: &Identity) -> bool {
    id.identity().is_some_and(|id| id == *identity)
}

impl Handshake {
    /// The SPIs of the initiator and the responder.
    pub(crate) const fn spis(&self) -> (u64, u64) {
        if self.initiator { (self.spi_local, self.spi_remote) } else { (self.spi_remote, self.spi_local) }
    }

    /// Whether a header names this negotiation. To an initiator its responder's SPI is new.
    pub(crate) const fn owns(&self, header: &Header) -> bool {
        let (spi_i, spi_r) = self.spis();
        header.spi_i == spi_i && (header.spi_r == spi_r || (self.initiator && spi_r == 0))
    }

    /// Whether a header may be that of the first message, of which we are the responder: it knows no SPI of ours.
    pub(crate) const fn owns_first(&self, header: &Header) -> bool {
        !self.initiator && header.spi_i == self.spi_remote && header.spi_r == 0
    }

    /// Whether this exchange is the one of its mode.
    pub(crate) fn is_of(&self, exchange: Exchange) -> bool {
        exchange == self.exchange()
    }

    pub(crate) const fn exchange(&self) -> Exchange {
        match self.mode {
            Phase1::Main => Exchange::MAIN,
            Phase1::Aggressive => Exchange::AGGRESSIVE,
        }
    }

    /// A header for a message of ours.
    pub(crate) const fn header(&self) -> Header {
        let (spi_i, spi_r) = self.spis();
        header(spi_i, spi_r, self.exchange())
    }

    /// A message in clear.
    pub(crate) fn plain(&self, payloads: &[Payload]) -> Vec<u8> {
        wire::encode(self.header(), payloads)
    }

    /// A message under the keys of phase 1.
    pub(crate) fn seal(&self, keyed: &mut Keyed, payloads: &[Payload]) -> Result<Vec<u8>, CryptoError> {
        super::ike_sa::seal(self.header(), keyed.of.suite, &keyed.skeyid.key, &mut keyed.iv, payloads)
    }
}

/// A header without payloads yet.
pub(crate) const fn header(spi_i: u64, spi_r: u64, exchange: Exchange) -> Header {
    let next = PayloadType(0);
    Header { spi_i, spi_r, next, exchange, encrypted: false, commit: false, message_id: 0, length: 0 }
}

impl Connection {
    /// Both sides are authenticated. `repeat` is our last message if the peer may have missed it.
    pub(crate) fn proved(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        handshake: Handshake,
        keyed: Keyed,
        repeat: Option<Repeat>,
    ) {
        let Some(config) = self.config.clone() else { return };
        let (initiator, local_spi, remote_spi) =
            (handshake.initiator, handshake.spi_local, handshake.spi_remote);
        self.natt = handshake.peer.natt;
        let aggressive = handshake.mode == Phase1::Aggressive;
        let sa = IkeSa::new(now, &handshake, keyed, repeat);
        let choice = sa.choice;
        self.add_sa(now, Box::new(sa));
        self.keep_few_sas(now, host);
        self.reopen_failures = 0;
        self.probe = None;
        self.silence.broken(now);
        self.keepalive = self.nat.local.then_some(now + KEEPALIVE);
        if self.phase == Phase::Handshake {
            self.phase = Phase::Up;
            self.events.push_back(Event::Established {
                peer: config.name.clone(),
                local_spi,
                remote_spi,
                choice,
                initiator,
                initial_contact: self.initial_contact,
                nat: self.nat,
            });
            if initiator {
                self.ask_for_everything(now);
            }
        } else if self.sa(local_spi).is_some_and(|sa| sa.replaced.is_none()) {
            self.counters.ike_rekeys += 1;
            self.events.push_back(Event::IkeRekeyed { local_spi, remote_spi, initiated: initiator });
            if initiator && self.children.is_empty() {
                // The peer has deleted all there was while this was under way.
                self.ask_for_everything(now);
            }
            // Nothing says that the last message of aggressive mode has arrived, and the peer forgets what it waits for.
            if initiator && aggressive && self.current_sa().is_some_and(|sa| sa.peer.dpd) {
                self.queue(Task::Liveness, now);
            }
        }
    }

    /// Ends the oldest IKE_SAs where there are too many. The peer is told.
    pub(crate) fn keep_few_sas(&mut self, now: Instant, host: &mut dyn Host) {
        while self.sas.len() > MAX_IKE_SAS {
            // The one that the peer has not spoken by for the longest: it may still hold its pairs by another.
            let silent = self.sas.iter().filter(|sa| sa.replaced.is_some()).min_by_key(|sa| sa.heard);
            let Some(spi) = silent.or(self.sas.first()).map(|sa| sa.spi_local) else { return };
            self.retire(now, host, spi);
        }
    }

    /// Adds an IKE_SA, which takes the place of what is there. Of two that both sides have made at the same time both keep the
    /// same one, if the peer is one of us. Whoever made the one that goes deletes it.
    pub(crate) fn add_sa(&mut self, now: Instant, mut new: Box<IkeSa>) {
        let stays = |by_us: bool| now + if by_us { REPLACED_IKE } else { OWED_IKE };
        let alone = self.sas.len() == 1;
        for old in &mut self.sas {
            let crossed = old.crossed(&new);
            if new.peer.culvert && old.replaced.is_none() && crossed && old.rank() > new.rank() {
                new.replaced = Some(stays(new.initiator));
                continue;
            }
            let until = match new.peer.culvert {
                true => stays(if crossed { old.initiator } else { new.initiator }),
                // A peer that has taken one of ours for another has its pairs there.
                false if alone && new.initiator && old.initiator => stays(true),
                false => now + Duration::from_secs(old.life.seconds.unwrap_or(LIFE)),
            };
            old.replaced = Some(old.replaced.map_or(until, |before| before.min(until)));
        }
        if new.replaced.is_none() {
            // Whoever wanted a new one has it, and may have waited for it without one to ask by.
            self.forget(&Task::RekeyIke);
        }
        self.sas.push(new);
    }

    /// Whether a message of phase 1 may be answered once more: whoever has not proved its address is never sent more than it
    /// has sent. Who brings back our SPI has got our answer there, and gets it some more times.
    pub(crate) fn may_repeat(&mut self, received: usize, bears_spi: bool) -> bool {
        let Some(handshake) = &mut self.handshake else { return false };
        let (came, went) = &mut handshake.octets;
        *came = came.saturating_add(received);
        let octets = handshake.repeat.message.len();
        if bears_spi && !std::mem::replace(&mut handshake.address_proved, true) {
            *came = came.saturating_add(REPEATS * octets);
        }
        if handshake.initiator || *went + octets <= *came {
            *went += octets;
            return true;
        }
        false
    }

    /// The first message is not sent again.
    pub(crate) fn send_first_once(&mut self) {
        self.once = true;
        if let Some(handshake) = self.handshake.as_mut().filter(|handshake| handshake.spi_remote == 0) {
            handshake.repeat.send_once();
        }
    }

    /// Says that we have nothing else with the peer, if so (RFC 2407 section 4.6.3.3).
    pub(crate) fn initial_contact(&self, host: &dyn Host, spis: (u64, u64)) -> Option<Payload> {
        let config = self.config.as_ref()?;
        let alone = self.phase == Phase::Handshake && host.connected(config).is_none();
        alone.then(|| {
            let spi = [spis.0.to_be_bytes(), spis.1.to_be_bytes()].concat();
            let protocol = crate::wire::numbers::ProtocolId::IKE;
            let kind = wire::NotifyType::INITIAL_CONTACT;
            Payload::Notify(wire::Notify { protocol, spi, kind, data: Vec::new() })
        })
    }
}
