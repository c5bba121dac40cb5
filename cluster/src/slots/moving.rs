//! The way of a slot from one node to another while both are there: nothing is lost, and nothing done twice.
//!
//! ```text
//! owner                                   the next one
//!   |  writes it as it is: etcd takes writes
//!   |  Expect: does etcd answer there?       |
//!   |          what comes for it waits       |
//!   | -------------------------------------> |
//!   |  freezes; from here on nobody acts     |
//!   |  Hand: all rows, as they are           |
//!   | -------------------------------------> |
//!   |                      compare-and-swap in etcd: from here on it is the owner
//!   | <------------------------------------- |
//! ```
//!
//! If that does not come to an end the owner asks etcd who it is, and goes on if it is itself.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use latest::{Follow as _, Latest as _};
use tokio::sync::MutexGuard;
use tokio::time::Instant;

use super::inner::AGAIN;
use super::record::{Changed, Process, Slot};
use super::replica::Own;
use super::row::{Rows, Telling, cut};
use super::{Ask, Handover, Inner, steward};
use super::{Octets, Row};
use crate::task::carried_out;

/// A message of rows, and etcd's answer in between.
const PATIENCE: Duration = Duration::from_secs(5);
/// Within this etcd answers the node that a slot is to go to: less than its owner waits, and more than a slow one takes.
const ANSWERED: Duration = Duration::from_secs(2);
/// At most so long a slot that goes waits for its standby, which has what it was told within some ten milliseconds. What comes in the meantime
/// has to wait as well, so where there is always something this is no end.
const SAID: Duration = Duration::from_millis(50);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(2);
/// A slot that was to come and of which nothing has come for so long does not: its owner is gone, or has kept it. Longer than it waits for one
/// answer.
const LATE: Duration = Duration::from_secs(10);

/// Why nothing comes here any more.
pub(super) const LEAVES: &str = "this node leaves";

/// Rows of a slot that comes here.
pub(super) struct Arriving {
    from: String,
    term: u64,
    rows: Vec<Row>,
    /// When something of it came last.
    last: Instant,
}

/// Why a slot moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// Somebody has ordered it.
    Ordered,
    /// It suits the nodes.
    Suits,
    /// All slots of the node go.
    Leaves,
}

/// Moves a slot of this node.
pub(super) async fn give(inner: &Arc<Inner>, number: u8, to: &str, why: Why) -> Result<(), String> {
    takes_writes(inner, number).await?;
    if why != Why::Leaves {
        // While nobody waits for anything.
        inner.host.settle(number).await;
    }
    // Not with the turn: two nodes that give to each other would wait for each other.
    inner.coming.until_come(number).await;
    let mut turn = inner.turn.lock().await;
    if inner.coming.has(number) {
        return Err(format!("slot {number} has just come, and not all that is in it goes on here yet"));
    }
    // From etcd itself: the next owner compares with this.
    let slot = ours(inner, number).await?;
    if to == inner.own.node {
        return Err(format!("slot {number} is at {to} already"));
    }
    if !inner.hears(to) {
        return Err(format!("node {to} is not heard"));
    }
    let ordered = why == Why::Ordered;
    // For whatever process there is.
    let telling = Telling { slot: slot.number, term: slot.term, ordered, instance: &[], batch: 0, part: 0 };
    let nothing = telling.write(&[], false, Instant::now().into_std());
    ask(inner, to, Ask::Expect, nothing).await?;
    all_said(inner, number).await;
    let frozen = Instant::now();
    // Whoever waits for the standby waits in vain: what it has to say is in the rows, and will be said by the next owner.
    inner.mine().remove(&number);
    inner.going().insert(number, to.to_owned());
    let rows = inner.host.give(number, to).await;
    let mut gone = Ok(());
    if let Err(reason) = hand(inner, to, &rows, telling).await {
        let now;
        (now, turn) = whose(inner, &slot, turn).await;
        match now {
            Whose::Ours(now) => {
                inner.going().remove(&number);
                tracing::warn!(slot = number, to, reason, "the slot stays here");
                let coming = inner.coming.begin(number);
                if inner.claim(number, Own::alone(&now)) {
                    inner.go_on(coming, rows, Handover::Exact).await;
                }
                drop(turn);
                inner.wake.notify_one();
                return Err(reason);
            }
            // Its answer was lost.
            Whose::Of(owner) if owner.as_ref().is_some_and(|owner| owner.node == to) => {}
            Whose::Of(owner) => {
                let owner = owner.map_or_else(|| "nobody's".to_owned(), |owner| format!("at {}", owner.node));
                gone = Err(format!("{reason}; slot {number} is {owner} now"));
            }
            Whose::Unknown => gone = Err(format!("{reason}; etcd does not say whose slot {number} is")),
        }
    }
    match &gone {
        Ok(()) => {
            tracing::info!(slot = number, to, rows = rows.len(), took = ?frozen.elapsed(), "moved a slot");
        }
        Err(reason) => {
            tracing::warn!(slot = number, to, reason, "a slot has gone, and not where it was to go")
        }
    }
    let (mut known, owner) = (inner.table.subscribe(), inner.own.clone());
    let of_other = move |table: &Arc<super::Table>| table.get(&number).is_none_or(|slot| slot.owner != owner);
    let _ = tokio::time::timeout(super::SEEN, known.until(of_other)).await;
    inner.going().remove(&number);
    let table = inner.table.latest();
    if inner.primary.load(Ordering::Relaxed) == number {
        // Without one it is looked for again soon.
        let _ = steward::begin_anew(inner, &table).await;
    }
    drop(turn);
    gone
}

/// Waits for the standby to acknowledge what waits for that, for a moment: what is said before the slot goes nobody has to ask for again.
async fn all_said(inner: &Inner, number: u8) {
    let begun = Instant::now();
    let waits = || inner.mine().get(&number).is_some_and(|own| own.replica.waiting() > 0);
    while waits() && begun.elapsed() < SAID {
        tokio::time::sleep(LOOK).await;
    }
}

/// What etcd knows of a slot of this node.
async fn ours(inner: &Inner, number: u8) -> Result<Slot, String> {
    let slot = Slot::load(&inner.etcd, number).await.map_err(|error| error.to_string())?;
    let ours = slot.filter(|slot| slot.owner == inner.own && inner.mine().contains_key(&number));
    ours.ok_or_else(|| format!("slot {number} is not this node's"))
}

/// A slot of this node is written as it is: where etcd takes no writes nothing is frozen for as long as that is so. Nobody's turn is taken
/// meanwhile, for a slot that is to be taken over would wait for it.
async fn takes_writes(inner: &Inner, number: u8) -> Result<(), String> {
    let mut slot = ours(inner, number).await?;
    loop {
        match inner.change(&slot).await.map_err(|error| error.to_string())? {
            Changed::Done(_) => return Ok(()),
            // Its standby is ready, or gone, since a moment ago.
            Changed::Other(Some(now)) if now.owner == inner.own => slot = now,
            Changed::Other(_) => return Err(format!("slot {number} is not this node's any more")),
        }
    }
}

/// Asks the next owner for as long as it is heard: if it is gone its own slots wait to be taken over, one change of owners after the other.
async fn ask(inner: &Inner, to: &str, ask: Ask, body: Octets) -> Result<(), String> {
    let mut heard = inner.heard.clone();
    tokio::select! {
        biased;
        answer = inner.wire.ask(to, ask, body, PATIENCE) => answer.map(drop),
        _ = heard.until(|heard| !heard.contains(to)) => Err(format!("node {to} is not heard any more")),
    }
}

async fn hand(inner: &Inner, to: &str, rows: &[Row], telling: Telling<'_>) -> Result<(), String> {
    let (messages, now) = (cut(rows), Instant::now().into_std());
    let count = messages.len();
    for (at, rows) in messages.into_iter().enumerate() {
        ask(inner, to, Ask::Hand, telling.write(rows, at + 1 == count, now)).await?;
    }
    Ok(())
}

/// Whose a slot is that was to be handed over.
enum Whose {
    /// Still this node's.
    Ours(Slot),
    /// Another's, or nobody's.
    Of(Option<Process>),
    /// Nobody has said before this node ends.
    Unknown,
}

/// Asks etcd until it answers: as long as nobody knows whose the slot is, nobody acts for it.
async fn whose<'a>(
    inner: &'a Inner,
    slot: &Slot,
    mut turn: MutexGuard<'a, ()>,
) -> (Whose, MutexGuard<'a, ()>) {
    let mut now = slot.clone();
    loop {
        // Written anew, so that whatever is still on its way to etcd comes too late.
        match inner.change(&now.with_standby(None)).await {
            Ok(Changed::Done(now)) => return (Whose::Ours(now), turn),
            // A term later it may have lost its standby. Two later it has been with another node and has come back, as it was there.
            Ok(Changed::Other(Some(other))) if other.owner == inner.own && other.term <= slot.term + 1 => {
                now = other;
            }
            Ok(Changed::Other(other)) => return (Whose::Of(other.map(|slot| slot.owner)), turn),
            Err(error) => {
                tracing::warn!(%error, slot = slot.number, "nobody says whose the slot is");
                turn = inner.again(turn).await;
                if inner.course.ends() {
                    // Whoever comes next learns that this node is gone.
                    return (Whose::Unknown, turn);
                }
            }
        }
    }
}

/// A slot comes here.
pub(super) async fn arrive(
    inner: &Arc<Inner>,
    from: &str,
    ask: Ask,
    mut rows: Rows,
) -> Result<Vec<u8>, String> {
    let number = rows.slot()?;
    if inner.course.leaves() {
        return Err(LEAVES.to_owned());
    }
    if ask == Ask::Expect {
        // A node that etcd does not answer cannot become its owner, and all that is in it would stand still until its owner has lost patience. With
        // it that owner's turn would: should it be lost meanwhile, its other slots are lost whose standby this node is.
        let seen = tokio::time::timeout(ANSWERED, Slot::load(&inner.etcd, number)).await;
        let seen =
            seen.map_err(|_| format!("etcd does not answer node {} within {ANSWERED:?}", inner.own.node))?;
        seen.map_err(|error| error.to_string())?;
        if inner.losing().contains(&number) || inner.mine().contains_key(&number) {
            // It was taken from this node a moment ago.
            return Err(format!("there is still something of slot {number} here"));
        }
        let arriving =
            Arriving { from: from.to_owned(), term: rows.term, rows: Vec::new(), last: Instant::now() };
        inner.arriving().insert(number, arriving);
        inner.host.expect(number, from);
        return Ok(Vec::new());
    }
    let now = Instant::now();
    let all = {
        let mut all = inner.arriving();
        let Some(arriving) = all.get_mut(&number).filter(|a| a.from == from && a.term == rows.term) else {
            return Err(format!("slot {number} is not expected"));
        };
        arriving.last = now;
        arriving
            .rows
            .extend(std::mem::take(&mut rows.rows).into_iter().map(|form| form.read(now.into_std())));
        if !rows.last {
            return Ok(Vec::new());
        }
        all.remove(&number)
    };
    let arrived = all.map(|arriving| arriving.rows).unwrap_or_default();
    let inner = Arc::clone(inner);
    // To its end, though the connection by which it was asked for may break: once etcd says that the slot is this node's, nobody else begins with
    // it.
    let come = carried_out(async move { come(&inner, number, rows, arrived).await }).await;
    come.unwrap_or_else(|| Err(LEAVES.to_owned()))
}

/// All of a slot is here.
async fn come(inner: &Arc<Inner>, number: u8, rows: Rows, arrived: Vec<Row>) -> Result<Vec<u8>, String> {
    let coming = inner.coming.begin(number);
    let samples = inner.vault().samples(number, rows.term, &arrived);
    // Its owner goes on with what cannot be read here.
    let now = match inner.host.reads(&samples) {
        Ok(()) => become_owner(inner, number, &rows).await,
        Err(reason) => Err(reason),
    };
    let now = match now {
        Ok(now) => now,
        Err(reason) => {
            expect_no_more(inner, number).await;
            return Err(reason);
        }
    };
    inner.tell_all(&now);
    // It may have come back before it was known here that it had gone.
    inner.going().remove(&number);
    if !inner.claim(number, Own { ordered: rows.ordered, ..Own::come(&now) }) {
        // Its owner was not heard, and it was taken over at the same time.
        return Ok(Vec::new());
    }
    inner.vault().take(number);
    inner.exact.fetch_add(1, Ordering::Relaxed);
    inner.go_on(coming, arrived, Handover::Exact).await;
    inner.wake.notify_one();
    Ok(Vec::new())
}

/// Slots that were to come and do not are waited for no longer: what lands here for them would wait in vain, each packet anew.
pub(super) async fn forget_late(inner: &Arc<Inner>) {
    let late: Vec<u8> = {
        let mut all = inner.arriving();
        let late = all.iter().filter(|(_, slot)| slot.last.elapsed() >= LATE).map(|(number, _)| *number);
        let late: Vec<u8> = late.collect();
        late.iter().for_each(|number| drop(all.remove(number)));
        late
    };
    for number in late {
        tracing::warn!(slot = number, "a slot that was to come has not come");
        expect_no_more(inner, number).await;
    }
}

async fn expect_no_more(inner: &Arc<Inner>, number: u8) {
    if !inner.mine().contains_key(&number) {
        let owner = inner.slot(number).map(|slot| slot.owner.node);
        inner.host.lose(number, owner.as_deref()).await;
    }
}

/// Makes this node the owner of a slot, if it is as its owner says that it is. Asked until etcd answers; its former owner asks as well,
/// and one of the two comes first.
async fn become_owner(inner: &Inner, number: u8, rows: &Rows) -> Result<Slot, String> {
    loop {
        let made = match Slot::load(&inner.etcd, number).await {
            // It comes to a new term by whatever its owner does with it, but for a standby that is ready.
            Ok(Some(slot)) if slot.term == rows.term => inner.change(&slot.of(inner.own.clone())).await,
            // That is what a change that was made though nobody heard of it looks like.
            Ok(Some(slot)) if slot.owner == inner.own && slot.term == rows.term + 1 => return Ok(slot),
            Ok(_) => return Err(format!("slot {number} has changed hands meanwhile")),
            Err(error) => Err(error),
        };
        match made {
            Ok(Changed::Done(slot)) => return Ok(slot),
            Ok(Changed::Other(_)) => {}
            Err(error) => {
                tracing::warn!(%error, slot = number, "nobody says whose the slot is");
                tokio::time::sleep(AGAIN).await;
                if inner.course.ends() {
                    // Whoever comes next learns that this node is gone.
                    return Err(LEAVES.to_owned());
                }
            }
        }
    }
}
