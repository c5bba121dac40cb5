//! Two honest sides and a bad network: commands that cross, datagrams lost, doubled and reordered, time that passes.
//! When the network is good again both must agree: the same IKE_SA and the same pairs, or neither has anything.

use std::collections::BTreeSet;
use std::time::Duration;

use ike::Connection;

use crate::input::Input;
use crate::world::{End, Side, World};

use super::steps::command;

/// Operations of one input.
const MAX_STEPS: usize = 80;
/// Long enough for the last retransmission, the last pause after TEMPORARY_FAILURE, and for the silence after which
/// the peer is asked for a sign of life and given up.
const GOOD_TIMES: Duration = Duration::from_secs(500);
/// When nothing but signs of life has come to pass for this long, which is longer than each of these, nothing more will.
const CALM: Duration = Duration::from_secs(150);

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::up();
    // The keys are not needed, and finding them takes half of the time.
    world.follow = false;
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        step(&mut world, &mut input);
    }
    for end in &mut world.ends {
        end.host.free_spis = true;
    }
    let end = world.now + GOOD_TIMES;
    let (mut since, mut before) = (world.now, world.ends.each_ref().map(standing));
    while world.now < end {
        world.settle();
        let seen = world.ends.each_ref().map(standing);
        if seen != before {
            (since, before) = (world.now, seen);
        } else if world.now - since > CALM {
            break;
        }
        // From timer to timer: nothing happens in between when nothing is under way.
        let next = world.next_timeout().map_or(end, |at| at.min(end));
        world.pass(next.saturating_duration_since(world.now));
    }
    world.settle();
    agree(&world.ends);
}

fn step(world: &mut World, input: &mut Input<'_>) {
    let op = input.u8();
    let side: Side = usize::from(op >> 7);
    match op & 0xf {
        0..=3 => world.deliver(side),
        4 => drop(world.ends[side].flight.pop_front()),
        5 => {
            if let Some(first) = world.ends[side].flight.front().cloned() {
                world.ends[side].flight.push_back(first);
            }
        }
        6 => {
            let flight = &mut world.ends[side].flight;
            if flight.len() > 1 {
                flight.rotate_left(1);
            }
        }
        7 | 8 => {
            let millis = input.pick(&[1, 100, 1_000, 2_500, 6_000, 20_000, 45_000]);
            world.pass(Duration::from_millis(millis));
        }
        9 => world.settle(),
        10 => world.ends[side].host.free_spis ^= true,
        _ => command(world, side, input),
    }
}

/// What the two shall agree on, as one of them sees it.
fn standing(end: &End) -> impl PartialEq + use<> {
    let conn = end.conn.as_ref().expect("there from the beginning");
    let pairs: Vec<_> = conn.child_sas().map(|(_, spi_in, _, active)| (spi_in, active)).collect();
    (conn.is_finished(), conn.spis(), conn.local_spis().len(), pairs)
}

fn agree(ends: &[End; 2]) {
    let conns = ends.each_ref().map(|end| end.conn.as_ref().expect("there from the beginning"));
    let up = conns.map(Connection::is_up);
    assert_eq!(up[0], up[1], "one side is up and the other is not");
    if !up[0] {
        assert!(conns.iter().all(|c| c.is_finished()), "down but not at its end");
        return;
    }
    let (a, b) = (conns[0].spis(), conns[1].spis());
    assert_eq!(a, (b.1, b.0), "two IKE_SAs");
    for conn in conns {
        assert_eq!((conn.ike_sas(), conn.local_spis().len()), (1, 1), "IKE_SAs left over");
        let policies: BTreeSet<&str> = conn.child_sas().map(|c| &**c.0).collect();
        for policy in policies {
            let active = conn.child_sas().filter(|c| &**c.0 == policy && c.3).count();
            assert_eq!(active, 1, "{policy} is sent by {active} pairs");
        }
    }
    let pairs = |conn: &Connection, turned: bool| -> BTreeSet<(String, u32, u32)> {
        conn.child_sas()
            .map(|c| (c.0.to_string(), if turned { c.2 } else { c.1 }, if turned { c.1 } else { c.2 }))
            .collect()
    };
    assert_eq!(pairs(conns[0], false), pairs(conns[1], true), "pairs that only one side has");
}
