//! Lists of the SAs of all nodes. How much of them this one holds at a time, over all who ask, is in `memory.rs`.
//!
//! A page is made of a page of each node. A list that streams is gathered before the first of it is sent: a client may read slowly, and
//! nothing that goes between nodes is to wait for it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use culvert_proto::v1;
use prost::Message as _;
use tenants::{Page, PageRequest};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;
use tokio_stream::{Stream, StreamExt as _};
use tonic::Status;

use super::ask::{PATIENCE, in_time, within};
use super::held::{Told, read};
use super::memory::{Memory, Room};
use super::merge::{InOrder, key};
use super::whose::asking;
use super::{Known, Wide};
use crate::access::{self, Lanes};
use crate::runtime::{RuntimeError, Scope};

/// Lists of this node's own SAs that are made at a time, whether all of one is sent or a page: that of a node with 10,000 peers is some 15 MB. The others
/// wait.
const TURNS: usize = 4;
/// How long the whole list of a node is waited for that goes on sending: some 5 MB for 10,000 peers, which is a moment.
const WHOLE: Duration = Duration::from_secs(10);

const FULL: RuntimeError = RuntimeError::Exhausted(
    "lists of SAs that are still being read hold all the memory there is for them; \
     list those of a tenant or a peer, or by pages, or try again later",
);
const BUSY: RuntimeError =
    RuntimeError::Exhausted("more lists of SAs are being made than this node makes at once; try again later");

/// What all lists of this node share.
pub(super) struct Lists {
    turns: Lanes,
    room: Arc<Room>,
}

impl Default for Lists {
    fn default() -> Self {
        Self { turns: Lanes::new(TURNS), room: Arc::default() }
    }
}

impl Lists {
    /// Whoever makes many waits for his own, and holds nobody up.
    async fn turn(&self, share: &str) -> Result<OwnedSemaphorePermit, RuntimeError> {
        timeout(PATIENCE, self.turns.turn(share, 1)).await.ok().flatten().ok_or(BUSY)
    }
}

/// All SAs of a scope in their order, and what they hold of the node until they are dropped.
pub(crate) struct Sas {
    sas: InOrder,
    _memory: Arc<Memory>,
}

impl Iterator for Sas {
    type Item = v1::Sa;

    fn next(&mut self) -> Option<v1::Sa> {
        self.sas.next()
    }
}

impl Wide {
    /// All SAs of a scope.
    pub(crate) async fn all_sas(&self, scope: &Scope) -> Result<Known<Sas>, RuntimeError> {
        let mut told = self.gather(scope).await?;
        if self.is_to_be_asked_again(&told).await {
            // Or there is no room for it once more.
            drop(told);
            told = self.gather(scope).await?;
        }
        Ok(self.at_last(told))
    }

    async fn gather(&self, scope: &Scope) -> Result<Told<Sas>, RuntimeError> {
        let memory = Arc::new(Memory::of(&self.0.lists.room, scope));
        let before = self.held();
        let own = {
            let _turn = self.0.lists.turn(&access::share()).await?;
            let own = self.own_sas(scope).await?;
            if !memory.begin(own.iter().map(octets).sum()) {
                return Err(FULL);
            }
            own
        };
        let own_slots = self.still(before);
        let request = v1::StreamSasRequest { parent: scope.parent() };
        let (answers, away) = self
            .each(|node| {
                let (request, memory) = (asking(scope, request.clone()), Arc::clone(&memory));
                async move {
                    let mut sas = node.sas();
                    let answer = async {
                        let answer = in_time(sas.stream_sas(request)).await?;
                        let of_slots = read(answer.metadata());
                        Ok((of_slots, whole(answer.into_inner(), &memory).await?))
                    };
                    within(WHOLE, answer).await
                }
            })
            .await;
        if memory.is_full() {
            return Err(FULL);
        }
        let (mut sas, mut held) = (InOrder::new(self.0.local.owners()), BTreeMap::new());
        held.insert(self.own_name(), own_slots);
        sas.add(self.own_name(), own);
        for (node, (slots, of_node)) in answers {
            held.insert(node.clone(), slots);
            sas.add(node, of_node);
        }
        Ok(Told { known: Known { what: Sas { sas, _memory: memory }, away }, held })
    }

    /// A page of the SAs of a scope, which is what the request asks for: no node sends more.
    pub(crate) async fn page_of_sas(
        &self,
        scope: &Scope,
        page: &PageRequest,
        request: &v1::ListSasRequest,
    ) -> Result<Known<Page<v1::Sa>>, RuntimeError> {
        let mut told = self.page(scope, page, request).await?;
        if self.is_to_be_asked_again(&told).await {
            told = self.page(scope, page, request).await?;
        }
        Ok(self.at_last(told))
    }

    async fn page(
        &self,
        scope: &Scope,
        page: &PageRequest,
        request: &v1::ListSasRequest,
    ) -> Result<Told<Page<v1::Sa>>, RuntimeError> {
        let before = self.held();
        let own = {
            let _turn = self.0.lists.turn(&access::share()).await?;
            let own = self.own_sas(scope).await?;
            let start = page.after().map_or(0, |after| own.partition_point(|sa| key(sa).as_str() <= after));
            page.cut_by(own.into_iter().skip(start), key, v1::Sa::encoded_len)
        };
        let own_slots = self.still(before);
        let (answers, away) = self
            .each(|node| {
                let request = asking(scope, request.clone());
                async move {
                    let mut sas = node.sas();
                    let answer = in_time(sas.list_sas(request)).await?;
                    Ok((read(answer.metadata()), answer.into_inner()))
                }
            })
            .await;
        let (mut sas, mut held) = (InOrder::new(self.0.local.owners()), BTreeMap::new());
        held.insert(self.own_name(), own_slots);
        // Up to where all have said all: who has more has sent a page of its own, which ends where it was full.
        let mut end = end_of(&own.items, own.next_page_token);
        sas.add(self.own_name(), own.items);
        for (node, (slots, answer)) in answers {
            held.insert(node.clone(), slots);
            end = end.into_iter().chain(end_of(&answer.sas, answer.next_page_token)).min();
            sas.add(node, answer.sas);
        }
        let said = sas.take_while(|sa| end.as_ref().is_none_or(|(last, _)| key(sa) <= *last));
        let mut page = page.cut_by(said, key, v1::Sa::encoded_len);
        if let Some((_, token)) = end.filter(|_| page.next_page_token.is_empty()) {
            page.next_page_token = token;
        }
        Ok(Told { known: Known { what: page, away }, held })
    }

    async fn own_sas(&self, scope: &Scope) -> Result<Vec<v1::Sa>, RuntimeError> {
        let mut sas = self.0.local.list_sas(scope).await?;
        // An SA is half a kilobyte, so the keys are put in order, and each SA is moved once.
        sas.sort_by_cached_key(key);
        Ok(sas)
    }
}

/// The last SA of a node that has more, and its token for what follows.
fn end_of(sas: &[v1::Sa], next_page_token: String) -> Option<(String, String)> {
    let last = sas.last().filter(|_| !next_page_token.is_empty())?;
    Some((key(last), next_page_token))
}

/// All that a node sends, as long as there is room for it.
async fn whole(
    mut stream: impl Stream<Item = Result<v1::Sa, Status>> + Unpin,
    memory: &Memory,
) -> Result<Vec<v1::Sa>, Status> {
    let mut all = Vec::new();
    while let Some(sa) = in_time(async { stream.next().await.transpose() }).await? {
        if !memory.grow(octets(&sa)) {
            return Err(Status::resource_exhausted("there is no room for more"));
        }
        all.push(sa);
    }
    Ok(all)
}

/// What an SA takes in memory. Its texts are mostly short, and each takes about as much again as there is in it.
fn octets(sa: &v1::Sa) -> usize {
    size_of::<v1::Sa>() + 2 * sa.encoded_len()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn what_a_node_sends_is_taken_as_long_as_there_is_room() {
        let sa = v1::Sa { peer: "x".repeat(1000), ..v1::Sa::default() };
        let stream = || tokio_stream::iter(std::iter::repeat_n(Ok(sa.clone()), 100));
        let most = 101 * octets(&sa);
        let enough = Memory::of(&Arc::new(Room::of(most, most, most)), &Scope::All);
        assert_eq!(whole(stream(), &enough).await.unwrap().len(), 100);
        assert!(!enough.is_full());
        assert!(whole(stream(), &enough).await.is_err() && enough.is_full());
        assert!(!enough.grow(1), "the list is not whole any more, whatever there is room for");
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_makes_many_lists_holds_nobody_up() {
        let (lists, order) = (Arc::new(Lists::default()), Arc::new(Mutex::new(Vec::new())));
        let mut held = Vec::new();
        for _ in 0..TURNS {
            held.push(lists.turn("acme").await.unwrap());
        }
        let ask = |who: &'static str| {
            let (lists, order) = (Arc::clone(&lists), Arc::clone(&order));
            tokio::spawn(async move {
                let turn = lists.turn(who).await;
                order.lock().unwrap().push(who);
                turn.is_ok()
            })
        };
        let many: Vec<_> = (0..20).map(|_| ask("acme")).collect();
        let other = ask("globex");
        tokio::time::sleep(PATIENCE / 2).await;
        drop(held);
        assert!(other.await.unwrap());
        let place = order.lock().unwrap().iter().position(|who| *who == "globex").unwrap();
        assert!(place <= TURNS, "{place} came before it");
        for one in many {
            assert!(one.await.unwrap());
        }
        // Nobody waits for ever.
        let _held =
            [lists.turn("a").await, lists.turn("b").await, lists.turn("c").await, lists.turn("d").await];
        assert!(lists.turn("acme").await.is_err());
    }

    /// Something comes before each message is late, for ever.
    #[tokio::test(start_paused = true)]
    async fn a_node_that_goes_on_sending_is_not_waited_for_for_ever() {
        let memory = Memory::of(&Arc::default(), &Scope::All);
        let slow = tokio_stream::iter(std::iter::repeat(Ok(v1::Sa::default()))).throttle(PATIENCE / 2);
        let answer = within(WHOLE, whole(Box::pin(slow), &memory)).await;
        assert_eq!(answer.unwrap_err().code(), tonic::Code::DeadlineExceeded);
    }
}
