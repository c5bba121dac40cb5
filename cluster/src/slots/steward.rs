//! Looks after the slots: gives those of this node a standby, takes over those of nodes that are gone, and notices when one is
//! another's.
//!
//! What takes no word of etcd waits for none ([`let_go`], [`look_around`]): a call may take etcd's whole patience, and there is one for each
//! slot.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::record::{Changed, Process, Slot, Table};
use super::replica::Own;
use super::{Handover, Inner, cut_off, filling};
use crate::etcd::{EtcdError, away};
use crate::members::{Placement, SLOTS};
use crate::task::carried_out;
use latest::Latest as _;
use tokio::sync::watch;
use tokio::time::Instant;

/// Everything is looked at this often without a reason as well.
const TICK: Duration = Duration::from_secs(1);
/// A slot that etcd says is this node's, and that nothing is known of here for so long, does not come any more: twice what everything is looked at.
const UNCLAIMED: Duration = TICK.saturating_mul(2);
/// A node says so long after its begin of no owner that etcd does not know of that it has gone: that one may be cut off from etcd alone, and back by
/// then. Nothing waits for the number of a slot.
const MET: Duration = if cfg!(test) { TICK } else { Duration::from_secs(60) };
/// So long after its first row etcd has told of a slot that is there.
const STRAY: Duration = if cfg!(test) { TICK.saturating_mul(2) } else { Duration::from_secs(60) };
/// A node that is not heard is listened for once more: whoever was paused itself has heard nobody.
const ONCE_MORE: Duration = Duration::from_millis(50);

/// For as long as it is polled.
pub(super) async fn run(inner: Arc<Inner>) {
    // One task, which ends as a whole. Where several wait for the same news, who is told first is left to chance, and what a simulation does
    // depends on its seed alone: so one of them hears it and tells the others.
    tokio::select! {
        biased;
        () = look_around(&inner) => {}
        () = cut_off::listen_to_etcd(&inner) => {}
        () = let_go(&inner) => {}
        () = look_after(&inner) => {}
    }
}

/// Says whether there is any use in what is sent to this node, and tells the others of what has changed.
async fn look_around(inner: &Inner) {
    let (mut table, mut placement, mut heard, mut etcd) =
        (inner.table.subscribe(), inner.placement.clone(), inner.heard.clone(), inner.etcd_is_away.clone());
    loop {
        inner.look_around();
        know(inner);
        inner.taken.notify_one();
        inner.alone.notify_one();
        inner.wake.notify_one();
        let ended = tokio::select! {
            biased;
            changed = table.changed() => changed.is_err(),
            changed = placement.changed() => changed.is_err(),
            changed = heard.changed() => changed.is_err(),
            // The node may have lost its place: then nobody tells of etcd any more, and what is another's is put away all the same.
            () = news(&mut etcd) => false,
            () = tokio::time::sleep(TICK) => false,
        };
        if ended {
            return;
        }
    }
}

pub(super) async fn news(of: &mut watch::Receiver<bool>) {
    if of.changed().await.is_err() {
        std::future::pending().await
    }
}

/// Tells those who tell a standby what is known of it.
fn know(inner: &Inner) {
    let table = inner.table.latest();
    let of = |(number, own): (&u8, &Own)| Some((*number, own.replica.term()?, own.replica.is_gated()));
    let told: Vec<(u8, u64, bool)> = inner.mine().iter().filter_map(of).collect();
    for (number, term, gated) in told {
        let Some(slot) = table.get(&number).filter(|slot| slot.owner == inner.own) else { continue };
        let unwanted = slot.term == term
            && slot.standby.as_ref().is_some_and(|of| is_unwanted(inner, number, of, gated));
        if let Some(own) = inner.mine().get(&number) {
            own.replica.know(term, slot.term > term, unwanted);
        }
    }
}

/// Whether a slot is to have another standby than this one.
fn is_unwanted(inner: &Inner, number: u8, standby: &Process, gated: bool) -> bool {
    // For one that has not taken all yet nothing waits: that it is silent for a moment is no reason to begin anew with all of it.
    let gone = if gated { is_gone(inner, standby) } else { is_replaced(inner, standby) };
    // One whose lease has ended cannot take over, though it is heard, and nobody else would: the others make nobody's what it has. One that was
    // drained would have to give it away at once.
    let worse = !inner.is_there(standby) || inner.is_drained(standby);
    // It keeps what it has until there is a better one.
    gone || (worse && inner.candidate(number).is_some())
}

/// Puts away what is another's.
async fn let_go(inner: &Arc<Inner>) {
    loop {
        inner.taken.notified().await;
        let table = inner.table.latest();
        let mine: Vec<(u8, i64)> = inner.mine().iter().map(|(number, own)| (*number, own.since)).collect();
        let of_others = |(number, since): &&(u8, i64)| {
            // What was before it came here is no news.
            table.get(number).is_some_and(|slot| slot.owner != inner.own && slot.revision >= *since)
        };
        for (number, _) in mine.iter().filter(of_others) {
            lose(inner, *number).await;
        }
    }
}

/// Does all the rest, which takes etcd's word.
async fn look_after(inner: &Arc<Inner>) {
    let (mut unclaimed, mut strays) = (Unclaimed::new(), Strays::new());
    loop {
        inner.wake.notified().await;
        tend(inner).await;
        give_up_unclaimed(inner, &mut unclaimed).await;
        forget_strays(inner, &mut strays);
    }
}

async fn tend(inner: &Arc<Inner>) {
    let table = inner.table.latest();
    let others = || table.values().filter(|slot| slot.owner != inner.own);
    take_over(inner, others()).await;
    take_late(inner, &table).await;
    let mine: Vec<u8> = inner.mine().keys().copied().collect();
    for number in mine {
        match table.get(&number) {
            Some(slot) if slot.owner == inner.own => own(inner, slot).await,
            Some(_) => {}
            None => missing(inner, number).await,
        }
    }
    for slot in others().filter(|slot| is_nobodys(inner, slot)) {
        if let Err(error) = slot.free(&inner.etcd).await {
            tracing::debug!(%error, slot = slot.number, "a slot without an owner stays for now");
        }
    }
    if !inner.mine().contains_key(&inner.primary.load(Ordering::Relaxed)) {
        let _turn = inner.turn.lock().await;
        // Without one it is looked for again soon.
        let _ = begin_anew(inner, &table).await;
    }
    inner.vault().forget(|number, term| {
        // What etcd says may come later than what the owner says.
        let slot = table.get(&number);
        let comes = |slot: &Slot| slot.owner == inner.own && slot.before() == term;
        slot.is_none_or(|slot| slot.term < term || slot.standby.as_ref() == Some(&inner.own) || comes(slot))
    });
}

/// Slots that are this node's by etcd alone, as of which revision, and since when.
type Unclaimed = BTreeMap<(u8, i64), Instant>;

/// What is kept of slots that etcd does not know of, by slot and term, and since when that is so.
type Strays = BTreeMap<(u8, u64), Instant>;

/// Forgets what is kept of slots that are nobody's. Not at once, as etcd's watch may tell of a slot later than its owner does.
fn forget_strays(inner: &Inner, strays: &mut Strays) {
    let (table, kept) = (inner.table.latest(), inner.vault().terms());
    let is_stray = |of: &(u8, u64)| !table.contains_key(&of.0);
    strays.retain(|of, _| kept.contains(of) && is_stray(of));
    for of in kept.into_iter().filter(is_stray) {
        strays.entry(of).or_insert_with(Instant::now);
    }
    let is_over = |slot, term| strays.get(&(slot, term)).is_some_and(|since| since.elapsed() >= STRAY);
    inner.vault().forget(|slot, term| !is_over(slot, term));
}

/// Makes slots nobody's that are this node's by etcd, and that it does nothing for: nobody else can, as it is there.
async fn give_up_unclaimed(inner: &Arc<Inner>, unclaimed: &mut Unclaimed) {
    let found = {
        // Whatever changes hands just now does it in turn, or comes.
        let Ok(_turn) = inner.turn.try_lock() else { return };
        let table = inner.table.latest();
        let ours = table.values().filter(|slot| slot.owner == inner.own);
        ours.filter(|slot| !inner.course.ends() && !inner.knows(slot.number)).cloned().collect::<Vec<_>>()
    };
    unclaimed.retain(|of, _| found.iter().any(|slot| (slot.number, slot.revision) == *of));
    for slot in found {
        let since = unclaimed.entry((slot.number, slot.revision)).or_insert_with(Instant::now);
        if since.elapsed() < UNCLAIMED {
            continue;
        }
        let _turn = inner.turn.lock().await;
        if inner.knows(slot.number) || inner.course.ends() {
            continue;
        }
        match slot.give_up(&inner.etcd).await {
            Ok(true) => tracing::warn!(slot = slot.number, "a slot of this node is not here: it is nobody's"),
            // The watch tells of it.
            Ok(false) => {}
            Err(error) => {
                tracing::debug!(%error, slot = slot.number, "a slot that is not here stays for now")
            }
        }
    }
}

/// A slot of this node: it is to have a standby that is there.
async fn own(inner: &Arc<Inner>, slot: &Slot) {
    // It may be on its way to another node.
    let _turn = inner.turn.lock().await;
    let is_told = match inner.mine().get(&slot.number) {
        // Who would be told of it now would be ready without what begins later.
        Some(own) if !inner.coming.has(slot.number) => own.replica.term().is_some(),
        _ => return,
    };
    // For as long as somebody is told he is its standby, and what he is told has an end.
    if is_told {
        return;
    }
    // One that was drained has it until somebody takes it.
    if inner.course.ends() {
        return;
    }
    let standby = inner.candidate(slot.number);
    if standby.is_none() && slot.standby.is_none() {
        return;
    }
    assign(inner, slot, standby).await;
}

/// Gives a slot of this node another standby; true if that is so now.
pub(super) async fn assign(inner: &Arc<Inner>, slot: &Slot, standby: Option<Process>) -> Option<Slot> {
    match inner.change(&slot.with_standby(standby)).await {
        Ok(Changed::Done(slot)) => {
            if slot.standby.is_some() {
                filling::begin(inner, slot.clone());
            }
            Some(slot)
        }
        // The watch tells of it.
        Ok(Changed::Other(_)) => None,
        Err(error) => {
            tracing::debug!(%error, slot = slot.number, "a slot has no standby for now");
            None
        }
    }
}

/// Whether a process is not there any more, as far as can be told from here. Its lease may have ended for a moment, and it may be heard
/// nevertheless.
fn is_gone(inner: &Inner, process: &Process) -> bool {
    is_replaced(inner, process) || !inner.hears(&process.node)
}

/// Whether another process has the name of its node.
fn is_replaced(inner: &Inner, process: &Process) -> bool {
    let placement = inner.placement.latest();
    placement.nodes.iter().any(|node| node.name == process.node && node.process() != *process)
}

/// Whether the owner of a slot is gone, and nobody is there who could go on with it. One of those who are there makes it nobody's.
fn is_nobodys(inner: &Inner, slot: &Slot) -> bool {
    let placement = inner.placement.latest();
    let there = |process: &Process| placement.nodes.iter().any(|node| node.process() == *process);
    let first = placement.nodes.iter().max_by_key(|node| Placement::weight(&node.name, slot.number.into()));
    let heir = slot.standby.as_ref().filter(|_| slot.ready).is_some_and(there);
    // One that is cut off from etcd alone is in no list of nodes, so a node that begins hears nothing of it, though others may.
    let is_listed = placement.nodes.iter().any(|node| node.name == slot.owner.node);
    let would_be_met = is_listed || inner.began.elapsed() >= MET;
    // Another process of its node may be heard.
    !there(&slot.owner)
        && is_gone(inner, &slot.owner)
        && would_be_met
        && !heir
        && first.is_some_and(|node| node.name == inner.own.node)
}

/// Takes the slots of owners that are gone.
async fn take_over(inner: &Arc<Inner>, others: impl Iterator<Item = &Slot>) {
    let is_orphan =
        |slot: &&Slot| slot.standby.as_ref() == Some(&inner.own) && slot.ready && is_gone(inner, &slot.owner);
    let orphans: Vec<&Slot> = others.filter(is_orphan).collect();
    if orphans.is_empty() {
        return;
    }
    tokio::time::sleep(ONCE_MORE).await;
    for slot in orphans {
        take_over_one(inner, slot).await;
    }
}

async fn take_over_one(inner: &Arc<Inner>, seen: &Slot) {
    let mut turn = inner.turn.lock().await;
    let number = seen.number;
    let Some(slot) = inner.slot(number).filter(|slot| slot.term == seen.term && slot.ready) else { return };
    // Everything is looked at again soon.
    let is_doubtful = inner.is_cut_off() || inner.may_return(&slot.owner.node);
    if !is_gone(inner, &slot.owner) || is_doubtful || inner.course.ends() {
        return;
    }
    if !inner.vault().has(number, slot.term) {
        // It was too large a moment ago, and its owner did not get to strike this node out.
        match slot.free(&inner.etcd).await {
            Ok(true) => tracing::warn!(slot = number, "its state is not here: it is nobody's"),
            // Its owner's lease is not over yet, or it has another owner.
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, slot = number, "a slot without its state stays for now"),
        }
        return;
    }
    let next = slot.of(inner.own.clone());
    loop {
        // Its owner goes on until this is made, and tells this node of all that it does: none of that is refused, or it would stand still for as
        // long as etcd says nothing.
        let changed = tokio::select! {
            biased;
            changed = ask(inner, &next) => changed,
            // Should it be made nevertheless, the answer that comes then tells, or the watch (`take_late`).
            () = is_back(inner, &slot.owner) => {
                tracing::info!(slot = number, from = slot.owner.node, "its owner is heard again: nothing is taken over");
                return;
            }
        };
        match changed {
            Ok(Changed::Done(now)) => break begin_with(inner, &slot.owner.node, &now).await,
            Ok(Changed::Other(_)) => break,
            // Whether it was made is unknown, and until it is known nobody acts.
            Err(error) => tracing::warn!(%error, slot = number, "etcd does not say whose the slot is"),
        }
        turn = inner.again(turn).await;
        let unchanged = inner.slot(number).is_some_and(|now| now.revision == slot.revision);
        // At the end of this node whoever comes next learns that it is gone.
        if inner.course.ends() || !unchanged || !is_gone(inner, &slot.owner) {
            return;
        }
    }
    drop(turn);
    inner.wake.notify_one();
}

/// Makes a change of which the answer is taken in also where nobody waits for it any more.
async fn ask(inner: &Arc<Inner>, next: &Slot) -> Result<Changed, EtcdError> {
    let (inner, next) = (Arc::clone(inner), next.clone());
    let asked = carried_out(async move {
        let changed = inner.change(&next).await;
        inner.wake.notify_one();
        changed
    });
    asked.await.unwrap_or_else(|| Err(away("this node ends".to_owned())))
}

/// Waits until a process is there. Looked at now and then, not waited for: who is told first is left to chance, where several wait for the
/// same.
async fn is_back(inner: &Inner, process: &Process) {
    while is_gone(inner, process) {
        tokio::time::sleep(ONCE_MORE).await;
    }
}

/// Goes on with a slot that etcd says is this node's.
async fn begin_with(inner: &Arc<Inner>, from: &str, now: &Slot) {
    let number = now.number;
    if !inner.vault().has(number, now.before()) {
        // Too large meanwhile. It is made nobody's, like all that is this node's by etcd alone.
        return tracing::warn!(slot = number, from, "a slot is this node's whose state is not here");
    }
    let coming = inner.coming.begin(number);
    inner.tell_all(now);
    if !inner.claim(number, Own::come(now)) {
        // It was handed over at the same time.
        return;
    }
    // From here on nothing is added, and all that anybody was told is in it.
    let rows = inner.vault().take(number);
    tracing::warn!(slot = number, from, rows = rows.len(), "took over a slot");
    inner.sudden.fetch_add(1, Ordering::Relaxed);
    inner.go_on(coming, rows, Handover::Sudden).await;
}

/// Goes on with slots that this node has asked etcd for, and was given when it did not wait for that any more: nobody else can.
async fn take_late(inner: &Arc<Inner>, table: &Table) {
    let is_late = |slot: &&Slot| {
        slot.owner == inner.own && !inner.knows(slot.number) && inner.vault().has(slot.number, slot.before())
    };
    let late: Vec<&Slot> = table.values().filter(is_late).collect();
    for slot in late {
        let _turn = inner.turn.lock().await;
        let now = inner.slot(slot.number).filter(|now| now == slot && !inner.course.ends());
        if let Some(now) = now.filter(|_| is_late(&slot)) {
            begin_with(inner, "", &now).await;
            inner.wake.notify_one();
        }
    }
}

/// A slot of this node is another's.
async fn lose(inner: &Arc<Inner>, number: u8) {
    let _turn = inner.turn.lock().await;
    lose_in_turn(inner, number).await;
}

async fn lose_in_turn(inner: &Arc<Inner>, number: u8) {
    // It may have come back by a move, or have gone by one.
    let now = inner.slot(number);
    let since = inner.mine().get(&number).map(|own| own.since);
    let ours = now.as_ref().is_some_and(|slot| slot.owner == inner.own || Some(slot.revision) < since);
    if ours {
        return;
    }
    // Nobody hands it over as long as there is something of it here.
    inner.losing().insert(number);
    if inner.mine().remove(&number).is_none() {
        inner.losing().remove(&number);
        return;
    }
    let owner = now.map(|slot| slot.owner.node);
    tracing::warn!(slot = number, owner, "a slot is another node's now");
    *inner.deprived.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    inner.look_around();
    if !inner.coming.until_come(number).await {
        tracing::warn!(slot = number, "a slot goes that has not come as a whole");
    }
    inner.host.lose(number, owner.as_deref()).await;
    inner.losing().remove(&number);
    // It may have been that of what is new.
    inner.wake.notify_one();
}

/// Nothing is known of a slot of this node: its lease was over for a while, and the others have made it nobody's, or another has had it.
async fn missing(inner: &Arc<Inner>, number: u8) {
    let _turn = inner.turn.lock().await;
    let since = inner.mine().get(&number).map(|own| own.since);
    let Some(since) = since.filter(|_| !inner.coming.has(number)) else { return };
    match Slot::begin_again(&inner.etcd, number, inner.own.clone(), since).await {
        Ok(Some(Changed::Done(slot))) => {
            if let Some(own) = inner.mine().get_mut(&number) {
                *own = Own::alone(&slot);
            }
            inner.heard_of(slot);
        }
        // Once this node is there again.
        Ok(None) => {}
        Ok(Some(Changed::Other(Some(slot)))) if slot.owner == inner.own => {}
        Ok(Some(Changed::Other(_))) => lose_in_turn(inner, number).await,
        Err(error) => tracing::debug!(%error, slot = number, "a slot is not in etcd for now"),
    }
}

/// Takes a slot for what is new: false if there is none, for now.
pub(super) async fn begin_anew(inner: &Arc<Inner>, table: &Table) -> bool {
    if inner.course.leaves() {
        return false;
    }
    // What has not been put away yet is no new one, whatever etcd says of it.
    let here = |number: &u8| {
        inner.mine().contains_key(number)
            || inner.losing().contains(number)
            || inner.going().contains_key(number)
    };
    let free = SLOTS.filter(|number| !table.contains_key(number) && !here(number));
    let untold = inner.begun.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(slot) = untold
        && let Some(begun) = begin(inner, slot).await
    {
        return begun;
    }
    for number in free {
        let begun = match Slot::nobodys(&inner.etcd, number, inner.own.clone()).await {
            Ok(Some(slot)) => begin(inner, slot).await,
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(%error, "there is no slot for what is new");
                Some(false)
            }
        };
        if let Some(begun) = begun {
            return begun;
        }
    }
    false
}

/// Begins with a slot that is nobody's: whether that was done, or `None` if it is somebody's.
async fn begin(inner: &Arc<Inner>, slot: Slot) -> Option<bool> {
    match inner.change(&slot).await {
        Ok(Changed::Done(slot)) => {
            inner.primary.store(slot.number, Ordering::Relaxed);
            if inner.claim(slot.number, Own::alone(&slot)) {
                inner.host.begin_in(slot.number);
            }
            tracing::info!(slot = slot.number, "began with another slot");
            Some(true)
        }
        Ok(Changed::Other(_)) => None,
        Err(error) => {
            tracing::warn!(%error, "there is no slot for what is new");
            // It may have been made: then it is this node's, and none of the others that are free is taken besides.
            *inner.begun.lock().unwrap_or_else(PoisonError::into_inner) = Some(slot);
            Some(false)
        }
    }
}
