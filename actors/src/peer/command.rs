//! What a peer is asked for: by the API, and by changes of the configuration.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use ike::Command;
use tenants::Peer;
use tokio::sync::oneshot;

use super::PeerActor;
use crate::convert;
use crate::ike_sa::{Do, Reconfigure};
use crate::mailbox::deliver;

/// The outcome of a command: done, or why not.
pub(crate) type Outcome = Result<(), String>;

/// Commands of the API that wait for one peer. A client that asks more often is told to wait.
const MAX_WAITERS: usize = 64;

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    Up,
    Down,
    IkeRekey,
    ChildRekey,
    Child,
}

pub(super) struct Waiter {
    wait: Wait,
    reply: oneshot::Sender<Outcome>,
}

/// Start a negotiation unless the tunnel is up.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Initiate(pub(crate) oneshot::Sender<Outcome>);

/// Take the tunnel down.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Terminate(pub(crate) oneshot::Sender<Outcome>);

/// Rekey the IKE_SA, or the Child SA of a name, or all of them.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Rekey {
    pub(crate) target: crate::control::RekeyTarget,
    pub(crate) reply: oneshot::Sender<Outcome>,
}

/// The peer's configuration changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Configure(pub(crate) Arc<Peer>);

/// The value of a secret changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SecretChanged;

/// The peer is deleted, or the node stops: close everything and end.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RemovePeer;

impl PeerActor {
    fn wait(&mut self, wait: Wait, reply: oneshot::Sender<Outcome>) {
        if self.waiters.len() >= MAX_WAITERS {
            // The client may have gone away; then there is nobody to tell.
            let _ = reply.send(Err("too many commands wait for this peer".to_owned()));
            return;
        }
        self.waiters.push(Waiter { wait, reply });
    }

    /// Answers everybody who waits for this.
    pub(super) fn resolve(&mut self, wait: Wait, outcome: Outcome) {
        let (due, rest) = std::mem::take(&mut self.waiters).into_iter().partition(|w| w.wait == wait);
        self.waiters = rest;
        for waiter in due {
            // The client may have gone away; then there is nobody to tell.
            let _ = waiter.reply.send(outcome.clone());
        }
    }

    fn close_all(&mut self) {
        for conn in self.conns.values_mut().filter(|c| !c.down) {
            conn.closing = true;
            deliver(&conn.addr, Do(Command::Close), &self.env.counters);
        }
    }

    /// Whether running SAs would have been negotiated differently under the new configuration.
    fn needs_restart(&self, new: &Peer) -> bool {
        let (old, new) = (&self.peer.spec, &new.spec);
        let policies = |spec: &tenants::PeerSpec| -> Vec<_> {
            spec.children
                .iter()
                .map(|c| {
                    (
                        c.name.clone(),
                        c.local_subnets.clone(),
                        c.remote_subnets.clone(),
                        c.esp_proposals.clone(),
                        c.mode,
                    )
                })
                .collect()
        };
        old.local_identity != new.local_identity
            || old.remote_identity != new.remote_identity
            || old.remote_addresses != new.remote_addresses
            || old.auth != new.auth
            || old.ike.proposals != new.ike.proposals
            || policies(old) != policies(new)
    }
}

impl Handler<Initiate> for PeerActor {
    type Result = ();

    fn handle(&mut self, Initiate(reply): Initiate, ctx: &mut Self::Context) {
        let up = self.supervisor.current().is_some();
        let missing: Vec<Arc<str>> = self
            .peer
            .spec
            .children
            .iter()
            .filter(|child| !self.has_child(&child.name))
            .map(|child| child.name.as_str().into())
            .collect();
        match (up, missing.is_empty()) {
            (true, true) => {
                let _ = reply.send(Ok(()));
            }
            (true, false) => {
                self.wait(Wait::Child, reply);
                if let Some(conn) = self.supervisor.current().and_then(|id| self.conns.get(&id)) {
                    for name in missing {
                        deliver(&conn.addr, Do(Command::CreateChild(name)), &self.env.counters);
                    }
                }
            }
            (false, _) => {
                self.wait(Wait::Up, reply);
                if self.supervisor.try_now() {
                    self.start_connection(ctx);
                }
            }
        }
        self.arm(ctx);
        self.show();
    }
}

impl Handler<Terminate> for PeerActor {
    type Result = ();

    fn handle(&mut self, Terminate(reply): Terminate, ctx: &mut Self::Context) {
        self.supervisor.terminate();
        self.drop_held();
        if self.conns.values().any(|c| !c.down) {
            self.wait(Wait::Down, reply);
            self.close_all();
        } else {
            let _ = reply.send(Ok(()));
        }
        self.arm(ctx);
        self.show();
    }
}

impl Handler<Rekey> for PeerActor {
    type Result = ();

    fn handle(&mut self, Rekey { target, reply }: Rekey, _: &mut Self::Context) {
        use crate::control::RekeyTarget;
        let Some(id) = self.supervisor.current() else {
            let _ = reply.send(Err("the tunnel is not up".to_owned()));
            return;
        };
        let name = match &target {
            RekeyTarget::Ike => {
                self.wait(Wait::IkeRekey, reply);
                if let Some(conn) = self.conns.get(&id) {
                    deliver(&conn.addr, Do(Command::RekeyIke), &self.env.counters);
                }
                return;
            }
            RekeyTarget::Children => None,
            RekeyTarget::Child(name) => Some(name.as_str()),
        };
        let pairs = self.pairs(name);
        if pairs.is_empty() {
            let _ = reply.send(Err("there is no such Child SA".to_owned()));
            return;
        }
        self.wait(Wait::ChildRekey, reply);
        for (spi, conn, _) in pairs {
            if let Some(conn) = self.conns.get(&conn) {
                deliver(&conn.addr, Do(Command::RekeyChild(spi)), &self.env.counters);
            }
        }
    }
}

impl Handler<Configure> for PeerActor {
    type Result = ();

    fn handle(&mut self, Configure(peer): Configure, ctx: &mut Self::Context) {
        let restart = self.needs_restart(&peer);
        self.peer = peer;
        self.config = convert::peer_config(&self.env.catalog, self.env.raw_esp, &self.peer).map(Arc::new);
        self.register(ctx.address());
        tracing::info!(peer = %self.peer.name, restart, "configuration changed");
        let plan = super::jittered_plan(&self.peer);
        if restart {
            self.close_all();
        } else if let Some(config) = &self.config {
            for conn in self.conns.values() {
                deliver(&conn.addr, Reconfigure(self.peer.clone(), config.clone()), &self.env.counters);
            }
        }
        self.supervisor.set_plan(Instant::now(), plan);
        self.arm(ctx);
        self.show();
    }
}

impl Handler<SecretChanged> for PeerActor {
    type Result = ();

    /// Running SAs stay: a key authenticates only the start of a connection.
    fn handle(&mut self, _: SecretChanged, ctx: &mut Self::Context) {
        self.config = convert::peer_config(&self.env.catalog, self.env.raw_esp, &self.peer).map(Arc::new);
        self.register(ctx.address());
    }
}

impl Handler<RemovePeer> for PeerActor {
    type Result = ();

    fn handle(&mut self, _: RemovePeer, ctx: &mut Self::Context) {
        self.leaving = true;
        self.env.registry.remove_peer(&self.peer.name);
        self.close_all();
        self.leave(ctx);
    }
}

/// Panics, to test what follows.
#[cfg(feature = "fault-injection")]
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct InjectPanic {
    /// In the actor of the peer's connection rather than in its own.
    pub(crate) connection: bool,
}

#[cfg(feature = "fault-injection")]
impl Handler<InjectPanic> for PeerActor {
    type Result = ();

    #[allow(clippy::panic)]
    fn handle(&mut self, InjectPanic { connection }: InjectPanic, _: &mut Self::Context) {
        if !connection {
            panic!("injected into the actor of {}", self.peer.name);
        }
        for conn in self.conns.values() {
            deliver(&conn.addr, crate::ike_sa::InjectPanic, &self.env.counters);
        }
    }
}
