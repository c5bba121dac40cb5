//! Initiators built on `ike` and `esp` over real UDP sockets, for demonstrations and for load.
//!
//! It is not a VPN client: no TUN device, no routes. An [`Initiator`] has one inner address, sends numbered probes to
//! others and checks off what arrives, so that loss, duplication and packets of a stranger are known exactly.
//!
//! Start with [`Initiator`] (`initiator/`); `probe.rs` is the traffic. The program `loadtest` runs loads made of them, which share
//! `engine/` (counters, reports) and `fleet/` (many initiators, and the node they talk to): `handshakes/`, `traffic.rs`,
//! `rekey_storm.rs`, `churn.rs`, `soak.rs` and `tunnels/`; `flood/` and `logins.rs` are the load of strangers. `compare/` is Culvert beside
//! others on one machine.

pub mod churn;
pub mod compare;
mod engine;
mod fleet;
pub mod flood;
pub mod handshakes;
mod host;
mod initiator;
mod ledger;
pub mod logins;
mod probe;
pub mod rekey_storm;
pub mod soak;
pub mod traffic;
pub mod tunnels;

pub use engine::output::Output;
pub use engine::stop::Signals;
pub use fleet::{LoadError, Version};
pub use initiator::{Command, Initiator, InitiatorConfig, InitiatorError, Report};
pub use ledger::Ledger;
pub use probe::{Flow, Probe};
