//! Initiators built on `ike` and `esp` over real UDP sockets, for demonstrations and for load.
//!
//! It is not a VPN client: no TUN device, no routes. An [`Initiator`] has one inner address, sends numbered probes to
//! others and checks off what arrives, so that loss, duplication and packets of a stranger are known exactly.
//!
//! Start with [`Initiator`]; `probe.rs` is the traffic, `initiator/sas.rs` the ESP side, `tunnels/` the load of many tunnels
//! on one node and `storm/` and `logins.rs` the load of strangers, which the program `loadtest` runs.

mod engine;
mod fleet;
pub mod handshakes;
mod host;
mod initiator;
mod ledger;
pub mod logins;
mod probe;
pub mod storm;
pub mod traffic;
pub mod tunnels;

pub use engine::output::Output;
pub use fleet::{LoadError, Version};
pub use initiator::{Command, Initiator, InitiatorConfig, InitiatorError, Report};
pub use ledger::Ledger;
pub use probe::{Flow, Probe};
