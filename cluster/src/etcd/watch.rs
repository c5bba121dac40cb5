//! A stream of what changes in etcd.

use culvert_proto::etcd::{Event, WatchCreateRequest, WatchResponse};
use prost::Message as _;
use tokio::sync::watch;

use super::calls::Answers;
use super::member::Member;
use super::{EtcdError, is_passing, refused};

/// Octets of one write that are put together from fragments: etcd takes requests of 1.5 MiB, unless it is told to take more.
const MAX_WRITE: usize = 16 << 20;

pub(crate) struct Watch {
    answers: Answers,
    member: Member,
    /// The beginning of a write that goes on in the next fragment.
    begun: Vec<Event>,
    /// Another member is turned to.
    turns: watch::Receiver<u64>,
}

/// Events of whole writes, in their order.
pub(crate) struct Events {
    pub(crate) events: Vec<Event>,
    /// Of etcd: all up to here has been told.
    pub(crate) revision: i64,
}

impl Watch {
    /// Watches at this member, and says how far that is.
    pub(crate) async fn begin(
        member: &Member,
        key: Vec<u8>,
        range_end: Vec<u8>,
        start_revision: i64,
        turns: watch::Receiver<u64>,
    ) -> Result<(Self, i64), EtcdError> {
        // Without fragments whoever has missed much is told it in one answer, of any size.
        let create =
            WatchCreateRequest { key, range_end, start_revision, progress_notify: true, fragment: true };
        let answers = member.way().watch(create).await.map_err(|status| failed(member, &status))?;
        let mut watch = Self { answers, member: member.clone(), begun: Vec::new(), turns };
        // The first answer says that it is watched.
        let begun = watch.answer().await?;
        Ok((watch, begun.header.map_or(0, |header| header.revision)))
    }

    /// The next events; none when all that is said is how far etcd is.
    pub(crate) async fn next(&mut self) -> Result<Events, EtcdError> {
        loop {
            let answer = self.answer().await?;
            let mut events = std::mem::take(&mut self.begun);
            events.extend(answer.events);
            if answer.fragment {
                self.begun = events.split_off(last_write(&events));
                let octets: usize = self.begun.iter().map(Event::encoded_len).sum();
                if octets > MAX_WRITE {
                    let reason = format!("a write of more than {octets} octets; at most {MAX_WRITE}");
                    return Err(EtcdError::TooLarge { place: self.member.url().to_owned(), reason });
                }
                if events.is_empty() {
                    continue;
                }
            }
            // Events may be behind the header, which tells how far the store is.
            let revision = answer.header.map_or(0, |header| header.revision);
            let revision = events.last().map_or(revision, written);
            return Ok(Events { events, revision });
        }
    }

    async fn answer(&mut self) -> Result<WatchResponse, EtcdError> {
        let answer = tokio::select! {
            biased;
            answer = self.answers.next() => answer,
            // Without a client there is nobody who turns.
            Ok(()) = self.turns.changed() => return Err(away(&self.member, "another member is turned to")),
        };
        match answer {
            Ok(Some(answer)) if answer.compact_revision > 0 => {
                Err(EtcdError::Compacted(answer.compact_revision))
            }
            Ok(Some(answer)) if answer.canceled => Err(away(&self.member, &answer.cancel_reason)),
            Ok(Some(answer)) => Ok(answer),
            Ok(None) => Err(away(&self.member, "the watch has ended")),
            Err(status) => Err(failed(&self.member, &status)),
        }
    }
}

/// Where the last write begins.
fn last_write(events: &[Event]) -> usize {
    let last = events.last().map(written);
    events.iter().rposition(|event| Some(written(event)) != last).map_or(0, |before| before + 1)
}

/// Which revision of etcd an event is of.
pub(crate) fn written(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

fn failed(member: &Member, status: &tonic::Status) -> EtcdError {
    if is_passing(status) { away(member, &member.words(status)) } else { refused(member, status) }
}

fn away(member: &Member, reason: &str) -> EtcdError {
    EtcdError::Away { place: "etcd".to_owned(), reason: format!("{}: {reason}", member.url()) }
}
