//! An etcd in memory, for simulations: what the real one promises of transactions, leases and watches, by the clock of tokio. What is between
//! it and a node is the simulation's: requests that take their time, arrive though nobody waits for them any more, or whose answers are lost.

#[cfg(test)]
mod tried;
mod watched;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use culvert_proto::etcd::compare::{CompareResult, TargetUnion};
use culvert_proto::etcd::event::EventType;
use culvert_proto::etcd::request_op::Request;
use culvert_proto::etcd::response_op::Response;
use culvert_proto::etcd::{
    Compare, DeleteRangeResponse, Event, KeyValue, PutResponse, RangeRequest, RangeResponse, RequestOp,
    ResponseHeader, ResponseOp, TxnRequest, TxnResponse, WatchCreateRequest, WatchResponse,
};
use prost::Message as _;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use tonic::Status;

use super::Etcd;
use super::calls::Way;
use super::member::Member;
#[cfg(test)]
pub(crate) use tried::AtOnce;
use watched::Watched;
pub(super) use watched::{Answers, Told};

/// Writes that a watch may begin with: whoever has missed more is told that they are forgotten, as after a compaction.
const KEPT: usize = 64;
/// A stream of which nothing gets through for as long has ended: HTTP/2 asks every six seconds, and waits two.
const DEAF: Duration = Duration::from_secs(8);
/// Between looks whether something gets through again.
const LOOK: Duration = Duration::from_millis(250);

/// What a request or an answer meets on its way between a node and etcd.
pub trait Path: Send + Sync + std::fmt::Debug + 'static {
    /// How long it takes; nothing if it does not arrive.
    fn time(&self) -> Option<Duration>;
}

/// The store. Clones are of the same.
#[derive(Clone, Debug)]
pub struct Memory(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// There is a lease where none was.
    granted: Notify,
}

/// What is in it.
#[derive(Debug, Default)]
pub(super) struct State {
    revision: i64,
    keys: BTreeMap<Vec<u8>, KeyValue>,
    log: VecDeque<WatchResponse>,
    /// The last write that is not in the log any more.
    forgotten: i64,
    /// Seconds, and when it ends.
    leases: BTreeMap<i64, (i64, Instant)>,
    last_lease: i64,
    watches: Vec<Watched>,
    /// Those that are told nothing more, and do not end.
    #[cfg(test)]
    mute: Vec<Watched>,
    /// Most of its members are gone: nothing is answered, and nothing ends.
    away: bool,
    /// To see that it is noticed: transactions do not compare.
    blind: bool,
    /// Octets of an answer that those who ask take, if they do not take any.
    most: Option<usize>,
}

/// The way of one node to the store.
#[derive(Clone, Debug)]
pub(super) struct Line {
    store: Memory,
    path: Arc<dyn Path>,
}

impl Memory {
    /// An empty one. To be called in a tokio runtime; its leases end for as long as that runs.
    pub fn begin() -> Self {
        let this = Self(Arc::default());
        tokio::spawn(expire(this.clone()));
        this
    }

    /// A client on this way.
    pub fn client(&self, path: Arc<dyn Path>) -> Etcd {
        let way = Way::Memory(Line { store: self.clone(), path });
        Etcd::of(vec![Member::of("memory://etcd", way)], "/simulated")
    }

    /// Most of its members go, or come back. A leader that is elected leaves each lease its whole time.
    pub fn set_away(&self, away: bool) {
        let mut state = self.state();
        if !std::mem::replace(&mut state.away, away) || away {
            return;
        }
        let now = Instant::now();
        state.leases.values_mut().for_each(|(seconds, ends)| *ends = now + time(*seconds));
    }

    /// From now on transactions succeed whatever they compare with: to see that this is noticed.
    pub fn set_blind(&self) {
        self.state().blind = true;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn time(seconds: i64) -> Duration {
    Duration::from_secs(seconds.try_into().unwrap_or(0))
}

async fn expire(store: Memory) {
    loop {
        let next = store.state().leases.values().map(|(_, ends)| *ends).min();
        match next {
            Some(next) => tokio::time::sleep_until(next.max(Instant::now() + LOOK)).await,
            None => store.0.granted.notified().await,
        }
        let mut state = store.state();
        if state.away {
            continue;
        }
        let now = Instant::now();
        let over: Vec<i64> =
            state.leases.iter().filter(|(_, (_, ends))| *ends <= now).map(|(id, _)| *id).collect();
        over.into_iter().for_each(|id| state.revoke(id));
    }
}

impl Line {
    /// Asks, and waits for the answer for ever if none arrives. What has left arrives, whether or not anybody still waits.
    pub(super) async fn ask<T: Send + 'static>(
        &self,
        act: impl FnOnce(&mut State) -> T + Send + 'static,
    ) -> Result<T, Status> {
        let Some(there) = self.path.time() else { return std::future::pending().await };
        if there.is_zero() && !self.store.state().away {
            let answer = act(&mut self.store.state());
            self.store.0.granted.notify_one();
            return Ok(answer);
        }
        let (tell, told) = oneshot::channel();
        let Self { store, path } = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(there).await;
            let answer = {
                let mut state = store.state();
                if state.away {
                    return;
                }
                act(&mut state)
            };
            store.0.granted.notify_one();
            if let Some(back) = path.time() {
                tokio::time::sleep(back).await;
                // Whoever asked may have given up.
                let _ = tell.send(answer);
            }
        });
        match told.await {
            Ok(answer) => Ok(answer),
            Err(_) => std::future::pending().await,
        }
    }

    pub(super) async fn watch(&self, create: WatchCreateRequest) -> Result<Answers, Status> {
        let from = self.ask(move |state| state.watch(create)).await?;
        let (to, answers) = mpsc::unbounded_channel();
        tokio::spawn(forward(from, to, Arc::clone(&self.path)));
        Ok(answers)
    }
}

/// Brings what a watch is told to the node, in its order.
async fn forward(mut from: Answers, to: mpsc::UnboundedSender<Told>, path: Arc<dyn Path>) {
    while let Some(answer) = from.recv().await {
        let mut deaf = Duration::ZERO;
        let time = loop {
            match path.time() {
                Some(time) => break time,
                None if deaf >= DEAF || to.is_closed() => return,
                None => tokio::time::sleep(LOOK).await,
            }
            deaf += LOOK;
        };
        tokio::time::sleep(time).await;
        if to.send(answer).is_err() {
            return;
        }
    }
}

impl State {
    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.revision, ..ResponseHeader::default() })
    }

    /// As [`Self::range`], if whoever asks takes it.
    pub(super) fn answer(&self, request: &RangeRequest) -> Result<RangeResponse, Status> {
        let answer = self.range(request);
        if self.most.is_some_and(|most| answer.encoded_len() > most) { Err(too_large()) } else { Ok(answer) }
    }

    /// As it is now: nobody in a simulation asks for what was.
    fn range(&self, request: &RangeRequest) -> RangeResponse {
        let of_it = || self.keys.range(bounds(request)).map(|(_, kv)| kv);
        let count = of_it().count();
        let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0).unwrap_or(count);
        let bare = |kv: &KeyValue| KeyValue { value: Vec::new(), ..kv.clone() };
        let shown = |kv: &KeyValue| if request.keys_only { bare(kv) } else { kv.clone() };
        let kvs = of_it().take(limit).map(shown).collect();
        let more = limit < count;
        RangeResponse { header: self.header(), kvs, more, count: i64::try_from(count).unwrap_or(i64::MAX) }
    }

    pub(super) fn transact(&mut self, request: TxnRequest) -> Result<TxnResponse, Status> {
        let leases = request.success.iter().chain(&request.failure).filter_map(|op| match &op.request {
            Some(Request::RequestPut(put)) if put.lease != 0 => Some(put.lease),
            _ => None,
        });
        if leases.into_iter().any(|lease| !self.leases.contains_key(&lease)) {
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        let succeeded = self.blind || request.compare.iter().all(|compare| self.holds(compare));
        let made = if succeeded { request.success } else { request.failure };
        let (at, mut events) = (self.revision + 1, Vec::new());
        let responses = made.into_iter().filter_map(|op| self.apply(op, at, &mut events)).collect();
        self.tell(at, events);
        Ok(TxnResponse { header: self.header(), succeeded, responses })
    }

    pub(super) fn grant(&mut self, seconds: i64) -> i64 {
        self.last_lease += 1;
        self.leases.insert(self.last_lease, (seconds, Instant::now() + time(seconds)));
        self.last_lease
    }

    pub(super) fn keep_alive(&mut self, id: i64) -> i64 {
        let Some((seconds, ends)) = self.leases.get_mut(&id) else { return 0 };
        *ends = Instant::now() + time(*seconds);
        *seconds
    }

    pub(super) fn revoke(&mut self, id: i64) {
        self.leases.remove(&id);
        let (at, mut events) = (self.revision + 1, Vec::new());
        let of_it: Vec<Vec<u8>> =
            self.keys.values().filter(|kv| kv.lease == id).map(|kv| kv.key.clone()).collect();
        of_it.iter().for_each(|key| self.remove(key, at, &mut events));
        self.tell(at, events);
    }

    fn watch(&mut self, create: WatchCreateRequest) -> Answers {
        let (tell, answers) = mpsc::unbounded_channel();
        if create.start_revision <= self.forgotten {
            let compact_revision = self.forgotten + 1;
            let _ = tell.send(Ok(WatchResponse { compact_revision, ..WatchResponse::default() }));
            return answers;
        }
        let begun = WatchResponse { header: self.header(), created: true, ..WatchResponse::default() };
        let _ = tell.send(Ok(begun));
        let from = create.start_revision;
        let watched =
            Watched { range: (create.key, create.range_end), from, fragment: create.fragment, tell };
        // As etcd does: what was missed is told at once.
        let missed = self.log.iter().filter(|written| written.revision() >= from);
        let events: Vec<Event> = missed.flat_map(|written| written.events.iter().cloned()).collect();
        watched
            .tell_of(&WatchResponse { header: self.header(), events, ..WatchResponse::default() }, self.most);
        self.watches.push(watched);
        answers
    }

    fn holds(&self, compare: &Compare) -> bool {
        let kv = self.keys.get(&compare.key);
        let (is, of) = match compare.target_union {
            Some(TargetUnion::ModRevision(of)) => (kv.map_or(0, |kv| kv.mod_revision), of),
            Some(TargetUnion::CreateRevision(of)) => (kv.map_or(0, |kv| kv.create_revision), of),
            Some(TargetUnion::Version(of)) => (kv.map_or(0, |kv| kv.version), of),
            _ => return false,
        };
        match compare.result() {
            CompareResult::Equal => is == of,
            CompareResult::NotEqual => is != of,
            CompareResult::Greater => is > of,
            CompareResult::Less => is < of,
        }
    }

    fn apply(&mut self, op: RequestOp, at: i64, events: &mut Vec<Event>) -> Option<ResponseOp> {
        let response = match op.request? {
            Request::RequestRange(request) => Response::ResponseRange(self.range(&request)),
            Request::RequestPut(put) => {
                let before = self.keys.get(&put.key);
                let kv = KeyValue {
                    create_revision: before.map_or(at, |kv| kv.create_revision),
                    mod_revision: at,
                    version: before.map_or(1, |kv| kv.version + 1),
                    key: put.key.clone(),
                    value: put.value,
                    lease: put.lease,
                };
                self.keys.insert(put.key, kv.clone());
                events.push(Event { r#type: EventType::Put.into(), kv: Some(kv), prev_kv: None });
                Response::ResponsePut(PutResponse { header: self.header() })
            }
            Request::RequestDeleteRange(request) => {
                let range = RangeRequest {
                    key: request.key,
                    range_end: request.range_end,
                    ..RangeRequest::default()
                };
                let keys: Vec<Vec<u8>> =
                    self.keys.range(bounds(&range)).map(|(key, _)| key.clone()).collect();
                keys.iter().for_each(|key| self.remove(key, at, events));
                let deleted = i64::try_from(keys.len()).unwrap_or(i64::MAX);
                Response::ResponseDeleteRange(DeleteRangeResponse { header: self.header(), deleted })
            }
        };
        Some(ResponseOp { response: Some(response) })
    }

    fn remove(&mut self, key: &[u8], at: i64, events: &mut Vec<Event>) {
        if self.keys.remove(key).is_some() {
            let kv = KeyValue { key: key.to_vec(), mod_revision: at, ..KeyValue::default() };
            events.push(Event { r#type: EventType::Delete.into(), kv: Some(kv), prev_kv: None });
        }
    }

    /// Forgets what was written up to a revision.
    pub(super) fn compact(&mut self, revision: i64) {
        while self.log.front().is_some_and(|written| written.revision() <= revision) {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        self.forgotten = self.log.pop_front().map_or(self.forgotten, |written| written.revision());
    }

    /// A write that has changed something is one revision.
    fn tell(&mut self, at: i64, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        self.revision = at;
        let written = WatchResponse { header: self.header(), events, ..WatchResponse::default() };
        self.watches.retain(|watch| !watch.tell.is_closed());
        self.watches.iter().for_each(|watch| watch.tell_of(&written, self.most));
        self.log.push_back(written);
        if self.log.len() > KEPT {
            self.forget_first();
        }
    }
}

/// What one says whose limit an answer is beyond.
fn too_large() -> Status {
    Status::out_of_range("Error, decoded message length too large")
}

fn bounds(request: &RangeRequest) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let first = Bound::Included(request.key.clone());
    if request.range_end.is_empty() {
        return (first, Bound::Included(request.key.clone()));
    }
    (first, Bound::Excluded(request.range_end.clone()))
}

trait Revision {
    fn revision(&self) -> i64;
}

impl Revision for WatchResponse {
    fn revision(&self) -> i64 {
        self.header.as_ref().map_or(0, |header| header.revision)
    }
}
