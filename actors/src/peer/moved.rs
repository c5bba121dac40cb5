//! A peer's connections that come from another node of the cluster, and go to one.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use actix::prelude::*;
use ike::Command;
use ike::supervise::{Claim, ConnId, Ended, State};

use super::PeerActor;
use super::connection::ConnEntry;
use crate::mailbox::deliver;
use crate::moves::{Moved, Rival, Whereabouts};
use crate::vocabulary::{Begin, Do};

/// How long a peer whose connection went to another node is left to that one, until it says that it has it. Nodes say so within a tenth
/// of a second, unless etcd elects a leader.
const GIVEN: Duration = Duration::from_secs(10);

/// How long what is for a peer still goes to the node that had its tunnel, when nobody says that it has one.
const LEAD: Duration = Duration::from_secs(1);

impl PeerActor {
    /// Goes on with a connection of another node. Its pairs are in the router, and leave it again if it does not go on.
    pub(super) fn take_over(&mut self, moved: Box<Moved>, ctx: &mut Context<Self>) {
        let Some(config) = self.config.clone().filter(|_| !self.leaving) else {
            return tracing::warn!(peer = %self.peer.name, "a tunnel of another node has no use here");
        };
        self.given = None;
        let id = self.next_conn();
        self.history().begin(id, false, None);
        self.history().step(id, "comes from another node");
        if self.supervisor.state() == State::Waiting {
            // Whether it is up is said by the connection in a moment.
            self.supervisor.try_now();
        }
        self.spawn_connection(ctx, id, None, Begin::GoOn(moved, config));
        self.settle(ctx);
    }

    /// A connection goes on at another node. Nobody is told, and nobody here begins with the peer.
    pub(super) fn connection_given(&mut self, ctx: &mut Context<Self>, id: ConnId, to: Option<u32>) {
        self.pairs_given(id);
        if let Some(mut conn) = self.conns.remove(&id) {
            conn.down = true;
        }
        (self.given, self.given_is_told, self.leads_to) = (Some(Instant::now()), false, to);
        self.replan();
        self.supervisor.ended(Instant::now(), id, Ended::ByUs, rand::random());
        self.history().step(id, "goes on at another node");
        self.leave(ctx);
    }

    /// When what was given, or led elsewhere, is looked at again.
    pub(super) fn given_until(&self) -> Option<Instant> {
        self.given.map(|at| at + GIVEN).into_iter().chain(self.lead_ends).min()
    }

    pub(super) fn given_due(&mut self) {
        let now = Instant::now();
        if self.lead_ends.is_some_and(|at| at <= now) {
            self.lead_ends = None;
            self.lead_to(None);
        }
        if self.given.is_some_and(|at| at + GIVEN <= now) {
            self.given = None;
            self.replan();
        }
    }

    /// Packets for the peer go to the node that has its tunnel, or that would begin with it.
    pub(super) fn lead_elsewhere(&mut self, node: &str) {
        let Some(cluster) = &self.env.others.0 else { return };
        let held;
        let node = if self.given.is_some() {
            // Where one is that was given is known better than where it is at home, until somebody says that it has it. Should nobody say so any
            // more, it has gone on to where it is at home.
            held = self.env.homes.holder(self.peer.uid);
            self.given_is_told |= held.is_some();
            match &held {
                Some(node) => node.as_str(),
                None if self.given_is_told => node,
                None => return,
            }
        } else {
            node
        };
        let number = if node.is_empty() { None } else { cluster.number(node) };
        if number.is_none() && self.leads_to.is_some() && self.supervisor.current().is_none() {
            // Of two nodes, the one that had its tunnel may say so sooner than the one that has it.
            self.lead_ends.get_or_insert(Instant::now() + LEAD);
            return;
        }
        self.lead_ends = None;
        self.lead_to(number);
    }

    fn lead_to(&mut self, number: Option<u32>) {
        if std::mem::replace(&mut self.leads_to, number) == number {
            return;
        }
        let tenant = router::TenantId(self.peer.tenant);
        for tunnel in self.peer.tunnels() {
            self.env.router.set_elsewhere(tenant, tunnel, number);
        }
    }

    /// The peer has a connection with another node. Of that one and one that is here one goes: what the peer has left there it has forgotten, or is
    /// glad to be rid of.
    pub(super) fn rival(&mut self, ctx: &mut Context<Self>, rival: &Rival, at: Whereabouts) {
        let current = self.supervisor.current();
        let ours = current.and_then(|id| self.conns.get(&id)).and_then(ConnEntry::standing);
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
            (self.given, self.given_is_told) = (Some(Instant::now()), false);
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
