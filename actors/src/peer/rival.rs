//! A peer's second connection: with another node of a cluster, where one of the two stays, or from another host.

use std::net::SocketAddr;
use std::time::Instant;

use actix::prelude::*;
use ike::supervise::{Claim, ConnId};
use ike::{Command, Failure};

use super::PeerActor;
use super::connection::ConnEntry;
use super::moved::Given;
use crate::mailbox::deliver;
use crate::moves::{Rival, Whereabouts};
use crate::vocabulary::Do;

/// Which connection it is, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct UpSince {
    pub(super) initiator: bool,
    /// As it came up: what comes of rekeying is the same connection.
    pub(super) spi: u64,
    pub(super) began: Instant,
    pub(super) since: Instant,
    /// Another node had it before.
    pub(super) moved: bool,
}

impl ConnEntry {
    /// What is said of it now beside one that another node has, and where its peer is.
    pub(super) fn standing(&self) -> Option<(Claim, SocketAddr)> {
        let UpSince { initiator, spi, began, since, moved: _ } = self.up?;
        let claim = Claim { initiator, spi, began: began.elapsed(), up: since.elapsed() };
        Some((claim, self.ike.as_ref()?.remote))
    }
}

impl PeerActor {
    /// Tells the other nodes of a connection: one of them may have another one.
    pub(super) fn tell_others(&self, id: ConnId) {
        let standing = self.conns.get(&id).and_then(ConnEntry::standing);
        if let Some(((claim, remote), cluster)) = standing.zip(self.env.others.0.as_ref()) {
            cluster.established(Rival { uid: self.peer.uid, claim, remote, instead_of: None });
        }
    }

    /// Tells them again, if one of them says that it has a connection as well: it may not have been told of the one here, or not have told of its own,
    /// as where it was cut off. Not of one that another node had before: what that one says may be about this very connection, until it hears that its
    /// slot is here.
    pub(super) fn tell_holder(&self) {
        let current = self.supervisor.current();
        let is_new = |conn: &ConnEntry| !conn.closing && conn.up.is_some_and(|up| !up.moved);
        let stays = |id: &ConnId| self.conns.get(id).is_some_and(is_new);
        if let Some(id) = current.filter(stays).filter(|_| self.env.homes.holder(self.peer.uid).is_some()) {
            self.tell_others(id);
        }
    }

    /// Whether the connection in use is a newer one than this.
    pub(super) fn has_newer(&self, id: ConnId) -> bool {
        let began = |id| self.conns.get(&id).and_then(|conn| conn.up).map(|up| up.began);
        let current = self.supervisor.current().and_then(began);
        current.zip(began(id)).is_some_and(|(current, this)| current > this)
    }

    /// A connection that the peer has begun from another host takes over from the one in use: a gateway that has moved, or a
    /// second one of the same identity. If it is the latter it happens again and again.
    pub(super) fn note_takeover(&mut self, id: ConnId, remote: SocketAddr, initiator: bool) {
        let current = self.supervisor.current().filter(|current| *current != id && !initiator);
        let before = current.and_then(|current| {
            let ike = self.conns.get(&current)?.ike.as_ref()?;
            (ike.remote.ip() != remote.ip()).then_some((current, ike.remote))
        });
        if let Some((old, from)) = before {
            self.takeovers += 1;
            let times = self.takeovers;
            self.history().failed(old, &Failure::TakenOver { ends: Box::new((from, remote)), times });
        }
    }

    /// The peer has a connection with another node. Of that one and one that is here one goes: what the peer has left there it has forgotten, or is
    /// glad to be rid of.
    pub(super) fn rival(&mut self, ctx: &mut Context<Self>, rival: &Rival, at: Whereabouts) {
        self.came_elsewhere(rival, ctx);
        let current = self.supervisor.current();
        let ours = current.and_then(|id| self.conns.get(&id)).and_then(ConnEntry::standing);
        if ours.is_some_and(|(claim, _)| claim.spi == rival.claim.spi) {
            // It is the same one, which is moving or was taken over. Whose it is etcd says, by its slot.
            return;
        }
        if let Some(((claim, remote), cluster)) = ours.zip(self.env.others.0.as_ref()) {
            let keep = self.is_kept((&claim, remote), rival);
            let stays = claim.outlasts(&rival.claim, keep);
            if stays && keep && rival.instead_of.is_none() {
                // Perhaps the peer has moved.
                self.doubt();
            }
            match rival.instead_of {
                Some(spi) if spi == claim.spi => {}
                // About one that has ended.
                Some(_) => return,
                None if at.we_decide && stays => {
                    let instead_of = Some(rival.claim.spi);
                    return cluster.established(Rival { claim, remote, instead_of, ..*rival });
                }
                None if at.we_decide => {}
                // It may not have had one when it was told of this one.
                None => return cluster.established(Rival { claim, remote, ..*rival }),
            }
        }
        if at.node.is_some() {
            // As if it had been given to that node, which says to all by and by that it has it: what is for the peer does not wait for that,
            // and nobody here begins with it anew.
            self.given = Some(Given::now(false));
            self.lead_to(at.node);
            self.replan();
            self.arm(ctx);
        }
        if let Some(conn) = current.and_then(|id| self.conns.get_mut(&id)) {
            conn.closing = true;
            tracing::info!(peer = %self.peer.name, "the peer has another connection with another node, which stays");
            deliver(&conn.addr, Do(Command::Close), &self.env.counters);
        }
    }

    /// Whether the older one of two stays, as the newer one is another gateway's.
    fn is_kept(&self, (claim, remote): (&Claim, SocketAddr), rival: &Rival) -> bool {
        let ours_is_older = claim.began >= rival.claim.began;
        let (up, from) = if ours_is_older { (remote, rival.remote) } else { (rival.remote, remote) };
        let newer_is_theirs = if ours_is_older { !rival.claim.initiator } else { !claim.initiator };
        newer_is_theirs && self.config.as_ref().is_some_and(|config| !config.uniqueness.admits(up, from))
    }
}
