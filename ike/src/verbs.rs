//! What a connection is asked, and what it says of itself, whichever version of IKE it speaks.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::connection::Connection;
use crate::crypto::prf::Secret;
use crate::event::Nat;
use crate::failure::Failure;
use crate::proposal::IkeChoice;

/// How long a half-open responder waits for the initiator to prove who it is. The initiator retransmits for about as long.
pub const HALF_OPEN_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a removed Child SA still receives what was under way. As long as strongSwan's.
pub const LINGER_CHILD: Duration = Duration::from_secs(5);
/// How long retransmissions to an ended IKE_SA are answered: a few first waits of the field's implementations.
pub(crate) const LINGER_IKE: Duration = Duration::from_secs(10);
/// Interval of NAT keepalives (RFC 3948 section 2.3 has 20 s as the default).
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(20);
/// Child SAs of one connection, those being replaced included. The largest meshes in the field have under 200.
pub const MAX_CHILDREN: usize = 256;
/// Peers whose keys are tried, where an initiator may mean any of them: of one identity, or in Main Mode of one address. Each takes some
/// microseconds, and only for one who has answered from where it says it is.
pub const MAX_CANDIDATES: usize = 64;

/// Addresses and ports between us and the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Path {
    /// Our address and IKE port (500).
    pub local: SocketAddr,
    /// The peer's address and IKE port.
    pub remote: SocketAddr,
    /// Our port for NAT traversal (4500).
    pub local_natt: u16,
    /// The peer's.
    pub remote_natt: u16,
}

impl Path {
    /// Our address and the peer's, with the ports of NAT traversal once they are used.
    pub(crate) fn ends(&self, floated: bool) -> (SocketAddr, SocketAddr) {
        let (mut local, mut remote) = (self.local, self.remote);
        if floated {
            local.set_port(self.local_natt);
            remote.set_port(self.remote_natt);
        }
        (local, remote)
    }

    /// The peer sends from elsewhere now; false if it may not, or has been there before.
    pub(crate) fn follow(&mut self, nat: Nat, floated: bool, remote: SocketAddr) -> bool {
        // What came without UDP has no port that an answer could go to.
        let moved = nat.peer_may_move() && floated && remote.port() != 0 && self.ends(true).1 != remote;
        if moved {
            self.move_to(remote);
        }
        moved
    }

    /// The peer is there, as far as the port of NAT traversal goes.
    pub(crate) fn move_to(&mut self, remote: SocketAddr) {
        self.remote.set_ip(remote.ip());
        self.remote_natt = remote.port();
    }
}

/// What a connection counts. A host adds them up when it drops the connection or asks for a status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests sent again.
    pub retransmissions: u64,
    /// Requests of the peer answered again from store.
    pub answered_again: u64,
    /// Datagrams dropped: not decodable, wrong SPI or Message ID, or forged.
    pub dropped: u64,
    /// Datagrams that were taken: each is either this, or dropped, or answered again from store.
    pub taken: u64,
    /// Child SAs rekeyed.
    pub child_rekeys: u64,
    /// IKE_SAs rekeyed.
    pub ike_rekeys: u64,
}

impl Counters {
    /// A datagram was handled since `before`: it is taken unless it was dropped or answered again.
    pub(crate) fn settle(&mut self, before: Self) {
        let refused = self.dropped - before.dropped;
        let again = self.answered_again - before.answered_again;
        debug_assert!(refused + again <= 1, "a datagram has one outcome");
        self.taken += u64::from(refused + again == 0);
    }

    /// Adds what another connection has counted that joins this one.
    pub fn join(&mut self, other: Self) {
        self.retransmissions += other.retransmissions;
        self.answered_again += other.answered_again;
        self.dropped += other.dropped;
        self.taken += other.taken;
        self.child_rekeys += other.child_rekeys;
        self.ike_rekeys += other.ike_rekeys;
    }
}

/// What the host may ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Make a Child SA for the policy of this name.
    CreateChild(Arc<str>),
    /// Rekey the pair with this inbound SPI. [`Event::RekeyEnded`] says what became of it, or [`Event::Down`].
    RekeyChild(u32),
    /// Delete the pair with this inbound SPI.
    DeleteChild(u32),
    /// The hard lifetime of the pair with this inbound SPI ended.
    ExpireChild(u32),
    /// Rekey the IKE_SA. [`Event::IkeRekeyed`] says that it is, [`Event::IkeRekeyFailed`] that the peer does not.
    RekeyIke,
    /// Delete the IKE_SA and everything on it.
    Close,
    /// Forget everything without a word to the peer, which has started afresh (INITIAL_CONTACT).
    Abandon,
    /// A packet arrived on the pair with this inbound SPI: the peer has it installed.
    InboundSeen(u32),
    /// The answer to [`Event::SignOfLifeDue`]: when an authentic ESP packet arrived last on a pair of this connection.
    Heard(Option<Instant>),
    /// Ask the peer for a sign of life now.
    Probe,
    /// Do not send the first message again until somebody has answered it: something from the peer's address has made us
    /// start, and anybody can send that.
    Once,
    /// An authenticated ESP packet came from a new address (RFC 7296 section 2.23).
    RemoteMoved(SocketAddr),
}

/// What becomes of a first message.
#[derive(Debug)]
pub enum InitReply<C = Connection> {
    /// A half-open connection; its answer waits in its `poll_transmit`.
    Accepted(Box<C>),
    /// Answered without keeping state, and why.
    Refused(Vec<u8>, Failure),
    /// Not worth an answer.
    Dropped(Failure),
}

impl<C> InitReply<C> {
    /// The same with what was accepted as something else.
    pub(crate) fn map<D>(self, change: impl FnOnce(Box<C>) -> D) -> InitReply<D> {
        match self {
            Self::Accepted(conn) => InitReply::Accepted(Box::new(change(conn))),
            Self::Refused(bytes, failure) => InitReply::Refused(bytes, failure),
            Self::Dropped(failure) => InitReply::Dropped(failure),
        }
    }
}

/// What does not hold of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken(pub String);

/// What it takes to read the messages of one IKE_SA. Whoever has it reads all of them and can forge more.
pub enum LoggedKeys {
    /// Of IKEv2.
    V2 {
        /// SPI of its initiator.
        spi_i: u64,
        /// SPI of its responder.
        spi_r: u64,
        /// The algorithms.
        choice: IkeChoice,
        /// SK_ei and SK_er, each with the salt behind it for an AEAD.
        encryption: [Secret; 2],
        /// SK_ai and SK_ar, empty for an AEAD.
        integrity: [Secret; 2],
    },
    /// Of IKEv1.
    V1 {
        /// SPI of its initiator.
        spi_i: u64,
        /// SPI of its responder.
        spi_r: u64,
        /// The key of the cipher (RFC 2409 appendix B).
        key: Secret,
    },
}

impl LoggedKeys {
    /// SPIs of the IKE_SA's initiator and responder.
    pub const fn spis(&self) -> (u64, u64) {
        match self {
            Self::V2 { spi_i, spi_r, .. } | Self::V1 { spi_i, spi_r, .. } => (*spi_i, *spi_r),
        }
    }
}

impl std::fmt::Debug for LoggedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (spi_i, spi_r) = self.spis();
        write!(f, "LoggedKeys({spi_i:016x}, {spi_r:016x})")
    }
}

/// The first of a queue, which holds no memory once it is empty: it is in use for moments, and a tunnel lasts for days.
pub(crate) fn take<T>(queue: &mut VecDeque<T>) -> Option<T> {
    let first = queue.pop_front();
    if first.is_none() && queue.capacity() > 0 {
        *queue = VecDeque::new();
    }
    first
}
