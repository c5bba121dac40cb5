//! Packets that want the tunnel up: ours that wait for an SA, and the peer's that nobody here can open.

use std::time::{Duration, Instant};

use actix::prelude::*;
use ike::Command;
use ike::supervise::{Demand, State};
use router::{TenantId, TunnelId};

use super::PeerActor;
use crate::mailbox::deliver;
use crate::vocabulary::Do;

/// A peer is woken this often at most, and by one message: whoever forges ESP from its address gains no more than that.
const WAKE_INTERVAL: Duration = Duration::from_secs(10);

impl PeerActor {
    /// Whether the connection in use has a pair of this child. One that only lingers does not count: its pairs go with it.
    pub(super) fn has_child(&self, name: &str) -> bool {
        let current = self.supervisor.current();
        self.children.values().any(|child| Some(child.conn) == current && child.view.name == name)
    }

    /// No SA will come: packets that wait for one are dropped.
    pub(super) fn drop_held(&self) {
        for tunnel in self.peer.tunnels() {
            self.env.router.drop_held(TenantId(self.peer.tenant), tunnel);
        }
    }

    /// A packet waits for an SA of this tunnel.
    pub(super) fn wanted(&mut self, tunnel: TunnelId, ctx: &mut Context<Self>) {
        let Some(child) = self.peer.child_of_tunnel(tunnel).filter(|_| !self.leaving) else {
            return self.env.router.drop_held(TenantId(self.peer.tenant), tunnel);
        };
        match self.supervisor.wanted(Instant::now()) {
            Demand::Connect => {
                tracing::info!(peer = %self.peer.name, child = %child.name, "a packet wants the tunnel up");
                self.start_connection(ctx);
            }
            Demand::Child(id) if !self.has_child(&child.name) => {
                if let Some(conn) = self.conns.get(&id) {
                    let create = Do(Command::CreateChild(child.name.as_str().into()));
                    deliver(&conn.addr, create, &self.env.counters);
                }
            }
            Demand::Child(_) | Demand::Pending => {}
            Demand::Refused => self.env.router.drop_held(TenantId(self.peer.tenant), tunnel),
        }
        self.settle(ctx);
    }

    /// The peer uses SAs that are not here. Nor does anything begin here while it is up at another node: anybody can send a packet with its
    /// address, and the peer would take what begins for the end of what it has.
    pub(super) fn wake(&mut self, ctx: &mut Context<Self>) {
        if self.is_had_elsewhere() {
            return;
        }
        let now = Instant::now();
        let early = self.woken.is_some_and(|at| now < at + WAKE_INTERVAL);
        if self.supervisor.state() == State::Waiting && !early && !self.leaving {
            self.woken = Some(now);
            tracing::info!(peer = %self.peer.name, "the peer uses SAs that are not here; starting afresh");
            if self.supervisor.try_now() {
                self.start_connection_once(ctx);
            }
            self.settle(ctx);
        }
    }
}
