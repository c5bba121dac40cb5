//! Sequences of operations on two established connections of IKEv1, hostile ones behind the encryption included. The input is a
//! mode and a list of operations; whatever it says, the promises that `world.rs` checks must hold.

use ike::EspProposal;
use ike::config::Phase1;
use ike::crypto::dh::KeyPair;
use ike::forge::{self, Forgery, Octets};
use ike::wire::TrafficSelector;

use crate::input::Input;
use crate::world::{Side, World};

use super::steps;

/// Milliseconds that may pass: below, at and beyond what the timers of IKEv1 wait.
const WAITS: [u64; 9] = [1, 100, 1_000, 3_500, 11_000, 20_000, 45_000, 100_000, 300_000];
/// Payloads of one message.
const MAX_PAYLOADS: usize = 6;
/// The exchanges of phase 2, and what is none.
const EXCHANGES: [u8; 8] = [32, 5, 32, 5, 32, 5, 2, 6];

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut world = World::up_v1(if input.bool() { Phase1::Aggressive } else { Phase1::Main });
    steps::run(&mut world, &mut input, step);
}

fn step(world: &mut World, input: &mut Input<'_>) {
    let (side, op) = steps::next(input);
    match op {
        9 => {
            let at = input.u16();
            steps::flip(world, side, at.into(), input);
        }
        11 => {
            let first = input.u8();
            let octets = input.block().to_vec();
            inject(world, side, input, (first, octets));
        }
        12 | 13 => {
            let whole = quick(world, side, input);
            inject(world, side, input, whole);
        }
        14 | 15 => {
            let mut payloads = payload(world, side, input);
            for _ in 0..input.below(MAX_PAYLOADS) {
                payloads = forge::chained(payloads, payload(world, side, input));
            }
            inject(world, side, input, payloads);
        }
        _ => steps::common(world, (side, op), input, &WAITS),
    }
}

/// Sends payloads as a side would, sealed by the keys and with what an attacker may turn.
fn inject(world: &mut World, from: Side, input: &mut Input<'_>, payloads: Octets) {
    let how = input.u8();
    let forgery = Forgery {
        exchange: input.pick(&EXCHANGES),
        id: if how & 1 == 0 { 0x4000_0000 + u32::from(input.u16()) } else { input.u32() },
        quick: (how & 2 != 0).then(|| usize::from(input.u8())),
        sa: usize::from(how >> 6),
        commit: how & 4 != 0,
        hash: how & 0x38 != 0x38,
        payloads,
    };
    let forged = world.ends[1 - from].conn.as_ref().and_then(|conn| conn.forge(&forgery));
    if let Some(bytes) = forged {
        world.put(1 - from, &bytes, true);
    }
}

/// Quick mode as it would be served, or an answer that could be one.
fn quick(world: &mut World, from: Side, input: &mut Input<'_>) -> Octets {
    let policy = input.pick(&[1, 1, 2, 3]);
    let answer = input.bool();
    let asking = if answer { 1 - from } else { from };
    let net = |side: Side| {
        let side = side as u8 + 1;
        TrafficSelector::range([10, side, policy, 0].into(), [10, side, policy, 255].into())
    };
    let text = input.pick(&["aes128gcm16", "aes128gcm16-x25519", "aes256-sha256", "aes128gcm16-noesn"]);
    let proposals: Vec<EspProposal> = vec![text.parse().expect("a proposal")];
    let key = match input.u8() {
        0..=99 => None,
        100..=200 => {
            let pair = KeyPair::generate(31, &mut world.ends[from].host).expect("a key pair");
            Some(pair.public().to_vec())
        }
        octet => Some(vec![octet; usize::from(input.u8())]),
    };
    let group = input.pick(&[None, Some(31), Some(31), Some(14)]).filter(|_| key.is_some() || input.bool());
    let nonce = vec![input.u8(); 8 + usize::from(input.u8() & 63)];
    let (ours, theirs) = (net(asking), net(1 - asking));
    let subnets = (input.u8() & 7 != 0).then_some([&ours, &theirs]);
    let spi = 0x0909_0000 + u32::from(input.u8());
    forge::quick(&proposals, spi, (group, key.as_deref()), &nonce, subnets)
}

/// A payload that means something to the receiver, as a rule.
fn payload(world: &mut World, from: Side, input: &mut Input<'_>) -> Octets {
    let (theirs, ours) = (world.ends[from].spis(), world.ends[1 - from].spis());
    let spi = |input: &mut Input<'_>| match input.u8() {
        n if n < 160 && !theirs.is_empty() => theirs[usize::from(n) % theirs.len()],
        n if n < 200 && !ours.is_empty() => ours[usize::from(n) % ours.len()],
        n => u32::from(n),
    };
    let cookies = |world: &World| {
        let (ours, theirs) = world.ends[0].conn.as_ref().map_or((0, 0), |conn| {
            let (a, b) = conn.spis();
            if conn.initiator_spi() == a { (a, b) } else { (b, a) }
        });
        [ours.to_be_bytes(), theirs.to_be_bytes()].concat()
    };
    match input.below(8) {
        0 | 1 => {
            let count = input.below(4);
            forge::delete(3, (0..count).map(|_| spi(input).to_be_bytes().to_vec()).collect())
        }
        2 => forge::delete(1, vec![cookies(world)]),
        // R-U-THERE, its answer, INITIAL-CONTACT, CONNECTED, RESPONDER-LIFETIME, errors.
        3 | 4 => {
            let kind = input.pick(&[36_136, 36_137, 24_578, 16_384, 24_576, 14, 18, 30, 11, 8_192]);
            let about = if input.bool() { cookies(world) } else { spi(input).to_be_bytes().to_vec() };
            let data = input.pick(&[&[][..], &[0, 0, 0, 9], &[0x80, 1, 0, 1, 0x80, 2, 0, 9], &[0]]);
            forge::notify(kind, input.pick(&[1, 3, 0]), &about, data)
        }
        5 => (input.u8(), [&[0, 0, 0, 8][..], &input.u32().to_be_bytes()].concat()),
        _ => quick(world, from, input),
    }
}
