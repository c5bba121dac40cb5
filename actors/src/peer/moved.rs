//! A peer's connections that come from another node of the cluster, and go to one.

use std::time::{Duration, Instant};

use actix::prelude::*;
use ike::supervise::{ConnId, Ended, State};

use super::PeerActor;
use super::command::Wait;
use crate::moves::Moved;
use crate::vocabulary::{Begin, Refusal};

/// How long a peer whose connection went to another node is left to that one, until it says that it has it. Nodes say so within a tenth
/// of a second, unless etcd elects a leader.
const GIVEN: Duration = Duration::from_secs(10);

/// How long what is for a peer still goes to the node that had its tunnel, when nobody says that it has one.
const LEAD: Duration = Duration::from_secs(1);

/// A connection of the peer that is another node's since a moment ago.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    at: Instant,
    /// It was here, and is not only said to be there.
    pub(super) by_us: bool,
    /// Some other node has said since that it has it.
    pub(super) is_told: bool,
}

impl Given {
    pub(super) fn now(by_us: bool) -> Self {
        Self { at: Instant::now(), by_us, is_told: false }
    }

    fn until(&self) -> Instant {
        self.at + GIVEN
    }
}

impl PeerActor {
    /// Goes on with a connection of another node. Its pairs are in the router, and leave it again if it does not go on.
    pub(super) fn take_over(&mut self, moved: Box<Moved>, ctx: &mut Context<Self>) {
        let Some(config) = self.config.clone().filter(|_| !self.leaving) else {
            return tracing::warn!(peer = %self.peer.name, "a tunnel of another node has no use here");
        };
        self.contested = self.given.take().is_some();
        let id = self.next_conn();
        self.history().begin(id, false, None);
        self.history().step(id, "comes from another node");
        if self.supervisor.state() == State::Waiting {
            // Whether it is up is said by the connection in a moment.
            self.supervisor.try_now();
        }
        self.spawn_connection(ctx, id, None, Begin::GoOn(moved, config));
        if self.conns.get(&id).is_some_and(|conn| conn.agreed.is_overtaken(self.peer.agreed())) {
            self.begin_anew(id);
        }
        self.settle(ctx);
    }

    /// A connection goes on at another node. Nobody is told, and nobody here begins with the peer.
    pub(super) fn connection_given(&mut self, ctx: &mut Context<Self>, id: ConnId, to: Option<u32>) {
        self.pairs_given(id);
        if let Some(mut conn) = self.conns.remove(&id)
            && std::mem::replace(&mut conn.down, true)
        {
            // It only waited for the peer to hear of its end, which was told here: nothing goes on elsewhere, and packets do not.
            self.lead();
            return self.leave(ctx);
        }
        (self.given, self.leads_to) = (Some(Given::now(true)), to);
        // One that only waited may have been given after this one.
        self.lead();
        self.replan();
        self.ended(id, Ended::ByUs);
        self.history().step(id, "goes on at another node");
        // Whoever waits asked for something of this connection, and asks again where it is.
        for wait in [Wait::Up, Wait::Down, Wait::IkeRekey, Wait::ChildRekey] {
            self.resolve(wait, Err(Refusal::Moved));
        }
        self.leave(ctx);
    }

    /// When what was given, or led elsewhere, is looked at again.
    pub(super) fn given_until(&self) -> Option<Instant> {
        self.given.as_ref().map(Given::until).into_iter().chain(self.lead_ends).min()
    }

    pub(super) fn given_due(&mut self) {
        let now = Instant::now();
        if self.lead_ends.is_some_and(|at| at <= now) {
            self.lead_ends = None;
            self.lead_to(None);
        }
        if self.given.is_some_and(|given| given.until() <= now) {
            self.given = None;
            self.replan();
            self.look_at_taken_down();
        }
    }

    /// Packets for the peer go to the node that has its tunnel, or that would begin with it.
    pub(super) fn lead_elsewhere(&mut self, node: &str) {
        let Some(cluster) = &self.env.others.0 else { return };
        let held;
        let node = if let Some(given) = &mut self.given {
            // Where one is that was given is known better than where it is at home, until somebody says that it has it. Should nobody say so any
            // more, it has gone on to where it is at home.
            held = self.env.homes.holder(self.peer.uid);
            given.is_told |= held.is_some();
            match &held {
                Some(node) => node.as_str(),
                None if given.is_told => node,
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

    pub(super) fn lead_to(&mut self, number: Option<u32>) {
        if std::mem::replace(&mut self.leads_to, number) != number {
            self.lead();
        }
    }

    /// Says so of each tunnel that the peer has now.
    pub(super) fn lead(&self) {
        let tenant = router::TenantId(self.peer.tenant);
        for tunnel in self.peer.tunnels() {
            self.env.router.set_elsewhere(tenant, tunnel, self.leads_to);
        }
    }
}
