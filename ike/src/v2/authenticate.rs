//! IKE_AUTH from the initiator's side (RFC 7296 sections 1.2 and 2.15), with its Child SA.

use std::sync::Arc;
use std::time::Instant;

use super::accept::{accept_child, accept_selectors, child_refusal};
use super::child::Agreed;
use super::ike_sa::IkeSa;
use super::informational::GIVES_UP;
use super::initiator::InitSent;
use super::proof::{self, Covered};
use super::request::Request;
use super::tasks::Task;
use super::{Connection, Phase, mode, nat, sync};
use crate::config::ChildConfig;
use crate::crypto::CryptoError;
use crate::event::{Datagram, Event};
use crate::failure::Failure;
use crate::host::Host;
use crate::proposal::{EspProposal, negotiate};
use crate::wire::message::Payloads;
use crate::wire::numbers::{ExchangeType, NotifyType, PayloadType, ProtocolId};
use crate::wire::payload::{Identification, Notify, Payload};

/// Waiting for the IKE_AUTH answer. The IKE_SA exists and has the request pending.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct AuthSent {
    /// Our signed octets' counterpart: the peer signs its IKE_SA_INIT answer and our nonce.
    pub(super) answer: Vec<u8>,
    pub(super) nonces: (Vec<u8>, Vec<u8>),
    pub(super) child: Option<(Arc<ChildConfig>, u32)>,
    /// The peer's answer to IKE_SA_INIT had a CERTREQ: it may want a certificate of us.
    pub(super) certificate: bool,
}

impl AuthSent {
    pub(crate) fn child_spi(&self) -> Option<u32> {
        self.child.as_ref().map(|c| c.1)
    }
}

impl Connection {
    pub(super) fn send_auth(
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
}
