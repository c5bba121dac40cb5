//! Fragments of RFC 7383 that are sealed as they should be and say what they please: overlapping, changing totals, no
//! end. The receiver is an established connection, or one that waits for IKE_AUTH.

use ike::wire::numbers::{ExchangeType, PayloadType};
use ike::wire::payload::{self, Payload};

use crate::input::Input;
use crate::tap::Wrapping;
use crate::world::World;

/// Fragments of one input.
const MAX_FRAGMENTS: usize = 200;

/// Runs the target.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let early = input.bool();
    let mut world = if early { World::initiated() } else { World::up() };
    if early {
        world.deliver(0);
    }
    let exchange = if early { ExchangeType::IKE_AUTH } else { ExchangeType::INFORMATIONAL };
    for _ in 0..MAX_FRAGMENTS {
        if input.is_empty() {
            break;
        }
        let how = input.u8();
        let (number, total) = if how & 1 == 0 {
            (u16::from(input.u8()), u16::from(input.u8()))
        } else {
            (input.u16(), input.u16())
        };
        let delta = u32::from(how >> 1 & 3);
        // A chunk of the fuzzer's, a long one, or all of a well-formed message.
        let (first, plain) = match how >> 3 & 3 {
            0 => (PayloadType(input.u8()), input.block().to_vec()),
            1 => (PayloadType::NONE, vec![input.u8(); 4 * usize::from(input.u16())]),
            2 => (PayloadType::VENDOR_ID, vec![0; usize::from(input.u8())]),
            _ => {
                let mut w = ike::wire::writer::Writer::new();
                let data = input.bytes(9).to_vec();
                let first = payload::write_chain(&mut w, &[Payload::Opaque(PayloadType::VENDOR_ID, data)]);
                (first, w.finish())
            }
        };
        let sa = world.tap.last();
        let header = sa.header(true, how & 0x40 != 0, exchange, sa.next_id[1] + delta - 1);
        // Larger than a datagram can be is not sent.
        if plain.len() < 65_000 {
            let how = Wrapping { fragment: Some((number, total)), ..Wrapping::default() };
            let bytes = sa.seal_octets(header, first, &plain, &how);
            let answers = world.ends[1].flight.len();
            world.put(1, &bytes, true);
            if world.ends[1].flight.len() > answers && delta == 1 && !header.response {
                world.tap.last().next_id[1] += 1;
            }
        }
    }
    world.pass(std::time::Duration::from_secs(1));
}
