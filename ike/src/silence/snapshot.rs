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
    pub(crate) fn form(self, w: &Writing<'_>) -> SilenceForm {
        let Self { since, asked } = self;
        SilenceForm { since: w.due(since), asked: asked.and_then(|asked| w.due(asked)) }
    }

    pub(crate) fn restore(form: &SilenceForm, r: &Reading) -> Result<Self, SnapshotError> {
        let since = r.at(form.since, "when the peer was heard last")?;
        Ok(Self { since, asked: r.maybe_at(form.asked) })
    }
}
