//! IKE_SA_INIT from the initiator's side (RFC 7296 sections 1.2 and 2.6).

mod snapshot;

use std::sync::Arc;
use std::time::Instant;

use super::exchange::Exchanges;
use super::ike_sa::{IkeSa, Origin};
use super::proof;
use super::request::{Request, wanted_group};
use super::{Connection, Phase, nat};
use crate::config::PeerConfig;
use crate::credentials::Way;
use crate::crypto::CryptoError;
use crate::crypto::dh::KeyPair;
use crate::event::{Datagram, Event};
use crate::failure::Failure;
use crate::host::{Host, random_array};
use crate::proposal::{IkeProposal, negotiate};
use crate::refusal::Refusal;
use crate::verbs::Path;
use crate::wire::header::Header;
use crate::wire::message::{Message, Payloads};
use crate::wire::numbers::{ExchangeType, NotifyType, PayloadType, ProtocolId};
use crate::wire::payload::{Notify, Payload};
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
    pub(super) nonce: Vec<u8>,
    cookie: Option<Vec<u8>>,
    /// What follows the cookie. All but the key exchange stays as it is whatever the peer asks for (RFC 7296 sections 1.2
    /// and 2.6): a responder may hold the next request against the first.
    payloads: Vec<Payload>,
    restarts: u32,
    pub(super) request: Vec<u8>,
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
