//! The silence of a peer goes on, by another clock.

use prost::Message;
use snapshot::{Due, SnapshotError};

use super::Silence;
use crate::snapshot::{Reading, Writing};

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(crate) struct SilenceForm {
    #[prost(message, optional, tag = "1")]
    since: Option<Due>,
    #[prost(message, optional, tag = "2")]
    asked: Option<Due>,
}

impl Silence {
    pub(crate) fn write(self, w: &mut Writing<'_>) {
        let Self { since, asked } = self;
        w.at(1, since);
        w.maybe_at(2, asked);
    }

    pub(crate) fn restore(form: &SilenceForm, r: &Reading) -> Result<Self, SnapshotError> {
        let since = r.at(form.since, "when the peer was heard last")?;
        Ok(Self { since, asked: r.maybe_at(form.asked) })
    }
}
