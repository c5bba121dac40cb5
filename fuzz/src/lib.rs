//! What is fuzzed, as plain functions: a target takes octets and panics when something that must hold does not.
//!
//! `fuzz/engine` runs them under libFuzzer (`make fuzz`), `tests/replay.rs` over the corpus that is kept in the
//! repository and over random octets. Start with [`TARGETS`]; `world.rs` is the network of the `connection` target.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "all of it is test code: a panic is a finding"
)]

pub mod input;
pub mod seeds;
#[path = "../../ike/tests/kit/tap.rs"]
pub mod tap;
pub mod targets;
pub mod world;

use targets::*;

/// A fuzz target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `fuzz/corpus`.
    pub name: &'static str,
    /// Runs it once.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "message", run: message::run },
    Target { name: "payloads", run: payloads::run },
    Target { name: "proposal_text", run: proposal_text::run },
    Target { name: "datagram", run: datagram::run },
    Target { name: "connection", run: connection::run },
    Target { name: "network", run: network::run },
    Target { name: "fragments", run: fragments::run },
    Target { name: "v1_message", run: v1_message::run },
    Target { name: "v1_first", run: v1_first::run },
    Target { name: "v1_connection", run: v1_connection::run },
    Target { name: "esp_open", run: esp_open::run },
    Target { name: "snapshot", run: targets::snapshot::run },
    Target { name: "tenant_spec", run: tenant_spec::run },
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.iter().copied().find(|t| t.name == name)
}
