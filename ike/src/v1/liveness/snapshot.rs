//! A question that waits for its answer, as another node takes it over.

use prost::Message;
use snapshot::{Due, SnapshotError, required};

use super::Probe;
use crate::snapshot::values::RetransmitForm;
use crate::snapshot::{Reading, Writing};

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct ProbeForm {
    #[prost(uint32, tag = "1")]
    first: u32,
    #[prost(uint32, tag = "2")]
    next: u32,
    #[prost(uint32, tag = "3")]
    sent: u32,
    #[prost(message, optional, tag = "4")]
    due: Option<Due>,
    #[prost(message, optional, tag = "5")]
    policy: Option<RetransmitForm>,
}

impl Probe {
    pub(crate) fn form(self, w: &Writing<'_>) -> ProbeForm {
        let Self { first, next, sent, due, policy } = self;
        ProbeForm { first, next, sent, due: w.due(due), policy: Some(RetransmitForm::new(policy)) }
    }

    pub(crate) fn restore(form: &ProbeForm, r: &Reading) -> Result<Self, SnapshotError> {
        Ok(Self {
            first: form.first,
            next: form.next,
            sent: form.sent,
            due: r.at(form.due, "when a question is asked again")?,
            policy: required(form.policy, "the schedule of a question")?.read(),
        })
    }
}
