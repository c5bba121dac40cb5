//! The actor at the top: follows the catalog and supervises the tenants' actors.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use tenants::{Change, ChangeKind, Object, Peer, Tenant};
use tokio::sync::{broadcast, oneshot};

use crate::alarm::Alarm;
use crate::env::NodeEnv;
use crate::homes::{HomeNews, Rehomed};
use crate::liveness::MustRun;
use crate::mailbox::{MAILBOX, deliver};
use crate::tenant::{PeerChange, RESTART_INTERVAL, RemoveTenant, SecretChange, TenantActor, TenantChange};
use crate::vocabulary::{Died, RehomeAll, ToPeer};

/// How long tunnels may take to say goodbye when the node stops. A peer that answers needs one round trip; one that
/// does not is not waited for longer.
const GOODBYE: Duration = Duration::from_secs(5);

/// The actor at the top.
pub(super) struct NodeActor {
    env: Arc<NodeEnv>,
    tenants: BTreeMap<u32, TenantSlot>,
    /// Of the catalog when it was last taken as it is.
    revision: u64,
    alarm: Alarm,
    /// Its end is the node's.
    _must_run: MustRun,
}

struct TenantSlot {
    addr: Addr<TenantActor>,
    /// When it was started.
    since: Instant,
    /// Its actor panicked: when it is started again.
    restart: Option<Instant>,
}

/// A change of the catalog.
#[derive(Message)]
#[rtype(result = "()")]
struct Changed(Change);

/// Changes were lost or not followed yet: take the catalog as it is.
#[derive(Message)]
#[rtype(result = "()")]
struct Resync;

/// Peers may be at home elsewhere.
#[derive(Message)]
#[rtype(result = "()")]
struct Rehome(Rehomed);

/// Close everything and say when done.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Stop(pub(super) oneshot::Sender<()>);

impl Actor for NodeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        // Subscribed before the first look, so that nothing falls between.
        let changes = self.env.catalog.subscribe();
        ctx.notify(Resync);
        actix::spawn(follow(changes, ctx.address()));
        if let Some(news) = self.env.homes.news() {
            actix::spawn(follow_homes(news, ctx.address()));
        }
    }
}

/// Hands changes on one by one, waiting for room: no change is lost, and a backlog ends in a resynchronisation.
async fn follow(mut changes: broadcast::Receiver<Change>, node: Addr<NodeActor>) {
    loop {
        let sent = match changes.recv().await {
            Ok(change) => node.send(Changed(change)).await,
            Err(broadcast::error::RecvError::Lagged(_)) => node.send(Resync).await,
            Err(broadcast::error::RecvError::Closed) => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

/// Hands on that peers may have moved.
async fn follow_homes(news: HomeNews, node: Addr<NodeActor>) {
    while node.send(Rehome(news.next().await)).await.is_ok() {}
}

impl NodeActor {
    pub(super) fn new(env: Arc<NodeEnv>, must_run: MustRun) -> Self {
        Self { env, tenants: BTreeMap::new(), revision: 0, alarm: Alarm::default(), _must_run: must_run }
    }

    /// The actor of a tenant, started if there is none.
    fn tenant(&mut self, tenant: &Arc<Tenant>, ctx: &Context<Self>) -> Addr<TenantActor> {
        let env = &self.env;
        let start = || {
            let (arbiter, me) = (u64::from(tenant.number), ctx.address().recipient());
            let actor = TenantActor::new(env.clone(), tenant.clone(), me);
            let addr = match env.arbiter(arbiter) {
                Some(arbiter) => TenantActor::start_in_arbiter(arbiter, move |_| actor),
                None => actor.start(),
            };
            TenantSlot { addr, since: Instant::now(), restart: None }
        };
        self.tenants.entry(tenant.number).or_insert_with(start).addr.clone()
    }

    /// Starts tenants again whose time has come, from what the catalog has now.
    fn restart(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let due = |slot: &TenantSlot| slot.restart.is_some_and(|at| at <= now);
        if self.tenants.values().any(due) {
            self.tenants.retain(|_, slot| !due(slot));
            ctx.notify(Resync);
        }
        let next = self.tenants.values().filter_map(|slot| slot.restart).min();
        self.alarm.set(ctx, next, Self::restart);
    }
}

impl Handler<Died> for NodeActor {
    type Result = ();

    /// A tenant's actor panicked, and its peers end with it. The other tenants do not notice; this one starts again.
    fn handle(&mut self, Died(number): Died, ctx: &mut Self::Context) {
        self.env.counters.panics.up();
        let Some((number, slot)) =
            u32::try_from(number).ok().and_then(|n| self.tenants.get_mut(&n).map(|slot| (n, slot)))
        else {
            return;
        };
        tracing::error!(tenant = number, "the actor of a tenant panicked and is started again");
        slot.restart = Some(Instant::now().max(slot.since + RESTART_INTERVAL));
        self.env.router.remove_tenant(router::TenantId(number));
        self.restart(ctx);
    }
}

impl Handler<Changed> for NodeActor {
    type Result = ();

    fn handle(&mut self, Changed(change): Changed, ctx: &mut Self::Context) {
        if change.revision <= self.revision {
            // It is in the snapshot. Carried out now, it would bring back what is gone, and strike out what came after.
            return;
        }
        // What the change leads to refers to the request that has made it.
        let author = change.author.traceparent.as_deref().and_then(|context| context.parse().ok());
        match (change.object, change.kind) {
            (Object::Tenant(tenant), ChangeKind::Deleted) => {
                if let Some(slot) = self.tenants.remove(&tenant.number) {
                    deliver(&slot.addr, RemoveTenant, &self.env.counters);
                }
            }
            (Object::Tenant(tenant), _) => {
                let addr = self.tenant(&tenant, ctx);
                deliver(&addr, TenantChange(tenant), &self.env.counters);
            }
            (Object::Peer(peer), kind) => {
                if kind == ChangeKind::Deleted {
                    self.env.board.forget(peer.uid);
                }
                if let Some(slot) = self.tenants.get(&peer.tenant) {
                    deliver(&slot.addr, PeerChange(kind, peer, author), &self.env.counters);
                }
            }
            (Object::Secret(secret), _) => {
                // Its users are all of one tenant.
                let users = self.env.catalog.users_of(&secret.name);
                if let Some(slot) = users.first().and_then(|user| self.tenants.get(&user.tenant)) {
                    deliver(&slot.addr, SecretChange(users), &self.env.counters);
                }
            }
            // For who calls the API, not for tunnels.
            (Object::Token(_), _) => {}
        }
    }
}

impl Handler<Rehome> for NodeActor {
    type Result = ();

    fn handle(&mut self, Rehome(which): Rehome, _: &mut Self::Context) {
        match which {
            Rehomed::All => {
                for slot in self.tenants.values() {
                    deliver(&slot.addr, RehomeAll, &self.env.counters);
                }
            }
            // A handful, however many there are.
            Rehomed::These(uids) => {
                for peer in uids.iter().filter_map(|uid| self.env.registry.uids.get(uid)) {
                    deliver(&peer.to, ToPeer::Rehome, &self.env.counters);
                }
            }
        }
    }
}

impl Handler<Resync> for NodeActor {
    type Result = ();

    fn handle(&mut self, _: Resync, ctx: &mut Self::Context) {
        let snapshot = self.env.catalog.snapshot();
        let before = std::mem::replace(&mut self.revision, snapshot.revision);
        let mut peers: HashMap<u32, Vec<Arc<Peer>>> = HashMap::new();
        for peer in snapshot.peers {
            peers.entry(peer.tenant).or_default().push(peer);
        }
        let there: HashSet<u32> = snapshot.tenants.iter().map(|tenant| tenant.number).collect();
        let env = &self.env;
        self.tenants.retain(|number, slot| {
            let stays = there.contains(number);
            if !stays {
                deliver(&slot.addr, RemoveTenant, &env.counters);
            }
            stays
        });
        for tenant in &snapshot.tenants {
            let addr = self.tenant(tenant, ctx);
            deliver(&addr, TenantChange(tenant.clone()), &self.env.counters);
            let peers = peers.remove(&tenant.number).unwrap_or_default();
            deliver(&addr, crate::tenant::Peers(peers), &self.env.counters);
        }
        if before > 0 {
            self.tell_secrets(before);
        }
    }
}

impl NodeActor {
    /// Peers whose secrets have changed since a revision: they have not, so nothing else tells of it.
    fn tell_secrets(&self, since: u64) {
        let mut users: HashMap<u32, Vec<Arc<Peer>>> = HashMap::new();
        for secret in self.env.catalog.secrets().iter().filter(|secret| secret.meta.revision > since) {
            for user in self.env.catalog.users_of(&secret.name) {
                users.entry(user.tenant).or_default().push(user);
            }
        }
        for (tenant, users) in users {
            if let Some(slot) = self.tenants.get(&tenant) {
                deliver(&slot.addr, SecretChange(users), &self.env.counters);
            }
        }
    }
}

impl Handler<Stop> for NodeActor {
    type Result = ();

    fn handle(&mut self, Stop(reply): Stop, ctx: &mut Self::Context) {
        for slot in std::mem::take(&mut self.tenants).into_values() {
            deliver(&slot.addr, RemoveTenant, &self.env.counters);
        }
        let env = self.env.clone();
        let goodbye = async move {
            // Peers leave the board when their last connection is gone.
            let all_gone = async {
                while !env.board.is_empty() {
                    actix::clock::sleep(Duration::from_millis(20)).await;
                }
            };
            if actix::clock::timeout(GOODBYE, all_gone).await.is_err() {
                tracing::warn!("some peers did not answer the delete");
            }
            // The node may have been dropped meanwhile; then there is nobody to tell.
            let _ = reply.send(());
        };
        ctx.spawn(goodbye.into_actor(self));
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<crate::vocabulary::Panic> for NodeActor {
    type Result = ();

    #[allow(clippy::panic)] // What it is for: tests see what follows.
    fn handle(&mut self, _: crate::vocabulary::Panic, _: &mut Self::Context) {
        panic!("injected into the actor of the node");
    }
}

/// Has a tenant's actor panic, to test what follows.
#[cfg(feature = "fault-injection")]
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct PanicTenant(pub(super) u32);

#[cfg(feature = "fault-injection")]
impl Handler<PanicTenant> for NodeActor {
    type Result = ();

    fn handle(&mut self, PanicTenant(number): PanicTenant, _: &mut Self::Context) {
        if let Some(slot) = self.tenants.get(&number) {
            deliver(&slot.addr, crate::vocabulary::Panic, &self.env.counters);
        }
    }
}
