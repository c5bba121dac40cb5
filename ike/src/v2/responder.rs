//! IKE_SA_INIT and IKE_AUTH from the responder's side (RFC 7296 sections 1.2, 2.6, 2.15).

use std::sync::Arc;
use std::time::Instant;

use super::answer_child::ChildRequest;
use super::ike_sa::{IkeSa, Origin, respond_dh};
use super::initiator::NONCE_LEN;
use super::proof::{self, Covered};
use super::{Connection, Phase, nat};
use crate::config::{Opening, PeerConfig};
use crate::credentials::Way;
use crate::event::{CloseReason, Datagram, Event};
use crate::failure::Failure;
use crate::host::{Host, NoPeer, random_array};
use crate::identity::Identity;
use crate::proposal::{Candidates, negotiate};
use crate::reception::MAX_FIRST_MESSAGE;
use crate::verbs::{HALF_OPEN_TIMEOUT, InitReply, MAX_CANDIDATES, Path};
use crate::wire::header::Header;
use crate::wire::message::{Message, Payloads};
use crate::wire::numbers::{ExchangeType, NotifyType, PayloadType};
use crate::wire::payload::{Identification, Notify, Payload};
use crate::wire::reader::Reader;
use crate::wire::sa::Proposal;
use crate::wire::{WireError, rules};

/// Half-open: IKE_SA_INIT is answered, IKE_AUTH has not come.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct AwaitAuth {
    /// The initiator's first message, which it signs. The key that signs it is not known yet, so no digest will do.
    request: Box<[u8]>,
    /// Our answer, which we sign.
    answer: Vec<u8>,
    nonces: (Vec<u8>, Vec<u8>),
    pub(crate) deadline: Instant,
}

impl AwaitAuth {
    fn octets(&self) -> usize {
        self.request.len() + self.answer.len() + self.nonces.0.len() + self.nonces.1.len()
    }

    /// Which signatures the initiator can verify. Its request was decoded before.
    fn announced(&self) -> Vec<u16> {
        let request = Message::parse(&self.request);
        request.map(|message| proof::announced(Payloads(&message.chain.payloads))).unwrap_or_default()
    }
}

/// The initiator's peer, and the group to mend the IKE_SA with.
type Verified = (Arc<PeerConfig>, Option<u16>);

/// Octets of a half-open connection beside its messages: keys, exchanges and the rest.
const HALF_OPEN_OCTETS: usize = 2_048;

impl Connection {
    /// About how many octets a half-open connection holds. The peer can make them more by fragments, up to a bound.
    pub(crate) fn half_open_octets(&self) -> usize {
        let messages = if let Phase::AwaitAuth(state) = &self.phase { state.octets() } else { 0 };
        HALF_OPEN_OCTETS + messages + self.sas.iter().map(|sa| sa.waiting_octets()).sum::<usize>()
    }

    /// Answers an IKE_SA_INIT request. `candidates` are the peers that might send from there; which one it is turns out
    /// in IKE_AUTH. The caller has checked the cookie, if one is due.
    ///
    /// What is cheap is looked at first. Nothing is computed, and no key pair made, for a request that is refused.
    pub(crate) fn respond(
        now: Instant,
        host: &mut dyn Host,
        datagram: Datagram<'_>,
        natt_ports: (u16, u16),
        candidates: &Candidates,
        force_encapsulation: bool,
    ) -> InitReply<Self> {
        let malformed = |error| Failure::Malformed { exchange: ExchangeType::IKE_SA_INIT, error };
        if datagram.bytes.len() > MAX_FIRST_MESSAGE {
            return InitReply::Dropped(malformed(WireError::TooLong(datagram.bytes.len())));
        }
        let header = match Header::parse(&mut Reader::new(datagram.bytes), datagram.bytes.len()) {
            Ok(header) => header,
            Err(error) => return InitReply::Dropped(malformed(error)),
        };
        let fits = header.exchange == ExchangeType::IKE_SA_INIT
            && header.from_initiator
            && !header.response
            && (header.message_id, header.spi_r) == (0, 0)
            && header.spi_i != 0;
        if !fits {
            return InitReply::Dropped(malformed(WireError::BadField("first message")));
        }
        let message = match Message::parse(datagram.bytes) {
            Ok(message) if message.chain.encrypted.is_none() => message,
            Ok(_) => return InitReply::Dropped(malformed(WireError::BadField("first message"))),
            Err(error @ WireError::CriticalPayload(kind)) => {
                // The one mistake of which the initiator must be told (RFC 7296 section 2.5).
                let data = vec![kind.0];
                let notify = Notify::with_data(NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, data);
                return InitReply::Refused(refuse(&header, notify), malformed(error));
            }
            Err(error) => return InitReply::Dropped(malformed(error)),
        };
        let payloads = Payloads(&message.chain.payloads);
        if let Err(error) = rules::check(&header, payloads.0) {
            let reply = refuse(&header, Notify::new(NotifyType::INVALID_SYNTAX));
            return InitReply::Refused(reply, malformed(error));
        }
        let offered = payloads.sa().unwrap_or_default();
        let Some((chosen, choice)) = candidates.choose(offered) else {
            let failure = Failure::NoProposal {
                offered: negotiate::describe(offered),
                configured: negotiate::describe_configured(candidates.proposals()),
            };
            return InitReply::Refused(refuse(&header, Notify::new(NotifyType::NO_PROPOSAL_CHOSEN)), failure);
        };
        let (group, public) = payloads.ke().unwrap_or_default();
        if group != choice.group {
            // RFC 7296 section 1.3: the initiator guessed another group than the one chosen.
            let data = choice.group.to_be_bytes().to_vec();
            let failure = Failure::NoGroup { wanted: choice.group, offered: group.to_string() };
            let notify = Notify::with_data(NotifyType::INVALID_KE_PAYLOAD, data);
            return InitReply::Refused(refuse(&header, notify), failure);
        }
        let (ours, shared) = match respond_dh(group, public, host) {
            Ok(pair) => pair,
            Err(error) => {
                return InitReply::Refused(
                    refuse(&header, Notify::new(NotifyType::INVALID_SYNTAX)),
                    error.into(),
                );
            }
        };
        let spi = host.allocate_ike_spi();
        let ni = payloads.nonce().unwrap_or_default().to_vec();
        let nr = random_array::<NONCE_LEN>(host).to_vec();
        let mut sa = match IkeSa::new(choice, false, (spi, header.spi_i), (&ni, &nr), &shared, Origin::Init) {
            Ok(sa) => sa,
            Err(error) => return InitReply::Dropped(error.into()),
        };
        let path = Path {
            local: datagram.local,
            remote: datagram.remote,
            local_natt: natt_ports.0,
            remote_natt: if datagram.natt { datagram.remote.port() } else { natt_ports.1 },
        };
        let spis = (header.spi_i, spi);
        let mut out = vec![
            Payload::Sa(vec![Proposal {
                transforms: negotiate::answer(&chosen, choice.transforms()),
                ..chosen
            }]),
            Payload::Ke { group, data: ours.public().to_vec() },
            Payload::Nonce(nr.clone()),
        ];
        let found = nat::detect(spis_of_request(&header), payloads, datagram.local, datagram.remote);
        if found.is_some() {
            out.extend(nat::notifies(spis, datagram.local, datagram.remote, force_encapsulation, host));
        }
        let fragments = payloads.notify(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED).is_some();
        if fragments {
            out.push(Payload::Notify(Notify::new(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED)));
        }
        // Whoever can sign may be one who has to.
        let authorities = host.authorities(datagram.remote);
        if let Some(asked) = proof::ask(&authorities) {
            out.push(proof::announce());
            out.push(asked);
        }
        // A peer that wants no Child SA yet is welcome (RFC 6023); it asks for one when it has use for it.
        out.push(Payload::Notify(Notify::new(NotifyType::CHILDLESS_IKEV2_SUPPORTED)));
        let answer_header = Header { spi_r: spi, from_initiator: false, response: true, ..header };
        let answer = Message::encode(answer_header, &out);
        let phase = Phase::AwaitAuth(Box::new(AwaitAuth {
            request: datagram.bytes.into(),
            answer: answer.clone(),
            nonces: (ni, nr),
            deadline: now + HALF_OPEN_TIMEOUT,
        }));
        let mut this = Self::new(path, false, phase, now);
        this.floated = datagram.natt;
        this.forced = force_encapsulation;
        this.nat = found.unwrap_or_default();
        this.current = spi;
        sa.fragments = fragments;
        this.sas.push(Box::new(sa));
        this.events.push_back(Event::IkeSpiAdded(spi));
        this.answer([answer]);
        InitReply::Accepted(Box::new(this))
    }

    /// The first message again: our answer was lost. Only the very same request is answered, so that nobody else can
    /// have us send.
    pub(crate) fn init_again(&mut self, datagram: Datagram<'_>) {
        match &self.phase {
            Phase::AwaitAuth(state) if *state.request == *datagram.bytes => {
                let answer = state.answer.clone();
                self.counters.answered_again += 1;
                self.answer([answer]);
            }
            _ => self.counters.dropped += 1,
        }
    }

    /// The IKE_AUTH request, decrypted.
    pub(crate) fn auth_requested(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        header: Header,
        payloads: Payloads<'_>,
        datagram: Datagram<'_>,
    ) {
        let Phase::AwaitAuth(state) = std::mem::replace(&mut self.phase, Phase::Up) else { return };
        let spi = self.current;
        // The initiator has moved to the NAT traversal port if it found a NAT (RFC 7296 section 2.23).
        if datagram.natt {
            self.floated = true;
            if self.path.remote.ip() == datagram.remote.ip() || self.nat.peer_may_move() {
                self.path.remote_natt = datagram.remote.port();
                self.path.remote.set_ip(datagram.remote.ip());
            }
        }
        let (config, mend) = match self.verify_initiator(host, &state, payloads, datagram) {
            Ok(Some(verified)) => verified,
            Ok(None) => {
                // As if it had not arrived: the initiator will send it again.
                self.phase = Phase::AwaitAuth(state);
                return self.counters.dropped += 1;
            }
            Err(failure) => return self.refuse_authentication(now, host, &header, failure),
        };
        let Some(sa) = self.current_sa() else { return };
        let (prf, d) = (sa.prf, sa.keys.d.clone());
        let mine = Identification::from(config.local_id.clone());
        let (first, nonce) = (&state.answer, &state.nonces.0);
        let covered = Covered { prf, first, nonce, sk_p: sa.sk_p().0, id: &mine };
        let auth = match covered.prove(&config.auth, &state.announced()) {
            Ok(auth) => auth,
            Err(failure) => return self.refuse_authentication(now, host, &header, failure),
        };
        self.config = Some(config.clone());
        let mut out = vec![Payload::IdR(mine)];
        out.extend(proof::certificates(&config.auth));
        out.push(auth);
        out.extend(self.ask_for_reauthentication(&config));
        out.extend(self.answer_sync(payloads));
        self.established(now, payloads.notify(NotifyType::INITIAL_CONTACT).is_some());
        if payloads.count(PayloadType::SA) > 0 {
            let request = ChildRequest {
                payloads,
                nonces: (&state.nonces.0, &state.nonces.1),
                shared: None,
                with_group: false,
                replaces: None,
            };
            match self.answer_child(host, prf, &d, request) {
                Ok((mut answer, spi_in)) => {
                    out.append(&mut answer);
                    self.activate(spi_in);
                }
                // The IKE_SA stands all the same (RFC 7296 section 1.2).
                Err(refused) => out.push(self.child_refused(refused)),
            }
        }
        self.respond_with(now, host, spi, header.exchange, header.message_id, &out);
        if let Some(group) = mend {
            self.mend(now, group);
        }
    }

    /// Tells the initiator that nobody is proved here, and ends it.
    fn refuse_authentication(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        header: &Header,
        failure: Failure,
    ) {
        let notify = [Payload::Notify(Notify::new(NotifyType::AUTHENTICATION_FAILED))];
        self.respond_with(now, host, self.current, header.exchange, header.message_id, &notify);
        self.down(now, CloseReason::Failed(failure));
    }

    /// Who the initiator is. If what was chosen before anybody knew is not among that peer's proposals, the group to rekey the
    /// IKE_SA with at once.
    fn verify_initiator(
        &self,
        host: &mut dyn Host,
        state: &AwaitAuth,
        payloads: Payloads<'_>,
        datagram: Datagram<'_>,
    ) -> Result<Option<Verified>, Failure> {
        let malformed = |error| Failure::Malformed { exchange: ExchangeType::IKE_AUTH, error };
        let missing = |kind| malformed(WireError::Rule(kind, "is missing"));
        let theirs = payloads.id_i().ok_or_else(|| missing(PayloadType::IDi))?;
        let (id, asked) = (&theirs.id, payloads.id_r().map(|asked| &asked.id));
        let method = payloads.auth().map(|(method, _)| method);
        // Whoever it is: nobody here proves who it is in another way.
        if method.is_none_or(|method| Way::of(method).is_none()) {
            return Err(Failure::AuthMethod { id: id.cut(), method, configured: Way::Psk });
        }
        let candidates = match host.find_peers(id, asked, datagram.remote, Opening::Init) {
            Ok(candidates) => candidates,
            Err(NoPeer::NotYet) => return Ok(None),
            Err(NoPeer::Unknown) => {
                return Err(Failure::UnknownPeer {
                    remote_id: id.cut(),
                    local_id: asked.map(Identity::cut),
                    from: datagram.remote,
                });
            }
        };
        let sa = self.current_sa().ok_or(Failure::Crypto(crate::crypto::CryptoError::Library))?;
        let (first, nonce) = (&state.request, &state.nonces.1);
        let covered = Covered { prf: sa.prf, first, nonce, sk_p: sa.sk_p().1, id: theirs };
        // Every key is tried, also after one that fits, so that the time tells nothing.
        let mut fitting = Vec::new();
        // Of those that it does not fit, one that proves itself in that way says more.
        let mut refused = None;
        for config in candidates.iter().take(MAX_CANDIDATES) {
            match covered.check(&config.auth, payloads) {
                Ok(()) => fitting.push(config.clone()),
                Err(failure @ Failure::AuthMethod { .. }) => _ = refused.get_or_insert(failure),
                Err(failure) => refused = Some(failure),
            }
        }
        let config = match fitting.as_slice() {
            [] => return Err(refused.unwrap_or_else(|| Failure::Authentication { id: id.cut() })),
            [config] => config.clone(),
            [first, ..] => {
                let (remote_id, from, way) = (id.clone(), datagram.remote, first.auth.way());
                return Err(Failure::Ambiguous { remote_id, from, count: fitting.len(), way });
            }
        };
        let mend = self.misfit(&config, state)?;
        // Only told to whom it is.
        let from = datagram.remote;
        match host.connected(&config).filter(|up| !config.uniqueness.admits(*up, from)) {
            Some(up) => {
                let ends = Box::new((up, from));
                Err(Failure::Duplicate { id: id.clone(), name: config.name.clone(), ends })
            }
            None => Ok(Some((config, mend))),
        }
    }

    /// The group by which the IKE_SA can be mended if its algorithms are none of the peer's; an error if what the peer has
    /// offered and what it may use have nothing in common.
    fn misfit(&self, config: &PeerConfig, state: &AwaitAuth) -> Result<Option<u16>, Failure> {
        let sa = self.current_sa().ok_or(Failure::Crypto(crate::crypto::CryptoError::Library))?;
        let chosen = Proposal::of_ike(sa.choice.transforms());
        if negotiate::choose_ike(&config.ike_proposals, &chosen).is_some() {
            return Ok(None);
        }
        // It was decoded before.
        let request = Message::parse(&state.request)
            .map_err(|error| Failure::Malformed { exchange: ExchangeType::IKE_SA_INIT, error })?;
        let offered = Payloads(&request.chain.payloads).sa().unwrap_or_default();
        match negotiate::choose_ike(&config.ike_proposals, offered) {
            Some((_, choice)) => Ok(Some(choice.group)),
            None => Err(Failure::NotItsProposals {
                name: config.name.clone(),
                offered: negotiate::describe(offered),
                configured: negotiate::describe_configured(&config.ike_proposals),
            }),
        }
    }
}

/// The SPIs as they stand in the request's own NAT detection hashes: the responder's is still zero.
const fn spis_of_request(header: &Header) -> (u64, u64) {
    (header.spi_i, 0)
}

/// An answer to IKE_SA_INIT that keeps no state: one Notify.
pub(crate) fn refuse(header: &Header, notify: Notify) -> Vec<u8> {
    let answer = Header { spi_r: 0, from_initiator: false, response: true, ..*header };
    Message::encode(answer, &[Payload::Notify(notify)])
}
