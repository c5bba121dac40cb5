//! Message IDs, windows, what is under way and what was answered, as another node takes them over.

use prost::{Message, Oneof};
use snapshot::{Due, SnapshotError, required};

use super::{Exchanges, Pending, Windows};
use crate::snapshot::values::{DatagramsForm, RetransmitForm};
use crate::snapshot::{Reading, RestoreError, Writing};
use crate::v2::request::Request;
use crate::v2::snapshot::request::{ChildOfferForm, IkeOfferForm};
use crate::wire::numbers::ExchangeType;

#[derive(Clone, PartialEq, Message)]
pub(crate) struct ExchangesForm {
    #[prost(uint32, tag = "1")]
    next_id: u32,
    #[prost(uint32, tag = "2")]
    expected: u32,
    #[prost(uint32, tag = "3")]
    window_ours: u32,
    #[prost(uint32, tag = "4")]
    window_theirs: u32,
    #[prost(message, repeated, tag = "5")]
    pending: Vec<PendingForm>,
    #[prost(message, repeated, tag = "6")]
    answers: Vec<AnswerForm>,
}

#[derive(Clone, PartialEq, Message)]
struct PendingForm {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(uint32, tag = "2")]
    exchange: u32,
    #[prost(oneof = "RequestForm", tags = "3, 4, 5, 6, 7, 8")]
    request: Option<RequestForm>,
    #[prost(message, optional, tag = "9")]
    datagrams: Option<DatagramsForm>,
    #[prost(uint32, tag = "10")]
    sent: u32,
    #[prost(message, optional, tag = "11")]
    due: Option<Due>,
    #[prost(message, optional, tag = "12")]
    policy: Option<RetransmitForm>,
}

#[derive(Clone, PartialEq, Oneof)]
enum RequestForm {
    #[prost(bool, tag = "3")]
    Auth(bool),
    #[prost(message, tag = "4")]
    Child(ChildOfferForm),
    #[prost(message, tag = "5")]
    RekeyIke(IkeOfferForm),
    #[prost(fixed32, tag = "6")]
    DeleteChild(u32),
    #[prost(bool, tag = "7")]
    DeleteIke(bool),
    #[prost(bool, tag = "8")]
    Liveness(bool),
}

#[derive(Clone, PartialEq, Eq, Message)]
struct AnswerForm {
    #[prost(uint32, tag = "1")]
    id: u32,
    #[prost(message, optional, tag = "2")]
    datagrams: Option<DatagramsForm>,
}

impl Exchanges {
    /// Writes an [`ExchangesForm`].
    pub(crate) fn write<'a>(&'a self, w: &mut Writing<'a>) {
        let Self { next_id, expected, windows: Windows { ours, theirs }, pending, answers } = self;
        w.uint(1, (*next_id).into());
        w.uint(2, (*expected).into());
        w.uint(3, (*ours).into());
        w.uint(4, (*theirs).into());
        for pending in pending {
            let form = pending.form(w);
            w.form(5, &form);
        }
        for (id, datagrams) in answers {
            w.message(6, |w| {
                w.uint(1, (*id).into());
                w.message(2, |w| DatagramsForm::write(w, datagrams));
            });
        }
    }

    pub(crate) fn restore(form: &ExchangesForm, r: &Reading) -> Result<Self, RestoreError> {
        let answer = |form: &AnswerForm| {
            let datagrams = required(form.datagrams.as_ref(), "an answer")?;
            Ok::<_, SnapshotError>((form.id, datagrams.datagrams.clone()))
        };
        // A window of none would never let anything through.
        let windows = Windows { ours: form.window_ours.max(1), theirs: form.window_theirs.max(1) };
        Ok(Self {
            next_id: form.next_id,
            expected: form.expected,
            windows,
            pending: form.pending.iter().map(|form| form.read(r)).collect::<Result<_, _>>()?,
            answers: form.answers.iter().map(answer).collect::<Result<_, _>>()?,
        })
    }
}

impl Pending {
    fn form<'a>(&'a self, w: &mut Writing<'a>) -> PendingForm {
        let Self { id, exchange, request, datagrams, sent, due, policy } = self;
        let request = match request {
            Request::Auth => RequestForm::Auth(true),
            Request::Child(offer) => RequestForm::Child(ChildOfferForm::new(offer, w)),
            Request::RekeyIke(offer) => RequestForm::RekeyIke(IkeOfferForm::new(offer)),
            Request::DeleteChild(spi) => RequestForm::DeleteChild(*spi),
            Request::DeleteIke => RequestForm::DeleteIke(true),
            Request::Liveness => RequestForm::Liveness(true),
        };
        PendingForm {
            id: *id,
            exchange: exchange.0.into(),
            request: Some(request),
            datagrams: Some(DatagramsForm::new(datagrams)),
            sent: *sent,
            due: w.due(*due),
            policy: Some(RetransmitForm::new(*policy)),
        }
    }
}

impl PendingForm {
    fn read(&self, r: &Reading) -> Result<Pending, RestoreError> {
        let request = match required(self.request.as_ref(), "what a request is for")? {
            RequestForm::Auth(_) => Request::Auth,
            RequestForm::Child(offer) => Request::Child(Box::new(offer.read(r)?)),
            RequestForm::RekeyIke(offer) => Request::RekeyIke(Box::new(offer.read()?)),
            RequestForm::DeleteChild(spi) => Request::DeleteChild(*spi),
            RequestForm::DeleteIke(_) => Request::DeleteIke,
            RequestForm::Liveness(_) => Request::Liveness,
        };
        let exchange = u8::try_from(self.exchange);
        Ok(Pending {
            id: self.id,
            exchange: ExchangeType(exchange.map_err(|error| SnapshotError::value("an exchange", error))?),
            request,
            datagrams: required(self.datagrams.as_ref(), "a request as it was sent")?.datagrams.clone(),
            sent: self.sent,
            due: r.at(self.due, "when a request is sent again")?,
            policy: required(self.policy.as_ref(), "the schedule of a request")?.read(),
        })
    }
}
