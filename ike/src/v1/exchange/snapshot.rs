//! Messages that may be sent again, and quick modes under way, as another node takes them over.

use prost::{Message, Oneof};
use snapshot::{Due, SnapshotError, required};

use super::{Answered, ChildOffer, Digest, Quick, Repeat, Step, Tries};
use crate::snapshot::keys::KeyPairForm;
use crate::snapshot::values::RetransmitForm;
use crate::snapshot::{Reading, RestoreError, Writing};

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct RepeatForm {
    #[prost(bytes = "vec", tag = "1")]
    message: Vec<u8>,
    #[prost(bytes = "vec", optional, tag = "2")]
    answers: Option<Vec<u8>>,
    #[prost(uint32, tag = "3")]
    sent: u32,
    #[prost(message, optional, tag = "4")]
    due: Option<Due>,
    #[prost(message, optional, tag = "5")]
    policy: Option<RetransmitForm>,
}

impl Repeat {
    pub(crate) fn form(&self, w: &Writing<'_>) -> RepeatForm {
        let Self { message, answers, sent, due, policy } = self;
        RepeatForm {
            message: message.clone(),
            answers: answers.map(|Digest(digest)| digest.to_vec()),
            sent: *sent,
            due: due.and_then(|due| w.due(due)),
            policy: Some(RetransmitForm::new(*policy)),
        }
    }

    pub(crate) fn restore(form: &RepeatForm, r: &Reading) -> Result<Self, SnapshotError> {
        let digest = |octets: &Vec<u8>| {
            let digest = octets.as_slice().try_into().map(Digest);
            digest.map_err(|_| SnapshotError::value("a digest", format!("{} octets", octets.len())))
        };
        Ok(Self {
            message: form.message.clone(),
            answers: form.answers.as_ref().map(digest).transpose()?,
            sent: form.sent,
            due: r.maybe_at(form.due),
            policy: required(form.policy, "the schedule of a message")?.read(),
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct TriesForm {
    #[prost(uint32, tag = "1")]
    put_off: u32,
    #[prost(uint32, tag = "2")]
    way: u32,
}

impl TriesForm {
    pub(crate) fn new(tries: Tries) -> Self {
        let Tries { put_off, way } = tries;
        // There are as many ways as a policy has groups.
        Self { put_off, way: u32::try_from(way).unwrap_or(0) }
    }

    pub(crate) fn read(self) -> Tries {
        Tries { put_off: self.put_off, way: usize::try_from(self.way).unwrap_or(0) }
    }
}

#[derive(Clone, PartialEq, Message)]
pub(crate) struct QuickForm {
    #[prost(fixed64, tag = "1")]
    ike: u64,
    #[prost(fixed32, tag = "2")]
    id: u32,
    #[prost(bytes = "vec", tag = "3")]
    iv: Vec<u8>,
    #[prost(oneof = "StepForm", tags = "4, 5, 6")]
    step: Option<StepForm>,
    #[prost(message, optional, tag = "7")]
    repeat: Option<RepeatForm>,
    #[prost(message, optional, tag = "8")]
    since: Option<Due>,
}

#[derive(Clone, PartialEq, Oneof)]
enum StepForm {
    #[prost(message, tag = "4")]
    Requested(ChildOfferForm),
    #[prost(message, tag = "5")]
    Answered(AnsweredForm),
    #[prost(message, tag = "6")]
    Done(DoneForm),
}

#[derive(Clone, PartialEq, Message)]
struct ChildOfferForm {
    #[prost(uint32, tag = "1")]
    policy: u32,
    #[prost(fixed32, tag = "2")]
    spi_in: u32,
    #[prost(bytes = "vec", tag = "3")]
    nonce: Vec<u8>,
    #[prost(message, optional, tag = "4")]
    dh: Option<KeyPairForm>,
    #[prost(fixed32, optional, tag = "5")]
    replaces: Option<u32>,
    #[prost(message, optional, tag = "6")]
    tries: Option<TriesForm>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct AnsweredForm {
    #[prost(fixed32, tag = "1")]
    spi_in: u32,
    #[prost(bytes = "vec", tag = "2")]
    nonce_i: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    nonce_r: Vec<u8>,
    #[prost(bool, tag = "4")]
    commit: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct DoneForm {
    #[prost(message, optional, tag = "1")]
    until: Option<Due>,
    #[prost(fixed32, optional, tag = "2")]
    connected: Option<u32>,
}

impl Quick {
    pub(crate) fn form<'a>(&'a self, w: &mut Writing<'a>) -> QuickForm {
        let Self { ike, id, iv, step, repeat, since } = self;
        let step = match step {
            Step::Requested(offer) => {
                let ChildOffer { config, spi_in, nonce, dh, replaces, tries } = &**offer;
                StepForm::Requested(ChildOfferForm {
                    policy: w.policy(config),
                    spi_in: *spi_in,
                    nonce: nonce.clone(),
                    dh: dh.as_ref().map(KeyPairForm::new),
                    replaces: *replaces,
                    tries: Some(TriesForm::new(*tries)),
                })
            }
            Step::Answered(answered) => {
                let Answered { spi_in, nonces: (nonce_i, nonce_r), commit } = &**answered;
                let (nonce_i, nonce_r) = (nonce_i.clone(), nonce_r.clone());
                StepForm::Answered(AnsweredForm { spi_in: *spi_in, nonce_i, nonce_r, commit: *commit })
            }
            Step::Done(until, connected) => {
                StepForm::Done(DoneForm { until: w.due(*until), connected: *connected })
            }
        };
        QuickForm {
            ike: *ike,
            id: *id,
            iv: iv.clone(),
            step: Some(step),
            repeat: Some(repeat.form(w)),
            since: w.due(*since),
        }
    }

    pub(crate) fn restore(form: &QuickForm, r: &Reading) -> Result<Self, RestoreError> {
        let step = match required(form.step.as_ref(), "what a quick mode waits for")? {
            StepForm::Requested(form) => Step::Requested(Box::new(form.read(r)?)),
            StepForm::Answered(form) => Step::Answered(Box::new(Answered {
                spi_in: form.spi_in,
                nonces: (form.nonce_i.clone(), form.nonce_r.clone()),
                commit: form.commit,
            })),
            StepForm::Done(form) => {
                Step::Done(r.at(form.until, "when a quick mode is forgotten")?, form.connected)
            }
        };
        Ok(Self {
            ike: form.ike,
            id: form.id,
            iv: form.iv.clone(),
            step,
            repeat: Repeat::restore(required(form.repeat.as_ref(), "the last message of a quick mode")?, r)?,
            since: r.at(form.since, "when a quick mode began")?,
        })
    }
}

impl ChildOfferForm {
    fn read(&self, r: &Reading) -> Result<ChildOffer, RestoreError> {
        Ok(ChildOffer {
            config: r.policy(self.policy)?,
            spi_in: self.spi_in,
            nonce: self.nonce.clone(),
            dh: self.dh.as_ref().map(KeyPairForm::read).transpose()?,
            replaces: self.replaces,
            tries: required(self.tries, "what a request has tried")?.read(),
        })
    }
}
