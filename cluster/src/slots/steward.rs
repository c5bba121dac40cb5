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
use super::replica::{self, Own};
use super::{Handover, Inner};
use crate::members::{Placement, SLOTS};
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
/// A node that is not heard is listened for once more: whoever was paused itself has heard nobody.
const ONCE_MORE: Duration = Duration::from_millis(50);

/// For as long as it is polled.
pub(super) async fn run(inner: Arc<Inner>) {
    // One task, which ends as a whole. Where several wait for the same news, who is told first is left to chance, and what a simulation does
    // depends on its seed alone: so one of them hears it and tells the others.
    tokio::select! {
        biased;
        () = look_around(&inner) => {}
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
        inner.taken.notify_one();
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
    let mut unclaimed = Unclaimed::new();
    loop {
        inner.wake.notified().await;
        tend(inner).await;
        give_up_unclaimed(inner, &mut unclaimed).await;
    }
}

async fn tend(inner: &Arc<Inner>) {
    let table = inner.table.latest();
    let others = || table.values().filter(|slot| slot.owner != inner.own);
    take_over(inner, others()).await;
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
        slot.is_none_or(|slot| slot.term < term || slot.standby.as_ref() == Some(&inner.own))
    });
}

/// Slots that are this node's by etcd alone, as of which revision, and since when.
type Unclaimed = BTreeMap<(u8, i64), Instant>;

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
    let told = match inner.mine().get(&slot.number) {
        // Who would be told of it now would be ready without what begins later.
        Some(own) if !inner.coming.has(slot.number) => own.replica.term(),
        _ => return,
    };
    if told.is_some_and(|term| term >= slot.term) {
        let lost = slot.standby.as_ref().is_some_and(|standby| {
            // One whose lease has ended cannot take over, though it is heard, and nobody else would: the others make nobody's what it has. One that was
            // drained would have to give it away at once.
            let worse = !inner.is_there(standby) || inner.is_drained(standby);
            // It keeps what it has until there is a better one.
            is_gone(inner, standby) || (worse && inner.successor(slot.number.into()).is_some())
        });
        if lost && let Some(own) = inner.mine().get(&slot.number) {
            own.replica.fail();
        }
        return;
    }
    // One that was drained has it until somebody takes it.
    if inner.course.ends() {
        return;
    }
    let rests = inner.mine().get(&slot.number).is_some_and(Own::rests);
    let standby = inner.successor(slot.number.into()).filter(|_| !rests);
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
                replica::begin(inner, slot.clone());
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

/// Whether a process is not there any more, as far as can be told from here.
fn is_gone(inner: &Inner, process: &Process) -> bool {
    let placement = inner.placement.latest();
    let now = placement.nodes.iter().find(|node| node.name == process.node);
    match now {
        Some(node) if node.process() != *process => true,
        // Its lease may have ended for a moment, and it may be heard nevertheless.
        _ => !inner.hears(&process.node),
    }
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
    if !is_gone(inner, &slot.owner) || inner.is_cut_off() || inner.course.ends() {
        return;
    }
    // From here on nothing is added, so that whatever the owner does after that it has not told anybody of.
    if !inner.vault().close(number, slot.term) {
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
    let changed = loop {
        match inner.change(&next).await {
            Ok(changed) => break changed,
            // Whether it was made is unknown, and until it is known nobody acts.
            Err(error) => tracing::warn!(%error, slot = number, "etcd does not say whose the slot is"),
        }
        turn = inner.again(turn).await;
        if inner.course.ends() {
            // Whoever comes next learns that this node is gone.
            return;
        }
    };
    match changed {
        Changed::Done(now) => {
            let coming = inner.coming.begin(number);
            inner.tell_all(&now);
            if !inner.claim(number, Own::come(&now)) {
                // It was handed over at the same time.
                return;
            }
            let rows = inner.vault().take(number);
            tracing::warn!(slot = number, from = slot.owner.node, rows = rows.len(), "took over a slot");
            inner.sudden.fetch_add(1, Ordering::Relaxed);
            inner.go_on(coming, rows, Handover::Sudden).await;
        }
        Changed::Other(_) => inner.vault().reopen(number),
    }
    drop(turn);
    inner.wake.notify_one();
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
