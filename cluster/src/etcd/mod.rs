//! A client of etcd: as many of its calls as Culvert has use for.
//!
//! Members are tried in turn, beginning with the one that answered last, until one answers (`asking.rs`). So a call may be
//! made twice; those that change something are transactions that compare first, of which the second finds the first.

mod asking;
mod calls;
mod lease;
mod member;
#[cfg(feature = "simulated")]
pub(crate) mod memory;
pub(crate) mod mirror;
mod pages;
mod reach;
mod start;
mod tls;
pub(crate) mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use culvert_proto::etcd::response_op::Response;
use culvert_proto::etcd::{
    self as api, Compare, KeyValue, RangeRequest, RangeResponse, RequestOp, ResponseHeader, TxnRequest,
    TxnResponse,
};
use tokio::time::Instant;
use tonic::{Code, Status};

use asking::{ANSWER, GLANCE, PATIENCE};
pub(crate) use lease::put_leased;
use member::Member;
use reach::Reach;
pub use tls::TlsFiles;
pub(crate) use watch::Watch;

/// Where etcd is.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// `http://` or `https://` URLs of its members, client port.
    pub endpoints: Vec<String>,
    /// What keys begin with, without a slash at the end: clusters of different prefixes may share an etcd.
    pub prefix: String,
    /// For `https://`.
    pub tls: TlsFiles,
}

/// Why etcd did not do as it was asked.
#[derive(Debug, thiserror::Error)]
pub enum EtcdError {
    /// No member answers, or none has a leader. Whether a change was made is unknown.
    #[error("{place}: {reason}")]
    Away {
        /// The members.
        place: String,
        /// What the last one said.
        reason: String,
    },
    /// It was understood and refused.
    #[error("etcd at {place} refuses: {reason}")]
    Refused {
        /// The member.
        place: String,
        /// Why.
        reason: String,
    },
    /// What it has to say at once is larger than what is taken.
    #[error("etcd at {place}: {reason}")]
    TooLarge {
        /// The member.
        place: String,
        /// How large, and what is taken.
        reason: String,
    },
    /// It was asked for a time that it has forgotten.
    #[error("etcd has forgotten what was before revision {0}")]
    Compacted(i64),
    /// It has lost what it knew, or is an older copy: what is known of it holds no more.
    #[error(
        "etcd is at revision {now} and was at {known}: its data were deleted, or an older copy was restored"
    )]
    WentBack {
        /// Revision that it had.
        known: i64,
        /// Revision that it has.
        now: i64,
    },
    /// A setting is wrong.
    #[error("{field}: {reason}")]
    Setting {
        /// The setting.
        field: &'static str,
        /// What is wrong, and what was expected.
        reason: String,
    },
    /// What is stored is not what Culvert stores.
    #[error("etcd key {key}: {reason}")]
    Corrupt {
        /// The key.
        key: String,
        /// What is wrong.
        reason: String,
    },
}

/// A client. Clones share their connections.
#[derive(Clone, Debug)]
pub struct Etcd {
    members: Arc<[Member]>,
    /// The one that answered last.
    current: Arc<AtomicUsize>,
    /// How often another one was turned to. Watches of before end, whichever of them it was that told nothing.
    turns: Arc<tokio::sync::watch::Sender<u64>>,
    prefix: Arc<str>,
    reach: Arc<Reach>,
}

impl Etcd {
    /// A client of these members; connections are made when they are needed. To be called in a tokio runtime.
    pub fn new(settings: &Settings) -> Result<Self, EtcdError> {
        if settings.endpoints.is_empty() {
            let reason = "is empty; expected URLs, such as http://127.0.0.1:2379".to_owned();
            return Err(EtcdError::Setting { field: "endpoints", reason });
        }
        let prefix = settings.prefix.as_str();
        if prefix.is_empty() || prefix.ends_with('/') {
            let reason =
                format!("{prefix:?}; expected a text that does not end with a slash, such as /culvert");
            return Err(EtcdError::Setting { field: "prefix", reason });
        }
        let members = settings.endpoints.iter().map(|url| Member::new(url, &settings.tls));
        let members: Vec<Member> = members.collect::<Result<_, _>>()?;
        Ok(Self::of(members, prefix))
    }

    fn of(members: Vec<Member>, prefix: &str) -> Self {
        Self {
            members: members.into(),
            current: Arc::default(),
            turns: Arc::default(),
            prefix: prefix.into(),
            reach: Arc::default(),
        }
    }

    /// The greatest revision that anything has been heard of.
    pub(crate) fn revision(&self) -> i64 {
        self.reach.known()
    }

    /// A key of this cluster.
    pub(crate) fn key(&self, rest: &str) -> Vec<u8> {
        format!("{}/{rest}", self.prefix).into_bytes()
    }

    /// What `key` is without the prefix; `None` if it is none of this cluster.
    pub(crate) fn strip<'a>(&self, key: &'a [u8]) -> Option<&'a str> {
        std::str::from_utf8(key).ok()?.strip_prefix(&*self.prefix)?.strip_prefix('/')
    }

    /// One key, as of the last write that anybody was told of.
    pub(crate) async fn get(&self, rest: &str) -> Result<RangeResponse, EtcdError> {
        self.range(RangeRequest { key: self.key(rest), ..RangeRequest::default() }).await
    }

    /// As [`Self::get`], in one round over all members: for when none has answered of late, and whoever asks has something else
    /// to go on with.
    pub(crate) async fn glance(&self, rest: &str) -> Result<RangeResponse, EtcdError> {
        let request = RangeRequest { key: self.key(rest), ..RangeRequest::default() };
        let ask = |member: Member| {
            let request = request.clone();
            async move { member.way().range(request).await }
        };
        let glanced = async { self.round(GLANCE, Instant::now() + PATIENCE, &ask).await?.map_err(away) };
        self.judged(glanced, |answer| answer.header.as_ref()).await
    }

    pub(crate) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, EtcdError> {
        let ask = |member: Member| {
            let request = request.clone();
            async move { member.way().range(request).await }
        };
        let asked = self.call_several(ask, |_| true);
        self.judged(asked, |answer| answer.header.as_ref()).await
    }

    /// A transaction: `success` if all of `compare` holds, else `failure`. One that compares nothing is asked of one member after the other: made
    /// once more later, it would undo what came between.
    pub(crate) async fn transact(
        &self,
        compare: Vec<Compare>,
        success: Vec<RequestOp>,
        failure: Vec<RequestOp>,
    ) -> Result<TxnResponse, EtcdError> {
        let request = TxnRequest { compare, success, failure };
        let compares = !request.compare.is_empty();
        let ask = |member: Member| {
            let request = request.clone();
            async move { member.way().transact(request).await }
        };
        let asked = async {
            match compares {
                // Of one that is made twice, the second is refused by the first.
                true => self.call_several(ask, |answer| answer.succeeded).await,
                false => self.call(ask).await,
            }
        };
        self.judged(asked, |answer| answer.header.as_ref()).await
    }

    /// Asks, unless etcd has gone back, which the answer may be the first to show.
    async fn judged<T>(
        &self,
        asked: impl Future<Output = Result<T, EtcdError>>,
        header: impl FnOnce(&T) -> Option<&ResponseHeader>,
    ) -> Result<T, EtcdError> {
        self.reach.check()?;
        let known = self.reach.known();
        let answer = asked.await?;
        self.reach.meet(known, header(&answer)).map(|()| answer)
    }

    /// Makes etcd forget what was before `revision`.
    pub(crate) async fn compact(&self, revision: i64) -> Result<(), EtcdError> {
        self.call(|member| async move { member.way().compact(revision).await }).await
    }

    /// Asks another member first from now on, and ends all watches: the one that answered last is of no help, and what one watch is not told
    /// the others may not be told either.
    pub(crate) fn turn_to_another(&self) {
        let next = |at: usize| (at + 1).checked_rem(self.members.len());
        let _ = self.current.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next);
        self.turns.send_modify(|turns| *turns += 1);
    }

    /// Watches all keys that begin with `rest`, from the write on that made `revision` of etcd.
    pub(crate) async fn watch(&self, rest: &str, revision: i64) -> Result<Watch, EtcdError> {
        self.reach.check()?;
        // Whoever goes on from there has heard of all before it.
        self.reach.raise(revision - 1);
        let mut reason = String::new();
        for (at, member) in self.in_turn() {
            let turns = self.turns.subscribe();
            let begin = Watch::begin(member, self.key(rest), end_of(self.key(rest)), revision, turns);
            match tokio::time::timeout(ANSWER, begin).await {
                Ok(Ok((watch, now))) => {
                    self.current.store(at, Ordering::Relaxed);
                    if now < revision - 1 {
                        // This member alone may be behind the others. What most of them say is not.
                        self.get("head").await?;
                    }
                    return Ok(watch);
                }
                Ok(Err(EtcdError::Away { reason: why, .. })) => reason = why,
                // The others would say the same.
                Ok(Err(error)) => return Err(error),
                Err(_) => reason = format!("{} does not answer", member.url()),
            }
        }
        Err(away(reason))
    }
}

/// The key that a transaction has read, if it is there.
pub(crate) fn found(made: TxnResponse) -> Option<KeyValue> {
    made.responses.into_iter().find_map(|answer| match answer.response {
        Some(Response::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    })
}

pub(crate) fn away(reason: String) -> EtcdError {
    EtcdError::Away { place: "etcd".to_owned(), reason }
}

/// Whether another member, or the same one later, may do it.
fn is_passing(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled | Code::Internal
    )
}

fn refused(member: &Member, status: &Status) -> EtcdError {
    let (place, reason) = (member.url().to_owned(), status.message().to_owned());
    // Errors that are a matter of course have no code of their own: this one is etcd's, and else it is said of the size of an answer.
    match status.code() {
        Code::OutOfRange if reason.contains("compacted") => EtcdError::Compacted(0),
        Code::OutOfRange => EtcdError::TooLarge { place, reason },
        _ => EtcdError::Refused { place, reason },
    }
}

/// The end of the range of all keys that begin with `prefix`.
pub(crate) fn end_of(mut prefix: Vec<u8>) -> Vec<u8> {
    while let Some(last) = prefix.pop() {
        if let Some(next) = last.checked_add(1) {
            prefix.push(next);
            return prefix;
        }
    }
    // All keys there are.
    vec![0]
}

/// `key` was last written by the write that made `revision` of etcd; 0 if it is not there.
pub(crate) fn unchanged_since(key: Vec<u8>, revision: i64) -> Compare {
    Compare {
        result: api::compare::CompareResult::Equal.into(),
        target: api::compare::CompareTarget::Mod.into(),
        key,
        target_union: Some(api::compare::TargetUnion::ModRevision(revision)),
    }
}

/// `key` was made by the write that made `revision` of etcd, however often it was written since; 0 if it is not there.
pub(crate) fn there_since(key: Vec<u8>, revision: i64) -> Compare {
    Compare {
        result: api::compare::CompareResult::Equal.into(),
        target: api::compare::CompareTarget::Create.into(),
        key,
        target_union: Some(api::compare::TargetUnion::CreateRevision(revision)),
    }
}

/// `key` is there.
pub(crate) fn exists(key: Vec<u8>) -> Compare {
    Compare {
        result: api::compare::CompareResult::Greater.into(),
        target: api::compare::CompareTarget::Create.into(),
        key,
        target_union: Some(api::compare::TargetUnion::CreateRevision(0)),
    }
}

pub(crate) fn put(key: Vec<u8>, value: Vec<u8>) -> RequestOp {
    let put = api::PutRequest { key, value, lease: 0 };
    RequestOp { request: Some(api::request_op::Request::RequestPut(put)) }
}

pub(crate) fn delete(key: Vec<u8>) -> RequestOp {
    delete_range(key, Vec::new())
}

pub(crate) fn delete_range(key: Vec<u8>, range_end: Vec<u8>) -> RequestOp {
    let delete = api::DeleteRangeRequest { key, range_end };
    RequestOp { request: Some(api::request_op::Request::RequestDeleteRange(delete)) }
}

pub(crate) fn read(key: Vec<u8>) -> RequestOp {
    let range = RangeRequest { key, ..RangeRequest::default() };
    RequestOp { request: Some(api::request_op::Request::RequestRange(range)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_prefix_is_the_next_one() {
        assert_eq!(end_of(b"/culvert/".to_vec()), b"/culvert0");
        assert_eq!(end_of(vec![1, 255]), [2]);
        assert_eq!(end_of(vec![255]), [0]);
    }

    #[tokio::test]
    async fn settings_that_cannot_be_are_told_by_name() {
        let settings = |endpoints: &[&str], prefix: &str| Settings {
            endpoints: endpoints.iter().map(ToString::to_string).collect(),
            prefix: prefix.to_owned(),
            tls: TlsFiles::default(),
        };
        let told = |settings: Settings| Etcd::new(&settings).map(drop).map_err(|error| error.to_string());
        assert!(told(settings(&[], "/c")).is_err_and(|error| error.starts_with("endpoints: is empty")));
        assert!(
            told(settings(&["http://[::1]:2379"], "/c/")).is_err_and(|error| error.starts_with("prefix"))
        );
        assert!(told(settings(&["ftp://x"], "/c")).is_err_and(|error| error.contains("http://")));
        assert!(told(settings(&["http://[::1]:2379"], "/c")).is_ok());
    }
}
