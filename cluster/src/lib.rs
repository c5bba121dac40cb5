//! What the nodes of a cluster share: the desired state in etcd.
//!
//! * [`Etcd`] is the client: members tried in turn, a bound on every wait, and reasons in words.
//! * [`EtcdStore`] keeps the rows of the catalog there ([`tenants::store::Store`]): compare-and-swap for each change, whatever its
//!   size; [`follow`] brings what other nodes write.
//! * [`Members`] is who is there: names, and which node begins with which peer ([`Placement`]).
//! * [`Slots`] is whose the slots of SPIs are, who would go on with them, and how they move.
//! * [`mesh`] is what nodes say to each other: heartbeats, questions and answers, packets, streams; over QUIC.
//!
//! It is not the catalog (`tenants`), which checks what is written and holds it in memory, and knows nothing of tunnels. A node alone
//! has none of it. Start reading with `store/mod.rs`, `members/mod.rs`, `slots/mod.rs` and `mesh/mod.rs`.

mod etcd;
mod members;
pub mod mesh;
#[cfg(feature = "scale")]
pub mod scale;
#[cfg(feature = "servers")]
pub mod servers;
mod slots;
mod store;
mod task;

#[cfg(feature = "simulated")]
pub use etcd::memory::{Memory, Path};
pub use etcd::{Etcd, EtcdError, Settings, TlsFiles};
pub use members::{Drained, Held, Identity, JoinError, Members, Node, Placement, SLOTS, Uids};
pub use slots::{Ask, Done, Handover, Host, Kept, Later, Process, Row, Slot, Slots, Table, Wire};
pub use store::{EtcdStore, follow};
#[cfg(feature = "simulated")]
pub use task::Process as Simulated;
