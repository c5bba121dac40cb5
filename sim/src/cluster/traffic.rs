//! What goes on in the tunnels of a node: something all the time around a disturbance, and little in between.

use std::sync::Arc;
use std::time::Duration;

use cluster::Slots;

use super::host::Host;
use super::world::World;

/// Between two things that a node does, at most.
const BUSY: Duration = Duration::from_millis(300);
/// The same when nothing has happened for a while.
const IDLE: Duration = Duration::from_secs(20);
/// Between looks whether something happens.
const LOOK: Duration = Duration::from_secs(1);

/// For as long as the process is there.
pub(super) async fn run(world: Arc<World>, name: String, host: Arc<Host>, slots: Slots) {
    let mut idle = Duration::ZERO;
    loop {
        let pause = if world.is_hot() { world.chance(|chance| chance.time_up_to(BUSY)) } else { LOOK };
        tokio::time::sleep(pause).await;
        idle = idle.saturating_sub(pause);
        if !world.is_hot() {
            if !idle.is_zero() {
                continue;
            }
            idle = world.chance(|chance| chance.time_up_to(IDLE));
        }
        something(&world, &name, &host, &slots);
    }
}

fn something(world: &World, name: &str, host: &Arc<Host>, slots: &Slots) {
    let all = host.all();
    let dice = world.chance(|chance| chance.below(100));
    let at = world.chance(|chance| chance.below(all.len() as u64));
    let one = usize::try_from(at).ok().and_then(|at| all.get(at).copied());
    let room = all.len() < world.scenario.tunnels / world.scenario.nodes + 1;
    match (dice, one) {
        (0..=7, _) | (_, None) if room => {
            let id = world.next_tunnel();
            // Its slot may be gone: then there is nothing to begin in for the moment.
            if slots.holds(slots.primary()) {
                host.begin_tunnel(slots.primary(), id);
            }
        }
        (8..=10, Some((slot, id))) => host.end_tunnel(slot, id),
        (11..=60, Some((slot, id))) => {
            let what = world.chance(|chance| chance.below(u64::MAX));
            host.say(slot, id, what);
        }
        (_, Some((slot, id))) => {
            let packets = 1 + world.chance(|chance| chance.below(5));
            host.send(slot, id, packets);
        }
        (_, None) => world.witness.tell(&format!("{name} has nothing to do")),
    }
}
