//! IKE_SA_INIT and IKE_AUTH from the initiator's side (RFC 7296 sections 1.2, 2.6, 2.15).

mod snapshot;

use std::sync::Arc;
use std::time::Instant;

use super::accept::{accept_child, accept_selectors, child_refusal};
use super::child::Agreed;
use super::exchange::Exchanges;
use super::ike_sa::{IkeSa, Origin};
use super::informational::GIVES_UP;
use super::proof::{self, Covered};
use super::request::{Request, wanted_group};
use super::tasks::Task;
use super::{Connection, Phase, mode, nat, sync};
use crate::config::{ChildConfig, PeerConfig};
use crate::credentials::Way;
use crate::crypto::CryptoError;
use crate::crypto::dh::KeyPair;
use crate::event::{Datagram, Event};
use crate::failure::Failure;
use crate::host::{Host, random_array};
use crate::proposal::{EspProposal, IkeProposal, negotiate};
use crate::refusal::Refusal;
use crate::verbs::Path;
use crate::wire::header::Header;
use crate::wire::message::{Message, Payloads};
use crate::wire::numbers::{ExchangeType, NotifyType, PayloadType, ProtocolId};
use crate::wire::payload::{Identification, Notify, Payload};
use crate::wire::rules;

pub(crate) use snapshot::{AuthSentForm, InitSentForm};

/// Octets of our nonces: the key size of the largest PRF or more is not needed, 32 are the field's habit.
pub(crate) const NONCE_LEN: usize = 32;
/// IKE_SA_INIT requests with another group or a cookie before the peer is given up: one for each of a few groups, and
/// a cookie or two whose secret was changed.
const MAX_INIT_RESTARTS: u32 = 6;

/// Octets that a cookie may have (RFC 7296 section 2.6).
const COOKIE_OCTETS: std::ops::RangeInclusive<usize> = 1..=64;

/// Waiting for the IKE_SA_INIT answer.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct InitSent {
    spi: u64,
    dh: KeyPair,
    nonce: Vec<u8>,
    cookie: Option<Vec<u8>>,
    /// What follows the cookie. All but the key exchange stays as it is whatever the peer asks for (RFC 7296 sections 1.2
    /// and 2.6): a responder may hold the next request against the first.
    payloads: Vec<Payload>,
    restarts: u32,
    request: Vec<u8>,
    /// Only retransmission is used of it here.
    pub(crate) exchanges: Exchanges,
    /// The request as it is now was refused.
    pub(crate) refused: Option<Refusal>,
}

impl InitSent {
    pub(crate) const fn spi(&self) -> u64 {
        self.spi
    }

    /// The same with another key exchange.
    fn with_key(mut self, dh: KeyPair) -> Self {
        let ours = key_payload(&dh);
        let ke = self.payloads.iter_mut().find(|payload| payload.kind() == PayloadType::KE);
        ke.into_iter().for_each(|ke| *ke = ours.clone());
        Self { dh, ..self }
    }
}

fn key_payload(dh: &KeyPair) -> Payload {
    Payload::Ke { group: dh.group(), data: dh.public().to_vec() }
}

/// Waiting for the IKE_AUTH answer. The IKE_SA exists and has the request pending.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct AuthSent {
    /// Our signed octets' counterpart: the peer signs its IKE_SA_INIT answer and our nonce.
    answer: Vec<u8>,
    nonces: (Vec<u8>, Vec<u8>),
    child: Option<(Arc<ChildConfig>, u32)>,
    /// The peer's answer to IKE_SA_INIT had a CERTREQ: it may want a certificate of us.
    certificate: bool,
}

impl AuthSent {
    pub(crate) fn child_spi(&self) -> Option<u32> {
        self.child.as_ref().map(|c| c.1)
    }
}

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
        let group = *negotiate::groups(&config.ike_proposals).first().ok_or(CryptoError::Unsupported)?;
        let (spi, dh) = (host.allocate_ike_spi(), KeyPair::generate(group, host)?);
        let nonce = random_array::<NONCE_LEN>(host).to_vec();
        let transforms = config.ike_proposals.iter().map(IkeProposal::transforms);
        let mut payloads = vec![
            Payload::Sa(negotiate::offer(ProtocolId::IKE, &[], transforms, true)),
            key_payload(&dh),
            Payload::Nonce(nonce.clone()),
        ];
        let mut this = Self::new(path, true, Phase::Finished, now);
        this.forced = config.force_encapsulation;
        let (local, remote) = this.addresses();
        payloads.extend(nat::notifies((spi, 0), local, remote, this.forced, host));
        payloads.push(Payload::Notify(Notify::new(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED)));
        if config.auth.way() == Way::Certificate {
            payloads.push(proof::announce());
        }
        this.events.push_back(Event::IkeSpiAdded(spi));
        this.config = Some(config);
        let init = InitSent {
            spi,
            dh,
            nonce,
            cookie: None,
            payloads,
            restarts: 0,
            request: Vec::new(),
            exchanges: Exchanges::default(),
            refused: None,
        };
        this.send_init(now, init);
        Ok(this)
    }

    fn send_init(&mut self, now: Instant, mut init: InitSent) {
        let cookie = init.cookie.iter().cloned();
        let cookie = cookie.map(|data| Payload::Notify(Notify::with_data(NotifyType::COOKIE, data)));
        let payloads: Vec<Payload> = cookie.chain(init.payloads.iter().cloned()).collect();
        let header = Header {
            spi_i: init.spi,
            spi_r: 0,
            next: PayloadType::NONE,
            exchange: ExchangeType::IKE_SA_INIT,
            from_initiator: true,
            response: false,
            message_id: 0,
            length: 0,
        };
        init.request = Message::encode(header, &payloads);
        // Each restart is a fresh IKE_SA_INIT with Message ID 0.
        init.exchanges = Exchanges::default();
        init.refused = None;
        let (bytes, policy) = (init.request.clone(), self.retransmit_policy(&Request::Auth));
        let exchange = ExchangeType::IKE_SA_INIT;
        init.exchanges.sent(now, exchange, Request::Auth, vec![bytes.clone()], policy);
        self.phase = Phase::InitSent(Box::new(init));
        self.ask([bytes]);
    }

    /// The first message is not sent again, nor what it becomes with a cookie or another group.
    pub(crate) fn send_init_once(&mut self) {
        self.once = true;
        if let Phase::InitSent(init) = &mut self.phase {
            init.exchanges.send_once();
        }
    }

    /// The answer to IKE_SA_INIT. It is not authenticated yet: what makes no sense is dropped, for another may come.
    pub(crate) fn init_answered(&mut self, now: Instant, host: &mut dyn Host, datagram: Datagram<'_>) {
        let Phase::InitSent(_) = &self.phase else { return };
        let Ok(message) = Message::parse(datagram.bytes) else { return self.counters.dropped += 1 };
        let (header, payloads) = (message.header, Payloads(&message.chain.payloads));
        let cookie = payloads.notify(NotifyType::COOKIE);
        // What is no cookie by its length is not returned: it could make our request too large to be sent.
        let odd = cookie.is_some_and(|n| !COOKIE_OCTETS.contains(&n.data.len()));
        if odd || rules::check(&header, payloads.0).is_err() {
            return self.counters.dropped += 1;
        }
        let Phase::InitSent(init) = std::mem::replace(&mut self.phase, Phase::Finished) else { return };
        let mut init = *init;
        if let Some(cookie) = cookie {
            // RFC 7296 section 2.6: the same request with the cookie in front.
            init.cookie = Some(cookie.data.clone());
            return self.restart_init(now, init);
        }
        if let Some(notify) = payloads.notify(NotifyType::INVALID_KE_PAYLOAD) {
            let wanted = wanted_group(notify).unwrap_or(0);
            let groups = negotiate::groups(self.proposals());
            if init.restarts > 0 && wanted == init.dh.group() {
                // What is asked for was sent: this answers the request before, which was sent twice or came twice (RFC 7296 section 2.1).
                self.phase = Phase::InitSent(Box::new(init));
                return self.counters.dropped += 1;
            }
            if !groups.contains(&wanted) || wanted == init.dh.group() {
                let offered = groups.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                return self.init_refused(now, init, Failure::NoGroup { wanted, offered });
            }
            return match KeyPair::generate(wanted, host) {
                Ok(dh) => self.restart_init(now, init.with_key(dh)),
                Err(error) => {
                    self.phase = Phase::InitSent(Box::new(init));
                    self.failed(now, error.into());
                }
            };
        }
        if let Some(error) = payloads.error() {
            let failure = self.refusal(ExchangeType::IKE_SA_INIT, error.kind);
            return self.init_refused(now, init, failure);
        }
        match self.keys_from_init(&init, header, payloads) {
            Ok(sa) => self.send_auth(now, host, init, sa, payloads, datagram),
            Err(failure) => self.init_refused(now, init, failure),
        }
    }

    /// What was answered leads to no IKE_SA, and proves nothing: the answer of the peer may yet come (RFC 7296 section 2.21.1).
    fn init_refused(&mut self, now: Instant, mut init: InitSent, failure: Failure) {
        init.refused.get_or_insert_with(|| Refusal::new(now, failure));
        self.phase = Phase::InitSent(Box::new(init));
    }

    fn restart_init(&mut self, now: Instant, mut init: InitSent) {
        init.restarts += 1;
        if init.restarts > MAX_INIT_RESTARTS {
            return self.init_refused(now, init, Failure::StillBusy);
        }
        self.send_init(now, init);
    }

    fn keys_from_init(
        &self,
        init: &InitSent,
        header: Header,
        payloads: Payloads<'_>,
    ) -> Result<IkeSa, Failure> {
        let answer = payloads.sa().unwrap_or_default();
        let (group, public) = payloads.ke().unwrap_or_default();
        let nonce = payloads.nonce().unwrap_or_default();
        let choice = negotiate::accept_ike(self.proposals(), answer)
            .filter(|c| c.group == group && group == init.dh.group() && header.spi_r != 0)
            .ok_or_else(|| Failure::BadChoice {
                chosen: negotiate::describe(answer),
                offered: negotiate::describe_configured(self.proposals()),
            })?;
        let shared = init.dh.agree(public)?;
        let spis = (init.spi, header.spi_r);
        Ok(IkeSa::new(choice, true, spis, (&init.nonce, nonce), &shared, Origin::Init)?)
    }

    fn send_auth(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        init: InitSent,
        mut sa: IkeSa,
        payloads: Payloads<'_>,
        datagram: Datagram<'_>,
    ) {
        sa.fragments = payloads.notify(NotifyType::IKEV2_FRAGMENTATION_SUPPORTED).is_some();
        let Some(config) = self.config.clone() else { return };
        self.path.local.set_ip(datagram.local.ip());
        if let Some(nat) =
            nat::detect((sa.spi_local, sa.spi_remote), payloads, datagram.local, datagram.remote)
        {
            self.nat = nat;
        }
        if self.encapsulates() {
            // The port of NAT traversal is used from here on (section 2.23).
            self.floated = true;
        }
        let nonce = payloads.nonce().unwrap_or_default().to_vec();
        let child = config
            .children
            .first()
            .and_then(|child| host.allocate_esp_spi(self.addresses().1).map(|spi| (child.clone(), spi)));
        let mine = Identification::from(config.local_id.clone());
        let covered =
            Covered { prf: sa.prf, first: &init.request, nonce: &nonce, sk_p: sa.sk_p().0, id: &mine };
        let proof = covered.prove(&config.auth, &proof::announced(payloads));
        let mut out = vec![Payload::IdI(mine)];
        out.extend(proof::certificates(&config.auth));
        out.extend(proof::ask(proof::authorities(&config.auth)));
        out.push(Payload::IdR(config.remote_id.clone().into()));
        // Asked now and not when the negotiation began: the peer may have come since, and takes this for the end of all
        // it has with us (RFC 7296 section 2.4).
        if host.connected(&config).is_none() {
            out.push(Payload::Notify(Notify::new(NotifyType::INITIAL_CONTACT)));
        }
        match proof {
            Ok(auth) => out.push(auth),
            Err(failure) => {
                child.iter().for_each(|(_, spi)| self.events.push_back(Event::ReleaseSpi(*spi)));
                self.phase = Phase::InitSent(Box::new(init));
                return self.failed(now, failure);
            }
        }
        if let Some((child, spi)) = &child {
            out.extend(mode::notify(child.mode));
            let transforms = child.proposals.iter().map(EspProposal::transforms);
            out.push(Payload::Sa(negotiate::offer(ProtocolId::ESP, &spi.to_be_bytes(), transforms, false)));
            out.push(Payload::TsI(child.local.clone()));
            out.push(Payload::TsR(child.remote.clone()));
        }
        out.extend(sync::offer());
        let spi = sa.spi_local;
        self.current = spi;
        self.sas.push(Box::new(sa));
        let (nonces, answer) = ((init.nonce, nonce), datagram.bytes.to_vec());
        let certificate = payloads.count(PayloadType::CERTREQ) > 0;
        self.phase = Phase::AuthSent(Box::new(AuthSent { answer, nonces, child, certificate }));
        self.send_request(now, host, spi, ExchangeType::IKE_AUTH, &out, Request::Auth);
    }

    /// The answer to IKE_AUTH.
    pub(crate) fn auth_answered(&mut self, now: Instant, host: &mut dyn Host, payloads: Payloads<'_>) {
        let Phase::AuthSent(state) = std::mem::replace(&mut self.phase, Phase::Up) else { return };
        let release = state.child_spi();
        // The responder has given up the IKE_SA, whatever else stands in its answer (section 2.21.2).
        if let Some(kind) = payloads.notifies().map(|n| n.kind).find(|kind| GIVES_UP.contains(kind)) {
            release.into_iter().for_each(|spi| self.events.push_back(Event::ReleaseSpi(spi)));
            let failure = self.auth_refusal(&state, kind);
            return self.failed(now, failure);
        }
        match self.verify_responder(&state, payloads) {
            Ok(()) => {
                self.note_sync(payloads);
                self.established(now, false);
                self.note_auth_lifetime(now, payloads);
            }
            Err((failure, tell)) => {
                if let Some(spi) = release {
                    self.events.push_back(Event::ReleaseSpi(spi));
                }
                self.failed(now, failure);
                // The peer believes the IKE_SA to be up, so it is told (RFC 7296 section 2.21.2).
                if tell {
                    let notify = Payload::Notify(Notify::new(NotifyType::AUTHENTICATION_FAILED));
                    let spi = self.current;
                    self.send_request(
                        now,
                        host,
                        spi,
                        ExchangeType::INFORMATIONAL,
                        &[notify],
                        Request::DeleteIke,
                    );
                }
                return;
            }
        }
        // Where no SPI was free, nothing was asked for yet.
        let asked = state.child.as_ref().map(|(config, _)| config.name.clone());
        if let Some((config, spi)) = state.child
            && let Err(failure) = self.child_from_auth(&config, spi, &state.nonces, payloads)
        {
            self.events.push_back(Event::ReleaseSpi(spi));
            self.tell_refused(&config.name, failure);
            // The peer has installed what it answered, so it is told to take it away.
            if payloads.error().is_none() && payloads.sa().is_some() {
                self.queue_first(Task::DeleteStray(spi), now);
            }
        }
        if let Some(first) = self.config.as_ref().and_then(|c| c.children.first()).map(|c| c.name.clone())
            && self.children.iter().any(|child| child.config.name == first)
        {
            self.ask_for_rest(&first, &[], now);
        }
        let names = self.policies().iter().map(|child| child.name.clone());
        for name in names.filter(|name| asked.as_ref() != Some(name)).collect::<Vec<_>>() {
            self.queue_create(&name, now);
        }
    }

    /// Checks who answered. The flag says whether the peer needs to be told of the failure.
    fn verify_responder(&self, state: &AuthSent, payloads: Payloads<'_>) -> Result<(), (Failure, bool)> {
        let (Some(config), Some(sa)) = (&self.config, self.current_sa()) else {
            return Err((Failure::Crypto(CryptoError::Library), false));
        };
        let (Some(theirs), Some((method, _))) = (payloads.id_r(), payloads.auth()) else {
            let kind = payloads.error().map_or(NotifyType::AUTHENTICATION_FAILED, |n| n.kind);
            return Err((self.auth_refusal(state, kind), false));
        };
        let id = &theirs.id;
        if !config.auth.takes(method) {
            let configured = config.auth.way();
            return Err((Failure::AuthMethod { id: id.cut(), method: Some(method), configured }, true));
        }
        if *id != config.remote_id {
            let failure = Failure::WrongIdentity { got: id.cut(), expected: config.remote_id.clone() };
            return Err((failure, true));
        }
        let (first, nonce) = (&state.answer, &state.nonces.0);
        let covered = Covered { prf: sa.prf, first, nonce, sk_p: sa.sk_p().1, id: theirs };
        covered.check(&config.auth, payloads).map_err(|failure| (failure, true))
    }

    /// Both sides are authenticated.
    pub(crate) fn established(&mut self, now: Instant, initial_contact: bool) {
        let (Some(config), Some(sa)) = (&self.config, self.current_sa()) else { return };
        let event = Event::Established {
            peer: config.name.clone(),
            local_spi: sa.spi_local,
            remote_spi: sa.spi_remote,
            choice: sa.choice,
            initiator: self.initiator,
            initial_contact,
            nat: self.nat,
        };
        self.phase = Phase::Up;
        self.silence.broken(now);
        self.keepalive = self.nat.local.then_some(now + crate::verbs::KEEPALIVE);
        self.events.push_back(event);
    }

    fn child_from_auth(
        &mut self,
        config: &Arc<ChildConfig>,
        spi_in: u32,
        nonces: &(Vec<u8>, Vec<u8>),
        payloads: Payloads<'_>,
    ) -> Result<(), Failure> {
        // What stands in the way here is the better reason, whatever the peer says.
        if let Some(failure) = self.mode_obstacle(config) {
            return Err(failure);
        }
        if let Some(error) = payloads.error() {
            return Err(child_refusal(ExchangeType::IKE_AUTH, error.kind, config));
        }
        let answer = payloads.sa().ok_or_else(|| Failure::NoChild { policy: config.name.clone() })?;
        let (choice, spi_out) = accept_child(config, answer, false)?;
        let (local_ts, remote_ts) = accept_selectors(config, payloads.ts_i(), payloads.ts_r())?;
        self.check_mode(config, payloads)?;
        let agreed = Agreed {
            config: config.clone(),
            spi_in,
            spi_out,
            choice,
            shared: None,
            nonces: (&nonces.0, &nonces.1),
            local_ts,
            remote_ts,
            replaces: None,
            initiated: true,
            tfc: payloads.notify(NotifyType::ESP_TFC_PADDING_NOT_SUPPORTED).is_none(),
        };
        let Some(sa) = self.current_sa() else { return Ok(()) };
        let (prf, d) = (sa.prf, sa.keys.d.clone());
        self.install_child(prf, &d, agreed)?;
        self.activate(spi_in);
        Ok(())
    }

    /// [`Self::refusal`] of our IKE_AUTH.
    fn auth_refusal(&self, state: &AuthSent, notify: NotifyType) -> Failure {
        let mut failure = self.refusal(ExchangeType::IKE_AUTH, notify);
        if let Failure::AuthenticationRefused { certificate, .. } = &mut failure {
            *certificate = state.certificate;
        }
        failure
    }

    /// An error notify of the peer as a failure that names what it refused.
    pub(crate) fn refusal(&self, exchange: ExchangeType, notify: NotifyType) -> Failure {
        match (notify, &self.config) {
            (NotifyType::NO_PROPOSAL_CHOSEN, _) => {
                let offered = negotiate::describe_configured(self.proposals());
                match exchange {
                    ExchangeType::IKE_SA_INIT => Failure::InitRefused { offered },
                    _ => Failure::ProposalRefused { offered },
                }
            }
            (NotifyType::AUTHENTICATION_FAILED, Some(config)) => Failure::AuthenticationRefused {
                local_id: config.local_id.clone(),
                remote_id: config.remote_id.clone(),
                ours: config.auth.way(),
                certificate: false,
            },
            _ => Failure::Notify { exchange, notify },
        }
    }
}
