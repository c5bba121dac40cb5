//! What a connection tells its host: datagrams to send, SAs to install, and what happened.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Mode;
use crate::coverage::Traffic;
use crate::crypto::keys::EspKeys;
use crate::failure::Failure;
use crate::proposal::{EspChoice, IkeChoice};
use crate::wire::ts::TrafficSelector;

/// Stands for the policy where a peer has asked for what none is for. No policy is called that.
pub const NO_POLICY: &str = "(none)";

/// A datagram to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// From this address of ours.
    pub local: SocketAddr,
    /// To this address.
    pub remote: SocketAddr,
    /// It goes over the NAT traversal port: four zero octets stand before an IKE message (RFC 7296 section 3.1), and
    /// none before a keepalive.
    pub natt: bool,
    /// A NAT keepalive rather than an IKE message (RFC 3948 section 2.3).
    pub keepalive: bool,
    /// The message.
    pub bytes: Vec<u8>,
}

/// A datagram that arrived, without the non-ESP marker.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Our address it was sent to.
    pub local: SocketAddr,
    /// Whence it came.
    pub remote: SocketAddr,
    /// It came over the NAT traversal port.
    pub natt: bool,
    /// The message.
    pub bytes: &'a [u8],
}

/// Who is behind a NAT (RFC 7296 section 2.23).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nat {
    /// We are.
    pub local: bool,
    /// The peer is.
    pub remote: bool,
}

impl Nat {
    /// Whether the peer may move to where its packets come from: only one that is behind a NAT, and only while we are not.
    /// Behind one ourselves we could be led anywhere by whoever passes the peer's packets on from elsewhere (RFC 7296
    /// section 2.23), and would do it a second time when the peer does the same.
    pub(crate) const fn peer_may_move(self) -> bool {
        self.remote && !self.local
    }
}

/// A Child SA ready to be installed: both directions, with their keys.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub struct ChildSa {
    /// The policy it was made for, or the part of one: [`crate::coverage::policy_of`].
    pub name: Arc<str>,
    /// SPI the peer sends to; names the pair.
    pub spi_in: u32,
    /// SPI we send to.
    pub spi_out: u32,
    /// The algorithms.
    pub choice: EspChoice,
    /// Keys of what arrives.
    pub keys_in: EspKeys,
    /// Keys of what is sent.
    pub keys_out: EspKeys,
    /// Our side's selectors, narrowed.
    pub local_ts: Vec<TrafficSelector>,
    /// The peer's side's selectors, narrowed.
    pub remote_ts: Vec<TrafficSelector>,
    /// Tunnel or transport. In transport mode the selectors are the two addresses below, and there is no NAT.
    pub mode: Mode,
    /// Our address and port for ESP in UDP.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// ESP goes in UDP (RFC 3948), not by itself.
    pub encapsulated: bool,
    /// The peer takes packets with padding against traffic analysis: it has not said ESP_TFC_PADDING_NOT_SUPPORTED (RFC
    /// 7296 section 1.3.1).
    pub tfc: bool,
    /// The pair this one replaces, by its inbound SPI.
    pub replaces: Option<u32>,
    /// We started the exchange that made it.
    pub initiated: bool,
    /// What the peer keeps it for at most, where it has said so. IKEv2 says nothing.
    pub limit: Limit,
}

/// How long a peer keeps an SA at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limit {
    /// Since it was made.
    pub time: Option<Duration>,
    /// What it carries.
    pub octets: Option<u64>,
}

impl Limit {
    /// The least of both.
    pub fn least(self, other: Self) -> Self {
        let time = self.time.into_iter().chain(other.time).min();
        let octets = self.octets.into_iter().chain(other.octets).min();
        Self { time, octets }
    }
}

/// Why a Child SA ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChildEnd {
    /// Another one took its place.
    Rekeyed,
    /// A collision of rekeyings made it superfluous (RFC 7296 section 2.8.1).
    Redundant,
    /// The peer deleted it.
    DeletedByPeer,
    /// We deleted it on command.
    Deleted,
    /// Its hard lifetime ended.
    Expired,
    /// The peer does not know it any more.
    LostByPeer,
    /// The IKE_SA it hung on ended.
    IkeClosed,
}

impl fmt::Display for ChildEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rekeyed => "rekeyed",
            Self::Redundant => "superfluous after a collision",
            Self::DeletedByPeer => "deleted by the peer",
            Self::Deleted => "deleted by us",
            Self::Expired => "its lifetime ended",
            Self::LostByPeer => "the peer does not know it any more",
            Self::IkeClosed => "its IKE SA ended",
        })
    }
}

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// We closed it on command.
    Local,
    /// The peer deleted the IKE_SA.
    DeletedByPeer,
    /// It never came up, or came to grief.
    Failed(Failure),
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("closed by us"),
            Self::DeletedByPeer => f.write_str("closed by the peer"),
            Self::Failed(failure) => failure.fmt(f),
        }
    }
}

/// Something the host has to do or may want to know. In order: a [`Event::InstallChild`] has to take effect before the
/// next datagram is sent.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub enum Event {
    /// Datagrams to this SPI of ours belong to this connection from now on.
    IkeSpiAdded(u64),
    /// And no longer.
    IkeSpiRemoved(u64),
    /// Both sides are authenticated.
    Established {
        /// The peer's configured name.
        peer: Arc<str>,
        /// SPI of ours.
        local_spi: u64,
        /// SPI of the peer's.
        remote_spi: u64,
        /// The algorithms.
        choice: IkeChoice,
        /// We started it.
        initiator: bool,
        /// The peer says that it has no other IKE_SA with us (RFC 7296 section 2.4).
        initial_contact: bool,
        /// Who is behind a NAT.
        nat: Nat,
    },
    /// The IKE_SA goes on under new SPIs and keys.
    IkeRekeyed {
        /// SPI of ours.
        local_spi: u64,
        /// SPI of the peer's.
        remote_spi: u64,
        /// We started the exchange.
        initiated: bool,
    },
    /// Install both directions: receive at once, send when told by [`Event::ActivateChild`].
    InstallChild(Box<ChildSa>),
    /// Send the policy's traffic by this pair from now on.
    ActivateChild {
        /// The pair.
        spi_in: u32,
    },
    /// Stop sending by this pair, and after `linger` stop receiving and forget its keys.
    RemoveChild {
        /// The pair.
        spi_in: u32,
        /// How long packets under way may still arrive.
        linger: Duration,
        /// Why.
        reason: ChildEnd,
    },
    /// An SPI asked for but not used.
    ReleaseSpi(u32),
    /// A Child SA could not be made.
    ChildFailed {
        /// The policy.
        name: Arc<str>,
        /// Why.
        failure: Failure,
    },
    /// What became of a rekeying that the host asked for: another pair is in the place of this one, made by whichever
    /// side, or why none is. One that failed for now is tried again all the same, as long as the pair lasts.
    RekeyEnded {
        /// The pair that was to be rekeyed.
        spi_in: u32,
        /// What became of it.
        outcome: Result<(), Failure>,
    },
    /// The peer ends the connection unless it is authenticated anew within this time (AUTH_LIFETIME, RFC 4478).
    LimitedByPeer(Duration),
    /// The IKE_SA could not be rekeyed. It stays until its hard lifetime ends, and is tried again, later each time.
    IkeRekeyFailed {
        /// Why.
        failure: Failure,
    },
    /// What of a policy no Child SA carries, for the peer has narrowed its selectors (RFC 7296 section 2.9) and not taken the
    /// rest by itself either. Nothing once everything is carried, or no Child SA of the policy is left.
    Coverage {
        /// The policy.
        policy: Arc<str>,
        /// Its packets that have no way, until it is told anew.
        uncovered: Vec<Traffic>,
    },
    /// The peer has sent no IKE message for the interval of liveness checks. If ESP of it arrived meanwhile that is as good
    /// (RFC 7296 section 2.4): the host says so at once with [`crate::Command::Heard`]. Otherwise the peer is asked.
    SignOfLifeDue,
    /// Another member of the cluster that the peer is goes on with the IKE_SA, and has set the Message IDs anew (RFC 6311).
    MessageIdsSynced {
        /// Of our next new request.
        ours: u32,
        /// Of the peer's.
        theirs: u32,
    },
    /// The sequence numbers that are sent on these pairs, by inbound SPI, are to go on so much later (IPSEC_REPLAY_COUNTER_SYNC, RFC 6311
    /// section 6.4): what comes before would be old to the peer.
    AdvanceOutbound {
        /// The pairs.
        pairs: Vec<u32>,
        /// How many numbers are skipped.
        by: u64,
    },
    /// The peer's address changed (RFC 7296 section 2.23).
    RemoteMoved(SocketAddr),
    /// No SA is left: report it. Retransmissions may still be answered until [`Event::Finished`].
    Down(CloseReason),
    /// Nothing more will come; the connection can be dropped.
    Finished,
}
