//! What has to be so a while after a disturbance: each slot has one owner who holds it and a standby who could take over, and nothing is lost.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::world::World;
use latest::Latest as _;

/// How long that may take: a lease of 5 s and as long until a node is started again under its name, and what the last disturbances last.
const PATIENCE: Duration = Duration::from_secs(120);
/// Tunnels of a node that is gone are at others within this: 500 ms at most until it counts as silent, and the rest is messages.
pub(super) const TAKEN_OVER: Duration = Duration::from_millis(900);
/// Nodes tell each other again so soon after the way between them is mended.
const MENDED: Duration = Duration::from_secs(2);
/// And what waits for it is said within this.
const SAID: Duration = Duration::from_secs(2);
/// Between looks whether they are.
const CLOSELY: Duration = Duration::from_millis(20);
/// Between looks.
const LOOK: Duration = Duration::from_millis(500);

/// Waits until everything is as it should be; false, with a violation, if that does not come about.
pub(super) async fn everything_is_well(world: &Arc<World>) -> bool {
    let mut why = String::new();
    let mut waited = Duration::ZERO;
    while waited < PATIENCE && !world.witness.is_broken() {
        match look(world) {
            Ok(()) => return true,
            Err(reason) => why = reason,
        }
        tokio::time::sleep(LOOK).await;
        waited += LOOK;
    }
    world.witness.violation(&format!("after {PATIENCE:?}: {why}"));
    false
}

/// Whether it is so now.
fn look(world: &World) -> Result<(), String> {
    let nodes = world.nodes().clone();
    if nodes.len() < world.scenario.nodes {
        return Err("a node is not there".to_owned());
    }
    let mut owners = BTreeMap::new();
    for (name, node) in &nodes {
        let Some(slots) = &node.slots else { return Err(format!("{name} has not begun")) };
        if !node.process.runs() {
            return Err(format!("{name} does not run"));
        }
        if slots.mine().is_empty() {
            return Err(format!("{name} has no slot"));
        }
        for number in slots.mine() {
            if let Some(other) = owners.insert(number, name) {
                return Err(format!("slot {number} is of {name} and of {other}"));
            }
            if !slots.is_protected(number) {
                return Err(format!("slot {number} of {name} has no standby"));
            }
            if slots.waiting(number) > 0 {
                return Err(format!("something waits in slot {number} of {name}"));
            }
        }
        for (number, slot) in slots.table().latest().iter() {
            let known = nodes.get(&slot.owner.node).and_then(|node| node.slots.as_ref());
            if !known.is_some_and(|slots| slots.holds(*number)) {
                return Err(format!("{name} takes slot {number} for one of {}", slot.owner.node));
            }
        }
        if let Some((number, id)) = node.host.all().into_iter().find(|(number, _)| !slots.holds(*number)) {
            return Err(format!("{name} has tunnel {id} of slot {number}, which is not its own"));
        }
    }
    let mut seen = HashSet::new();
    for (name, node) in &nodes {
        for (_, id) in node.host.all() {
            if !seen.insert(id) {
                return Err(format!("tunnel {id} is at two nodes, {name} is one of them"));
            }
        }
    }
    let lost = world.witness.tunnels().into_iter().find(|id| !seen.contains(id));
    match lost {
        Some(id) if world.scenario.one_at_a_time => Err(format!("tunnel {id} is lost")),
        _ => Ok(()),
    }
}

/// Looks for as long as etcd is away, and no way between nodes is cut any more, whether what is to be said is said and numbers are given: a standby is
/// heard, or there is none. Nothing else goes wrong.
pub(super) async fn something_is_said(world: &World, length: Duration) {
    if !world.scenario.one_at_a_time {
        return tokio::time::sleep(length).await;
    }
    let said = || world.witness.counted("messages");
    tokio::time::sleep(MENDED).await;
    let (before, mut waited) = (said(), Duration::ZERO);
    while waited < length.max(SAID) {
        world.heat();
        tokio::time::sleep(CLOSELY).await;
        waited += CLOSELY;
        for (name, node) in world.nodes().iter() {
            let Some(slots) = &node.slots else { continue };
            let waiting = node.host.waiting_for(SAID).into_iter().find(|slot| slots.holds(*slot));
            if let Some(slot) = waiting {
                world.witness.violation(&format!("{name} says nothing in slot {slot} while etcd is away"));
                return;
            }
        }
    }
    world.witness.count("looks whether something is said while etcd is away");
    if said() == before {
        world.witness.violation("nobody says anything while etcd is away");
    }
}

/// Tunnels that are to go on at others.
pub(super) struct GoOn {
    /// Of this node, which is to be gone.
    name: String,
    missing: HashSet<u64>,
}

/// The tunnels of a node that is about to be gone: those that go on at others, as their standby is ready. `None` where that cannot be said, as
/// something else may be wrong as well, or where it has not begun.
pub(super) fn going_on(world: &World, name: &str) -> Option<GoOn> {
    let node = world.nodes().get(name).cloned()?;
    let slots = node.slots.filter(|_| world.scenario.one_at_a_time)?;
    let protected = |slot: &u8| slots.holds(*slot) && slots.is_protected(*slot);
    let had = node.host.all().into_iter().filter(|(slot, _)| protected(slot)).map(|(_, id)| id);
    Some(GoOn { name: name.to_owned(), missing: had.collect() })
}

impl GoOn {
    /// They are at others within [`TAKEN_OVER`] from now on, when their node has gone.
    pub(super) async fn watch(self, world: Arc<World>) {
        let Self { name, mut missing } = self;
        let mut waited = Duration::ZERO;
        // One that has come may be on its way to yet another node already.
        while waited < TAKEN_OVER && !missing.is_empty() {
            tokio::time::sleep(CLOSELY).await;
            waited += CLOSELY;
            let there = world.witness.tunnels();
            missing.retain(|id| there.contains(id));
            let nodes = world.nodes();
            for (_, other) in nodes.iter().filter(|(other, _)| **other != name) {
                for (_, id) in other.host.all() {
                    missing.remove(&id);
                }
            }
        }
        world.witness.count("looks whether tunnels go on");
        if let Some(id) = missing.iter().min() {
            world.witness.violation(&format!("tunnel {id} of {name} is nowhere {TAKEN_OVER:?} later"));
        }
    }
}

/// A node is about to be killed: what it was given a moment ago, and has no standby for yet, goes with it, and so may what is on its way. That no
/// slot stays so for long has been seen before.
pub(super) fn forget_unprotected(world: &World, name: &str) {
    const WHY: &str = "tunnels lost with a node that they had only just come to";
    if !world.scenario.one_at_a_time {
        return;
    }
    let nodes = world.nodes().clone();
    let Some((node, slots)) = nodes.get(name).and_then(|node| Some((node, node.slots.as_ref()?))) else {
        return;
    };
    for (_, id) in node.host.all().into_iter().filter(|(slot, _)| !slots.is_protected(*slot)) {
        world.witness.forget(id, WHY);
    }
    forget_missing(world, WHY);
}

/// Where disturbances overlap an owner and its standby may go at once, and what they had goes with them.
pub(super) fn forget_lost(world: &World) {
    forget_missing(world, "tunnels lost as several things befell them");
}

fn forget_missing(world: &World, why: &'static str) {
    let nodes = world.nodes().clone();
    let seen: HashSet<u64> = nodes.values().flat_map(|node| node.host.all()).map(|(_, id)| id).collect();
    for id in world.witness.tunnels().into_iter().filter(|id| !seen.contains(id)) {
        world.witness.forget(id, why);
    }
}
