//! What comes from anybody in IKEv1: the door, and a connection in each of the early states of phase 1, from either side and in
//! both modes. The input is a mode, a state, and datagrams with their length in front.

use ike::config::{Opening, Phase1};
use ike::reception::{FirstMessage, classify};

use crate::input::Input;
use crate::world::World;

/// Datagrams of one input.
const MAX_DATAGRAMS: usize = 8;
/// Octets of a header.
const HEADER: usize = 28;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let how = input.u8();
    let mode = if how & 1 == 0 { Phase1::Main } else { Phase1::Aggressive };
    let state = (how >> 1) % 7;
    let mut world = World::of_v1(mode);
    for end in &mut world.ends {
        // Other keys than those of the seeds, whose messages would prove something.
        ike::Host::random(&mut end.host, &mut [0; 8]);
    }
    if state > 0 {
        world = world.initiate();
    }
    // One message more of the honest two for each state. The last that may come is not among them: it would be the proof.
    let honest = match mode {
        Phase1::Main => 4,
        Phase1::Aggressive => 1,
    };
    for number in 1..usize::from(state).min(honest + 1) {
        world.deliver(1 - number % 2);
    }
    let to = usize::from(how & 0x80 == 0);
    world.ends[1 - to].flight.clear();
    let (mut came, before) = (0, sent(&world, to));
    for _ in 0..MAX_DATAGRAMS {
        if input.is_empty() {
            break;
        }
        let datagram = datagram(&world, &mut input, mode);
        let openings = [Opening::Main, Opening::Aggressive];
        let _ = (classify(&datagram), openings.map(|opening| FirstMessage::of(opening, &datagram).is_ok()));
        came += datagram.len();
        world.put(to, &datagram, input.bool());
        assert!(world.ends[to].spis().is_empty(), "a Child SA without a proof");
        assert!(world.ends[to].conn.as_ref().is_none_or(|c| !c.is_up()), "up without a proof");
        let responder = world.ends[to].conn.as_ref().is_some_and(|conn| !conn.is_initiator());
        if state == 0 && mode == Phase1::Main && responder {
            assert!(sent(&world, to) - before <= came.max(REFUSAL), "more is sent than has come");
        }
    }
    world.pass(std::time::Duration::from_secs(1));
}

/// A refusal, however little has come: one Notify.
const REFUSAL: usize = 40;

fn sent(world: &World, side: usize) -> usize {
    world.ends[side].flight.iter().map(|transmit| transmit.bytes.len()).sum()
}

/// Octets of the fuzzer with the fields set that would otherwise stop them at once.
fn datagram(world: &World, input: &mut Input<'_>, mode: Phase1) -> Vec<u8> {
    let how = input.u8();
    let mut bytes = input.block().to_vec();
    if bytes.len() < HEADER {
        return bytes;
    }
    let spis = world.ends.each_ref().map(|end| end.conn.as_ref().map_or(0, |conn| conn.spis().0));
    if how & 1 == 0 {
        let length = bytes.len() as u32;
        bytes[24..HEADER].copy_from_slice(&length.to_be_bytes());
        bytes[17] = 0x10;
    }
    if how & 2 == 0 {
        bytes[18] = if mode == Phase1::Main { 2 } else { 4 };
        bytes[20..24].fill(0);
    }
    if how & 4 == 0 && spis[0] != 0 {
        bytes[..8].copy_from_slice(&spis[0].to_be_bytes());
    }
    if how & 8 == 0 {
        bytes[8..16].copy_from_slice(&spis[1].to_be_bytes());
    }
    bytes
}
