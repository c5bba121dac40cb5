//! One history of a cluster.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster::Memory;
use tokio::time::Instant;

use super::net::Net;
use super::node::Node;
use super::scenario::Scenario;
use super::witness::Witness;
use super::{disturb, peace};
use crate::random::Random;
use crate::report::Report;

/// How long after something happened much goes on in the tunnels.
const HOT: Duration = Duration::from_secs(4);

/// A history, from its seed.
#[derive(Clone, Debug)]
pub struct History {
    /// Its seed.
    pub seed: u64,
    /// What it is made of.
    pub scenario: Scenario,
    /// Tell every event, on standard error.
    pub trace: bool,
}

/// What all parts of it share.
pub(super) struct World {
    pub(super) scenario: Scenario,
    pub(super) witness: Arc<Witness>,
    pub(super) net: Arc<Net>,
    pub(super) etcd: Memory,
    chance: Mutex<Random>,
    nodes: Mutex<BTreeMap<String, Node>>,
    tunnels: AtomicU64,
    hot_until: Mutex<Instant>,
}

impl History {
    /// Runs it to its end, or to the first violation.
    ///
    /// # Errors
    /// If there is no runtime to be had.
    pub fn run(self) -> std::io::Result<Report> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
        Ok(runtime.block_on(self.go_on()))
    }

    async fn go_on(self) -> Report {
        let mut chance = Random::new(self.seed);
        let witness = Arc::new(Witness::new(self.trace));
        let net = Net::new(chance.fork(), Arc::clone(&witness));
        let etcd = Memory::begin();
        if self.scenario.fault == super::Fault::Compare {
            etcd.set_blind();
        }
        let world = Arc::new(World {
            witness: Arc::clone(&witness),
            net,
            etcd,
            chance: Mutex::new(chance),
            nodes: Mutex::default(),
            tunnels: AtomicU64::new(0),
            hot_until: Mutex::new(Instant::now() + HOT),
            scenario: self.scenario,
        });
        let began = Instant::now();
        for number in 1..=world.scenario.nodes {
            world.start(&format!("n{number}"));
        }
        while began.elapsed() < world.scenario.length && !witness.is_broken() {
            disturb::next(&world).await;
        }
        if !witness.is_broken() {
            peace::everything_is_well(&world).await;
        }
        let names: Vec<String> = world.nodes().keys().cloned().collect();
        names.iter().for_each(|name| world.kill(name));
        let (events, counts, violations) = witness.conclude();
        let tunnel_time = began.elapsed();
        Report { tunnel_time, events, counts, violations, ..Report::default() }
    }
}

impl World {
    /// Draws something.
    pub(super) fn chance<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.chance.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn nodes(&self) -> MutexGuard<'_, BTreeMap<String, Node>> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_tunnel(&self) -> u64 {
        self.tunnels.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Something happens: much is to go on at the same time.
    pub(super) fn heat(&self) {
        let until = Instant::now() + HOT;
        let mut hot = self.hot_until.lock().unwrap_or_else(PoisonError::into_inner);
        *hot = (*hot).max(until);
        self.net.state().calm = false;
    }

    pub(super) fn is_hot(&self) -> bool {
        let hot = Instant::now() < *self.hot_until.lock().unwrap_or_else(PoisonError::into_inner);
        if !hot {
            self.net.state().calm = true;
        }
        hot
    }

    /// Starts a node.
    pub(super) fn start(self: &Arc<Self>, name: &str) {
        let node = Node::start(self, name);
        self.nodes().insert(name.to_owned(), node);
    }

    /// Kills a node's process, if there is one.
    pub(super) fn kill(self: &Arc<Self>, name: &str) {
        let node = self.nodes().remove(name);
        if let Some(node) = node {
            if node.process.has_panicked() {
                self.witness.violation(&format!("a task of {name} has panicked"));
            }
            node.process.kill();
            node.host.end();
        }
        self.net.leave(name);
    }

    /// Starts a node anew after a while.
    pub(super) async fn restart(self: Arc<Self>, name: String, after: Duration) {
        self.kill(&name);
        tokio::time::sleep(after).await;
        if !self.nodes().contains_key(&name) {
            self.start(&name);
        }
    }
}
