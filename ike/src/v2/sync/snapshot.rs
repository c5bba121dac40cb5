//! What was agreed with a peer that is a cluster, as another node takes it over.

use prost::Message;
use snapshot::{Due, SnapshotError};

use super::{Asked, CounterSync, Last};
use crate::snapshot::values::DatagramsForm;
use crate::snapshot::{Reading, Writing};

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct CounterSyncForm {
    #[prost(bool, tag = "1")]
    message_ids: bool,
    #[prost(bool, tag = "2")]
    replay_counters: bool,
    #[prost(message, optional, tag = "3")]
    last: Option<LastForm>,
}

#[derive(Clone, PartialEq, Eq, Message)]
struct LastForm {
    #[prost(message, optional, tag = "1")]
    at: Option<Due>,
    #[prost(message, optional, tag = "2")]
    asked: Option<AskedForm>,
    #[prost(message, optional, tag = "3")]
    answer: Option<DatagramsForm>,
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct AskedForm {
    #[prost(fixed32, tag = "1")]
    nonce: u32,
    #[prost(uint32, tag = "2")]
    send: u32,
    #[prost(uint32, tag = "3")]
    receive: u32,
    #[prost(uint64, tag = "4")]
    delta: u64,
}

impl CounterSync {
    /// Nothing where nothing is agreed.
    pub(crate) fn form(&self, w: &Writing<'_>) -> Option<CounterSyncForm> {
        let Self { message_ids, replay_counters, last } = self;
        let last = last.as_deref().map(|Last { at, sync }| LastForm {
            at: w.due(*at),
            asked: sync.as_ref().map(|(asked, _)| AskedForm::new(*asked)),
            answer: sync.as_ref().map(|(_, answer)| DatagramsForm::new(answer)),
        });
        (*message_ids || *replay_counters).then_some(CounterSyncForm {
            message_ids: *message_ids,
            replay_counters: *replay_counters,
            last,
        })
    }

    /// Without a form nothing is agreed: it is of a node that knew nothing of it.
    pub(crate) fn restore(form: Option<&CounterSyncForm>, r: &Reading) -> Result<Self, SnapshotError> {
        let Some(CounterSyncForm { message_ids, replay_counters, last }) = form else {
            return Ok(Self::default());
        };
        let last = last.as_ref().map(|LastForm { at, asked, answer }| {
            let answer = answer.as_ref().map(|answer| answer.datagrams.clone()).unwrap_or_default();
            let sync = asked.as_ref().map(|asked| (asked.read(), answer));
            Ok::<_, SnapshotError>(Box::new(Last {
                at: r.at(*at, "when Message IDs were synchronized")?,
                sync,
            }))
        });
        Ok(Self { message_ids: *message_ids, replay_counters: *replay_counters, last: last.transpose()? })
    }
}

impl AskedForm {
    const fn new(asked: Asked) -> Self {
        let Asked { nonce, send, receive, delta } = asked;
        Self { nonce: u32::from_be_bytes(nonce), send, receive, delta }
    }

    const fn read(&self) -> Asked {
        let Self { nonce, send, receive, delta } = *self;
        Asked { nonce: nonce.to_be_bytes(), send, receive, delta }
    }
}
