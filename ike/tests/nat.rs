//! NAT detection (RFC 7296 section 2.23): what is hashed, and that either part of an address counts.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;

use ike::wire::numbers::NotifyType;
use ike::wire::{Message, Payloads};
use ike::{Nat, Transmit};
use kit::{A, Pair, Spec};

fn first() -> (Pair, Transmit) {
    let mut pair = Pair::new(&Spec::left(), &Spec::right());
    pair.initiate();
    let first = pair.take(A);
    (pair, first)
}

fn found(change: impl Fn(&mut Transmit)) -> Nat {
    let (mut pair, mut first) = first();
    change(&mut first);
    pair.put(A, &first);
    pair.b.conn.as_ref().unwrap().nat()
}

#[test]
fn the_hash_is_of_spis_address_and_port() {
    let (_, first) = first();
    let message = Message::parse(&first.bytes).unwrap();
    for (kind, ip) in [
        (NotifyType::NAT_DETECTION_SOURCE_IP, [192, 0, 2, 1]),
        (NotifyType::NAT_DETECTION_DESTINATION_IP, [192, 0, 2, 2]),
    ] {
        let hashed = [&message.header.spi_i.to_be_bytes()[..], &[0; 8], &ip, &500u16.to_be_bytes()].concat();
        let notify = Payloads(&message.chain.payloads).notify(kind).unwrap();
        assert_eq!(notify.data, openssl::sha::sha1(&hashed), "{kind}");
    }
}

#[test]
fn a_changed_port_is_a_nat_as_a_changed_address_is() {
    assert_eq!(found(|_| {}), Nat { local: false, remote: false });
    assert_eq!(found(|m| m.local.set_port(1024)), Nat { local: false, remote: true });
    assert_eq!(found(|m| m.local.set_ip([203, 0, 113, 9].into())), Nat { local: false, remote: true });
    assert_eq!(found(|m| m.remote.set_port(1024)), Nat { local: true, remote: false });
    assert_eq!(found(|m| m.remote.set_ip([203, 0, 113, 9].into())), Nat { local: true, remote: false });
}
