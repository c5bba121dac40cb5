//! Slots that go from node to node, on a real etcd and a network in memory.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod comes;
mod cuts;
mod ends;
mod hiccups;
mod moves;
mod shares;
mod takeovers;

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::task::Poll;

use latest::{Follow as _, Latest as _};
use tokio::sync::{Semaphore, oneshot};

use super::leaving::DRAIN_TRIES;
use super::*;
use crate::etcd::memory::{self, AtOnce};
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
    /// Who gets, as by a take-over, what is handed over to another.
    thief: Mutex<Option<Slots>>,
    /// Who takes as a standby only every other thing that it is told, and whether the next.
    fitful: Mutex<Option<(String, bool)>>,
}

impl Net {
    /// From now on nothing gets from one to the other.
    fn cut(&self, from: &str, to: &str) {
        self.cut_all(&[(from, to)]);
    }

    /// The same of several ways, at once: nobody sees some of them cut and others not.
    fn cut_all(&self, ways: &[(&str, &str)]) {
        let ways = ways.iter().map(|(from, to)| ((*from).to_owned(), (*to).to_owned()));
        self.cut.lock().unwrap().extend(ways);
        self.tell();
    }

    /// From now on nothing gets from one of these to the other, nor back.
    fn part(&self, node: &str, others: &[&str]) {
        let ways: Vec<_> = others.iter().flat_map(|other| [(node, *other), (*other, node)]).collect();
        self.cut_all(&ways);
    }

    /// From now on a standby does not answer every other time, the next one first.
    fn fails_at_times(&self, node: Option<&str>) {
        *self.fitful.lock().unwrap() = node.map(|node| (node.to_owned(), false));
    }

    /// Whether this is one of the times.
    fn fails(&self, node: &str, ask: Ask) -> bool {
        let mut fitful = self.fitful.lock().unwrap();
        let of_it = fitful.as_mut().filter(|(name, _)| name == node && ask == Ask::Put);
        of_it.is_some_and(|(_, takes)| !std::mem::replace(takes, !*takes))
    }

    /// A node is gone: nobody hears it, and it hears nobody.
    fn kill(&self, member: Member) {
        let name = member.slots.0.own.node.clone();
        self.nodes.lock().unwrap().remove(&name);
        self.heard.lock().unwrap().remove(&name);
        drop(member);
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
        body: Octets,
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
            if self.net.fails(&node, ask) {
                tokio::time::sleep(patience).await;
                return Err("no answer".to_owned());
            }
            let thief = if ask == Ask::Hand { self.net.thief.lock().unwrap().take() } else { None };
            if let Some(thief) = thief {
                let (etcd, number) = (&thief.0.etcd, Rows::decode(&*body).unwrap().slot().unwrap());
                let slot = Slot::load(etcd, number).await.unwrap().unwrap();
                assert!(matches!(slot.of(thief.0.own.clone()).change(etcd).await, Ok(Changed::Done(_))));
                return Err(format!("slot {number} has changed hands meanwhile"));
            }
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
struct Memory {
    slots: OnceLock<Slots>,
    numbers: Mutex<BTreeMap<u8, BTreeMap<u64, u64>>>,
    came: Mutex<Vec<(u8, Handover)>>,
    expected: Mutex<BTreeSet<u8>>,
    /// Nothing goes on here that comes as long as somebody has this.
    gate: AsyncMutex<()>,
    /// What it was asked for, and has done.
    done: Mutex<Vec<(&'static str, u8)>>,
    /// It is of a version that reads no rows of the others.
    of_another: AtomicBool,
    /// Octets that each slot has beside its numbers.
    bulk: AtomicUsize,
    /// Each number is told of by itself.
    singly: AtomicBool,
    /// No slot is told of as a whole for as long as somebody has this.
    resyncs: Arc<Semaphore>,
    changed: Notify,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            slots: OnceLock::default(),
            numbers: Mutex::default(),
            came: Mutex::default(),
            expected: Mutex::default(),
            gate: AsyncMutex::default(),
            done: Mutex::default(),
            of_another: AtomicBool::default(),
            bulk: AtomicUsize::default(),
            singly: AtomicBool::default(),
            resyncs: Arc::new(Semaphore::new(1)),
            changed: Notify::default(),
        }
    }
}

fn row(id: u64, number: Option<u64>) -> Row {
    let octets = number.map(|number| number.to_be_bytes().to_vec().into());
    Row { class: 1, id, octets, at: Instant::now().into_std() }
}

impl Memory {
    fn rows(&self, slot: u8) -> Vec<Row> {
        let numbers = self.numbers.lock().unwrap();
        numbers.get(&slot).into_iter().flatten().map(|(id, number)| row(*id, Some(*number))).collect()
    }

    fn has(&self, what: &'static str, slot: u8) -> bool {
        self.done.lock().unwrap().contains(&(what, slot))
    }

    fn does(&self, what: &'static str, slot: u8) {
        self.done.lock().unwrap().push((what, slot));
    }

    fn of(&self, slot: u8) -> Option<BTreeMap<u64, u64>> {
        self.numbers.lock().unwrap().get(&slot).cloned()
    }
}

impl Host for Memory {
    fn resync(&self, slot: u8) -> Later<'_, ()> {
        Box::pin(async move {
            self.does("resync", slot);
            drop(self.resyncs.acquire().await.unwrap());
            let mut rows = self.rows(slot);
            if self.singly.load(Ordering::Relaxed) {
                let told = self.slots.get().unwrap();
                rows.drain(..).for_each(|row| told.put(slot, vec![row], Box::new(|_| ())));
            }
            let bulk = Some(Octets::from(vec![7; self.bulk.load(Ordering::Relaxed)]));
            rows.extend(
                bulk.filter(|bulk| !bulk.is_empty()).map(|bulk| Row { octets: Some(bulk), ..row(99, None) }),
            );
            self.slots.get().unwrap().put(slot, rows, Box::new(|_| ()));
        })
    }

    fn take(&self, slot: u8, rows: Vec<Row>, handover: Handover) -> Later<'_, ()> {
        Box::pin(async move {
            drop(self.gate.lock().await);
            self.does("take", slot);
            let number = |row: &Row| u64::from_be_bytes(row.octets.as_ref().unwrap()[..].try_into().unwrap());
            let rows = rows.iter().map(|row| (row.id, number(row))).collect();
            assert!(self.numbers.lock().unwrap().insert(slot, rows).is_none(), "slot {slot} came twice");
            self.expected.lock().unwrap().remove(&slot);
            self.came.lock().unwrap().push((slot, handover));
            self.changed.notify_waiters();
        })
    }

    fn reads(&self, rows: &[Row]) -> Result<(), String> {
        let of_another = self.of_another.load(Ordering::Relaxed) && !rows.is_empty();
        if of_another { Err("rows of another form".to_owned()) } else { Ok(()) }
    }

    fn lose<'a>(&'a self, slot: u8, _: Option<&'a str>) -> Later<'a, ()> {
        Box::pin(async move {
            self.does("lose", slot);
            self.numbers.lock().unwrap().remove(&slot);
            self.expected.lock().unwrap().remove(&slot);
            self.changed.notify_waiters();
        })
    }

    fn give<'a>(&'a self, slot: u8, _: &'a str) -> Later<'a, Vec<Row>> {
        Box::pin(async move {
            self.does("give", slot);
            let rows = self.rows(slot);
            self.numbers.lock().unwrap().remove(&slot);
            rows
        })
    }

    fn expect(&self, slot: u8, _: &str) {
        self.does("expect", slot);
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
        Self::join_at(servers.client(), net, name).await
    }

    async fn join_at(etcd: Etcd, net: &Arc<Net>, name: &str) -> Self {
        let identity =
            Identity { name: name.to_owned(), addresses: Vec::new(), version: "1".to_owned(), mesh: None };
        let members = Members::join(etcd, identity).await.unwrap();
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

    /// Waits until there is a slot for what is new.
    async fn wait_to_begin(&self) -> u8 {
        until(|| self.slots.begins()).await;
        self.slots.primary()
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

/// A way to etcd that may be cut.
#[derive(Debug, Default)]
struct Way {
    cut: AtomicBool,
}

impl memory::Path for Way {
    fn time(&self) -> Option<Duration> {
        (!self.cut.load(Ordering::Relaxed)).then_some(Duration::ZERO)
    }
}

/// Begins something and lets it be: whether it has not ended at once.
async fn begins<T>(mut what: Pin<&mut impl Future<Output = T>>) -> bool {
    std::future::poll_fn(|context| Poll::Ready(what.as_mut().poll(context))).await.is_pending()
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
