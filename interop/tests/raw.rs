//! Two culvertd without a NAT between them: ESP goes by itself, unless one of them wants it in UDP. strongSwan's own ESP
//! in user space is always in UDP, so it cannot take this part.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

use interop::daemon::{Daemon, Peer, tenant};
use interop::lab::Lab;
use interop::traffic::{Flood, ping, until_ping};

const LEFT: &str = "10.1.0.1";
const RIGHT: &str = "10.2.0.1";

struct Two {
    left: Daemon,
    right: Daemon,
    names: (String, String),
    /// Dropped last.
    _lab: Lab,
}

impl Two {
    fn open(lines: (&str, &str)) -> Option<Self> {
        let mut lab = Lab::open()?;
        let names = (lab.namespace("left"), lab.namespace("right"));
        lab.wire((&names.0, "vl", "10.99.0.1/24"), (&names.1, "vr", "10.99.0.2/24"));
        let left = Daemon::start_with(&lab, &names.0, lines.0);
        let right = Daemon::start_with(&lab, &names.1, lines.1);
        left.apply(&[tenant("acme", "acme0", "10.1.0.1/32", None)]);
        right.apply(&[tenant("acme", "acme0", "10.2.0.1/32", None)]);
        right.peer(&Peer::usual());
        left.peer(&Peer {
            name: "acme/right".into(),
            identities: ("left.example".into(), "right.example".into()),
            address: "10.99.0.2".into(),
            subnets: ("10.1.0.1/32".into(), "10.2.0.1/32".into()),
            start: true,
            ..Peer::usual()
        });
        until_ping(&names.0, LEFT, RIGHT);
        Some(Self { left, right, names, _lab: lab })
    }

    /// Whether each side says that ESP goes in UDP.
    fn encapsulated(&self) -> [bool; 2] {
        [&self.left, &self.right].map(|daemon| {
            let sas = daemon.json(&["get", "sas"]);
            let ike = sas.as_array().unwrap().iter().find(|sa| sa["ike"].is_object()).cloned().unwrap();
            ike["ike"]["encapsulated"].as_bool().unwrap_or(false)
        })
    }
}

#[test]
fn esp_goes_by_itself_and_survives_rekeying() {
    let Some(two) = Two::open(("", "")) else { return };
    assert_eq!(two.encapsulated(), [false, false]);
    let flood = Flood::start(&two.names.0, LEFT, RIGHT);
    for daemon in [(&two.left, "acme/right"), (&two.right, "acme/left")] {
        for what in [["rekey", daemon.1].as_slice(), &["rekey", "--ike", daemon.1]] {
            assert!(daemon.0.cli(what).ok);
        }
    }
    let pings = flood.stop();
    assert_eq!(pings.sent, pings.received, "{}", two.left.log());
}

#[test]
fn one_side_without_raw_sockets_is_enough_for_udp() {
    for lines in [("[router]\nraw_esp = false\n", ""), ("", "[router]\nraw_esp = false\n")] {
        let Some(two) = Two::open(lines) else { return };
        assert_eq!(two.encapsulated(), [true, true], "{lines:?}");
        assert_eq!(ping(&two.names.1, RIGHT, LEFT, 3).received, 3);
    }
}
