//! What the targets of two connections do alike, whichever version these speak: the network and time between them, commands of
//! their hosts, and the end.

use std::time::Duration;

use ike::Command;

use crate::input::Input;
use crate::world::{Side, World};

/// Operations of one input. More than this only makes runs slow.
const MAX_STEPS: usize = 60;

/// Steps until the input ends. Whatever happened, both sides then end when they are told to, and give everything back.
pub(super) fn run(world: &mut World, input: &mut Input<'_>, step: fn(&mut World, &mut Input<'_>)) {
    for _ in 0..MAX_STEPS {
        if input.is_empty() {
            break;
        }
        step(world, input);
    }
    for end in &mut world.ends {
        end.flight.clear();
    }
    for side in [0, 1] {
        world.command(side, Command::Close);
    }
    world.pass(Duration::from_secs(600));
    for end in &world.ends {
        assert!(end.conn.as_ref().is_none_or(ike::Connection::is_finished), "a closed connection ends");
    }
}

/// Whose turn it is, and which of sixteen operations.
pub(super) fn next(input: &mut Input<'_>) -> (Side, u8) {
    let op = input.u8();
    (usize::from(op >> 7), op & 0xf)
}

/// The operations 0 to 8 and 10.
pub(super) fn common(world: &mut World, (side, op): (Side, u8), input: &mut Input<'_>, waits: &[u64]) {
    let flight = &mut world.ends[side].flight;
    match op {
        0 | 1 => world.deliver(side),
        2 => drop(flight.pop_front()),
        3 => {
            if let Some(first) = flight.front().cloned() {
                flight.push_back(first);
            }
        }
        4 => {
            if flight.len() > 1 {
                flight.rotate_left(1);
            }
        }
        5 => world.pass(Duration::from_millis(input.pick(waits))),
        6 | 7 => command(world, side, input),
        8 => world.settle(),
        _ => world.ends[side].host.free_spis ^= true,
    }
}

/// Damages the next message of a side at an octet.
pub(super) fn flip(world: &mut World, side: Side, at: usize, input: &mut Input<'_>) {
    let flip = input.u8();
    if let Some(first) = world.ends[side].flight.front_mut() {
        let at = at % first.bytes.len();
        first.bytes[at] ^= flip;
    }
}

/// A command of the host of a side.
pub(super) fn command(world: &mut World, side: Side, input: &mut Input<'_>) {
    let kind = input.u8();
    let spis = world.ends[side].spis();
    let spi = if spis.is_empty() { 7 } else { input.pick(&spis) };
    world.command(
        side,
        match kind % 13 {
            0 => Command::CreateChild("first".into()),
            1 => Command::CreateChild("second".into()),
            2 | 3 => Command::RekeyChild(spi),
            4 | 5 => Command::RekeyIke,
            6 => Command::DeleteChild(spi),
            7 => Command::ExpireChild(spi),
            8 => Command::InboundSeen(spi),
            9 => Command::Probe,
            10 => Command::Heard(Some(world.now)),
            11 => Command::RemoteMoved(([203, 0, 113, input.u8()], 4501).into()),
            _ if kind > 0xf0 => Command::Abandon,
            _ if kind > 0xe0 => Command::Close,
            _ => Command::CreateChild("none".into()),
        },
    );
}
