//! What the actor of a connection is told, and what it reports.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::Message;
use esp::Lifetime;
use ike::config::{Opening, PeerConfig};
use ike::proposal::IkeChoice;
use ike::{ChildEnd, CloseReason, Command, Failure};
use router::{IkeDatagram, Unsent};

use crate::adopted::Adopted;
use crate::held::Pair;
use crate::moves::{Agreed, Moved, PairFacts, agreed_of};
use crate::numbered::Numbered;
use crate::span::SpanContext;

/// Begin: either start a negotiation, or go on with one that the reception has brought to the end.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) enum Begin {
    /// We start.
    Initiate {
        /// With this configuration.
        config: Arc<PeerConfig>,
        /// Over this path.
        path: ike::Path,
        /// The span that it is a part of, and one that has led to it.
        cause: (Option<SpanContext>, Option<SpanContext>),
    },
    /// The peer started and is authenticated; our answer waits to be sent. If there is a connection already, it joins that.
    Adopt(Box<Adopted>),
    /// Another node has told how it stands, and this one goes on with it.
    GoOn(Box<Moved>, Arc<PeerConfig>),
}

impl Begin {
    /// By which configuration of its peer, which is like this here, the connection is agreed on.
    pub(crate) fn agreed(&self, here: &Numbered) -> Agreed {
        match self {
            Self::GoOn(moved, _) => agreed_of(&moved.row, here),
            Self::Initiate { .. } | Self::Adopt(_) => here.agreed(),
        }
    }
}

/// A command for the connection.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Do(pub(crate) Command);

/// The configuration changed in something that running SAs can take over.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Reconfigure(pub(crate) Arc<Numbered>, pub(crate) Arc<PeerConfig>);

/// End at once, without a word to anybody.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Vanish;

/// Panics, to test what follows.
#[cfg(feature = "fault-injection")]
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Panic;

/// What is reported.
pub(crate) enum ConnEvent {
    Established(Box<Established>),
    Rekeyed {
        spis: (u64, u64),
        initiated: bool,
        choice: Option<IkeChoice>,
        lifetime: Option<Lifetime>,
    },
    Installed(Box<Installed>),
    /// The connection sends by this pair now.
    Activated {
        spi_in: u32,
    },
    Removed {
        spi_in: u32,
        linger: Duration,
        reason: ChildEnd,
    },
    ChildFailed {
        name: Arc<str>,
        failure: Failure,
    },
    /// What of a policy the peer does not carry, as texts; nothing once it carries everything.
    Coverage {
        policy: Arc<str>,
        uncovered: Vec<String>,
    },
    /// A rekeying that was asked for, of the pair with this inbound SPI, has come to an end.
    RekeyEnded(u32, Result<(), Failure>),
    /// The IKE_SA could not be rekeyed.
    /// With the end of the IKE_SA, if it has one.
    RekeyFailed(Failure, Option<Instant>),
    /// The peer ends the connection unless it is authenticated anew within this time.
    LimitedByPeer(Duration),
    /// Another member of the peer's cluster goes on, with these Message IDs of our next request and of its own.
    Synced {
        ours: u32,
        theirs: u32,
    },
    Moved(SocketAddr),
    Down(CloseReason),
    /// The system does not send to the peer, and why.
    Unsent(Unsent),
    /// One that was to join this connection, which is over.
    NotJoined(Box<Adopted>),
    /// To be sent once the events before it are carried out.
    Send(Vec<IkeDatagram>),
    /// The node of this number goes on with it, and nothing of it is left here.
    Given(Option<u32>),
    Finished,
}

impl ConnEvent {
    /// Whether the pair that is sent by may be another after it.
    pub(crate) const fn changes_sender(&self) -> bool {
        matches!(self, Self::Activated { .. } | Self::Removed { .. })
    }
}

/// The peer is authenticated.
pub(crate) struct Established {
    /// When the negotiation began.
    pub(crate) began: Instant,
    /// Of the initiator and of the responder.
    pub(crate) spis: (u64, u64),
    /// How it was negotiated.
    pub(crate) opening: Opening,
    /// None where the peer has ended the IKE_SA of IKEv1, and its pairs go on.
    pub(crate) choice: Option<IkeChoice>,
    pub(crate) initiator: bool,
    pub(crate) initial_contact: bool,
    /// Ours and the peer's.
    pub(crate) addresses: (SocketAddr, SocketAddr),
    pub(crate) encapsulated: bool,
    pub(crate) lifetime: Option<Lifetime>,
    /// When its IKE_SA was made.
    pub(crate) since: Instant,
    /// Another node did that.
    pub(crate) moved: bool,
}

/// A pair that the router has.
pub(crate) struct Installed {
    /// Its place in the router.
    pub(crate) pair: Pair,
    pub(crate) spi_out: u32,
    pub(crate) replaces: Option<u32>,
    pub(crate) facts: PairFacts,
    /// What the connection was configured by when it was in place.
    pub(crate) config: Option<Arc<PeerConfig>>,
    /// It was asked for by what was configured before that.
    pub(crate) overtaken: bool,
    /// Another node has made it.
    pub(crate) moved: bool,
}
