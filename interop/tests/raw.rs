//! Two culvertd without a NAT between them: ESP goes by itself, unless one of them wants it in UDP. strongSwan's own ESP
//! in user space is always in UDP, so it cannot take this part.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use common::two::Two;
use common::{LEFT, RIGHT};
use interop::traffic::{Flood, ping};
use interop::wait::until;

#[test]
fn esp_goes_by_itself_and_survives_rekeying() {
    let Some(two) = Two::open(("", ""), &[]) else { return };
    assert_eq!(two.encapsulated(), [false, false]);
    // The peer drops dummies, and counts them.
    let said = two.left.cli(&["dummies", "acme/right", "-n", "5", "--length", "500"]);
    assert!(said.ok, "{}", said.text);
    until("the dummies arrive", || two.right.counter("esp_dummy"), |n| *n == 5);
    let flood = Flood::start(&two.names.0, LEFT, RIGHT);
    for daemon in [(&two.left, "acme/right"), (&two.right, "acme/left")] {
        for what in [["rekey", daemon.1].as_slice(), &["rekey", "--ike", daemon.1]] {
            assert!(daemon.0.cli(what).ok);
        }
    }
    let pings = flood.stop();
    assert_eq!(pings.sent, pings.received, "{pings:?}\n{}", two.left.log());
}

#[test]
fn one_side_without_raw_sockets_is_enough_for_udp() {
    for lines in [("[router]\nraw_esp = false\n", ""), ("", "[router]\nraw_esp = false\n")] {
        let Some(two) = Two::open(lines, &[]) else { return };
        assert_eq!(two.encapsulated(), [true, true], "{lines:?}");
        assert_eq!(ping(&two.names.1, RIGHT, LEFT, 3).received, 3);
    }
}
