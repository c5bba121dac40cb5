//! What actors say to each other. Nothing here knows an actor: who sends knows a [`Recipient`](actix::Recipient), who
//! receives knows its own handlers, and only a supervisor knows the address of what it has started itself.
//!
//! `peer.rs` is what a peer is told; `connection.rs` and `child.rs` what its SAs are told, and what they report.

mod child;
mod connection;
mod peer;

use actix::Message;

use crate::span::SpanContext;

pub(crate) use child::{ChildNotice, Due, Given, Retire};
#[cfg(feature = "fault-injection")]
pub(crate) use connection::Panic;
pub(crate) use connection::{Begin, ConnEvent, Do, Established, Installed, Reconfigure, Vanish};
pub use peer::RekeyTarget;
pub(crate) use peer::{Configure, Outcome, Refusal, RehomeAll, RemovePeer, Reply, SecretChanged, ToPeer};

/// What the actors of a peer's SAs report to the one that supervises them.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Report {
    /// Of the connection with this number, in the order in which it happened, each in a span. What one message of the peer leads to comes as
    /// one: to take a report on and to show what came of it costs as much as all that is in it.
    Connection(u64, Vec<(ConnEvent, Option<SpanContext>)>),
    /// Something is due for the pair with this inbound SPI.
    Child(u32, Due),
    /// One of them ended by a panic.
    Died(Died),
}

impl From<Died> for Report {
    fn from(died: Died) -> Self {
        Self::Died(died)
    }
}

/// The actor of this key ended by a panic.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Died(pub(crate) u64);
