//! Whose slots are: each has an owner and a standby, and there is never a moment in which two act for one.
//!
//! | key, after the prefix | what |
//! |---|---|
//! | `slots/N` | [`Slot`]: owner, standby, whether that one knows everything |
//! | `left/N` | whose it was when others made it nobody's, as that one was gone: if it is there after all it may begin with it again |
//!
//! The owner tells its standby of everything that it would have to know ([`Slots::put`]), as rows of octets that are none of this
//! module's business. As long as the standby is *ready*, what the owner has told it is [`Kept::Known`] before anybody else
//! learns of it. A standby that does not answer is struck out in etcd first ([`Kept::Free`]), and is told again until then; whoever can do neither does
//! nothing until it can. So a standby that takes over knows all that anybody was told.
//!
//! It takes over when it has not heard the owner for a while, by compare-and-swap on what etcd knows of the slot: the owner, if it is
//! still there, finds that out by etcd's watch or by its next row, which is refused ([`Kept::Lost`]).
//!
//! A slot that is [moved](Slots::move_slot) is frozen, and handed over as it is.
//!
//! `record.rs` is what etcd knows, `row.rs` what is told, `vault.rs` what a standby keeps, `replica.rs` the owner's side, `filling.rs` how one comes to be a standby, `feed.rs` what is told it, `pending.rs` what waits for it, `rest.rs` who is not asked for a while, `steward.rs`
//! who looks after all that, `moving.rs` the way of a slot from one node to another, `coming.rs` which ones are on it to here, `silence.rs` who has gone and who is cut off, `cut_off.rs` whether such a node has etcd, `leaving.rs` how a node gives away what it has, `abandon.rs` how one ends in which something has failed, `share.rs` how many slots and connections each node has.

mod abandon;
mod coming;
mod cut_off;
mod feed;
mod filling;
mod inner;
mod leaving;
#[cfg(test)]
#[allow(clippy::indexing_slicing, clippy::panic)]
mod model;
mod moving;
mod pending;
mod record;
mod replica;
mod rest;
mod row;
mod share;
mod silence;
mod steward;
#[cfg(test)]
mod tests;
mod vault;

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use latest::Latest as _;
use prost::Message as _;
use tokio::sync::{Mutex as AsyncMutex, Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

pub use record::{Process, Slot, Table};
use snapshot::Octets;
pub use snapshot::{Done, Handover, Kept, Row};

use crate::etcd::mirror::{self, Mirrored};
use crate::etcd::{Etcd, EtcdError};
use crate::members::{Members, Placement};
use crate::task::{carried_out, of_node};
use coming::Comings;
use leaving::Course;
use moving::{Arriving, Why};
use replica::Own;
use row::{News, Rows};
use silence::Silences;
use vault::{Part, Vault};

#[cfg(test)]
pub(crate) use record::Changed;
pub(crate) use record::number_of;
#[cfg(feature = "scale")]
pub(crate) use share::{EVEN, QUIET, SETTLED, choose};

/// Something that comes later.
pub type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// What nodes ask each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// An owner tells its standby.
    Put = 1,
    /// A slot will be handed over in a moment.
    Expect = 2,
    /// A slot is handed over.
    Hand = 3,
    /// A slot has another owner: its watch of etcd may tell a node of that much later, if the member that it watches is gone.
    News = 4,
    /// Whoever asks has no slot, there is no free one, and it wants one of those of whom it asks.
    Want = 5,
    /// How many connections a node has.
    Load = 6,
}

impl Ask {
    /// By its number.
    pub const fn of(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::Put,
            2 => Self::Expect,
            3 => Self::Hand,
            4 => Self::News,
            5 => Self::Want,
            6 => Self::Load,
            _ => return None,
        })
    }
}

/// The way to other nodes. Asks of one kind to one node are answered in the order in which they are made.
pub trait Wire: Send + Sync + 'static {
    /// Asks a node, and waits no longer than `patience` for its answer.
    fn ask(
        &self,
        node: &str,
        ask: Ask,
        body: Octets,
        patience: Duration,
    ) -> Later<'_, Result<Vec<u8>, String>>;

    /// Begins a task that asks much and does little else, where that costs least.
    fn spawn(&self, task: Later<'static, ()>) {
        tokio::spawn(task);
    }
}

/// Who does what a slot is for.
pub trait Host: Send + Sync + 'static {
    /// Tells everything there is of a slot by [`Slots::put`]; done when all of it is put.
    fn resync(&self, slot: u8) -> Later<'_, ()>;

    /// A slot is this node's, with these rows: go on with it.
    fn take(&self, slot: u8, rows: Vec<Row>, handover: Handover) -> Later<'_, ()>;

    /// Whether this node could go on with what such rows are of: another one may write them in another form.
    ///
    /// # Errors
    /// With why not, for that node.
    fn reads(&self, rows: &[Row]) -> Result<(), String>;

    /// A slot is another node's, if that is known: nothing more is done for it, and nobody is told.
    fn lose<'a>(&'a self, slot: u8, to: Option<&'a str>) -> Later<'a, ()>;

    /// A slot is to be another node's soon: done when what has only just begun in it has come to something, or has taken too long.
    fn settle(&self, _slot: u8) -> Later<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// A slot is about to be another node's: nothing more is done for it from now on. All rows of it.
    fn give<'a>(&'a self, slot: u8, to: &'a str) -> Later<'a, Vec<Row>>;

    /// A slot is about to be this node's: what comes for it is to wait.
    fn expect(&self, slot: u8, from: &str);

    /// What is new belongs to this slot from now on.
    fn begin_in(&self, slot: u8);

    /// How many connections there are in each slot of this node that has some.
    fn connections(&self) -> BTreeMap<u8, usize>;
}

/// The slots of a node, and what it keeps of those of others. Clones are of the same.
#[derive(Clone)]
pub struct Slots(Arc<Inner>);

pub(crate) struct Inner {
    etcd: Etcd,
    own: Process,
    /// When this process began to hear others.
    began: Instant,
    wire: Arc<dyn Wire>,
    host: Arc<dyn Host>,
    table: watch::Sender<Arc<Table>>,
    placement: watch::Receiver<Arc<Placement>>,
    /// Nodes that were heard of late.
    heard: watch::Receiver<Arc<BTreeSet<String>>>,
    silences: Mutex<Silences>,
    vault: Mutex<Vault>,
    mine: Mutex<BTreeMap<u8, Own>>,
    arriving: Mutex<BTreeMap<u8, Arriving>>,
    coming: Arc<Comings>,
    /// What other nodes have said of slots, and etcd's watch has not yet.
    news: Mutex<Table>,
    /// Up to this revision of etcd its watch has told of all.
    told: AtomicI64,
    /// The last write to a slot that is known to be there.
    known: mirror::Known,
    /// The same of the nodes.
    of_nodes: mirror::Known,
    /// Slots that are on their way, and to which node.
    going: Mutex<BTreeMap<u8, String>>,
    /// Slots that are another's, and of which this node has not put everything away yet.
    losing: Mutex<BTreeSet<u8>>,
    /// One that this node would have begun with, had etcd said whether that was done.
    begun: Mutex<Option<Slot>>,
    /// Changes of owners are made one after the other.
    turn: AsyncMutex<()>,
    /// Nodes that did not answer as a standby, and until when they are not asked to be one.
    unfit: Mutex<BTreeMap<String, Instant>>,
    /// That of the node, on which what takes a while is done.
    runtime: tokio::runtime::Handle,
    /// Something is to be looked at.
    wake: Notify,
    /// A slot of this node may be another's.
    taken: Notify,
    /// This node may be cut off.
    alone: Notify,
    primary: AtomicU8,
    /// How much longer this node has slots.
    course: Course,
    /// Why nothing is to be sent here, if that is so.
    astray: watch::Sender<Option<String>>,
    /// When a slot went to another node without this one's doing, if this one is cut off since, or may be noticing it now.
    deprived: Mutex<Option<Instant>>,
    etcd_is_away: watch::Receiver<bool>,
    /// It has not answered since this node is cut off, which is known before it counts as away.
    etcd_is_mute: AtomicBool,
    /// How many slots came from another node, by what way.
    sudden: std::sync::atomic::AtomicU64,
    exact: std::sync::atomic::AtomicU64,
}

impl Slots {
    /// Looks after the slots of a node that has joined. `heard` says which nodes were heard within the time after which one counts as
    /// silent. To be called in a tokio runtime; the tasks are the caller's to keep.
    pub async fn start(
        members: &Members,
        wire: Arc<dyn Wire>,
        host: Arc<dyn Host>,
        heard: watch::Receiver<Arc<BTreeSet<String>>>,
    ) -> Result<(Self, JoinSet<()>), EtcdError> {
        let etcd = members.etcd().clone();
        let loaded = mirror::load(&etcd, KEYS, Table::new()).await?;
        let primary = members.own().slot;
        let first = loaded.0.get(&primary).filter(|slot| slot.owner == members.own().process());
        if first.is_none() && primary > 0 {
            // Its lease was over before it had begun, and others have seen to it.
            host.lose(primary, loaded.0.get(&primary).map(|slot| slot.owner.node.as_str())).await;
        }
        let inner = Arc::new(Inner {
            own: members.own().process(),
            began: Instant::now(),
            wire,
            host,
            table: watch::Sender::new(Arc::new(loaded.0.clone())),
            placement: members.placement(),
            heard,
            silences: Mutex::default(),
            vault: Mutex::default(),
            mine: Mutex::new(first.map(|slot| (primary, Own::alone(slot))).into_iter().collect()),
            arriving: Mutex::default(),
            coming: Arc::default(),
            news: Mutex::default(),
            told: AtomicI64::new(loaded.1),
            known: mirror::Known::default(),
            of_nodes: members.known().clone(),
            going: Mutex::default(),
            losing: Mutex::default(),
            begun: Mutex::default(),
            turn: AsyncMutex::default(),
            unfit: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
            wake: Notify::new(),
            taken: Notify::new(),
            alone: Notify::new(),
            primary: AtomicU8::new(primary),
            course: Course::default(),
            astray: watch::Sender::new(None),
            deprived: Mutex::default(),
            etcd_is_away: members.etcd_is_away(),
            etcd_is_mute: AtomicBool::new(false),
            sudden: std::sync::atomic::AtomicU64::default(),
            exact: std::sync::atomic::AtomicU64::default(),
            etcd: etcd.clone(),
        });
        let mut tasks = JoinSet::new();
        let of_table = Arc::clone(&inner);
        tasks.spawn(of_node(async move {
            let tell = |now: &Table, at| of_table.know(now.clone(), at);
            mirror::mirror(&etcd, KEYS, Table::new(), loaded, of_table.known.clone(), tell).await;
        }));
        tasks.spawn(of_node(steward::run(Arc::clone(&inner))));
        tasks.spawn(of_node(share::run(Arc::clone(&inner))));
        Ok((Self(inner), tasks))
    }

    /// Tells the standby of a slot of ours. `done` learns what has become of it, in the order of the calls; without a standby at once.
    pub fn put(&self, slot: u8, rows: Vec<Row>, done: Done) {
        self.0.put(slot, rows, done);
    }

    /// Whether somebody is told of a slot's rows. Whoever makes rows may spare itself the work.
    pub fn is_told(&self, slot: u8) -> bool {
        self.0.mine().get(&slot).is_some_and(|own| !own.replica.is_alone())
    }

    /// Whose slots are, now and later.
    pub fn table(&self) -> watch::Receiver<Arc<Table>> {
        self.0.table.subscribe()
    }

    /// Whether this node answers for a slot.
    pub fn holds(&self, slot: u8) -> bool {
        self.0.mine().contains_key(&slot)
    }

    /// The other node that has a slot, or that it is on its way to.
    pub fn elsewhere(&self, slot: u8) -> Option<String> {
        let going = self.0.going().get(&slot).cloned();
        going.or_else(|| {
            let table = self.0.table.latest();
            table
                .get(&slot)
                .filter(|slot| slot.owner.node != self.0.own.node)
                .map(|slot| slot.owner.node.clone())
        })
    }

    /// Whether there is a slot to begin in: that of what is new is this node's. Others may be without it, as those of a node that was drained are.
    pub fn begins(&self) -> bool {
        self.holds(self.primary())
    }

    /// The other node that begins what comes here, where this one has no slot to begin it in. `number` spreads what comes over the others.
    pub fn instead(&self, number: u64) -> Option<String> {
        (!self.begins()).then(|| self.0.successor(number)).flatten().map(|process| process.node)
    }

    /// Which slots this node answers for.
    pub fn mine(&self) -> BTreeSet<u8> {
        self.0.mine().keys().copied().collect()
    }

    /// Those of them in which everything goes on that there is: one that has just come is not among them yet.
    pub fn settled(&self) -> BTreeSet<u8> {
        self.0.mine().keys().copied().filter(|number| !self.0.coming.has(*number)).collect()
    }

    /// The slot of what is new.
    pub fn primary(&self) -> u8 {
        self.0.primary.load(Ordering::Relaxed)
    }

    /// Calls of [`Self::put`] for a slot of ours that its standby has not been told of yet.
    pub fn waiting(&self, slot: u8) -> usize {
        self.0.mine().get(&slot).map_or(0, |own| own.replica.waiting())
    }

    /// Rows and octets that this node keeps of a slot of another's.
    pub fn kept(&self, slot: u8) -> (usize, usize) {
        self.0.vault().size(slot)
    }

    /// Slots that have come to this node: suddenly, and as they were.
    pub fn arrivals(&self) -> (u64, u64) {
        (self.0.sudden.load(Ordering::Relaxed), self.0.exact.load(Ordering::Relaxed))
    }

    /// Whether the standby of a slot of this node could go on with it. That of the owner before it could not.
    pub fn is_protected(&self, slot: u8) -> bool {
        self.0.table.latest().get(&slot).is_some_and(|slot| slot.ready && slot.owner == self.0.own)
    }

    /// Whether what is written of nodes, or of slots, does not come in.
    pub fn is_behind(&self) -> bool {
        self.0.known.is_behind() || self.0.of_nodes.is_behind()
    }

    /// Whether etcd is away, as far as this node can tell.
    pub fn etcd_is_away(&self) -> bool {
        self.0.etcd_is_away.latest()
    }

    /// Whether this node wants no more slots, as it leaves or was drained.
    pub fn is_leaving(&self) -> bool {
        self.0.course.leaves()
    }

    /// Why nothing is to be sent to this node, as long as that is so: it hears none of several others, and they have taken its tunnels or it
    /// cannot know whether they have. What lands here is for tunnels of others, and cannot be passed on. Where nobody hears anybody
    /// and etcd is there, all keep what they have.
    pub fn astray(&self) -> watch::Receiver<Option<String>> {
        self.0.astray.subscribe()
    }

    /// Answers another node.
    ///
    /// # Errors
    /// With why not, for that node.
    pub async fn answer(&self, from: &str, ask: Ask, body: &[u8]) -> Result<Vec<u8>, String> {
        match ask {
            Ask::News => {
                self.0.heard_of(News::read(body)?);
                return Ok(Vec::new());
            }
            Ask::Want => return share::spare(&self.0, from),
            Ask::Load => return Ok(share::load(&self.0)),
            Ask::Put | Ask::Expect | Ask::Hand => {}
        }
        let rows = Rows::decode(body).map_err(|error| format!("no rows: {error}"))?;
        if ask == Ask::Put {
            if self.0.course.ends() {
                return Err(moving::LEAVES.to_owned());
            }
            if rows.instance != self.0.own.instance {
                return Err("they are for an earlier process of this node".to_owned());
            }
            let (slot, term, now) = (rows.slot()?, rows.term, Instant::now().into_std());
            let part = Part { batch: rows.batch, number: rows.part, last: rows.last };
            let rows: Vec<Row> = rows.rows.into_iter().map(|form| form.read(now)).collect();
            // Whoever cannot read them could not go on with them.
            let samples = self.0.vault().samples(slot, term, &rows);
            self.0.host.reads(&samples)?;
            self.0.vault().put(slot, term, part, rows)?;
            return Ok(Vec::new());
        }
        moving::arrive(&self.0, from, ask, rows).await
    }

    /// Moves a slot of this node to another one, as it is. There it stays until another one is ordered, or that node goes. It is carried out
    /// whether or not somebody waits for it.
    ///
    /// # Errors
    /// With why it stays here.
    pub async fn move_slot(&self, slot: u8, to: &str) -> Result<(), String> {
        let (inner, to) = (Arc::clone(&self.0), to.to_owned());
        let moved = carried_out(async move { moving::give(&inner, slot, &to, Why::Ordered).await }).await;
        moved.unwrap_or_else(|| Err(moving::LEAVES.to_owned()))
    }
}

impl Mirrored for Table {
    fn take_in(&mut self, key: &str, now: Option<&culvert_proto::etcd::KeyValue>) -> Result<(), EtcdError> {
        let Some(number) = number_of(key) else { return Ok(()) };
        match now {
            Some(kv) => drop(self.insert(number, Slot::read(number, kv)?)),
            None => drop(self.remove(&number)),
        }
        Ok(())
    }
}

/// What the keys of slots begin with.
pub(crate) const KEYS: &str = "slots/";
/// The watch of etcd tells of a change within milliseconds.
const SEEN: Duration = Duration::from_secs(1);
/// One that is heard and does not answer is cut off in one direction, or has more to do than it can. A network that was mended is
/// noticed soon enough by this.
const UNFIT: Duration = Duration::from_secs(3);
