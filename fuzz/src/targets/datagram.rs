//! What comes from anybody: the door of `ike::reception`, and a connection in each of its early states. The input is a
//! state and datagrams, each with its length in front.

use ike::Datagram;
use ike::config::Opening;
use ike::reception::{CookieGate, FirstMessage, classify, wrong_version_reply};
use ike::wire::Message;
use ike::wire::numbers::{ExchangeType, PayloadType};

use crate::input::Input;
use crate::tap::Wrapping;
use crate::world::World;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let state = input.u8() % 6;
    let mut world = match state {
        0 | 1 => World::new(),
        _ => World::initiated(),
    };
    if state >= 3 {
        world.deliver(0);
    }
    if state == 4 {
        world.deliver(1);
    }
    let to = if matches!(state, 2 | 4) { 0 } else { 1 };
    for _ in 0..8 {
        if input.is_empty() {
            break;
        }
        let how = input.u8();
        let bytes =
            if state == 5 { sealed(&mut world, how, &mut input) } else { plain(&world, how, &mut input) };
        door(&mut world, &bytes);
        if state != 0 {
            world.put(to, &bytes, how & 0x40 != 0);
        }
        assert!(world.ends[to].spis().is_empty(), "a Child SA without AUTH");
        assert!(world.ends[to].conn.as_ref().is_none_or(|c| !c.is_up()), "up without AUTH");
    }
    world.pass(std::time::Duration::from_secs(1));
}

/// Octets of the fuzzer with the fields set that would otherwise stop them at once.
fn plain(world: &World, how: u8, input: &mut Input<'_>) -> Vec<u8> {
    let mut bytes = input.block().to_vec();
    if bytes.len() < 28 {
        return bytes;
    }
    if how & 1 == 0 {
        let length = bytes.len() as u32;
        bytes[24..28].copy_from_slice(&length.to_be_bytes());
        bytes[17] = 0x20;
    }
    let spis = world.ends.each_ref().map(|e| e.conn.as_ref().map_or(0, |c| c.spis().0));
    if how & 2 == 0 && spis[0] != 0 {
        bytes[..8].copy_from_slice(&spis[0].to_be_bytes());
    }
    if how & 4 == 0 && spis[1] != 0 {
        bytes[8..16].copy_from_slice(&spis[1].to_be_bytes());
    }
    if how & 8 == 0 {
        bytes[20..24].fill(0);
    }
    bytes
}

/// A message of an initiator that has the keys but not the secret: anybody can be that.
fn sealed(world: &mut World, how: u8, input: &mut Input<'_>) -> Vec<u8> {
    let sa = world.tap.last();
    let exchange = if how & 1 == 0 { ExchangeType::IKE_AUTH } else { ExchangeType(input.u8()) };
    let id = if how & 2 == 0 { 1 } else { input.u32() };
    let header = sa.header(how & 8 == 0, how & 4 != 0, exchange, id);
    let first = PayloadType(input.u8());
    sa.seal_octets(header, first, input.block(), &Wrapping::default())
}

fn door(world: &mut World, bytes: &[u8]) {
    let _ = (classify(bytes), FirstMessage::of(Opening::Init, bytes));
    if let Some(reply) = wrong_version_reply(bytes) {
        let reply = Message::parse(&reply).expect("our reply parses");
        assert!(reply.header.response);
        assert!(
            wrong_version_reply(bytes).is_some_and(|r| r.len() <= bytes.len().max(36)),
            "no amplification"
        );
    }
    let (now, end) = (world.now, &mut world.ends[1]);
    let mut gate = CookieGate::new(now, &mut end.host);
    let datagram = Datagram { local: end.addr, remote: ([203, 0, 113, 7], 500).into(), natt: false, bytes };
    let verdict = gate.check(now, &mut end.host, datagram, true);
    match verdict {
        ike::reception::Verdict::Challenge(reply) => {
            Message::parse(&reply).expect("our challenge parses");
            assert!(reply.len() <= bytes.len() + 32, "no amplification");
        }
        ike::reception::Verdict::Malformed(error) => drop(error.to_string()),
        ike::reception::Verdict::Pass => panic!("a cookie was guessed"),
    }
}
