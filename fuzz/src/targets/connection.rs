//! Sequences of operations on two established connections, hostile ones behind the encryption included. The input is
//! a list of operations; whatever it says, the promises that `world.rs` checks must hold.

use ike::crypto::dh::KeyPair;
use ike::wire::TrafficSelector;
use ike::wire::numbers::{AuthMethod, ExchangeType, NotifyType, PayloadType, ProtocolId};
use ike::wire::payload::{Notify, Payload};
use ike::wire::sa::Proposal;
use ike::{EspProposal, IkeProposal};

use crate::input::Input;
use crate::tap::Wrapping;
use crate::world::{Side, World};

use super::steps;

/// Milliseconds that may pass: below, at and beyond what the timers of IKEv2 wait.
const WAITS: [u64; 9] = [1, 100, 1_000, 2_500, 6_000, 20_000, 45_000, 100_000, 300_000];

/// Runs the target.
pub fn run(data: &[u8]) {
    steps::run(&mut World::up(), &mut Input::new(data), step);
}

fn step(world: &mut World, input: &mut Input<'_>) {
    let (side, op) = steps::next(input);
    match op {
        9 => {
            let at = input.u8();
            steps::flip(world, side, at.into(), input);
        }
        11 => inject_octets(world, side, input),
        12 | 13 => inject_whole(world, side, input),
        14 | 15 => inject_payloads(world, side, input),
        _ => steps::common(world, (side, op), input, &WAITS),
    }
}

/// The header of a message that a side would send, with what an attacker may turn in it.
fn header(world: &World, from: Side, input: &mut Input<'_>) -> (usize, ike::wire::Header) {
    let flags = input.u8();
    let exchange = input.pick(&[36, 37, 36, 37, 35, 34, 38, 0]);
    let newest = world.tap.sas.len() - 1;
    let at = if flags & 0xc0 == 0xc0 { usize::from(flags & 3) % (newest + 1) } else { newest };
    let sa = &world.tap.sas[at];
    // Who was the initiator of this IKE_SA: SPIs tell the sides apart.
    let initiator = (sa.spi_i >> 12 == from as u64 + 1) != (flags & 0x20 != 0);
    let response = flags & 1 != 0;
    let id = match (flags >> 1) & 7 {
        0..=3 if response => sa.next_id[usize::from(!initiator)].wrapping_sub(1),
        0..=3 => sa.next_id[usize::from(initiator)],
        4 => sa.next_id[usize::from(initiator)].wrapping_sub(1),
        5 => sa.next_id[usize::from(!initiator)],
        _ => input.u32(),
    };
    (at, sa.header(initiator, response, ExchangeType(exchange), id))
}

fn send(world: &mut World, from: Side, at: usize, header: ike::wire::Header, bytes: &[u8]) {
    if !header.response && at < world.tap.sas.len() {
        let next = &mut world.tap.sas[at].next_id[usize::from(header.from_initiator)];
        if *next == header.message_id {
            *next = next.wrapping_add(1);
        }
    }
    world.put(1 - from, bytes, true);
}

fn inject_octets(world: &mut World, from: Side, input: &mut Input<'_>) {
    let (at, header) = header(world, from, input);
    let first = PayloadType(input.u8());
    let plain = input.block();
    let bytes = world.tap.sas[at].seal_octets(header, first, plain, &Wrapping::default());
    send(world, from, at, header, &bytes);
}

fn inject_payloads(world: &mut World, from: Side, input: &mut Input<'_>) {
    let (at, header) = header(world, from, input);
    let count = input.below(8);
    let payloads: Vec<Payload> = (0..count).map(|_| payload(world, from, input)).collect();
    let bytes = world.tap.sas[at].seal(header, &payloads);
    send(world, from, at, header, &bytes);
}

/// A message that would be served, or an answer that could be one: where single payloads rarely come together.
fn inject_whole(world: &mut World, from: Side, input: &mut Input<'_>) {
    let (at, mut header) = header(world, from, input);
    let kind = input.u8();
    let theirs = world.ends[from].spis();
    let old = if theirs.is_empty() { 7 } else { input.pick(&theirs) };
    let policy = input.pick(&[1, 1, 2]);
    // TSi is the side of who asks: the sender's of a request, the receiver's of an answer.
    let asking = if header.response { 1 - from } else { from };
    let net = |side: Side| {
        let side = side as u8 + 1;
        vec![TrafficSelector::range([10, side, policy, 0].into(), [10, side, policy, 255].into())]
    };
    let pair = KeyPair::generate(31, &mut world.ends[from].host).expect("a key pair");
    let ke = Payload::Ke { group: 31, data: pair.public().to_vec() };
    // Drawn right after the key pair, so that the tap finds its private value.
    let mut nonce = vec![0; 32];
    ike::Host::random(&mut world.ends[from].host, &mut nonce);
    if input.u8() > 200 {
        nonce = vec![input.u8(); 16];
    }
    let nonce = Payload::Nonce(nonce);
    let mut child = vec![Payload::Sa(vec![esp_proposal(input)]), nonce.clone()];
    if policy == 2 {
        child.push(ke.clone());
    }
    child.extend([Payload::TsI(net(asking)), Payload::TsR(net(1 - asking))]);
    let payloads = match kind % 7 {
        0 => child,
        1 | 2 => {
            child.insert(0, Payload::Notify(Notify::about_esp(NotifyType::REKEY_SA, old)));
            child
        }
        3 | 4 => vec![Payload::Sa(vec![ike_proposal(from, input)]), nonce, ke],
        5 => vec![Payload::Delete { protocol: ProtocolId::ESP, spis: vec![old] }],
        6 if kind > 195 => {
            header.exchange = ExchangeType::INFORMATIONAL;
            (header.response, header.message_id) = (false, 0);
            synchronization(&mut world.tap.sas[at].next_id, header.from_initiator, input)
        }
        _ => Vec::new(),
    };
    let bytes = world.tap.sas[at].seal(header, &payloads);
    let [a, b] = &world.ends;
    world.tap.saw(&bytes, [&a.host.draws, &b.host.draws]);
    send(world, from, at, header, &bytes);
}

/// Another member of a cluster goes on (RFC 6311). What it asks next has the ID that it has said.
fn synchronization(next: &mut [u32; 2], initiator: bool, input: &mut Input<'_>) -> Vec<Payload> {
    let theirs = &mut next[usize::from(initiator)];
    *theirs = theirs.wrapping_add(input.u8().into()).wrapping_sub(1);
    let ids = [input.u8().into(), *theirs, input.u16().into()];
    let data = ids.map(u32::to_be_bytes).concat();
    let sync = Notify::with_data(NotifyType::IKEV2_MESSAGE_ID_SYNC, data);
    let delta = Notify::with_data(NotifyType::IPSEC_REPLAY_COUNTER_SYNC, input.bytes(8).to_vec());
    let both = input.bool().then_some(Payload::Notify(delta));
    both.into_iter().chain([Payload::Notify(sync)]).collect()
}

/// A well-formed payload, as a rule one that means something to the receiver.
fn payload(world: &mut World, from: Side, input: &mut Input<'_>) -> Payload {
    let kind = input.u8();
    let theirs = world.ends[from].spis();
    let ours = world.ends[1 - from].spis();
    let spi = |input: &mut Input<'_>| match input.u8() {
        n if n < 160 && !theirs.is_empty() => theirs[usize::from(n) % theirs.len()],
        n if n < 200 && !ours.is_empty() => ours[usize::from(n) % ours.len()],
        n => u32::from(n),
    };
    match kind % 16 {
        0 | 1 => Payload::Sa(vec![esp_proposal(input)]),
        2 | 3 => Payload::Sa(vec![ike_proposal(from, input)]),
        4 | 5 => Payload::Nonce(vec![input.u8(); 16 + usize::from(input.u8() & 63)]),
        6 => {
            let data = if input.bool() {
                vec![input.u8(); 32]
            } else {
                let pair = KeyPair::generate(31, &mut world.ends[from].host).expect("a key pair");
                pair.public().to_vec()
            };
            Payload::Ke { group: input.pick(&[31, 31, 31, 19, 0, 14]), data }
        }
        7 => Payload::Delete {
            protocol: ProtocolId::ESP,
            spis: (0..input.below(4)).map(|_| spi(input)).collect(),
        },
        8 => Payload::Delete { protocol: input.pick(&[ProtocolId::IKE, ProtocolId::AH]), spis: Vec::new() },
        9 | 10 => {
            let spi = spi(input);
            let mut notify = Notify::about_esp(NotifyType::REKEY_SA, spi);
            notify.protocol =
                input.pick(&[ProtocolId::ESP, ProtocolId::ESP, ProtocolId::NONE, ProtocolId::IKE]);
            Payload::Notify(notify)
        }
        11 => {
            let kind =
                input.pick(&[43, 44, 17, 14, 38, 35, 7, 24, 11, 39, 1, 9, 16384, 16390, 16391, 16430, 8192]);
            let data = input.pick(&[&[][..], &[0, 31], &[0, 19], &[0]]).to_vec();
            Payload::Notify(Notify::with_data(NotifyType(kind), data))
        }
        12 => Payload::TsI(selectors(from, input)),
        13 => Payload::TsR(selectors(1 - from, input)),
        14 => Payload::Auth { method: AuthMethod::SHARED_KEY, data: vec![input.u8(); 32].into() },
        _ => Payload::Opaque(PayloadType(input.u8() | 0x80), input.bytes(4).to_vec()),
    }
}

fn esp_proposal(input: &mut Input<'_>) -> Proposal {
    let text = input.pick(&["aes128gcm16", "aes128gcm16-x25519", "aes256-sha256", "aes128gcm16-noesn"]);
    let transforms = text.parse::<EspProposal>().expect("a proposal").transforms().to_vec();
    let single = input.bool();
    let mut proposal = Proposal {
        number: 1,
        protocol: input.pick(&[ProtocolId::ESP, ProtocolId::ESP, ProtocolId::ESP, ProtocolId::AH]),
        spi: vec![9, 9, input.u8(), input.u8()],
        transforms,
    };
    if single {
        let mut seen = Vec::new();
        proposal.transforms.retain(|t| {
            !seen.contains(&t.kind) && {
                seen.push(t.kind);
                true
            }
        });
    }
    proposal
}

fn ike_proposal(from: Side, input: &mut Input<'_>) -> Proposal {
    let text = input.pick(&["aes128gcm16-prfsha256-x25519", "aes256-sha256-ecp256"]);
    let transforms = text.parse::<IkeProposal>().expect("a proposal").transforms().to_vec();
    // In the range of the side's own, by which `header` knows whose it is.
    let own = (0x1000 * (from as u64 + 1) + 0x800 + u64::from(input.u8())).to_be_bytes();
    let spi = input.pick(&[&own[..], &own, &[0; 8], &[]]);
    Proposal { number: 1, protocol: ProtocolId::IKE, spi: spi.to_vec(), transforms }
}

fn selectors(side: Side, input: &mut Input<'_>) -> Vec<TrafficSelector> {
    let side = side as u8 + 1;
    (0..=input.below(3))
        .map(|_| {
            let policy = input.pick(&[1, 2, 3]);
            let (low, high) = (input.u8(), input.u8());
            TrafficSelector {
                protocol: input.pick(&[0, 0, 0, 6]),
                ..TrafficSelector::range(
                    [10, side, policy, low.min(high)].into(),
                    [10, side, policy, low.max(high)].into(),
                )
            }
        })
        .collect()
}
