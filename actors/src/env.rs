//! What actors share, cut by what each may touch: an actor of an SA cannot reach the events, a peer's cannot reach the
//! strangers. Each cut contains the one below it.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use actix::ArbiterHandle;
use router::{RouterEvent, RouterHandle};
use tenants::{Catalog, PeerName, TenantName};
use tokio::sync::mpsc;

use crate::awaited::Awaited;
use crate::config::NodeConfig;
use crate::counters::{Counters, Gauge};
use crate::early::Early;
use crate::events::EventHub;
use crate::history::Strangers;
use crate::homes::Homes;
use crate::key_log::KeyLog;
use crate::liveness::Liveness;
use crate::moves::Others;
use crate::outcomes::Outcomes;
use crate::registry::Registry;
use crate::resolver::Resolver;
use crate::span::SpanSink;
use crate::status::Board;
use crate::sums::Sums;
use crate::table::Table;

/// For the actor of a Child SA.
pub(crate) struct ChildEnv {
    pub(crate) router: RouterHandle,
    pub(crate) registry: Registry,
    /// What the router says of pairs that have no actor yet.
    pub(crate) early: Early,
    /// What peers say to connections that are on their way here.
    pub(crate) awaited: Awaited,
    pub(crate) counters: Counters,
    pub(crate) outcomes: Outcomes,
}

/// For whoever negotiates.
pub(crate) struct ConnEnv {
    pub(crate) child: Arc<ChildEnv>,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) board: Board,
    pub(crate) sums: tokio::sync::Mutex<Sums>,
    /// Of a node that is alone; in every SPI.
    slot: u8,
    /// The other nodes, if there are any.
    pub(crate) others: Others,
    /// Only where somebody has asked for it.
    pub(crate) key_log: Option<Arc<KeyLog>>,
    /// Where the spans of negotiations go, if anywhere.
    pub(crate) spans: Option<Arc<dyn SpanSink>>,
    /// Negotiations that are being told.
    pub(crate) stories: Gauge,
    /// Negotiations that peers have begun and that nobody has taken on yet, by slot.
    begun: Vec<Gauge>,
}

/// For the actor of a peer.
pub(crate) struct PeerEnv {
    pub(crate) conn: Arc<ConnEnv>,
    pub(crate) hub: EventHub,
    /// Ports of peers: of IKE, and for NAT traversal.
    pub(crate) remote_ports: (u16, u16),
    pub(crate) resolver: Arc<Resolver>,
    /// ESP can go without UDP at all our addresses.
    pub(crate) raw_esp: bool,
    /// Which peers another node begins with.
    pub(crate) homes: Homes,
}

/// For the actors of tenants and of the node, and for those at its doors.
pub(crate) struct NodeEnv {
    pub(crate) peer: Arc<PeerEnv>,
    pub(crate) strangers: Strangers,
    pub(crate) started: SystemTime,
    /// Negotiations that peers have begun, as long as nobody knows who they are.
    pub(crate) half_open: Gauge,
    pub(crate) liveness: Liveness,
    /// Of the router to the dispatcher, to see how full it is.
    pub(crate) events: mpsc::WeakSender<RouterEvent>,
    /// By the tenant's number.
    pub(crate) uplinks: Table<u32, Uplink>,
    arbiters: Vec<ArbiterHandle>,
    /// Peers that were up when the node was stopped last. Each is called back once.
    recall: Mutex<HashSet<PeerName>>,
    #[cfg(feature = "fault-injection")]
    pub(crate) faults: crate::fault::Faults,
}

/// Of a running tenant.
#[derive(Clone)]
pub(crate) struct Uplink {
    pub(crate) name: TenantName,
    /// Since when it is as it is.
    pub(crate) since: SystemTime,
}

impl NodeEnv {
    pub(crate) fn new(
        config: &NodeConfig,
        router: RouterHandle,
        catalog: Arc<Catalog>,
        raw_esp: bool,
        arbiters: Vec<ArbiterHandle>,
        liveness: Liveness,
        events: mpsc::WeakSender<RouterEvent>,
    ) -> Self {
        let resolver = Arc::new(Resolver::new(config.lookup.clone(), catalog.clone()));
        let child = ChildEnv {
            router,
            registry: Registry::default(),
            early: Early::default(),
            awaited: Awaited::default(),
            counters: Counters::default(),
            outcomes: Outcomes::default(),
        };
        let conn = ConnEnv {
            child: Arc::new(child),
            catalog,
            board: Board::default(),
            sums: tokio::sync::Mutex::default(),
            slot: config.slot,
            others: config.others.clone(),
            key_log: config.key_log.clone(),
            spans: config.spans.clone(),
            stories: Gauge::default(),
            begun: std::iter::repeat_with(Gauge::default).take(SLOTS).collect(),
        };
        let peer = PeerEnv {
            conn: Arc::new(conn),
            hub: EventHub::default(),
            remote_ports: (config.remote_ike_port, config.remote_natt_port),
            resolver,
            raw_esp,
            homes: config.homes.clone(),
        };
        Self {
            peer: Arc::new(peer),
            strangers: Strangers::default(),
            started: SystemTime::now(),
            half_open: Gauge::default(),
            liveness,
            events,
            uplinks: Table::default(),
            arbiters,
            recall: Mutex::new(config.recall.clone()),
            #[cfg(feature = "fault-injection")]
            faults: crate::fault::Faults::default(),
        }
    }

    /// The thread that `key` belongs to: everything of one peer runs on one.
    pub(crate) fn arbiter(&self, key: u64) -> Option<&ArbiterHandle> {
        let count = u64::try_from(self.arbiters.len()).unwrap_or(1).max(1);
        self.arbiters.get(usize::try_from(key % count).unwrap_or(0))
    }

    /// Whether a peer was up when the node was stopped; once.
    pub(crate) fn was_up_at_stop(&self, name: &PeerName) -> bool {
        self.recall.lock().unwrap_or_else(PoisonError::into_inner).remove(name)
    }

    /// Those that were up when the node was stopped and have not begun yet.
    pub(crate) fn not_begun_since_stop(&self) -> Vec<PeerName> {
        self.recall.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// All threads of peers.
    pub(crate) fn arbiters(&self) -> &[ArbiterHandle] {
        &self.arbiters
    }
}

/// As many as the bits of a slot can tell apart.
const SLOTS: usize = 64;

impl ConnEnv {
    /// Negotiations in a slot that peers have begun and that nobody has taken on yet.
    pub(crate) fn begun(&self, slot: u8) -> Option<&Gauge> {
        self.begun.get(usize::from(slot))
    }

    /// In the SPIs of what begins now.
    pub(crate) fn slot(&self) -> u8 {
        self.others.0.as_ref().map_or(self.slot, |cluster| cluster.slot())
    }
}

impl Deref for ConnEnv {
    type Target = ChildEnv;

    fn deref(&self) -> &ChildEnv {
        &self.child
    }
}

impl Deref for PeerEnv {
    type Target = ConnEnv;

    fn deref(&self) -> &ConnEnv {
        &self.conn
    }
}

impl Deref for NodeEnv {
    type Target = PeerEnv;

    fn deref(&self) -> &PeerEnv {
        &self.peer
    }
}
