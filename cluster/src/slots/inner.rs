//! What everything about slots shares, and what is known of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{self, Arc, PoisonError};
use std::time::Duration;

use latest::Latest as _;
use prost::Message as _;
use snapshot::{Done, Handover, Kept, Row};
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::coming::Coming;
use super::moving::Arriving;
use super::record::{Changed, Process, Slot, Table};
use super::replica::{self, Own};
use super::row::News;
use super::silence::Silences;
use super::vault::Vault;
use super::{Ask, Inner, UNFIT};
use crate::etcd::EtcdError;
use crate::members::Placement;
use crate::task::of_node;

/// Within this of each other, nodes that do not hear each other notice it: several heartbeats.
const NOTICED: Duration = Duration::from_secs(if cfg!(test) { 60 } else { 1 });

/// Before etcd is asked again.
pub(super) const AGAIN: Duration = Duration::from_millis(200);

impl Inner {
    pub(super) fn put(&self, slot: u8, rows: Vec<Row>, done: Done) {
        let (kept, done) = match self.mine().get(&slot) {
            Some(own) => match own.replica.put(rows, done) {
                Some(at_once) => at_once,
                None => return,
            },
            None => (Kept::Lost, done),
        };
        done(kept);
    }

    pub(super) fn mine(&self) -> sync::MutexGuard<'_, BTreeMap<u8, Own>> {
        // A panic leaves it as it was before or after one change.
        self.mine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A slot is this node's from now on: false if it is already, as it may come by two ways at once, and etcd says the same of both. Nothing
    /// else makes one this node's once it has begun.
    pub(super) fn claim(&self, slot: u8, own: Own) -> bool {
        let mut mine = self.mine();
        let new = !mine.contains_key(&slot);
        if new {
            mine.insert(slot, own);
        }
        new
    }

    /// Goes on with what is in a slot that has just been claimed.
    pub(super) async fn go_on(&self, coming: Coming, rows: Vec<Row>, handover: Handover) {
        self.host.take(coming.slot(), rows, handover).await;
        drop(coming);
    }

    pub(super) fn going(&self) -> sync::MutexGuard<'_, BTreeMap<u8, String>> {
        self.going.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn losing(&self) -> sync::MutexGuard<'_, BTreeSet<u8>> {
        self.losing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn vault(&self) -> sync::MutexGuard<'_, Vault> {
        self.vault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn arriving(&self) -> sync::MutexGuard<'_, BTreeMap<u8, Arriving>> {
        self.arriving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a slot is here, or on its way to here or from here, as far as this node knows by itself.
    pub(super) fn knows(&self, slot: u8) -> bool {
        let begun = |begun: &Option<Slot>| begun.as_ref().is_some_and(|begun| begun.number == slot);
        self.mine().contains_key(&slot)
            || self.going().contains_key(&slot)
            || self.losing().contains(&slot)
            || self.arriving().contains_key(&slot)
            || self.coming.has(slot)
            || begun(&self.begun.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What etcd's watch says, as of this revision.
    pub(super) fn know(&self, mut now: Table, at: i64) {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        self.told.store(at, Ordering::Relaxed);
        news.retain(|_, slot| slot.revision > at);
        now.extend(news.iter().map(|(number, slot)| (*number, slot.clone())));
        self.table.send_replace(Arc::new(now));
    }

    /// Writes a slot as it is to be. What etcd answers is known here at once, for its watch may tell of it much later.
    pub(super) async fn change(&self, slot: &Slot) -> Result<Changed, EtcdError> {
        let changed = slot.change(&self.etcd).await;
        if let Ok(Changed::Done(now) | Changed::Other(Some(now))) = &changed {
            self.heard_of(now.clone());
        }
        changed
    }

    /// What another node says of a slot, or etcd itself to whom has asked.
    pub(super) fn heard_of(&self, slot: Slot) {
        self.known.raise(slot.revision);
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let known = self.table.latest().get(&slot.number).map_or(0, |slot| slot.revision);
        // One that is nobody's any more is not there, and what was before that is no news either.
        if slot.revision > known.max(self.told.load(Ordering::Relaxed)) {
            news.insert(slot.number, slot.clone());
            self.table.send_modify(|table| drop(Arc::make_mut(table).insert(slot.number, slot)));
        }
    }

    /// Tells all others of a slot that is this node's now.
    pub(super) fn tell_all(self: &Arc<Self>, slot: &Slot) {
        let placement = self.placement.latest();
        for node in placement.nodes.iter().filter(|node| node.name != self.own.node) {
            self.tell(&node.name, slot);
        }
    }

    /// Tells another node what etcd knows of a slot.
    pub(super) fn tell(self: &Arc<Self>, node: &str, slot: &Slot) {
        let (inner, node, body) = (Arc::clone(self), node.to_owned(), News::of(slot).encode_to_vec().into());
        tokio::spawn(of_node(async move {
            // Etcd's watch says it as well, if later.
            let _ = inner.wire.ask(&node, Ask::News, body, replica::PATIENCE).await;
        }));
    }

    /// Waits before etcd is asked again, and lets others have their turn meanwhile: a slot of this node may be another's by now, which takes no
    /// word of etcd.
    pub(super) async fn again<'a>(&'a self, turn: MutexGuard<'a, ()>) -> MutexGuard<'a, ()> {
        drop(turn);
        tokio::time::sleep(AGAIN).await;
        self.turn.lock().await
    }

    /// What etcd knows of a slot, as far as this node has heard.
    pub(super) fn slot(&self, number: u8) -> Option<Slot> {
        self.table.latest().get(&number).cloned()
    }

    pub(super) fn hears(&self, node: &str) -> bool {
        self.heard.latest().contains(node)
    }

    /// Whether several nodes are there and none of them is heard: then it is this one that is cut off, and takes nothing over. Of one
    /// other node nobody can tell, nor of several that fell silent one after the other.
    pub(super) fn is_cut_off(&self) -> bool {
        let placement = self.placement.latest();
        let others = placement.nodes.iter().map(|node| node.name.as_str());
        let others: Vec<&str> = others.filter(|name| *name != self.own.node).collect();
        let now = Instant::now();
        self.silences(now).is_cut_off(&others, now)
    }

    /// Whether a node that is not heard may be there all the same: this one has heard nobody until a moment ago.
    pub(super) fn may_return(&self, node: &str) -> bool {
        let now = Instant::now();
        self.silences(now).may_return(node, now)
    }

    /// Since when nodes are silent, with who is heard now.
    fn silences(&self, now: Instant) -> sync::MutexGuard<'_, Silences> {
        let mut silences = self.silences.lock().unwrap_or_else(PoisonError::into_inner);
        silences.note(&self.heard.latest(), now);
        silences
    }

    /// Says whether there is any use in what is sent to this node.
    pub(super) fn look_around(&self) {
        // Several look around: what is found last is said last.
        self.astray.send_if_modified(|now| {
            let why = self.what_is_in_the_way();
            let changed = now.as_deref() != why;
            if changed {
                match why {
                    Some(why) => tracing::warn!("not ready: {why}"),
                    None => tracing::info!("ready: other nodes are heard again"),
                }
                *now = why.map(str::to_owned);
            }
            changed
        });
    }

    fn what_is_in_the_way(&self) -> Option<&'static str> {
        let cut_off = self.is_cut_off();
        let mut deprived = self.deprived.lock().unwrap_or_else(PoisonError::into_inner);
        // Those who do not hear this node may have noticed it before this one notices that it does not hear them.
        if !cut_off && deprived.is_some_and(|at| at.elapsed() >= NOTICED) {
            *deprived = None;
        }
        let etcd_is_away = self.etcd_is_away.latest() || self.etcd_is_mute.load(Ordering::Relaxed);
        match (cut_off, deprived.is_some(), etcd_is_away) {
            (true, true, _) => Some("no other node is heard, and they have taken tunnels over from this one"),
            (true, false, true) => Some("neither another node nor etcd is heard"),
            _ => None,
        }
    }

    /// How many other nodes etcd knows of.
    pub(super) fn others(&self) -> usize {
        self.placement.latest().nodes.iter().filter(|node| node.name != self.own.node).count()
    }

    /// Whether etcd knows of a process: one that has left is not there any more.
    pub(super) fn is_there(&self, process: &Process) -> bool {
        self.placement.latest().nodes.iter().any(|node| node.process() == *process)
    }

    /// Whether a process was drained: it takes no slot, and is to be no standby where there is another node.
    pub(super) fn is_drained(&self, process: &Process) -> bool {
        self.placement.latest().nodes.iter().any(|node| node.drained && node.process() == *process)
    }

    /// A node has not answered as a standby.
    pub(super) fn is_unfit(&self, node: &str) {
        let mut unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        unfit.retain(|_, until| *until > now);
        unfit.insert(node.to_owned(), now + UNFIT);
    }

    pub(super) fn fits(&self, node: &str) -> bool {
        let unfit = self.unfit.lock().unwrap_or_else(PoisonError::into_inner);
        unfit.get(node).is_none_or(|until| *until <= Instant::now())
    }

    /// The other node that is to be a slot's standby, or that begins what is new: the same one for all who look, as long as the same are
    /// there.
    pub(super) fn successor(&self, number: u64) -> Option<Process> {
        self.best(number, |process| self.fits(&process.node))
    }

    /// The other node that is to be asked whether it is a slot's standby: none of those that have refused it of late, and one that fails again
    /// and again only where there is no other.
    pub(super) fn candidate(&self, number: u8) -> Option<Process> {
        self.steady(number, |_| true)
            .or_else(|| self.best(number.into(), |process| self.may_have(number, process)))
    }

    /// The other node that is to be asked instead of one that is a slot's standby and fails again and again.
    pub(super) fn replacement(&self, number: u8, of: &Process) -> Option<Process> {
        self.steady(number, |process| process != of)
    }

    fn steady(&self, number: u8, fits: impl Fn(&Process) -> bool) -> Option<Process> {
        let is_steady =
            |process: &Process| self.mine().get(&number).is_none_or(|own| own.rests.is_steady(process));
        self.best(number.into(), |process| {
            fits(process) && self.may_have(number, process) && is_steady(process)
        })
    }

    /// Whether a process may be asked whether it is a slot's standby.
    fn may_have(&self, number: u8, process: &Process) -> bool {
        self.fits(&process.node) && !self.mine().get(&number).is_some_and(|own| own.rests.has(process))
    }

    /// The other node that a slot is to go to now: better to one that has not answered of late than to nobody.
    pub(super) fn heir(&self, number: u64) -> Option<Process> {
        self.successor(number).or_else(|| self.best(number, |_| true))
    }

    fn best(&self, number: u64, fits: impl Fn(&Process) -> bool) -> Option<Process> {
        let placement = self.placement.latest();
        let others = placement.nodes.iter().filter(|node| node.name != self.own.node);
        others
            .filter(|node| !node.drained && self.hears(&node.name) && fits(&node.process()))
            .max_by_key(|node| Placement::weight(&node.name, number))
            .map(|node| node.process())
    }
}
