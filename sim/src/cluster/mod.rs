//! Histories of a cluster: several nodes with the `Slots` and `Members` that production runs, in one process and virtual time. In place of
//! sockets, QUIC and etcd's servers stand a network that is cut and slow, and an etcd in memory; in place of actors and the router stand
//! tunnels that say numbered messages and seal real ESP ([`host`]).
//!
//! Nodes are killed and started again, stand still for seconds and go on as if nothing were, hear nobody or not etcd, are drained, and their
//! slots are moved. What must hold is in [`witness`]; [`Fault`]s that are put in on purpose have to be noticed.
//!
//! Start with [`History`]; `cargo run --release -p sim -- cluster --hours 100` runs many.

mod disturb;
mod hearing;
pub mod host;
mod net;
mod node;
mod peace;
mod scenario;
mod traffic;
mod tunnel;
pub mod witness;
mod world;

pub use scenario::{Fault, Scenario};
pub use world::History;
