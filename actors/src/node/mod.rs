//! The node: router, arbiters, and the actor at the top.
//!
//! `mod.rs` starts and stops it; `actor.rs` follows the catalog.

mod actor;

use std::collections::HashSet;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use actix::ArbiterHandle;
use actix::prelude::*;
use router::{Router, RouterConfig, RouterError, RouterHandle};
use tenants::{Catalog, PeerName};
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::NodeConfig;
use crate::control::Control;
use crate::dispatch;
use crate::env::NodeEnv;
use crate::liveness::{Health, Liveness, Watchman};
use crate::reception::Doors;
use actor::{NodeActor, Stop};

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

/// How long the catalog's peers may take to get their actors when the node starts: some 4 µs for each. What the router
/// reports waits meanwhile.
const STAND: Duration = Duration::from_secs(10);

/// Waits until the catalog's peers have their actors. A peer that returns before its own stands would be refused as a
/// stranger, and there are implementations that do not try again after that.
pub(crate) async fn peers_stand(env: &NodeEnv) {
    let all = async {
        for peer in env.catalog.peers() {
            while !env.board.contains(&peer.name) {
                actix::clock::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    // Also of those who ask outside of the actors' system: it is the clock of tokio.
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
    gate: Arc<dispatch::Gate>,
    liveness: Liveness,
    watchman: Watchman,
    /// As of [`NodeConfig::recall`].
    recall: HashSet<PeerName>,
}

/// What the actors' thread gives back once it runs.
struct Started {
    env: Arc<NodeEnv>,
    addr: Addr<NodeActor>,
    /// Threads of receptions.
    receptions: Vec<ArbiterHandle>,
    system: System,
}

impl Node {
    /// Starts router and actors; tunnels of the catalog start at once.
    ///
    /// # Errors
    /// [`NodeError`]; nothing keeps running then.
    pub fn start(config: NodeConfig, router: RouterConfig, catalog: Arc<Catalog>) -> Result<Self, NodeError> {
        let (events, receiver) = mpsc::channel(dispatch::EVENTS);
        let waiting = events.downgrade();
        let (listen, recall) = (router.listen.clone(), config.recall.clone());
        let gate = Arc::new(dispatch::Gate::default());
        let open = gate.clone();
        let router = Router::start(RouterConfig { entrance: Some(gate.clone()), ..router }, events)?;
        let handle = router.handle();
        let raw_esp = listen.iter().all(|address| handle.has_raw_esp(*address));
        let (reply, started) = std::sync::mpsc::channel();
        let liveness = Liveness::default();
        let (alive, of_router) = (liveness.clone(), handle.clone());
        let thread = std::thread::Builder::new().name("actors".to_owned()).spawn(move || {
            let _must_run = alive.must_run("the actors' thread");
            // And so have all threads of actors, which this one starts.
            router::take_turns();
            let system = System::new();
            let (env, addr, receptions) = system.block_on(async {
                let arbiters = (0..config.arbiters.max(1)).map(|_| Arbiter::new().handle()).collect();
                let env = Arc::new(NodeEnv::new(
                    &config,
                    handle,
                    catalog,
                    raw_esp,
                    arbiters,
                    alive.clone(),
                    waiting,
                ));
                actix::spawn(watch_router(alive.clone(), of_router));
                let doors = Doors::open(&env);
                let receptions: Vec<_> = doors.threads().collect();
                let (ready, must_run) = (env.clone(), alive.must_run("the dispatcher"));
                actix::spawn(async move {
                    peers_stand(&ready).await;
                    dispatch::run(ready, doors, open, receiver).await;
                    drop(must_run);
                });
                let must_run = alive.must_run("the node's actor");
                let addr = NodeActor::new(env.clone(), must_run).start();
                (env, addr, receptions)
            });
            // The receiver waits right below.
            let _ = reply.send(Started { env, addr, receptions, system: System::current() });
            if let Err(error) = system.run() {
                tracing::error!(%error, "the actors' thread ended");
            }
        });
        let thread = thread.map_err(|e| NodeError::Thread(e.to_string()))?;
        let Started { env, addr, receptions, system } =
            started.recv().map_err(|e| NodeError::Thread(e.to_string()))?;
        let named = |kind: &'static str, threads: &[ArbiterHandle]| {
            let named = threads.iter().enumerate().map(|(n, thread)| (format!("{kind} {n}"), thread.clone()));
            named.collect::<Vec<_>>()
        };
        let mut all = named("arbiter", env.arbiters());
        all.extend(named("reception", &receptions));
        all.push(("the actors' thread".to_owned(), system.arbiter().clone()));
        let watchman = Watchman::start(liveness.clone(), all, &router.handle())
            .map_err(|e| NodeError::Thread(e.to_string()))?;
        let control = Control::new(env);
        Ok(Self { control, addr, system, thread, router, gate, liveness, watchman, recall })
    }

    /// What the API uses.
    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Whether everything runs that must. What has failed does not come back: the process is to end, so that whatever
    /// started it starts it again.
    pub fn health(&self) -> watch::Receiver<Health> {
        self.liveness.health()
    }

    /// The UDP ports of IKE and of NAT traversal, as the system gave them.
    pub fn ports(&self) -> (u16, u16) {
        let handle = self.router.handle();
        (handle.ike_port(), handle.natt_port())
    }

    /// Deletes all SAs, telling the peers, then stops everything. Returns the peers that were up, and those of [`NodeConfig::recall`] that were not
    /// yet, for that of the next start.
    pub async fn shutdown(self) -> Vec<PeerName> {
        self.liveness.stop();
        let up = self.control.peers_to_recall(&self.recall);
        let (reply, done) = oneshot::channel();
        if self.addr.send(Stop(reply)).await.is_ok() {
            // Bounded by the goodbye; an error means that the actor is gone, and there is nothing to wait for.
            let _ = done.await;
        }
        self.gate.shut();
        self.system.stop();
        let joined = tokio::task::spawn_blocking(move || {
            let joined = self.thread.join();
            self.router.shutdown();
            drop(self.watchman);
            joined
        });
        if !matches!(joined.await, Ok(Ok(()))) {
            tracing::error!("the actors' thread panicked");
        }
        up
    }

    /// The router, for its faults.
    #[cfg(feature = "fault-injection")]
    pub fn router(&self) -> RouterHandle {
        self.router.handle()
    }

    /// Makes a part of the node panic that is nobody's peer.
    #[cfg(feature = "fault-injection")]
    pub fn inject_panic(&self, part: &Part) -> bool {
        match part {
            Part::Node => self.addr.try_send(crate::vocabulary::Panic).is_ok(),
            Part::Tenant(number) => self.addr.try_send(actor::PanicTenant(*number)).is_ok(),
            Part::Dispatcher => self.control.fault(crate::fault::Fault::Dispatcher),
            Part::Reception => self.control.fault(crate::fault::Fault::Reception),
            Part::Adoption => self.control.fault(crate::fault::Fault::Adoption),
            Part::Router(thread) => {
                self.router.handle().inject_panic(*thread);
                true
            }
        }
    }
}

/// A part of the node that can be made to panic.
#[cfg(feature = "fault-injection")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The actor at the top.
    Node,
    /// The actor of the tenant with this number.
    Tenant(u32),
    /// What brings the router's events to actors.
    Dispatcher,
    /// What receives first messages.
    Reception,
    /// The actor of the next peer that is given a connection, before it takes it.
    Adoption,
    /// A thread of the router.
    Router(router::RouterThread),
}

/// The end of a thread of the router is the end of the node.
async fn watch_router(liveness: Liveness, router: RouterHandle) {
    let death = router.failed().await;
    liveness.fail(format!("{death}"));
}
