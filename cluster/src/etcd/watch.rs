//! A stream of what changes in etcd.

use culvert_proto::etcd::{Event, WatchCreateRequest, WatchResponse};

use super::EtcdError;
use super::calls::Answers;
use super::member::Member;

pub(crate) struct Watch {
    answers: Answers,
    url: String,
}

/// Events of whole writes, in their order.
pub(crate) struct Events {
    pub(crate) events: Vec<Event>,
    /// Of etcd: all up to here has been told.
    pub(crate) revision: i64,
}

impl Watch {
    /// Watches at this member.
    pub(crate) async fn begin(
        member: &Member,
        key: Vec<u8>,
        range_end: Vec<u8>,
        start_revision: i64,
    ) -> Result<Self, EtcdError> {
        let create = WatchCreateRequest { key, range_end, start_revision, progress_notify: true };
        let answers = member.way().watch(create).await;
        let answers = answers.map_err(|status| away(member.url(), &member.words(&status)))?;
        let mut watch = Self { answers, url: member.url().to_owned() };
        // The first answer says that it is watched.
        watch.answer().await?;
        Ok(watch)
    }

    /// The next events; none when all that is said is how far etcd is.
    pub(crate) async fn next(&mut self) -> Result<Events, EtcdError> {
        let answer = self.answer().await?;
        let revision = answer.header.map_or(0, |header| header.revision);
        // Events may be behind the header, which tells how far the store is.
        let last = answer.events.last().and_then(|event| event.kv.as_ref()).map(|kv| kv.mod_revision);
        Ok(Events { events: answer.events, revision: last.unwrap_or(revision) })
    }

    async fn answer(&mut self) -> Result<WatchResponse, EtcdError> {
        match self.answers.next().await {
            Ok(Some(answer)) if answer.compact_revision > 0 => {
                Err(EtcdError::Compacted(answer.compact_revision))
            }
            Ok(Some(answer)) if answer.canceled => Err(away(&self.url, &answer.cancel_reason)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(away(&self.url, "the watch has ended")),
            Err(status) => Err(away(&self.url, status.message())),
        }
    }
}

fn away(url: &str, reason: &str) -> EtcdError {
    EtcdError::Away { place: "etcd".to_owned(), reason: format!("{url}: {reason}") }
}
