//! The initiator's side of a negotiation as another node takes it over.

use prost::Message;
use snapshot::{SnapshotError, required};

use super::InitSent;
use crate::refusal::{Refusal, RefusalForm};
use crate::snapshot::keys::KeyPairForm;
use crate::snapshot::{Reading, RestoreError, Writing};
use crate::v2::authenticate::AuthSent;
use crate::v2::exchange::{Exchanges, ExchangesForm};
use crate::wire::message::Message as IkeMessage;
use crate::wire::numbers::NotifyType;
use crate::wire::payload::Payload;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct InitSentForm {
    #[prost(fixed64, tag = "1")]
    spi: u64,
    #[prost(message, optional, tag = "2")]
    dh: Option<KeyPairForm>,
    #[prost(bytes = "vec", tag = "3")]
    nonce: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "4")]
    cookie: Option<Vec<u8>>,
    #[prost(uint32, tag = "5")]
    restarts: u32,
    /// The payloads are in it.
    #[prost(bytes = "vec", tag = "6")]
    request: Vec<u8>,
    #[prost(message, optional, tag = "7")]
    exchanges: Option<ExchangesForm>,
    #[prost(message, optional, tag = "8")]
    refused: Option<RefusalForm>,
}

impl InitSent {
    /// Writes an [`InitSentForm`].
    pub(crate) fn write<'a>(&'a self, w: &mut Writing<'a>) {
        let Self { spi, dh, nonce, cookie, payloads: _, restarts, request, exchanges, refused } = self;
        w.fixed64(1, *spi);
        w.form(2, &KeyPairForm::new(dh));
        w.bytes(3, nonce);
        cookie.iter().for_each(|cookie| w.bytes_always(4, cookie));
        w.uint(5, (*restarts).into());
        w.bytes(6, request);
        w.message(7, |w| exchanges.write(w));
        refused.as_ref().map(|refused| refused.form(w)).iter().for_each(|form| w.form(8, form));
    }

    pub(crate) fn restore(form: &InitSentForm, r: &Reading) -> Result<Self, RestoreError> {
        const REQUEST: &str = "the request of IKE_SA_INIT";
        let message =
            IkeMessage::parse(&form.request).map_err(|error| SnapshotError::value(REQUEST, error))?;
        let is_cookie = |p: &Payload| matches!(p, Payload::Notify(n) if n.kind == NotifyType::COOKIE);
        let mut payloads = message.chain.payloads;
        payloads.retain(|payload| !is_cookie(payload));
        Ok(Self {
            spi: form.spi,
            dh: required(form.dh.as_ref(), "the key pair of IKE_SA_INIT")?.read()?,
            nonce: form.nonce.clone(),
            cookie: form.cookie.clone(),
            payloads,
            restarts: form.restarts,
            request: form.request.clone(),
            exchanges: Exchanges::restore(required(form.exchanges.as_ref(), REQUEST)?, r)?,
            refused: form.refused.as_ref().map(|form| Refusal::restore(form, r)).transpose()?,
        })
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct AuthSentForm {
    #[prost(bytes = "vec", tag = "1")]
    answer: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    nonce_i: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    nonce_r: Vec<u8>,
    /// The policy of the Child SA that is asked for, if one is.
    #[prost(uint32, optional, tag = "4")]
    policy: Option<u32>,
    #[prost(fixed32, tag = "5")]
    spi_in: u32,
    #[prost(bool, tag = "6")]
    certificate: bool,
}

impl AuthSent {
    pub(crate) fn form<'a>(&'a self, w: &mut Writing<'a>) -> AuthSentForm {
        let Self { answer, nonces: (nonce_i, nonce_r), child, certificate } = self;
        AuthSentForm {
            answer: answer.clone(),
            nonce_i: nonce_i.clone(),
            nonce_r: nonce_r.clone(),
            policy: child.as_ref().map(|(config, _)| w.policy(config)),
            spi_in: child.as_ref().map_or(0, |(_, spi)| *spi),
            certificate: *certificate,
        }
    }

    pub(crate) fn restore(form: &AuthSentForm, r: &Reading) -> Result<Self, SnapshotError> {
        let policy = form.policy.map(|number| r.policy(number)).transpose()?;
        Ok(Self {
            answer: form.answer.clone(),
            nonces: (form.nonce_i.clone(), form.nonce_r.clone()),
            child: policy.map(|policy| (policy, form.spi_in)),
            certificate: form.certificate,
        })
    }
}
