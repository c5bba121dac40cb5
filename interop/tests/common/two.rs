//! Two culvertd and no other implementation.

use interop::daemon::{Daemon, Peer, tenant};
use interop::lab::Lab;
use interop::traffic::until_ping;

use super::{LEFT, RIGHT};

/// The one on the left starts the tunnel.
pub struct Two {
    pub left: Daemon,
    pub right: Daemon,
    pub names: (String, String),
    // Dropped last.
    _lab: Lab,
}

impl Two {
    /// With further lines of each daemon's configuration, and of the left one's `ike` for its peer.
    pub fn open(lines: (&str, &str), ike: &[&str]) -> Option<Self> {
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
            ike: ike.iter().map(ToString::to_string).collect(),
            ..Peer::usual()
        });
        until_ping(&names.0, LEFT, RIGHT);
        Some(Self { left, right, names, _lab: lab })
    }

    /// Whether each side says that ESP goes in UDP.
    pub fn encapsulated(&self) -> [bool; 2] {
        [&self.left, &self.right].map(|daemon| {
            let sas = daemon.json(&["get", "sas"]);
            let ike = sas.as_array().unwrap().iter().find(|sa| sa["ike"].is_object()).cloned().unwrap();
            ike["ike"]["encapsulated"].as_bool().unwrap_or(false)
        })
    }
}
