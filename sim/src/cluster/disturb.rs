//! What befalls a cluster.

use std::sync::Arc;
use std::time::Duration;

use latest::Latest as _;

use super::peace;
use super::world::World;
use crate::faults::interval;

/// A disturbance lasts no longer than this: longer than a lease, which is 5 s.
const LONGEST: Duration = Duration::from_secs(14);
/// Before a node that was killed is started again.
const DOWN: Duration = Duration::from_secs(8);
/// A lease has ended after so long, and its node is a standby no more.
const ENDED: Duration = Duration::from_secs(8);
/// A moment: longer than a node is silent before it is taken for gone, and than an answer is waited for.
const HICCUP: Duration = Duration::from_secs(2);
/// A network that is slow: some answers come after they were waited for.
const SLOW: Duration = Duration::from_millis(400);

/// A disturbance.
#[derive(Clone, Copy, Debug)]
enum What {
    /// A process is killed, and started again later.
    Kill,
    /// It is stopped, and goes on later.
    Stop,
    /// The ways between a node and the others are cut: from it, to it, or both.
    CutOff(bool, bool),
    /// One way between two nodes is cut.
    CutOne,
    /// etcd is away from a node.
    NoEtcd,
    /// It is away from a standby, for longer than etcd knows of that one, and then its owner is killed.
    Deaf,
    /// Both.
    Alone,
    /// Most of etcd's members are gone.
    EtcdAway,
    /// They are gone, and meanwhile one way between two nodes is cut for a moment.
    Hiccup,
    /// All messages take long.
    Slow,
    /// A node drains, ends and is started again.
    Leave,
    /// A slot is moved.
    Move,
}

/// Waits for the next disturbance, and brings it about.
pub(super) async fn next(world: &Arc<World>) {
    if world.scenario.one_at_a_time {
        if !peace::everything_is_well(world).await {
            return;
        }
        tokio::time::sleep(world.chance(|chance| interval(chance, world.scenario.disturbances))).await;
        happen(Arc::clone(world)).await;
    } else {
        tokio::time::sleep(world.chance(|chance| interval(chance, world.scenario.disturbances))).await;
        // Some come at once, or in the middle of another.
        for _ in 0..=world.chance(|chance| chance.below(3)) {
            tokio::spawn(happen(Arc::clone(world)));
            tokio::time::sleep(world.chance(|chance| chance.time_up_to(Duration::from_secs(3)))).await;
        }
        peace::forget_lost(world);
    }
}

fn draw(world: &World) -> What {
    world.chance(|chance| match chance.below(23) {
        0..=3 => What::Kill,
        4..=7 => What::Stop,
        8 => What::CutOff(true, false),
        9 => What::CutOff(false, true),
        10 => What::CutOff(true, true),
        11 => What::CutOne,
        12 => What::NoEtcd,
        13 => What::Alone,
        14 => What::EtcdAway,
        15 => What::Slow,
        16 => What::Leave,
        17 => What::Deaf,
        18 | 19 => What::Hiccup,
        _ => What::Move,
    })
}

async fn happen(world: Arc<World>) {
    let (what, length) = (draw(&world), world.chance(|chance| chance.time_up_to(LONGEST)));
    let names: Vec<String> = (1..=world.scenario.nodes).map(|number| format!("n{number}")).collect();
    let pick = || {
        let at = world.chance(|chance| chance.below(names.len() as u64));
        usize::try_from(at).ok().and_then(|at| names.get(at).cloned()).unwrap_or_default()
    };
    let (node, other) = (pick(), pick());
    world.heat();
    // In the middle of what goes on.
    tokio::time::sleep(world.chance(|chance| chance.time_up_to(Duration::from_millis(500)))).await;
    world.witness.tell(&format!("-- {what:?} of {node} for {length:?}"));
    let cut = |ways: &[(&str, &str)]| {
        let ways = ways.iter().filter(|(from, to)| from != to);
        let ways: Vec<(String, String)> =
            ways.map(|(from, to)| ((*from).to_owned(), (*to).to_owned())).collect();
        world.net.state().cut.extend(ways.clone());
        world.net.listen();
        ways
    };
    let others = |out: bool, back: bool| {
        let there = names.iter().map(String::as_str);
        let ways = there.flat_map(|name| [out.then_some((&*node, name)), back.then_some((name, &*node))]);
        ways.flatten().collect::<Vec<_>>()
    };
    match what {
        What::Kill => kill(&world, &node, length).await,
        What::Deaf => {
            world.witness.count("owners lost whose standby was cut off from etcd");
            let slots = world.nodes().get(&node).and_then(|node| node.slots.clone());
            let slot = slots.and_then(|slots| slots.table().latest().get(&slots.primary()).cloned());
            let Some(standby) = slot.and_then(|slot| slot.standby) else { return };
            world.net.state().cut_from_etcd.insert(standby.node.clone());
            wait(&world, ENDED).await;
            kill(&world, &node, length).await;
            world.net.state().cut_from_etcd.remove(&standby.node);
        }
        What::Stop => {
            world.witness.count("stopped");
            let process = world.nodes().get(&node).map(|node| node.process.clone());
            if let Some(process) = process {
                let going_on = peace::going_on(&world, &node).filter(|_| length > peace::TAKEN_OVER);
                watch(&world, going_on, "nodes stopped in peace");
                process.stop(true);
                world.net.listen();
                wait(&world, length).await;
                process.stop(false);
                world.net.listen_anew(&node);
            }
        }
        What::CutOff(out, back) => {
            world.witness.count("cut off from nodes");
            let ways = cut(&others(out, back));
            wait(&world, length).await;
            mend(&world, &ways);
        }
        What::CutOne => {
            world.witness.count("cut off from a node");
            let ways = cut(&[(&node, &other)]);
            wait(&world, length).await;
            mend(&world, &ways);
        }
        What::NoEtcd => {
            world.witness.count("cut off from etcd");
            world.net.state().cut_from_etcd.insert(node.clone());
            wait(&world, length).await;
            world.net.state().cut_from_etcd.remove(&node);
        }
        What::Alone => {
            world.witness.count("cut off from nodes and etcd");
            world.net.state().cut_from_etcd.insert(node.clone());
            let ways = cut(&others(true, true));
            wait(&world, length).await;
            world.net.state().cut_from_etcd.remove(&node);
            mend(&world, &ways);
        }
        What::EtcdAway => {
            world.witness.count("etcd away");
            world.etcd.set_away(true);
            wait(&world, length).await;
            world.etcd.set_away(false);
        }
        What::Hiccup => {
            world.witness.count("cut off from a node for a moment while etcd was away");
            world.etcd.set_away(true);
            wait(&world, world.chance(|chance| chance.time_up_to(HICCUP))).await;
            let ways = cut(&[(&node, &other)]);
            wait(&world, world.chance(|chance| chance.time_up_to(HICCUP))).await;
            mend(&world, &ways);
            peace::something_is_said(&world, length).await;
            world.etcd.set_away(false);
        }
        What::Slow => {
            world.witness.count("slow networks");
            world.net.slow(Some(SLOW));
            wait(&world, length).await;
            world.net.slow(None);
        }
        What::Leave => {
            world.witness.count("drained");
            let process = world.nodes().get(&node).cloned();
            if let Some(process) = process {
                process.leave(&world, &node).await;
                Arc::clone(&world).restart(node.clone(), length.min(DOWN)).await;
            }
        }
        What::Move => {
            world.witness.count("moves ordered");
            let slots = world.nodes().get(&node).and_then(|node| node.slots.clone());
            let number = slots.as_ref().and_then(|slots| slots.mine().into_iter().next_back());
            if let (Some(slots), Some(number)) = (slots, number) {
                // In the process: it may be stopped or killed in the middle.
                let process = world.nodes().get(&node).map(|node| node.process.clone());
                let moved = async move {
                    let _ = slots.move_slot(number, &other).await;
                };
                if let Some(process) = process {
                    tokio::spawn(process.task(moved));
                }
            }
        }
    }
    world.heat();
}

/// Kills a node, and starts it again after a while.
async fn kill(world: &Arc<World>, node: &str, length: Duration) {
    world.witness.count("killed");
    // What it has is asked before it is gone: a task that is begun here runs only after that.
    let going_on = peace::going_on(world, node);
    peace::forget_unprotected(world, node);
    watch(world, going_on, "nodes killed in peace");
    Arc::clone(world).restart(node.to_owned(), length.min(DOWN)).await;
}

/// Watches whether the tunnels go on of a node that is gone from now on.
fn watch(world: &Arc<World>, going_on: Option<peace::GoOn>, counted: &'static str) {
    if let Some(going_on) = going_on {
        world.witness.count(counted);
        tokio::spawn(going_on.watch(Arc::clone(world)));
    }
}

/// For as long as it lasts much goes on at its beginning and at its end.
async fn wait(world: &World, length: Duration) {
    tokio::time::sleep(length).await;
    world.heat();
}

fn mend(world: &Arc<World>, ways: &[(String, String)]) {
    world.net.state().cut.retain(|way| !ways.contains(way));
    world.net.listen();
}
