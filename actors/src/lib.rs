//! Actors: one per tenant, per peer, per connection and per Child SA, on actix.
//!
//! They are thin shells: a handler calls the pure core ([`ike::Connection`], [`esp::Lifetime`], [`ike::supervise`]), carries
//! out what it says, and arms one timer. No protocol is decided here, and no ESP packet passes a mailbox: packets
//! live in the `router`.
//!
//! Start with [`Node`], then follow a datagram: `dispatch.rs` → `reception/` (first messages) → `ike_sa/`; and a
//! change of configuration: `node.rs` → `tenant.rs` → `peer/`.
//!
//! It is a stack. On the ground is what actors say to each other (`vocabulary/`) and share (`table.rs`, `registry.rs`,
//! `status.rs`, `env.rs`); above it the actors of SAs, of peers, of tenants, and of the node. Who is below knows a recipient, never the
//! actor above. What an actor has put into a shared table, and what it holds of the router (`held.rs`), are values of it
//! whose drop takes out exactly that.

mod adopted;
mod alarm;
mod awaited;
mod child_sa;
mod clock;
mod condition;
mod config;
mod control;
mod convert;
mod counters;
mod datagram;
mod dispatch;
mod early;
mod env;
mod events;
#[cfg(feature = "fault-injection")]
mod fault;
mod figures;
mod held;
mod history;
mod homes;
mod host;
mod ike_sa;
mod key_log;
mod latency;
mod liveness;
mod mailbox;
mod moves;
mod node;
mod numbered;
mod outcomes;
mod path;
mod peer;
mod policy;
mod post;
mod randomness;
mod rate;
mod reception;
mod refusals;
mod registry;
mod resolver;
mod span;
mod status;
mod sums;
mod table;
mod tenant;
mod trail;
mod vocabulary;
mod watch;

pub use condition::Condition;
pub use config::NodeConfig;
pub use control::{Control, ControlError, MAX_STRANGERS_SHOWN};
pub use counters::IKE_OUTCOMES;
pub use events::{EventHub, Happened, WatchError, Whose};
pub use figures::{Figures, Queue};
pub use homes::{HomeNews, HomeRule, Homes, Rehomed};
pub use host::slot_of;
pub use key_log::KeyLog;
pub use latency::Histogram;
pub use liveness::Health;
pub use moves::{Cluster, Others, Rival, Taken, Whereabouts, reads};
#[cfg(feature = "fault-injection")]
pub use node::Part;
pub use node::{Node, NodeError};
pub use outcomes::{Negotiations, Stage};
pub use resolver::Lookup;
pub use span::{
    Attribute, Attributes, NoTraceparent, Span, SpanContext, SpanEvent, SpanKind, SpanSink, Value, Within,
};
pub use status::{ChildView, PeerView, Traffic};
pub use sums::Troubles;
pub use vocabulary::RekeyTarget;
