//! A chain of payloads as it comes out of the encryption: the first octet is the first type.

use ike::wire::header::Header;
use ike::wire::numbers::{ExchangeType, PayloadType};
use ike::wire::{payload, rules};

use super::message::round_trip;

/// Runs the target.
pub fn run(data: &[u8]) {
    let Some((first, body)) = data.split_first() else { return };
    let Ok(chain) = payload::parse_chain(PayloadType(*first), body, 28) else { return };
    if let Some((_, range)) = &chain.encrypted {
        assert_eq!(range.end, 28 + body.len());
    }
    round_trip(&chain.payloads);
    for exchange in [34, 35, 36, 37, 38] {
        for response in [false, true] {
            let header = Header {
                spi_i: 1,
                spi_r: 2,
                next: PayloadType(*first),
                exchange: ExchangeType(exchange),
                from_initiator: true,
                response,
                message_id: 1,
                length: 0,
            };
            let _ = rules::check(&header, &chain.payloads).map_err(|e| e.to_string());
        }
    }
}
