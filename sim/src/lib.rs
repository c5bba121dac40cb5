//! A deterministic simulator: nodes built from the real `ike` and `esp` and their supervision, virtual time, and a
//! network that loses, delays, reorders, duplicates, corrupts and partitions, with NATs in between. One seed is one
//! history.
//!
//! It is not a model of the protocol: the nodes run the lines that production runs. What stands here in place of the
//! actors and the router is `node/`; what must hold after every event is `invariants.rs`.
//!
//! Start with [`World`], and for clusters with [`cluster::History`]; `cargo run -p sim -- --help` runs histories by the thousand hours.

pub mod clock;
pub mod cluster;
pub mod faults;
pub mod invariants;
pub mod net;
pub mod node;
pub mod random;
pub mod report;
pub mod scenario;
pub mod tunnel;
pub mod world;

pub use report::Report;
pub use scenario::Scenario;
pub use world::World;
