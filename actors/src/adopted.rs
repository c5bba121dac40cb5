//! A connection between the reception, which has authenticated it, and the actor of its peer.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use ike::config::PeerConfig;
use ike::{Command, Connection};
use router::IkeDatagram;

use crate::counters::Inside;
use crate::datagram::Deliver;
use crate::env::ConnEnv;
use crate::held::Held;
use crate::host::{CoreHost, slot_of};
use crate::trail::Trail;

/// An authenticated connection and what is reserved for it, on its way to whoever takes it.
///
/// Dropped on the way, because the peer's actor leaves, has panicked or is gone, it is closed: its IKE_AUTH is answered and a
/// delete follows, so that the peer begins anew at once. Without a word it would repeat its IKE_AUTH until it gives up, for
/// the better part of a minute, and nobody here knows its SPI any more.
pub(crate) struct Adopted {
    /// `None` once somebody has taken it.
    given: Option<Given>,
    env: Arc<ConnEnv>,
    /// The reception and its number.
    owner: Recipient<Deliver>,
    arbiter: u64,
}

/// What is handed over.
pub(crate) struct Given {
    pub(crate) conn: Connection,
    pub(crate) held: Held,
    /// What of the connection's counters is in the node's already.
    pub(crate) counted: ike::Counters,
    /// What is told of it.
    pub(crate) trail: Trail,
    /// Until somebody has taken it on: its slot waits for that.
    pub(crate) begun: Option<Inside>,
}

impl Adopted {
    pub(crate) const fn new(
        given: Given,
        env: Arc<ConnEnv>,
        owner: Recipient<Deliver>,
        arbiter: u64,
    ) -> Self {
        Self { given: Some(given), env, owner, arbiter }
    }

    /// Whoever calls this answers for it.
    pub(crate) fn take(mut self) -> Option<Given> {
        self.given.take()
    }

    /// Its slot has gone before anybody has taken it on. Whoever has that knows nothing of it, so it is none, and the peer is not told that it was one:
    /// it repeats its last message until it gives up and begins anew (RFC 7296 section 2.4). One that heard of success and of its end might leave it
    /// at that.
    pub(crate) fn forsake(mut self) {
        self.env.counters.not_adopted.up();
        self.given = None;
    }

    /// Whether it belongs into the connection that the peer has, which is up or only begun.
    pub(crate) fn joins(&self, up: bool) -> bool {
        self.given.as_ref().is_some_and(|given| given.conn.joins(up))
    }

    /// What it is in.
    pub(crate) fn slot(&self) -> Option<u8> {
        self.given.as_ref().map(|given| slot_of(given.conn.spis().0))
    }

    /// Whether this is the configuration that it was authenticated by.
    pub(crate) fn is_by(&self, config: &Arc<PeerConfig>) -> bool {
        let theirs = self.given.as_ref().and_then(|given| given.conn.config());
        theirs.is_some_and(|theirs| Arc::ptr_eq(theirs, config))
    }

    /// Where the connection comes from.
    pub(crate) fn remote(&self) -> Option<std::net::SocketAddr> {
        self.given.as_ref().map(|given| given.conn.addresses().1)
    }
}

impl Drop for Adopted {
    fn drop(&mut self) {
        let Some(Given { mut conn, mut held, .. }) = self.given.take() else {
            return;
        };
        self.env.counters.not_adopted.up();
        let (env, owner) = (&self.env, &self.owner);
        let slot = slot_of(conn.spis().0);
        let mut host = CoreHost { env, owner, slot, arbiter: self.arbiter, held: &mut held };
        conn.handle_command(Instant::now(), &mut host, Command::Close);
        while let Some(transmit) = conn.poll_transmit() {
            let (local, remote, bytes) = (transmit.local, transmit.remote, transmit.bytes);
            // Once: what gets lost leaves the peer where it would be without.
            let _ = env.router.send_ike(IkeDatagram { local, remote, bytes });
        }
    }
}
