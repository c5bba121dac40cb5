//! Slots that go from node to node, on a real etcd and a network in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;
use std::task::Poll;

use latest::{Follow as _, Latest as _};
use tokio::sync::oneshot;
use zeroize::Zeroizing;

use super::leaving::DRAIN_TRIES;
use super::record::Changed;
use super::*;
use crate::members::Identity;
use crate::servers::Servers;

/// What connects the nodes, and who does not hear whom.
#[derive(Default)]
struct Net {
    nodes: Mutex<BTreeMap<String, Slots>>,
    heard: Mutex<BTreeMap<String, watch::Sender<Arc<BTreeSet<String>>>>>,
    cut: Mutex<BTreeSet<(String, String)>>,
    /// Slots that are handed over in vain, before one is not.
    in_vain: AtomicUsize,
}

impl Net {
    /// From now on nothing gets from one to the other.
    fn cut(&self, from: &str, to: &str) {
        self.cut.lock().unwrap().insert((from.to_owned(), to.to_owned()));
        self.tell();
    }

    fn mend(&self) {
        self.cut.lock().unwrap().clear();
        self.tell();
    }

    fn tell(&self) {
        let (cut, heard) = (self.cut.lock().unwrap(), self.heard.lock().unwrap());
        for (node, hears) in heard.iter() {
            let others = heard.keys().filter(|other| !cut.contains(&((*other).clone(), node.clone())));
            hears.send_replace(Arc::new(others.filter(|other| *other != node).cloned().collect()));
        }
    }
}

struct Line {
    net: Arc<Net>,
    from: String,
}

impl Wire for Line {
    fn ask(
        &self,
        node: &str,
        ask: Ask,
        body: Vec<u8>,
        patience: Duration,
    ) -> Later<'_, Result<Vec<u8>, String>> {
        let node = node.to_owned();
        Box::pin(async move {
            let cut = |from: &str, to: &str| {
                self.net.cut.lock().unwrap().contains(&(from.to_owned(), to.to_owned()))
            };
            let to = self.net.nodes.lock().unwrap().get(&node).cloned();
            let Some(to) = to.filter(|_| !cut(&self.from, &node)) else {
                return Err(format!("{node} is not there"));
            };
            let in_vain = &self.net.in_vain;
            let one_less = |left: usize| left.checked_sub(1);
            if ask == Ask::Hand
                && in_vain.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less).is_ok()
            {
                return Err("the slot has changed hands meanwhile".to_owned());
            }
            let answer = tokio::time::timeout(patience, to.answer(&self.from, ask, &body)).await;
            if cut(&node, &self.from) {
                Err("no answer".to_owned())
            } else {
                answer.map_err(|e| e.to_string())?
            }
        })
    }
}

/// What a node does for its slots: it has numbers for each.
#[derive(Default)]
struct Memory {
    slots: OnceLock<Slots>,
    numbers: Mutex<BTreeMap<u8, BTreeMap<u64, u64>>>,
    came: Mutex<Vec<(u8, Handover)>>,
    expected: Mutex<BTreeSet<u8>>,
    changed: Notify,
}

fn row(id: u64, number: Option<u64>) -> Row {
    let octets = number.map(|number| Zeroizing::new(number.to_be_bytes().to_vec()));
    Row { class: 1, id, octets, at: Instant::now().into_std() }
}

impl Memory {
    fn rows(&self, slot: u8) -> Vec<Row> {
        let numbers = self.numbers.lock().unwrap();
        numbers.get(&slot).into_iter().flatten().map(|(id, number)| row(*id, Some(*number))).collect()
    }

    fn of(&self, slot: u8) -> Option<BTreeMap<u64, u64>> {
        self.numbers.lock().unwrap().get(&slot).cloned()
    }
}

impl Host for Memory {
    fn resync(&self, slot: u8) -> Later<'_, ()> {
        Box::pin(async move {
            let rows = self.rows(slot);
            self.slots.get().unwrap().put(slot, rows, Box::new(|_| ()));
        })
    }

    fn take(&self, slot: u8, rows: Vec<Row>, handover: Handover) -> Later<'_, ()> {
        Box::pin(async move {
            let number = |row: &Row| u64::from_be_bytes(row.octets.as_ref().unwrap()[..].try_into().unwrap());
            let rows = rows.iter().map(|row| (row.id, number(row))).collect();
            assert!(self.numbers.lock().unwrap().insert(slot, rows).is_none(), "slot {slot} came twice");
            self.expected.lock().unwrap().remove(&slot);
            self.came.lock().unwrap().push((slot, handover));
            self.changed.notify_waiters();
        })
    }

    fn lose<'a>(&'a self, slot: u8, _: Option<&'a str>) -> Later<'a, ()> {
        Box::pin(async move {
            self.numbers.lock().unwrap().remove(&slot);
            self.expected.lock().unwrap().remove(&slot);
            self.changed.notify_waiters();
        })
    }

    fn give<'a>(&'a self, slot: u8, _: &'a str) -> Later<'a, Vec<Row>> {
        Box::pin(async move {
            let rows = self.rows(slot);
            self.numbers.lock().unwrap().remove(&slot);
            rows
        })
    }

    fn expect(&self, slot: u8, _: &str) {
        self.expected.lock().unwrap().insert(slot);
    }

    fn begin_in(&self, slot: u8) {
        self.numbers.lock().unwrap().entry(slot).or_default();
    }

    fn connections(&self) -> BTreeMap<u8, usize> {
        let numbers = self.numbers.lock().unwrap();
        numbers.iter().map(|(slot, all)| (*slot, all.len())).filter(|(_, count)| *count > 0).collect()
    }
}

struct Member {
    members: Members,
    slots: Slots,
    memory: Arc<Memory>,
    _tasks: JoinSet<()>,
}

impl Member {
    async fn join(servers: &Servers, net: &Arc<Net>, name: &str) -> Self {
        let identity =
            Identity { name: name.to_owned(), addresses: Vec::new(), version: "1".to_owned(), mesh: None };
        let members = Members::join(servers.client(), identity).await.unwrap();
        let (hears, heard) = watch::channel(Arc::default());
        let memory = Arc::new(Memory::default());
        memory.begin_in(members.own().slot);
        let wire = Arc::new(Line { net: Arc::clone(net), from: name.to_owned() });
        let (slots, tasks) = Slots::start(&members, wire, memory.clone(), heard).await.unwrap();
        memory.slots.set(slots.clone()).ok().unwrap();
        net.nodes.lock().unwrap().insert(name.to_owned(), slots.clone());
        net.heard.lock().unwrap().insert(name.to_owned(), hears);
        net.tell();
        Self { members, slots, memory, _tasks: tasks }
    }

    fn slot(&self) -> u8 {
        self.members.own().slot
    }

    /// Does something in a slot that others may learn of once this returns.
    async fn set(&self, slot: u8, id: u64, number: u64) -> Kept {
        if let Some(numbers) = self.memory.numbers.lock().unwrap().get_mut(&slot) {
            numbers.insert(id, number);
        }
        let (done, kept) = oneshot::channel();
        let done = Box::new(move |kept| {
            let _ = done.send(kept);
        });
        self.slots.put(slot, vec![row(id, Some(number))], done);
        kept.await.unwrap_or(Kept::Lost)
    }

    /// Waits until a slot is as it is to be.
    async fn wait(&self, number: u8, fits: impl Fn(&Slot) -> bool) -> Slot {
        let mut table = self.slots.table();
        let found = table.until(|table| table.get(&number).is_some_and(&fits)).await.unwrap();
        found[&number].clone()
    }

    async fn ready(&self) -> Slot {
        self.wait(self.slot(), |slot| slot.ready).await
    }

    /// Waits until a slot is here, and says what is in it.
    async fn arrived(&self, slot: u8) -> BTreeMap<u64, u64> {
        loop {
            let changed = self.memory.changed.notified();
            if let Some(numbers) = self.memory.of(slot) {
                return numbers;
            }
            changed.await;
        }
    }

    async fn lost(&self, slot: u8) {
        loop {
            let changed = self.memory.changed.notified();
            if self.memory.of(slot).is_none() {
                return;
            }
            changed.await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_knows_all_that_anybody_was_told_and_takes_over() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    assert_eq!(a.set(a.slot(), 1, 10).await, Kept::Free, "nobody is there to be told");
    let b = Member::join(&servers, &net, "b").await;
    let slot = a.ready().await;
    assert_eq!(slot.standby.as_ref().unwrap().node, "b");
    for number in 0..100 {
        assert_eq!(a.set(slot.number, 2, number).await, Kept::Known);
    }
    assert_eq!(b.slots.kept(slot.number).0, 2);

    // Nobody hears it any more, though it is there and hears everybody, and etcd as well.
    net.cut("a", "b");
    assert_eq!(b.arrived(slot.number).await, BTreeMap::from([(1, 10), (2, 99)]));
    assert_eq!(b.slots.arrivals(), (1, 0));
    assert_eq!(*b.memory.came.lock().unwrap(), [(slot.number, Handover::Sudden)]);
    // It notices, does nothing more for the slot, and begins with another.
    a.lost(slot.number).await;
    assert_eq!(a.set(slot.number, 2, 100).await, Kept::Lost);
    let mut table = a.slots.table();
    table.until(|table| table.values().any(|slot| slot.owner.node == "a")).await.unwrap();
    // When it is heard again, it is a standby like any other.
    net.mend();
    b.wait(slot.number, |slot| slot.ready && slot.standby.as_ref().is_some_and(|s| s.node == "a")).await;
    assert_eq!(a.slots.kept(slot.number).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_was_paused_tells_nobody_of_anything() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let slot = a.ready().await;
    assert_eq!(a.set(slot.number, 1, 1).await, Kept::Known);
    // All that it does is stopped: it does not see etcd change.
    drop(a._tasks);
    net.cut("a", "b");
    b.arrived(slot.number).await;
    net.mend();
    let paused = Member { _tasks: JoinSet::new(), ..a };
    assert_eq!(paused.set(slot.number, 1, 2).await, Kept::Lost);
    assert_eq!(b.memory.of(slot.number).unwrap(), BTreeMap::from([(1, 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_does_not_answer_is_struck_out_first() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let slot = a.ready().await;
    net.cut("a", "b");
    net.cut("b", "a");
    // Either it gets rid of its standby, or that takes over: what it says, nobody else says.
    match a.set(slot.number, 1, 1).await {
        Kept::Free => {
            a.wait(slot.number, |now| now.owner.node == "a" && !now.ready).await;
            assert!(b.memory.of(slot.number).is_none());
        }
        kept => {
            assert_eq!(kept, Kept::Lost);
            assert!(b.arrived(slot.number).await.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anybodys_word_nothing_is_said() {
    let Some(mut servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, _b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let slot = a.ready().await;
    servers.kill(0);
    net.cut("a", "b");
    net.cut("b", "a");
    let waiting = a.set(slot.number, 5, 5);
    tokio::pin!(waiting);
    tokio::select! {
        kept = &mut waiting => panic!("{kept:?} without anybody's word"),
        // No more than what a standby is waited for, twice.
        () = tokio::time::sleep(2 * replica::PATIENCE) => {}
    }
    servers.revive(0);
    waiting.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_moves_as_it_is_and_back() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let number = a.slot();
    for id in 0..50 {
        a.set(number, id, id).await;
    }
    let all: BTreeMap<u64, u64> = (0..50).map(|id| (id, id)).collect();
    for _ in 0..3 {
        a.slots.move_slot(number, "b").await.unwrap();
        assert_eq!((a.memory.of(number), b.memory.of(number)), (None, Some(all.clone())));
        assert_eq!(a.set(number, 0, 9).await, Kept::Lost);
        b.slots.move_slot(number, "a").await.unwrap();
        assert_eq!((a.memory.of(number), b.memory.of(number)), (Some(all.clone()), None));
    }
    assert!(a.slots.move_slot(number, "a").await.unwrap_err().contains("already"));
    assert!(a.slots.move_slot(number, "zz").await.unwrap_err().contains("not heard"));
    assert!(a.slots.move_slot(63, "b").await.unwrap_err().contains("not this node's"));

    // The next one does not answer: it stays, and nothing is lost.
    net.cut("b", "a");
    net.heard.lock().unwrap()["a"].send_replace(Arc::new(BTreeSet::from(["b".to_owned()])));
    assert!(a.slots.move_slot(number, "b").await.is_err());
    assert_eq!((a.memory.of(number), b.memory.of(number)), (Some(all.clone()), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_comes_to_its_end_though_nobody_waits_for_it() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let number = a.slot();
    a.set(number, 1, 11).await;
    {
        let mut moving = std::pin::pin!(a.slots.move_slot(number, "b"));
        assert!(
            std::future::poll_fn(|context| Poll::Ready(moving.as_mut().poll(context))).await.is_pending()
        );
    }
    assert_eq!(b.arrived(number).await, BTreeMap::from([(1, 11)]));
    {
        let mut draining = std::pin::pin!(b.slots.drain());
        assert!(
            std::future::poll_fn(|context| Poll::Ready(draining.as_mut().poll(context))).await.is_pending()
        );
    }
    assert_eq!(a.arrived(number).await, BTreeMap::from([(1, 11)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_only_slots_of_others_begins_in_none_of_them() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    a.set(a.slot(), 1, 1).await;
    a.ready().await;
    assert!(a.slots.drain().await.is_empty());
    // As one does that comes by a takeover: it was its standby, and nobody else knows what is in it.
    earlier(&a, 9, 3).await;
    assert!(a.slots.holds(9) && !a.slots.begins());
    assert_eq!(a.slots.instead(7).as_deref(), Some("b"));
    assert!(b.slots.begins() && b.slots.instead(7).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_which_something_has_begun_is_not_given_up() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    assert!(share::is_empty(&a.slots.0, a.slot()));
    // Meanwhile a slot changes hands.
    let turn = a.slots.0.turn.lock().await;
    let mut giving = std::pin::pin!(share::give_up(&a.slots.0, a.slot()));
    assert!(std::future::poll_fn(|context| Poll::Ready(giving.as_mut().poll(context))).await.is_pending());
    a.set(a.slot(), 1, 1).await;
    drop(turn);
    assert!(!giving.await);
    assert_eq!(a.memory.of(a.slot()), Some(BTreeMap::from([(1, 1)])));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_gives_all_of_it_away_first() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    let (b, c) = (Member::join(&servers, &net, "b").await, Member::join(&servers, &net, "c").await);
    let (of_a, of_b) = (a.slot(), b.slot());
    a.set(of_a, 1, 11).await;
    b.set(of_b, 2, 22).await;
    assert!(a.slots.drain().await.is_empty());
    a.slots.leave().await;
    a.members.leave().await;
    net.heard.lock().unwrap().remove("a");
    net.tell();
    assert_eq!(b.slots.drain().await, [], "those that came from the first one as well");
    assert_eq!(c.memory.of(of_a).unwrap()[&1], 11);
    assert_eq!(c.memory.of(of_b).unwrap()[&2], 22);
    assert!(c.memory.came.lock().unwrap().iter().all(|(_, handover)| *handover == Handover::Exact));
    let stay = c.slots.drain().await;
    assert!(
        !stay.is_empty()
            && stay.iter().all(|(_, why)| why.contains("no other node") || why.contains("leaves")),
        "{stay:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_is_not_ready_once_others_have_what_it_had() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    let (b, _c) = (Member::join(&servers, &net, "b").await, Member::join(&servers, &net, "c").await);
    a.ready().await;
    b.ready().await;
    let (mut of_a, of_b) = (a.slots.astray(), b.slots.astray());
    for other in ["b", "c"] {
        net.cut("a", other);
        net.cut(other, "a");
    }
    let why = of_a.until(Option::is_some).await.unwrap();
    assert!(why.unwrap().contains("have taken"));
    assert_eq!(of_b.latest(), None);
    net.mend();
    of_a.until(Option::is_none).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_notices_later_than_others_that_it_is_cut_off_is_not_ready_either() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    let (b, _c) = (Member::join(&servers, &net, "b").await, Member::join(&servers, &net, "c").await);
    let slot = a.ready().await.number;
    b.ready().await;
    for other in ["b", "c"] {
        net.cut("a", other);
    }
    a.lost(slot).await;
    for other in ["b", "c"] {
        net.cut(other, "a");
    }
    let why = a.slots.astray().until(Option::is_some).await.unwrap();
    assert!(why.unwrap().contains("have taken"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_hears_anybody_all_stay_ready_until_etcd_is_away_as_well() {
    let Some(mut servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    let (b, c) = (Member::join(&servers, &net, "b").await, Member::join(&servers, &net, "c").await);
    for node in [&a, &b, &c] {
        node.ready().await;
    }
    net.heard.lock().unwrap().values().for_each(|hears| drop(hears.send_replace(Arc::default())));
    // Their standbys are struck out, and nobody takes anything.
    for node in [&a, &b, &c] {
        node.wait(node.slot(), |slot| slot.standby.is_none()).await;
        assert_eq!((node.slots.mine().len(), node.slots.astray().latest()), (1, None));
    }
    servers.kill(0);
    for node in [&a, &b, &c] {
        let mut astray = node.slots.astray();
        let why = astray.until(Option::is_some).await.unwrap();
        assert!(why.unwrap().contains("nor etcd"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_other_node_is_asked_again() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let slot = a.slot();
    a.set(slot, 1, 11).await;
    net.in_vain.store(DRAIN_TRIES - 1, Ordering::Relaxed);
    assert_eq!(a.slots.drain().await, []);
    assert_eq!(b.memory.of(slot).unwrap()[&1], 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_goes_on_with_is_nobodys() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    let number = a.slot();
    // Gone before anybody knew anything of it.
    drop(a);
    net.nodes.lock().unwrap().clear();
    net.heard.lock().unwrap().clear();
    let b = Member::join(&servers, &net, "b").await;
    assert_ne!(b.slot(), number);
    b.slots.table().until(|table| !table.contains_key(&number)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_was_to_come_and_does_not_is_waited_for_no_longer() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let slot = a.ready().await;
    let rows = |last| {
        Rows { slot: slot.number.into(), term: slot.term, rows: Vec::new(), last, ..Rows::default() }
            .encode_to_vec()
    };
    let no_more = async || {
        assert_eq!(*b.memory.expected.lock().unwrap(), BTreeSet::from([slot.number]));
        while !b.memory.expected.lock().unwrap().is_empty() {
            b.memory.changed.notified().await;
        }
    };
    // Its owner says that it comes, and is never heard of again.
    b.slots.answer("a", Ask::Expect, &rows(false)).await.unwrap();
    no_more().await;
    let refused = b.slots.answer("a", Ask::Hand, &rows(true)).await.unwrap_err();
    assert!(refused.contains("not expected"), "{refused}");
    // It comes, and has changed hands meanwhile.
    b.slots.answer("a", Ask::Expect, &rows(false)).await.unwrap();
    a.slots.0.mine().get(&slot.number).unwrap().replica.fail();
    a.wait(slot.number, |now| now.term > slot.term).await;
    assert!(b.slots.answer("a", Ask::Hand, &rows(true)).await.is_err());
    assert!(b.memory.expected.lock().unwrap().is_empty());
}

/// Waits for what several nodes have to do, none of which tells of all of it.
async fn until(holds: impl Fn() -> bool) {
    while !holds() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A slot of somebody's that was begun in an earlier life, with so many connections.
async fn earlier(member: &Member, number: u8, connections: u64) {
    let inner = &member.slots.0;
    let slot = Slot::nobodys(&inner.etcd, number, inner.own.clone()).await.unwrap().unwrap();
    let Changed::Done(slot) = slot.change(&inner.etcd).await.unwrap() else {
        panic!("slot {number} is somebody's");
    };
    let numbers = (0..connections).map(|id| (id, u64::from(number))).collect();
    member.memory.numbers.lock().unwrap().insert(number, numbers);
    inner.mine().insert(number, Own::alone(&slot));
    inner.wake.notify_one();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_nothing_is_left_of_is_nobodys_and_so_is_an_empty_one_of_who_leaves() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let number = a.slot();
    a.set(number, 1, 1).await;
    a.slots.move_slot(number, "b").await.unwrap();
    let mut table = a.slots.table();
    table.until(|table| table.values().filter(|slot| slot.ready).count() == 3).await.unwrap();
    let begun = a.slots.primary();
    // Its last connection ends.
    b.memory.numbers.lock().unwrap().get_mut(&number).unwrap().clear();
    table.until(|table| !table.contains_key(&number)).await.unwrap();
    assert_eq!((b.memory.of(number), b.slots.mine()), (None, BTreeSet::from([b.slot()])));
    assert_eq!(
        a.slots.mine(),
        BTreeSet::from([begun]),
        "that which it begins in is empty as well, and stays"
    );

    assert_eq!(a.slots.drain().await, []);
    assert_eq!((a.slots.mine(), b.memory.of(begun)), (BTreeSet::new(), None), "nothing was to be moved");
    table.until(|table| !table.contains_key(&begun)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_begins_when_all_slots_are_somebodys_gets_one_of_them() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    a.set(a.slot(), 1, 1).await;
    for number in crate::members::SLOTS.filter(|number| *number != a.slot()) {
        earlier(&a, number, 1).await;
    }
    let b = Member::join(&servers, &net, "b").await;
    assert_eq!(b.slot(), 0);
    assert_ne!(b.members.own().number(), a.members.own().number());
    let mut table = b.slots.table();
    let of_b =
        |table: &Arc<Table>| table.values().find(|slot| slot.owner.node == "b").map(|slot| slot.number);
    let got = of_b(&table.until(|table| of_b(table).is_some()).await.unwrap()).unwrap();
    assert_eq!(b.arrived(got).await[&0], u64::from(got));
    // Others follow, as that one is not all that there is to do.
    until(|| b.slots.holds(b.slots.primary()) && a.slots.mine().len() + b.slots.mine().len() == 63).await;
    assert!(a.slots.holds(a.slots.primary()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_gathered_at_one_node_is_spread() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    for (number, connections) in [(10, 40), (11, 40), (12, 20), (13, 20)] {
        earlier(&a, number, connections).await;
    }
    let (b, c) = (Member::join(&servers, &net, "b").await, Member::join(&servers, &net, "c").await);
    let loads = || [&a, &b, &c].map(|node| node.memory.connections().values().sum::<usize>());
    let even = |loads: [usize; 3]| loads.iter().max().unwrap() - loads.iter().min().unwrap();
    until(|| loads().iter().sum::<usize>() == 120 && even(loads()) <= 20).await;
    assert!([&a, &b, &c].iter().all(|node| node.slots.arrivals().0 == 0), "none of it by a take-over");

    // What somebody has put somewhere stays there.
    let number = *b.slots.mine().iter().find(|number| **number >= 10).unwrap();
    b.slots.move_slot(number, "a").await.unwrap();
    assert!(share::movable(&a.slots.0, a.memory.connections()).iter().all(|(other, _)| *other != number));
}
