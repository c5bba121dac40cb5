//! Between the router, a Child SA's actor and its peer's.

use std::net::SocketAddr;
use std::time::Duration;

use actix::Message;

/// What the router has to say about a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Message)]
#[rtype(result = "()")]
pub(crate) enum ChildNotice {
    /// A soft limit in octets or packets.
    Soft,
    /// A hard one.
    Hard,
    /// The first packet came in.
    FirstInbound,
    /// Packets come from a new address.
    Moved(SocketAddr),
}

/// The pair is to be removed after this long; it does not send any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Retire(pub(crate) Duration);

/// The pair is another node's, and not in the router any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Given;

/// What is due for a pair.
pub(crate) enum Due {
    /// A soft limit: rekey.
    Rekey,
    /// A hard limit: delete.
    Expire,
    /// The peer uses the pair.
    InboundSeen,
    /// The peer sends from elsewhere.
    Moved(SocketAddr),
}
