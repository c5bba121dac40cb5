//! Actors: one per tenant, per peer, per connection and per Child SA, on actix.
//!
//! They are thin shells: a handler calls the pure core ([`ike::Connection`], [`esp::Lifetime`], [`ike::supervise`]), carries
//! out what it says, and arms one timer. No protocol is decided here, and no ESP packet passes a mailbox: packets
//! live in the `router`.
//!
//! Start with [`Node`], then follow a datagram: `dispatch.rs` → `reception.rs` (first messages) → `ike_sa.rs`; and a
//! change of configuration: `node.rs` → `tenant.rs` → `peer/`.

mod child_sa;
mod control;
mod convert;
mod counters;
mod dispatch;
mod env;
mod events;
mod history;
mod host;
mod ike_sa;
mod key_log;
mod mailbox;
mod node;
mod peer;
mod policy;
mod reception;
mod registry;
mod status;
mod tenant;
mod watch;

pub use control::{Control, ControlError, RekeyTarget};
pub use events::{EventHub, Lagged};
pub use key_log::KeyLog;
pub use node::{Node, NodeConfig, NodeError};
pub use status::{ChildView, PeerView};
