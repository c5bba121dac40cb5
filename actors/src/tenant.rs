//! The actor of one tenant: its place in the router, and its peers, which it restarts when one fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use router::TenantId;
use tenants::{Auth, ChangeKind, Peer, SecretName, Tenant};

use crate::convert;
use crate::env::Env;
use crate::mailbox::{MAILBOX, deliver};
use crate::peer::{Configure, PeerActor, RemovePeer, SecretChanged};
use crate::watch::Died;

/// A peer whose actor panicked is started again at once, but not more often than this, so that one that panics as soon
/// as it starts does not spin.
const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// Supervises a tenant's peers.
pub(crate) struct TenantActor {
    env: Arc<Env>,
    tenant: Arc<Tenant>,
    peers: BTreeMap<u64, PeerSlot>,
}

struct PeerSlot {
    peer: Arc<Peer>,
    addr: Addr<PeerActor>,
    /// When it was started.
    since: Instant,
}

/// A peer of the tenant changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PeerChange(pub(crate) ChangeKind, pub(crate) Arc<Peer>);

/// All peers the tenant has now: those that are not among them are gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Peers(pub(crate) Vec<Arc<Peer>>);

/// A secret of the tenant changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SecretChange(pub(crate) SecretName);

/// The tenant itself changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TenantChange(pub(crate) Arc<Tenant>);

/// The tenant is deleted, or the node stops.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RemoveTenant;

impl TenantActor {
    pub(crate) fn new(env: Arc<Env>, tenant: Arc<Tenant>) -> Self {
        Self { env, tenant, peers: BTreeMap::new() }
    }

    /// Gives the tenant its uplink. Without it its tunnels cannot be installed, and the log says why.
    fn attach(&self) {
        let outcome = self.env.router.add_tenant(TenantId(self.tenant.number), convert::uplink(&self.tenant));
        if let Err(error) = outcome {
            tracing::error!(tenant = %self.tenant.name, %error, "the tenant has no uplink; its tunnels stay down");
        }
    }

    fn start_peer(&mut self, ctx: &mut Context<Self>, peer: Arc<Peer>) {
        let Some(arbiter) = self.env.arbiter(peer.uid) else { return };
        let (env, spec, me) = (self.env.clone(), peer.clone(), ctx.address().recipient());
        let addr = PeerActor::start_in_arbiter(arbiter, move |_| PeerActor::new(env, spec, me));
        self.peers.insert(peer.uid, PeerSlot { peer, addr, since: Instant::now() });
    }
}

impl Actor for TenantActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.attach();
    }
}

impl Handler<PeerChange> for TenantActor {
    type Result = ();

    fn handle(&mut self, PeerChange(kind, peer): PeerChange, ctx: &mut Self::Context) {
        match (kind, self.peers.get_mut(&peer.uid)) {
            (ChangeKind::Deleted, _) => {
                if let Some(slot) = self.peers.remove(&peer.uid) {
                    deliver(&slot.addr, RemovePeer, &self.env.counters);
                }
            }
            // After a resynchronisation the same state may come twice.
            (_, Some(slot)) if slot.peer.meta.revision >= peer.meta.revision => {}
            (_, Some(slot)) => {
                slot.peer = peer.clone();
                deliver(&slot.addr, Configure(peer), &self.env.counters);
            }
            (_, None) => self.start_peer(ctx, peer),
        }
    }
}

impl Handler<Peers> for TenantActor {
    type Result = ();

    fn handle(&mut self, Peers(peers): Peers, ctx: &mut Self::Context) {
        let stays = |uid: &u64| peers.iter().any(|p| p.uid == *uid);
        let gone: Vec<_> =
            self.peers.iter().filter(|(uid, _)| !stays(uid)).map(|(_, s)| s.peer.clone()).collect();
        for peer in gone {
            self.handle(PeerChange(ChangeKind::Deleted, peer), ctx);
        }
        for peer in peers {
            self.handle(PeerChange(ChangeKind::Updated, peer), ctx);
        }
    }
}

impl Handler<SecretChange> for TenantActor {
    type Result = ();

    fn handle(&mut self, SecretChange(name): SecretChange, _: &mut Self::Context) {
        for slot in self.peers.values() {
            let Auth::Psk(secret) = &slot.peer.spec.auth;
            if *secret == name {
                deliver(&slot.addr, SecretChanged, &self.env.counters);
            }
        }
    }
}

impl Handler<TenantChange> for TenantActor {
    type Result = ();

    fn handle(&mut self, TenantChange(tenant): TenantChange, ctx: &mut Self::Context) {
        let uplink_changed = self.tenant.spec.uplink != tenant.spec.uplink;
        self.tenant = tenant;
        if uplink_changed {
            tracing::warn!(tenant = %self.tenant.name, "the uplink changed; the tenant's tunnels start afresh");
            self.env.router.remove_tenant(TenantId(self.tenant.number));
            self.attach();
            for slot in std::mem::take(&mut self.peers).into_values() {
                deliver(&slot.addr, RemovePeer, &self.env.counters);
                self.start_peer(ctx, slot.peer);
            }
        }
    }
}

impl Handler<RemoveTenant> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: RemoveTenant, ctx: &mut Self::Context) {
        for slot in std::mem::take(&mut self.peers).into_values() {
            deliver(&slot.addr, RemovePeer, &self.env.counters);
        }
        self.env.router.remove_tenant(TenantId(self.tenant.number));
        ctx.stop();
    }
}

impl Handler<Died> for TenantActor {
    type Result = ();

    /// A peer's actor panicked. The others do not notice; this one starts again from its configuration.
    fn handle(&mut self, Died(uid): Died, ctx: &mut Self::Context) {
        self.env.counters.panics.up();
        let Some(slot) = self.peers.get(&uid) else { return };
        tracing::error!(peer = %slot.peer.name, "the actor of a peer panicked and is started again");
        let wait = RESTART_INTERVAL.saturating_sub(slot.since.elapsed());
        ctx.run_later(wait, move |this, ctx| {
            if let Some(slot) = this.peers.remove(&uid) {
                this.start_peer(ctx, slot.peer);
            }
        });
    }
}
