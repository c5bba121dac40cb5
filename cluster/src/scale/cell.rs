//! The history of a cell: nodes that fail, are upgraded in turn and come back, and tunnels that end and are negotiated anew.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::costs::{DAY, EVEN, FILLED, QUIET, SETTLED, TAKE_OVER};
use crate::members::{Placement, SLOTS};
use crate::slots::choose;

/// Seconds that a node is away: after it failed, and when it is upgraded.
const AWAY: (f64, f64) = (60.0, 20.0);
/// Seconds between two nodes of a rolling upgrade.
const BETWEEN: f64 = 60.0;
/// Seconds between looks where nothing is about to change.
const SELDOM: f64 = 3_600.0;

/// A cell, and what happens to it.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Nodes.
    pub nodes: usize,
    /// Tunnels per node.
    pub tunnels: u64,
    /// For how long.
    pub days: f64,
    /// Days between two failures of a node.
    pub fail_days: f64,
    /// Days between two upgrades of all nodes in turn.
    pub upgrade_days: f64,
    /// Days until a peer negotiates anew, having been started again for one.
    pub life_days: f64,
    /// Of chance.
    pub seed: u64,
}

/// What has become of it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Outcome {
    /// Starts of nodes.
    pub starts: u64,
    /// Of them those for which no slot was free.
    pub starts_without_slot: u64,
    /// Slots that were somebody's at a time, at most.
    pub slots_at_most: usize,
    /// Slots taken over and moved.
    pub taken_over: u64,
    /// See there.
    pub moved: u64,
    /// Tunnels that went along, and those that were lost because nobody could go on with them.
    pub carried: u64,
    /// See there.
    pub lost: u64,
    /// The node with most tunnels, as a multiple of the mean: over time.
    pub uneven: f64,
    /// Transactions of etcd for slots, nodes and who has which peer, over time and in the ten seconds with most.
    pub writes_per_second: f64,
    /// See there.
    pub writes_at_most: f64,
}

struct Slot {
    owner: usize,
    standby: Option<usize>,
    ready: f64,
    connections: u64,
    empty: Option<f64>,
}

struct Node {
    up: bool,
    primary: Option<u8>,
    since: f64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Fail(usize),
    Upgrade(usize),
    Back(usize),
    Ends,
    Look,
}

struct Cell {
    plan: Plan,
    chance: StdRng,
    now: f64,
    nodes: Vec<Node>,
    /// By node and slot.
    weights: Vec<BTreeMap<u8, u64>>,
    slots: BTreeMap<u8, Slot>,
    /// In microseconds.
    due: BinaryHeap<Reverse<(u64, What)>>,
    looks: bool,
    writes: u64,
    lately: (f64, u64),
    outcome: Outcome,
}

/// Lets time pass in a cell.
pub fn simulate(plan: Plan) -> Outcome {
    let mut cell = Cell {
        plan,
        chance: StdRng::seed_from_u64(plan.seed),
        now: 0.0,
        nodes: (0..plan.nodes).map(|_| Node { up: false, primary: None, since: 0.0 }).collect(),
        weights: (0..plan.nodes)
            .map(|n| SLOTS.map(|slot| (slot, Placement::weight(&format!("node-{n}"), slot.into()))).collect())
            .collect(),
        slots: BTreeMap::new(),
        due: BinaryHeap::new(),
        looks: false,
        writes: 0,
        lately: (0.0, 0),
        outcome: Outcome::default(),
    };
    for node in 0..plan.nodes {
        cell.back(node);
        let fails = cell.wait(plan.fail_days * DAY);
        cell.at(fails, What::Fail(node));
    }
    for slot in cell.slots.values_mut() {
        slot.connections = plan.tunnels;
    }
    cell.outcome = Outcome::default();
    cell.writes = 0;
    cell.at(plan.upgrade_days * DAY, What::Upgrade(0));
    cell.next_end();
    let mut weighted = 0.0;
    while let Some(Reverse((micros, what))) = cell.due.pop() {
        let next = micros as f64 / 1e6;
        let until = next.min(plan.days * DAY);
        weighted += cell.unevenness() * (until - cell.now);
        cell.now = until;
        if next > until {
            break;
        }
        cell.happens(what);
        cell.outcome.slots_at_most = cell.outcome.slots_at_most.max(cell.slots.len());
    }
    let seconds = plan.days * DAY;
    Outcome {
        uneven: weighted / seconds,
        writes_per_second: cell.writes as f64 / seconds,
        writes_at_most: cell.outcome.writes_at_most / 10.0,
        ..cell.outcome
    }
}

impl Cell {
    fn happens(&mut self, what: What) {
        match what {
            What::Fail(node) => {
                let again = self.now + self.wait(self.plan.fail_days * DAY);
                self.at(again, What::Fail(node));
                if self.nodes.iter().filter(|node| node.up).count() > 1 {
                    self.fail(node);
                }
            }
            What::Upgrade(node) => {
                let (last, next) = (node + 1 == self.plan.nodes, (node + 1) % self.plan.nodes);
                let pause = if last { self.plan.upgrade_days * DAY } else { BETWEEN };
                self.at(self.now + pause, What::Upgrade(next));
                if self.nodes.iter().filter(|node| node.up).count() > 1 {
                    self.leave(node);
                }
            }
            What::Back(node) => self.back(node),
            What::Ends => {
                self.end_one();
                self.next_end();
            }
            What::Look => self.look(),
        }
    }

    fn at(&mut self, time: f64, what: What) {
        self.due.push(Reverse(((time * 1e6) as u64, what)));
    }

    /// So long until something that happens on average every `mean` seconds.
    fn wait(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.chance.random::<f64>()).ln()
    }

    fn next_end(&mut self) {
        let all = self.plan.tunnels as f64 * self.plan.nodes as f64;
        let next = self.now + self.wait(self.plan.life_days * DAY / all);
        self.at(next, What::Ends);
    }

    fn write(&mut self, count: u64) {
        self.writes += count;
        if self.now - self.lately.0 >= 10.0 {
            self.lately = (self.now, 0);
        }
        self.lately.1 += count;
        self.outcome.writes_at_most = self.outcome.writes_at_most.max(self.lately.1 as f64);
    }

    fn loads(&self) -> Vec<u64> {
        let mut loads = vec![0; self.plan.nodes];
        for slot in self.slots.values() {
            if let Some(load) = loads.get_mut(slot.owner) {
                *load += slot.connections;
            }
        }
        loads
    }

    fn unevenness(&self) -> f64 {
        let most = self.loads().into_iter().max().unwrap_or(0);
        most as f64 / self.plan.tunnels as f64
    }

    /// The one of those who are up, but this, that is most for this slot.
    fn successor(&self, slot: u8, but: usize) -> Option<usize> {
        let up =
            self.nodes.iter().zip(&self.weights).enumerate().filter(|(n, (node, _))| node.up && *n != but);
        up.max_by_key(|(_, (_, weights))| weights.get(&slot).copied()).map(|(n, _)| n)
    }

    /// A slot has this owner now, who finds a standby and fills it: three writes, with that of the owner.
    fn own(&mut self, number: u8, owner: usize) {
        let standby = self.successor(number, owner);
        let now = self.now;
        if let Some(slot) = self.slots.get_mut(&number) {
            slot.owner = owner;
            slot.standby = standby;
            slot.ready = now + TAKE_OVER + slot.connections as f64 / FILLED;
        }
        self.write(3);
        self.look_soon();
    }

    fn fail(&mut self, node: usize) {
        if !self.nodes.get(node).is_some_and(|node| node.up) {
            return;
        }
        self.gone(node, AWAY.0);
        for number in self.slots.keys().copied().collect::<Vec<_>>() {
            let Some(slot) = self.slots.get(&number) else { continue };
            let heir = slot.standby.filter(|standby| self.nodes.get(*standby).is_some_and(|node| node.up));
            let connections = slot.connections;
            match (slot.owner == node, heir) {
                (true, Some(heir)) if slot.ready <= self.now => {
                    self.outcome.taken_over += 1;
                    self.outcome.carried += connections;
                    // It tells whom it has a connection with as well.
                    self.write(1);
                    self.own(number, heir);
                }
                (true, _) => {
                    self.outcome.lost += connections;
                    self.slots.remove(&number);
                    self.write(1);
                    (0..connections).for_each(|_| self.begin_one());
                }
                (false, None) => {
                    let owner = slot.owner;
                    self.own(number, owner);
                }
                (false, Some(_)) => {}
            }
        }
    }

    fn leave(&mut self, node: usize) {
        if !self.nodes.get(node).is_some_and(|node| node.up) {
            return;
        }
        self.gone(node, AWAY.1);
        for number in self.slots.keys().copied().collect::<Vec<_>>() {
            let Some(slot) = self.slots.get(&number) else { continue };
            let (owner, connections) = (slot.owner, slot.connections);
            if owner != node && slot.standby == Some(node) {
                self.own(number, owner);
            } else if owner == node && connections == 0 {
                self.slots.remove(&number);
                self.write(1);
            } else if owner == node
                && let Some(heir) = self.successor(number, node)
            {
                self.outcome.moved += 1;
                self.outcome.carried += connections;
                self.own(number, heir);
            }
        }
    }

    fn gone(&mut self, node: usize, away: f64) {
        if let Some(node) = self.nodes.get_mut(node) {
            (node.up, node.primary) = (false, None);
        }
        self.at(self.now + away, What::Back(node));
    }

    fn back(&mut self, node: usize) {
        self.outcome.starts += 1;
        let free = SLOTS.into_iter().find(|number| !self.slots.contains_key(number));
        if let Some(back) = self.nodes.get_mut(node) {
            (back.up, back.since) = (true, self.now);
        }
        self.write(2);
        let number = match free {
            Some(number) => {
                self.slots.insert(
                    number,
                    Slot { owner: node, standby: None, ready: 0.0, connections: 0, empty: None },
                );
                Some(number)
            }
            None => {
                self.outcome.starts_without_slot += 1;
                self.outcome.moved += 1;
                self.wanted()
            }
        };
        let Some(number) = number else { return };
        if let Some(back) = self.nodes.get_mut(node) {
            back.primary = Some(number);
        }
        self.own(number, node);
        // Those that had nobody else find this one.
        let alone: Vec<(u8, usize)> = self
            .slots
            .iter()
            .filter(|(_, slot)| slot.standby.is_none() && slot.owner != node)
            .map(|(n, slot)| (*n, slot.owner))
            .collect();
        alone.into_iter().for_each(|(number, owner)| self.own(number, owner));
    }

    /// The slot with least in it of the node with most slots, but the one that it begins in.
    fn wanted(&self) -> Option<u8> {
        let count = |owner: usize| self.slots.values().filter(|slot| slot.owner == owner).count();
        let richest = (0..self.plan.nodes).max_by_key(|node| count(*node))?;
        let primary = self.nodes.get(richest)?.primary;
        let others =
            self.slots.iter().filter(|(number, slot)| slot.owner == richest && Some(**number) != primary);
        others.min_by_key(|(_, slot)| slot.connections).map(|(number, _)| *number)
    }

    fn end_one(&mut self) {
        let all: u64 = self.slots.values().map(|slot| slot.connections).sum();
        if all == 0 {
            return;
        }
        let mut at = self.chance.random_range(0..all);
        for slot in self.slots.values_mut() {
            match at.checked_sub(slot.connections) {
                Some(rest) => at = rest,
                None => {
                    slot.connections -= 1;
                    break;
                }
            }
        }
        // The one node says that it has it no more, and the other that it has.
        self.write(2);
        self.begin_one();
    }

    /// A tunnel comes up at one of the nodes that are there.
    fn begin_one(&mut self) {
        let up: Vec<u8> = self.nodes.iter().filter(|node| node.up).filter_map(|node| node.primary).collect();
        if up.is_empty() {
            return;
        }
        let at = self.chance.random_range(0..up.len());
        if let Some(slot) = up.get(at).and_then(|number| self.slots.get_mut(number)) {
            slot.connections += 1;
        }
    }

    fn look_soon(&mut self) {
        if !std::mem::replace(&mut self.looks, true) {
            self.at(self.now + EVEN, What::Look);
        }
    }

    /// Where nothing has changed but by tunnels that end one after the other, as seldom as makes no difference.
    fn look_later(&mut self) {
        if !std::mem::replace(&mut self.looks, true) {
            self.at(self.now + SELDOM, What::Look);
        }
    }

    fn look(&mut self) {
        self.looks = false;
        let primaries: Vec<u8> = self.nodes.iter().filter_map(|node| node.primary).collect();
        let (mut over, mut more) = (Vec::new(), false);
        for (number, slot) in self.slots.iter_mut().filter(|(number, _)| !primaries.contains(number)) {
            if slot.connections > 0 {
                slot.empty = None;
            } else if self.now - *slot.empty.get_or_insert(self.now) >= QUIET {
                over.push(*number);
            } else {
                more = true;
            }
        }
        for number in over {
            self.slots.remove(&number);
            self.write(1);
        }
        for node in 0..self.plan.nodes {
            let (loads, now) = (self.loads(), self.now);
            let settled =
                |n: &usize| self.nodes.get(*n).is_some_and(|node| node.up && now - node.since >= SETTLED);
            more |= self.nodes.iter().any(|node| node.up && now - node.since < SETTLED);
            let load = |n: usize| loads.get(n).copied().unwrap_or(0);
            let Some(least) =
                (0..self.plan.nodes).filter(settled).filter(|n| *n != node).min_by_key(|n| load(*n))
            else {
                continue;
            };
            let primary = self.nodes.get(node).and_then(|node| node.primary);
            let of_node =
                self.slots.iter().filter(|(number, slot)| slot.owner == node && Some(**number) != primary);
            let movable: Vec<(u8, usize)> =
                of_node.map(|(number, slot)| (*number, slot.connections as usize)).collect();
            let gap = load(node).saturating_sub(load(least)) as usize;
            if let Some((number, connections)) = choose(&movable, gap) {
                self.outcome.moved += 1;
                self.outcome.carried += connections as u64;
                self.own(number, least);
                more = true;
            }
        }
        if more {
            self.look_soon();
        } else {
            self.look_later();
        }
    }
}
