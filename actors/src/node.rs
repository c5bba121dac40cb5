//! The node: router, arbiters, and the actor at the top, which follows the catalog.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix::prelude::*;
use router::{Router, RouterConfig, RouterError};
use tenants::{Catalog, Change, ChangeKind, Object, Tenant};
use tokio::sync::{broadcast, mpsc, oneshot};

use crate::config::NodeConfig;
use crate::control::Control;
use crate::dispatch;
use crate::env::NodeEnv;
use crate::mailbox::{MAILBOX, deliver};
use crate::tenant::{PeerChange, RemoveTenant, SecretChange, TenantActor, TenantChange};

/// Why a node cannot start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The router cannot: a port in use, an address not of this machine.
    #[error(transparent)]
    Router(#[from] RouterError),
    /// The thread of the actors.
    #[error("cannot start the actors' thread: {0}")]
    Thread(String),
}

/// How long tunnels may take to say goodbye when the node stops. A peer that answers needs one round trip; one that
/// does not is not waited for longer.
const GOODBYE: Duration = Duration::from_secs(5);

/// How long the catalog's peers may take to get their actors when the node starts: some 4 µs for each. What the router
/// reports waits meanwhile.
const STAND: Duration = Duration::from_secs(10);

/// Waits until the catalog's peers have their actors. A peer that returns before its own stands would be refused as a
/// stranger, and there are implementations that do not try again after that.
async fn peers_stand(env: &NodeEnv) {
    let all = async {
        for peer in env.catalog.peers() {
            while !env.board.contains(&peer.name) {
                actix::clock::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    if actix::clock::timeout(STAND, all).await.is_err() {
        tracing::warn!("some peers have no actor yet");
    }
}

/// A running node. Dropping it does not stop it; [`Node::shutdown`] does.
pub struct Node {
    control: Control,
    addr: Addr<NodeActor>,
    system: System,
    thread: JoinHandle<()>,
    router: Router,
}

impl Node {
    /// Starts router and actors; tunnels of the catalog start at once.
    ///
    /// # Errors
    /// [`NodeError`]; nothing keeps running then.
    pub fn start(config: NodeConfig, router: RouterConfig, catalog: Arc<Catalog>) -> Result<Self, NodeError> {
        let (events, receiver) = mpsc::channel(dispatch::EVENTS);
        let listen = router.listen.clone();
        let router = Router::start(router, events)?;
        let handle = router.handle();
        let raw_esp = listen.iter().all(|address| handle.has_raw_esp(*address));
        let (reply, started) = std::sync::mpsc::channel();
        let thread = std::thread::Builder::new().name("actors".to_owned()).spawn(move || {
            let system = System::new();
            let node = system.block_on(async {
                let arbiters = (0..config.arbiters.max(1)).map(|_| Arbiter::new().handle()).collect();
                let env = Arc::new(NodeEnv::new(&config, handle, catalog, raw_esp, arbiters));
                let receptions = dispatch::receptions(&env);
                let ready = env.clone();
                actix::spawn(async move {
                    peers_stand(&ready).await;
                    dispatch::run(ready, receptions, receiver).await;
                });
                let addr = NodeActor { env: env.clone(), tenants: BTreeMap::new() }.start();
                (env, addr)
            });
            // The receiver waits right below.
            let _ = reply.send((node.0, node.1, System::current()));
            if let Err(error) = system.run() {
                tracing::error!(%error, "the actors' thread ended");
            }
        });
        let thread = thread.map_err(|e| NodeError::Thread(e.to_string()))?;
        let (env, addr, system) = started.recv().map_err(|e| NodeError::Thread(e.to_string()))?;
        Ok(Self { control: Control::new(env), addr, system, thread, router })
    }

    /// What the API uses.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// The UDP ports of IKE and of NAT traversal, as the system gave them.
    pub fn ports(&self) -> (u16, u16) {
        let handle = self.router.handle();
        (handle.ike_port(), handle.natt_port())
    }

    /// Deletes all SAs, telling the peers, then stops everything.
    pub async fn shutdown(self) {
        let (reply, done) = oneshot::channel();
        if self.addr.send(Stop(reply)).await.is_ok() {
            // Bounded by `GOODBYE`; an error means that the actor is gone, and there is nothing to wait for.
            let _ = done.await;
        }
        self.system.stop();
        let joined = tokio::task::spawn_blocking(move || {
            let joined = self.thread.join();
            self.router.shutdown();
            joined
        });
        if !matches!(joined.await, Ok(Ok(()))) {
            tracing::error!("the actors' thread panicked");
        }
    }
}

/// The actor at the top.
struct NodeActor {
    env: Arc<NodeEnv>,
    tenants: BTreeMap<u32, Addr<TenantActor>>,
}

/// A change of the catalog.
#[derive(Message)]
#[rtype(result = "()")]
struct Changed(Change);

/// Changes were lost or not followed yet: take the catalog as it is.
#[derive(Message)]
#[rtype(result = "()")]
struct Resync;

/// Close everything and say when done.
#[derive(Message)]
#[rtype(result = "()")]
struct Stop(oneshot::Sender<()>);

impl Actor for NodeActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        // Subscribed before the first look, so that nothing falls between.
        let changes = self.env.catalog.subscribe();
        ctx.notify(Resync);
        actix::spawn(follow(changes, ctx.address()));
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

impl NodeActor {
    fn tenant(&mut self, tenant: &Arc<Tenant>) -> Addr<TenantActor> {
        let env = &self.env;
        let start = || {
            let (actor, arbiter) = (TenantActor::new(env.clone(), tenant.clone()), u64::from(tenant.number));
            match env.arbiter(arbiter) {
                Some(arbiter) => TenantActor::start_in_arbiter(arbiter, move |_| actor),
                None => actor.start(),
            }
        };
        self.tenants.entry(tenant.number).or_insert_with(start).clone()
    }
}

impl Handler<Changed> for NodeActor {
    type Result = ();

    fn handle(&mut self, Changed(change): Changed, _: &mut Self::Context) {
        match (change.object, change.kind) {
            (Object::Tenant(tenant), ChangeKind::Deleted) => {
                if let Some(addr) = self.tenants.remove(&tenant.number) {
                    deliver(&addr, RemoveTenant, &self.env.counters);
                }
            }
            (Object::Tenant(tenant), _) => {
                let addr = self.tenant(&tenant);
                deliver(&addr, TenantChange(tenant), &self.env.counters);
            }
            (Object::Peer(peer), kind) => {
                if let Some(addr) = self.tenants.get(&peer.tenant) {
                    deliver(addr, PeerChange(kind, peer), &self.env.counters);
                }
            }
            (Object::Secret(secret), _) => {
                for addr in self.tenants.values() {
                    deliver(addr, SecretChange(secret.name.clone()), &self.env.counters);
                }
            }
        }
    }
}

impl Handler<Resync> for NodeActor {
    type Result = ();

    fn handle(&mut self, _: Resync, _: &mut Self::Context) {
        let snapshot = self.env.catalog.snapshot();
        let gone: Vec<u32> = self
            .tenants
            .keys()
            .filter(|&&number| !snapshot.tenants.iter().any(|t| t.number == number))
            .copied()
            .collect();
        for number in gone {
            if let Some(addr) = self.tenants.remove(&number) {
                deliver(&addr, RemoveTenant, &self.env.counters);
            }
        }
        for tenant in &snapshot.tenants {
            let addr = self.tenant(tenant);
            deliver(&addr, TenantChange(tenant.clone()), &self.env.counters);
            let peers: Vec<_> =
                snapshot.peers.iter().filter(|p| p.tenant == tenant.number).cloned().collect();
            deliver(&addr, crate::tenant::Peers(peers), &self.env.counters);
        }
    }
}

impl Handler<Stop> for NodeActor {
    type Result = ();

    fn handle(&mut self, Stop(reply): Stop, ctx: &mut Self::Context) {
        for addr in std::mem::take(&mut self.tenants).into_values() {
            deliver(&addr, RemoveTenant, &self.env.counters);
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
