//! The actor of one tenant: its place in the router, and its peers, which it restarts when one fails.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::prelude::*;
use router::TenantId;
use tenants::{ChangeKind, Peer, RuleAction, Tenant};

use crate::alarm::Alarm;
use crate::convert;
use crate::env::{NodeEnv, Uplink};
use crate::mailbox::{MAILBOX, deliver};
use crate::numbered::Numbered;
use crate::peer::PeerActor;
use crate::policy;
use crate::span::SpanContext;
use crate::table::{Registration, Turn};
use crate::vocabulary::{Configure, Died, RehomeAll, RemovePeer, SecretChanged, ToPeer};
use crate::watch::DeathWatch;

/// A peer whose actor panicked is started again at once, but not more often than this, so that one that panics as soon
/// as it starts does not spin.
pub(crate) const RESTART_INTERVAL: Duration = Duration::from_secs(1);

/// Supervises a tenant's peers.
pub(crate) struct TenantActor {
    env: Arc<NodeEnv>,
    tenant: Arc<Tenant>,
    peers: BTreeMap<u64, PeerSlot>,
    alarm: Alarm,
    /// Its place among the uplinks.
    _uplink: Registration<u32, Uplink>,
    /// Of the node's actor.
    watch: DeathWatch<Died>,
}

struct PeerSlot {
    peer: Arc<Numbered>,
    /// None yet where the peer has just come.
    actor: Option<Started>,
    /// Its actor panicked: when it is started again.
    restart: Option<Instant>,
}

/// The actor of a peer.
struct Started {
    addr: Addr<PeerActor>,
    since: Instant,
}

impl Drop for Started {
    fn drop(&mut self) {
        // Deleted, replaced, or the tenant's actor ends, perhaps by a panic: in any case nobody supervises it any more, and one that did not
        // hear of it would go on for ever.
        #[allow(clippy::disallowed_methods, reason = "once in the life of an actor, which is the bound")]
        self.addr.do_send(RemovePeer);
    }
}

/// A peer of the tenant changed, by a request in this span.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct PeerChange(pub(crate) ChangeKind, pub(crate) Arc<Peer>, pub(crate) Option<SpanContext>);

/// All peers the tenant has now: those that are not among them are gone.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Peers(pub(crate) Vec<Arc<Peer>>);

/// A secret of these peers of the tenant changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct SecretChange(pub(crate) Vec<Arc<Peer>>);

/// The tenant itself changed.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct TenantChange(pub(crate) Arc<Tenant>);

/// The tenant is deleted, or the node stops.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct RemoveTenant;

impl TenantActor {
    pub(crate) fn new(env: Arc<NodeEnv>, tenant: Arc<Tenant>, supervisor: Recipient<Died>) -> Self {
        let watch = DeathWatch::new(u64::from(tenant.number), supervisor);
        let place = Uplink { name: tenant.name.clone(), since: SystemTime::now() };
        let uplink = env.uplinks.register(tenant.number, Turn::next(), place);
        Self { env, tenant, peers: BTreeMap::new(), alarm: Alarm::default(), _uplink: uplink, watch }
    }

    /// Gives the tenant its uplink. Without it its tunnels cannot be installed, and the log says why.
    fn attach(&self) {
        let outcome = self.env.router.add_tenant(TenantId(self.tenant.number), convert::uplink(&self.tenant));
        if let Err(error) = outcome {
            tracing::error!(tenant = %self.tenant.name, %error, "the tenant has no uplink; its tunnels stay down");
            return;
        }
        self.set_limits();
        self.set_policy();
    }

    /// Tells the router how much may pass.
    fn set_limits(&self) {
        let limits = convert::limits(&self.tenant.spec.quotas);
        if let Err(error) = self.env.router.set_limits(TenantId(self.tenant.number), limits) {
            tracing::error!(tenant = %self.tenant.name, %error, "the router does not take the limits");
        }
    }

    /// Gives the router the tenant's rules, which name tunnels by the peers that are there.
    fn set_policy(&self) {
        let peers = self.peers.values().map(|slot| &slot.peer);
        let Some(policy) = policy::policy(&self.tenant.spec.policy, peers) else {
            tracing::error!(tenant = %self.tenant.name, "more rules than the router takes; the old ones stay");
            return;
        };
        if let Err(error) = self.env.router.set_policy(TenantId(self.tenant.number), policy) {
            tracing::error!(tenant = %self.tenant.name, %error, "the router does not take the policy");
        }
    }

    /// A peer is there, changed or gone. The router knows of it from here on: of its tunnels, before anybody says where they are, and by the
    /// rules that name it, which are made of what is in the map.
    fn set_peer(&mut self, uid: u64, new: Option<&Arc<Numbered>>) {
        let old = match (new, self.peers.get_mut(&uid)) {
            (Some(new), Some(slot)) => {
                // Its actor goes on.
                let (actor, restart) = (slot.actor.take(), slot.restart);
                Some(std::mem::replace(slot, PeerSlot { peer: new.clone(), actor, restart }))
            }
            (Some(new), None) => {
                self.peers.insert(uid, PeerSlot { peer: new.clone(), actor: None, restart: None })
            }
            (None, _) => self.peers.remove(&uid),
        };
        let (old, new) = (old.as_ref().map(|slot| &*slot.peer), new.map(|new| &**new));
        self.declare(new);
        let tenant = TenantId(self.tenant.number);
        let kept: Vec<_> = new.into_iter().flat_map(Numbered::tunnels).collect();
        for tunnel in old.into_iter().flat_map(Numbered::tunnels).filter(|tunnel| !kept.contains(tunnel)) {
            self.env.router.undeclare_tunnel(tenant, tunnel);
        }
        let named = |peer: &Numbered| {
            self.tenant.spec.policy.rules.iter().any(|rule| match &rule.action {
                RuleAction::Protect(Some(target)) => target.peer == peer.name,
                _ => false,
            })
        };
        if old.or(new).is_some_and(named) {
            self.set_policy();
        }
    }

    /// Tells the router what of a peer's traffic is protected.
    fn declare(&self, peer: Option<&Numbered>) {
        for config in peer.into_iter().flat_map(policy::declarations) {
            if let Err(error) = self.env.router.declare_tunnel(config) {
                tracing::debug!(tenant = %self.tenant.name, %error, "a tunnel without a place in the router");
            }
        }
    }

    /// Starts the actor of a peer that is in the map, so that the router knows of it.
    fn start_peer(&mut self, ctx: &mut Context<Self>, uid: u64, recall: bool, author: Option<SpanContext>) {
        let (Some(arbiter), Some(slot)) = (self.env.arbiter(uid), self.peers.get_mut(&uid)) else { return };
        let (env, spec, me) = (self.env.peer.clone(), slot.peer.clone(), ctx.address().recipient());
        // Taken here: the peer of the same name that was before may be on another thread, and start later there.
        let turn = Turn::next();
        let addr = PeerActor::start_in_arbiter(arbiter, move |_| {
            PeerActor::new(env, spec, turn, (recall, author), me)
        });
        // In the place of the actor before, if there was one, which leaves.
        (slot.actor, slot.restart) = (Some(Started { addr, since: Instant::now() }), None);
    }

    fn tell<M>(&self, uid: u64, message: M)
    where
        M: Message<Result = ()> + Send + 'static,
        PeerActor: Handler<M>,
    {
        if let Some(actor) = self.peers.get(&uid).and_then(|slot| slot.actor.as_ref()) {
            deliver(&actor.addr, message, &self.env.counters);
        }
    }

    /// Starts peers again whose time has come.
    fn restart(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let due = self.peers.iter().filter(|(_, slot)| slot.restart.is_some_and(|at| at <= now));
        for uid in due.map(|(uid, _)| *uid).collect::<Vec<_>>() {
            // Nobody knows any more whether it was up.
            self.start_peer(ctx, uid, true, None);
        }
        let next = self.peers.values().filter_map(|slot| slot.restart).min();
        self.alarm.set(ctx, next, Self::restart);
    }
}

impl Actor for TenantActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.attach();
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        self.watch.disarm();
        Running::Stop
    }
}

impl Handler<PeerChange> for TenantActor {
    type Result = ();

    fn handle(&mut self, PeerChange(kind, peer, author): PeerChange, ctx: &mut Self::Context) {
        let uid = peer.uid;
        match (kind, self.peers.get(&uid)) {
            (ChangeKind::Deleted, _) => self.set_peer(uid, None),
            // After a resynchronisation the same state may come twice.
            (_, Some(slot)) if slot.peer.meta.revision >= peer.meta.revision => {}
            (_, Some(slot)) => {
                let peer = slot.peer.with(peer);
                self.set_peer(uid, Some(&peer));
                self.tell(uid, Configure(peer, author));
            }
            (_, None) => {
                let recall = self.env.was_up_at_stop(&peer.name);
                self.set_peer(uid, Some(&Numbered::new(peer)));
                self.start_peer(ctx, uid, recall, author);
            }
        }
    }
}

impl Handler<Peers> for TenantActor {
    type Result = ();

    fn handle(&mut self, Peers(peers): Peers, ctx: &mut Self::Context) {
        let there: HashSet<u64> = peers.iter().map(|peer| peer.uid).collect();
        let gone: Vec<_> = self
            .peers
            .iter()
            .filter(|(uid, _)| !there.contains(uid))
            .map(|(_, slot)| slot.peer.configured().clone())
            .collect();
        for peer in gone {
            self.handle(PeerChange(ChangeKind::Deleted, peer, None), ctx);
        }
        for peer in peers {
            self.handle(PeerChange(ChangeKind::Updated, peer, None), ctx);
        }
    }
}

impl Handler<RehomeAll> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: RehomeAll, _: &mut Self::Context) {
        for uid in self.peers.keys() {
            self.tell(*uid, ToPeer::Rehome);
        }
    }
}

impl Handler<SecretChange> for TenantActor {
    type Result = ();

    fn handle(&mut self, SecretChange(users): SecretChange, _: &mut Self::Context) {
        for user in &users {
            self.tell(user.uid, SecretChanged);
        }
    }
}

impl Handler<TenantChange> for TenantActor {
    type Result = ();

    fn handle(&mut self, TenantChange(tenant): TenantChange, ctx: &mut Self::Context) {
        let uplink_changed = self.tenant.spec.uplink != tenant.spec.uplink;
        let policy_changed = self.tenant.spec.policy != tenant.spec.policy;
        let limits = |tenant: &Tenant| convert::limits(&tenant.spec.quotas);
        let limits_changed = limits(&self.tenant) != limits(&tenant);
        self.tenant = tenant;
        if uplink_changed {
            tracing::warn!(tenant = %self.tenant.name, "the uplink changed; the tenant's tunnels start afresh");
            self.env.router.remove_tenant(TenantId(self.tenant.number));
            self.attach();
            for peer in self.peers.values().map(|slot| slot.peer.clone()).collect::<Vec<_>>() {
                let was_up = self.env.board.get(&peer.name).is_some_and(|view| view.ike.is_some());
                self.declare(Some(&peer));
                self.start_peer(ctx, peer.uid, was_up, None);
            }
            return;
        }
        if policy_changed {
            tracing::info!(tenant = %self.tenant.name, "the policy changed");
            self.set_policy();
        }
        if limits_changed {
            tracing::info!(tenant = %self.tenant.name, "the limits changed");
            self.set_limits();
        }
    }
}

impl Handler<RemoveTenant> for TenantActor {
    type Result = ();

    fn handle(&mut self, _: RemoveTenant, ctx: &mut Self::Context) {
        self.peers.clear();
        self.env.router.remove_tenant(TenantId(self.tenant.number));
        self.env.liveness.uplink(&self.tenant.name, true);
        ctx.stop();
    }
}

impl Handler<Died> for TenantActor {
    type Result = ();

    /// A peer's actor panicked. The others do not notice; this one starts again from its configuration.
    fn handle(&mut self, Died(uid): Died, ctx: &mut Self::Context) {
        self.env.counters.panics.up();
        let Some(slot) = self.peers.get_mut(&uid) else { return };
        tracing::error!(peer = %slot.peer.name, "the actor of a peer panicked and is started again");
        let now = Instant::now();
        slot.restart = Some(slot.actor.as_ref().map_or(now, |actor| now.max(actor.since + RESTART_INTERVAL)));
        self.restart(ctx);
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<crate::vocabulary::Panic> for TenantActor {
    type Result = ();

    #[allow(clippy::panic)] // What it is for: tests see what follows.
    fn handle(&mut self, _: crate::vocabulary::Panic, _: &mut Self::Context) {
        panic!("injected into the actor of {}", self.tenant.name);
    }
}
