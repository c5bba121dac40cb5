//! The life of a node's process: it joins, does what a daemon does with slots, and ends.

use std::sync::Arc;
use std::time::Duration;

use cluster::{Identity, Members, Simulated, Slots};
use latest::Follow as _;
use tokio::sync::{Notify, watch};

use super::host::Host;
use super::net::{Line, There, ToEtcd};
use super::traffic;
use super::world::World;
use crate::random::Random;

/// Before a process that has failed to begin is started again.
const AGAIN: Duration = Duration::from_secs(1);
/// What a node that leaves is left for it, as by an init system.
const GRACE: Duration = Duration::from_secs(30);

/// A process that is there.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) process: Simulated,
    pub(super) host: Arc<Host>,
    /// Once it has begun.
    pub(super) slots: Option<Slots>,
    leave: Arc<Notify>,
}

impl Node {
    /// Starts a process.
    pub(super) fn start(world: &Arc<World>, name: &str) -> Self {
        let (process, leave) = (Simulated::default(), Arc::new(Notify::new()));
        let chance = world.chance(Random::fork);
        let host = Arc::new(Host::new(name, world.scenario.fault, Arc::clone(&world.witness), chance));
        let this = Self { process: process.clone(), host, slots: None, leave };
        let life = live(Arc::clone(world), name.to_owned(), this.clone());
        tokio::spawn(process.task(life));
        this
    }

    /// It drains and leaves, as after SIGTERM; done when it is gone.
    pub(super) async fn leave(&self, world: &Arc<World>, name: &str) {
        self.leave.notify_one();
        let gone = async {
            while world.nodes().get(name).is_some_and(|node| node.process.runs()) {
                tokio::time::sleep(AGAIN).await;
            }
        };
        let _ = tokio::time::timeout(GRACE, gone).await;
    }
}

/// From its start to its end. If it is killed nothing of this goes on.
async fn live(world: Arc<World>, name: String, node: Node) {
    let Err(why) = begin(&world, &name, &node).await else { return };
    world.witness.tell(&format!("{name} does not begin: {why}"));
    // As whoever starts it does.
    tokio::spawn(world.restart(name, AGAIN));
}

async fn begin(world: &Arc<World>, name: &str, node: &Node) -> Result<(), String> {
    let path = ToEtcd { net: Arc::clone(&world.net), name: name.to_owned() };
    let etcd = world.etcd.client(Arc::new(path));
    let identity =
        Identity { name: name.to_owned(), addresses: Vec::new(), mesh: None, version: "1".to_owned() };
    let members = Members::join(etcd, identity).await.map_err(|error| error.to_string())?;
    if members.own().slot > 0 {
        cluster::Host::begin_in(&*node.host, members.own().slot);
    }
    let (hears, heard) = watch::channel(Arc::default());
    let line = Line { net: Arc::clone(&world.net), name: name.to_owned() };
    let started = Slots::start(&members, Arc::new(line), Arc::clone(&node.host) as _, heard).await;
    let (slots, tasks) = started.map_err(|error| error.to_string())?;
    node.host.begin(slots.clone());
    let there = There { process: node.process.clone(), slots: slots.clone(), hears: Arc::new(hears) };
    world.net.join(name, there);
    if let Some(known) = world.nodes().get_mut(name).filter(|known| Arc::ptr_eq(&known.host, &node.host)) {
        known.slots = Some(slots.clone());
    }
    world.witness.tell(&format!("{name} is there, with slot {}", members.own().slot));
    let traffic = traffic::run(Arc::clone(world), name.to_owned(), Arc::clone(&node.host), slots.clone());
    tokio::spawn(node.process.clone().task(traffic));
    let mut lost = members.lost();
    let lost = async move { lost.until(Option::is_some).await.is_ok() };
    tokio::select! {
        biased;
        _ = lost => {
            drop(tasks);
            Err("its name is another's".to_owned())
        }
        () = node.leave.notified() => {
            let stay = slots.drain().await;
            world.witness.tell(&format!("{name} leaves; {} slots stay", stay.len()));
            slots.leave().await;
            drop(tasks);
            members.leave().await;
            node.process.kill();
            Ok(())
        }
    }
}
