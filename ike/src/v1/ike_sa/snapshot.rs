//! An IKE_SA as another node takes it over.

use prost::Message;
use snapshot::{Due, required};

use super::{IkeSa, Seen};
use crate::snapshot::values::{choice, choice_form};
use crate::snapshot::{Reading, RestoreError, Writing};
use crate::v1::announced::Announced;
use crate::v1::exchange::{Repeat, RepeatForm};
use crate::v1::handshake::{AnnouncedForm, LifeForm, SkeyidForm};
use crate::v1::keys::Suite;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct IkeSaForm {
    #[prost(bool, tag = "1")]
    initiator: bool,
    #[prost(fixed64, tag = "2")]
    spi_local: u64,
    #[prost(fixed64, tag = "3")]
    spi_remote: u64,
    #[prost(uint64, repeated, tag = "4")]
    choice: Vec<u64>,
    #[prost(message, optional, tag = "5")]
    keys: Option<SkeyidForm>,
    #[prost(bytes = "vec", tag = "6")]
    last_block: Vec<u8>,
    #[prost(message, optional, tag = "7")]
    peer: Option<AnnouncedForm>,
    #[prost(message, optional, tag = "8")]
    life: Option<LifeForm>,
    #[prost(message, optional, tag = "9")]
    last: Option<RepeatForm>,
    #[prost(message, optional, tag = "10")]
    replaced: Option<Due>,
    #[prost(message, optional, tag = "11")]
    began: Option<Due>,
    #[prost(message, optional, tag = "12")]
    since: Option<Due>,
    #[prost(message, optional, tag = "13")]
    heard: Option<Due>,
    #[prost(uint64, tag = "14")]
    octets: u64,
    /// In order, as are the nonces.
    #[prost(fixed32, repeated, tag = "15")]
    seen_ids: Vec<u32>,
    #[prost(fixed64, repeated, tag = "16")]
    seen_nonces: Vec<u64>,
    #[prost(uint32, optional, tag = "17")]
    next_question: Option<u32>,
    #[prost(uint32, optional, tag = "18")]
    first_question: Option<u32>,
    /// The oldest first.
    #[prost(fixed32, repeated, tag = "19")]
    seen_signs: Vec<u32>,
    #[prost(bool, tag = "20")]
    forgot_signs: bool,
    #[prost(uint32, optional, tag = "21")]
    asked: Option<u32>,
}

impl IkeSa {
    pub(crate) fn form(&self, w: &Writing<'_>) -> IkeSaForm {
        let Self {
            initiator,
            spi_local,
            spi_remote,
            choice,
            suite: _,
            keys,
            last_block,
            peer,
            life,
            last,
            replaced,
            began,
            since,
            heard,
            octets,
            questions,
            seen: Seen { ids, nonces, signs, forgot, asked },
        } = self;
        IkeSaForm {
            initiator: *initiator,
            spi_local: *spi_local,
            spi_remote: *spi_remote,
            choice: choice_form(choice),
            keys: Some(SkeyidForm::new(keys)),
            last_block: last_block.clone(),
            peer: Some(peer.form()),
            life: Some(LifeForm::new(*life)),
            last: last.as_ref().map(|last| last.form(w)),
            replaced: replaced.and_then(|at| w.due(at)),
            began: w.due(*began),
            since: w.due(*since),
            heard: w.due(*heard),
            octets: *octets,
            seen_ids: ids.clone(),
            seen_nonces: nonces.clone(),
            next_question: questions.as_ref().map(|questions| questions.end),
            first_question: questions.as_ref().map(|questions| questions.start),
            seen_signs: signs.iter().copied().collect(),
            forgot_signs: *forgot,
            asked: *asked,
        }
    }

    pub(crate) fn restore(form: &IkeSaForm, r: &Reading) -> Result<Self, RestoreError> {
        let choice = choice(&form.choice)?;
        let suite = Suite::new(&choice)?;
        let seen = Seen {
            ids: form.seen_ids.clone(),
            nonces: form.seen_nonces.clone(),
            signs: form.seen_signs.clone().into(),
            forgot: form.forgot_signs,
            asked: form.asked,
        };
        Ok(Self {
            initiator: form.initiator,
            spi_local: form.spi_local,
            spi_remote: form.spi_remote,
            choice,
            suite,
            keys: required(form.keys.as_ref(), "the keys of an IKE_SA")?.read(suite)?,
            last_block: form.last_block.clone(),
            peer: Announced::restore(required(form.peer.as_ref(), "what the peer has announced")?)?,
            life: required(form.life, "the lifetime of an IKE_SA")?.read(),
            last: form.last.as_ref().map(|last| Repeat::restore(last, r)).transpose()?,
            replaced: r.maybe_at(form.replaced),
            began: r.at(form.began, "when phase 1 began")?,
            since: r.at(form.since, "when phase 1 was done")?,
            heard: r.at(form.heard, "when an IKE_SA was heard last")?,
            octets: form.octets,
            questions: form.next_question.map(|next| form.first_question.unwrap_or(next)..next),
            seen: seen.bounded(),
        })
    }
}
