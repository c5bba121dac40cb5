//! What the actor of a peer is told.

use std::net::SocketAddr;
use std::sync::Arc;

use actix::Message;
use ike::Failure;
use router::{TunnelId, Unreachable};
use tenants::HostName;
use tokio::sync::oneshot;

use crate::adopted::Adopted;
use crate::moves::{Moved, Rival, Whereabouts};
use crate::numbered::Numbered;
use crate::span::SpanContext;

/// The outcome of a command: done, or why not.
pub(crate) type Outcome = Result<(), Refusal>;

/// Why a command has come to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The reason in words.
    Failed(String),
    /// The tunnel is at another node by now.
    Moved,
}

impl<S: Into<String>> From<S> for Refusal {
    fn from(reason: S) -> Self {
        Self::Failed(reason.into())
    }
}

/// Who waits for it.
pub(crate) type Reply = oneshot::Sender<Outcome>;

/// What to rekey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RekeyTarget {
    /// The IKE_SA.
    Ike,
    /// The Child SA of every policy.
    Children,
    /// The Child SA of this policy.
    Child(String),
}

/// From the API, the reception and the dispatcher.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum ToPeer {
    /// Start a negotiation unless the tunnel is up, as a part of a span.
    Initiate(Reply, Option<SpanContext>),
    /// Take the tunnel down if it is here, and do not begin with the peer, at the wish of somebody.
    Terminate(String, Reply),
    /// The same, of a tunnel that is said to be here.
    TerminateHeld(String, Reply),
    /// Do not keep the tunnel down any longer.
    LetBe(Reply),
    /// Rekey the IKE_SA, or the Child SA of a name, or all of them.
    Rekey(RekeyTarget, Reply),
    /// A connection that the peer started and the reception has authenticated.
    Adopt(Box<Adopted>),
    /// Another node has had a connection with the peer until now, and this one goes on.
    GoOn(Box<Moved>),
    /// The peer has a connection with another node.
    Rival(Rival, Whereabouts),
    /// Perhaps the peer is not where its connection says: ask it for a sign of life.
    Doubt,
    /// Somebody who may be the peer has begun a negotiation from there, or was refused; whether he has had an answer of ours there.
    Stranger(SocketAddr, Option<Box<Failure>>, bool),
    /// An ICMP error came back for what was sent to the peer's address. It may be forged.
    Unreachable(Unreachable),
    /// A packet waits for an SA of this tunnel.
    Wanted(TunnelId),
    /// The peer sends ESP that nobody here can open: start a negotiation if the tunnel is down.
    Wake,
    /// The peer's name was resolved, and the catalog has its addresses; or why not.
    Resolved(HostName, Result<(), String>),
    /// The peer may be at home elsewhere, or is held by another node.
    Rehome,
    /// Panic, in the peer's own actor or in that of its connection, to test what follows.
    #[cfg(feature = "fault-injection")]
    Panic {
        /// In the actor of the peer's connection rather than in its own.
        connection: bool,
    },
}

/// The peer's configuration changed, by a request in this span.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Configure(pub(crate) Arc<Numbered>, pub(crate) Option<SpanContext>);

/// Nodes of the cluster have come or gone: any peer of the tenant may be at home elsewhere.
#[derive(Clone, Copy, Message)]
#[rtype(result = "()")]
pub(crate) struct RehomeAll;

/// The value of a secret changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SecretChanged;

/// The peer is deleted, or the node stops: close everything and end.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RemovePeer;
