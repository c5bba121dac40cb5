//! What metrics are made of: the catalog, the tunnels, and what the daemon knows of itself, read at one moment.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use actors::{Control, Figures, PeerView};
use latest::Latest as _;
use tenants::{Catalog, PeerName, Snapshot, Tenant, TenantName};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant as Deadline, timeout_at};

use super::cluster::{self, ClusterFigures};
use super::exit::Exit;
use super::{ike, node, packets, peers, tenants as of_tenants};
use crate::config::MetricsConfig;
use crate::telemetry::exports::{ExportFigures, Exports};
use crate::telemetry::probes::Probes;

/// How many have series of their own.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Peers of the node.
    pub peers: usize,
    /// Tenants.
    pub tenants: usize,
}

impl From<&MetricsConfig> for Bounds {
    fn from(config: &MetricsConfig) -> Self {
        Self { peers: config.max_peers, tenants: config.max_tenants }
    }
}

/// Says when a certificate ends to be valid.
type Expires = Arc<dyn Fn() -> Option<SystemTime> + Send + Sync>;
/// Says whether files can be used as they are.
type Usable = Arc<dyn Fn() -> bool + Send + Sync>;
/// Counts things by name.
type Counts = Arc<dyn Fn() -> Vec<(&'static str, u64)> + Send + Sync>;

/// Says how the node stands among others.
type Among = Arc<dyn Fn() -> ClusterFigures + Send + Sync>;

/// What else is asked when somebody asks: certificates that the node shows, files, and counters of others. Whoever has them says so
/// here once.
#[derive(Clone, Default)]
pub struct Others(Arc<Mutex<Asked>>);

#[derive(Default)]
struct Asked {
    certificates: BTreeMap<&'static str, Expires>,
    files: BTreeMap<&'static str, Usable>,
    counters: Vec<Counts>,
    cluster: Option<Among>,
}

impl Others {
    fn asked(&self) -> MutexGuard<'_, Asked> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A certificate of this name, which may become another one.
    pub fn certificate(
        &self,
        name: &'static str,
        expires: impl Fn() -> Option<SystemTime> + Send + Sync + 'static,
    ) {
        self.asked().certificates.insert(name, Arc::new(expires));
    }

    /// Files of this name that are read again when they change.
    pub fn files(&self, name: &'static str, usable: impl Fn() -> bool + Send + Sync + 'static) {
        self.asked().files.insert(name, Arc::new(usable));
    }

    /// Counters whose names nobody else has.
    pub fn counters(&self, counts: impl Fn() -> Vec<(&'static str, u64)> + Send + Sync + 'static) {
        self.asked().counters.push(Arc::new(counts));
    }

    /// How the node stands among others, if it is one of several.
    pub fn cluster(&self, figures: impl Fn() -> ClusterFigures + Send + Sync + 'static) {
        self.asked().cluster = Some(Arc::new(figures));
    }

    /// It is one of several.
    fn is_among(&self) -> bool {
        self.asked().cluster.is_some()
    }

    fn among(&self) -> ClusterFigures {
        let asked = self.asked().cluster.clone();
        asked.map(|figures| figures()).unwrap_or_default()
    }

    fn certificates(&self) -> Vec<(&'static str, SystemTime)> {
        let asked = self.asked();
        asked.certificates.iter().filter_map(|(name, expires)| Some((*name, expires()?))).collect()
    }

    fn usable(&self) -> Vec<(&'static str, bool)> {
        self.asked().files.iter().map(|(name, usable)| (*name, usable())).collect()
    }

    fn counts(&self) -> Vec<(&'static str, u64)> {
        self.asked().counters.iter().flat_map(|counts| counts()).collect()
    }
}

/// Where metrics are read.
pub struct Source {
    catalog: Arc<Catalog>,
    control: Control,
    shards: usize,
    probes: Probes,
    bounds: Bounds,
    others: Others,
    exports: Exports,
    /// The reading of the node that is under way, or that nobody has waited for.
    reading: tokio::sync::Mutex<Option<UnderWay>>,
}

/// When it began, and what comes of it with the time at which it was there.
type UnderWay = (Deadline, JoinHandle<(Figures, Deadline)>);

/// How long the node may take to be read, and how long anybody waits for it: a hundred thousand peers are far from it. Who asks has to be
/// told that it stands still while it does, within the ten seconds that Prometheus waits.
const READ: Duration = Duration::from_secs(6);

/// What was read.
pub struct Reading {
    pub(super) bounds: Bounds,
    pub(super) started: SystemTime,
    /// None of anything while the node is `silent`.
    pub(super) figures: Figures,
    /// The node could not be read in time.
    pub(super) silent: bool,
    pub(super) snapshot: Snapshot,
    pub(super) shards: usize,
    pub(super) probes: Probes,
    pub(super) store_writable: bool,
    pub(super) certificates: Vec<(&'static str, SystemTime)>,
    /// Files that are read again when they change, and whether they can be used as they are.
    pub(super) files: Vec<(&'static str, bool)>,
    /// Counters of others.
    pub(super) counts: Vec<(&'static str, u64)>,
    pub(super) cluster: ClusterFigures,
    pub(super) exports: ExportFigures,
    /// Secrets of each tenant that has some.
    pub(super) secrets: HashMap<TenantName, OfSecrets>,
    pub(super) took: Duration,
}

/// What there is to say of a tenant's secrets.
#[derive(Clone, Copy)]
pub(super) struct OfSecrets {
    pub(super) count: usize,
    /// When that was set that has been the same for the longest time.
    pub(super) oldest: SystemTime,
    /// When the first of the certificates in them ends.
    pub(super) certificate_ends: Option<SystemTime>,
}

/// A tenant with its peers.
pub(super) struct OfTenant<'a> {
    pub(super) tenant: &'a Tenant,
    pub(super) peers: Vec<OfPeer<'a>>,
}

/// A configured peer, and how it stands if it runs.
pub(super) struct OfPeer<'a> {
    pub(super) peer: &'a tenants::Peer,
    pub(super) view: Option<&'a PeerView>,
}

impl Source {
    /// Of these.
    pub fn new(
        catalog: Arc<Catalog>,
        control: Control,
        shards: usize,
        (probes, bounds): (Probes, Bounds),
        others: Others,
        exports: Exports,
    ) -> Self {
        let reading = tokio::sync::Mutex::default();
        Self { catalog, control, shards, probes, bounds, others, exports, reading }
    }

    /// The node in numbers; `None` if it does not say them in time. What waits for it then is gone on with by the next who asks.
    async fn figures(&self) -> Option<Figures> {
        let came = Deadline::now();
        let mut reading = timeout_at(came + READ, self.reading.lock()).await.ok()?;
        loop {
            let (began, under_way) = reading.get_or_insert_with(|| {
                let (control, runtime) = (self.control.clone(), Handle::current());
                // Where a lock is held by who stands still, this thread does, and none that serves.
                let read = move || (runtime.block_on(control.figures()), Deadline::now());
                (Deadline::now(), tokio::task::spawn_blocking(read))
            });
            let read = timeout_at((came + READ).min(*began + READ), under_way).await.ok()?;
            *reading = None;
            match read {
                Ok((figures, there)) if there >= came => return Some(figures),
                // Whoever began it has gone, and since then much may have become otherwise.
                Ok(_) => {}
                // A panic has said so.
                Err(_) => return None,
            }
        }
    }

    /// Reads the node.
    pub async fn read(&self) -> Reading {
        let began = Instant::now();
        let figures = self.figures().await;
        let silent = figures.is_none();
        // Afterwards: a peer that is configured has its series, whether or not it runs already.
        let snapshot = self.catalog.snapshot();
        let mut secrets: HashMap<TenantName, OfSecrets> = HashMap::new();
        for secret in self.catalog.secrets() {
            let set = secret.meta.updated;
            let none = OfSecrets { count: 0, oldest: set, certificate_ends: None };
            let of = secrets.entry(secret.name.tenant().clone()).or_insert(none);
            of.count += 1;
            of.oldest = of.oldest.min(set);
            of.certificate_ends = [of.certificate_ends, secret.ends].into_iter().flatten().min();
        }
        let cluster = self.others.among();
        Reading {
            bounds: self.bounds,
            figures: figures.unwrap_or_default(),
            silent,
            started: self.control.started(),
            snapshot,
            shards: self.shards,
            probes: self.probes.clone(),
            // The store of a cluster is etcd, of which is told apart: what fails there says nothing of this node.
            store_writable: self.others.is_among() || self.catalog.store_fault().latest().is_none(),
            certificates: self.others.certificates(),
            files: self.others.usable(),
            counts: self.others.counts(),
            cluster: ClusterFigures { is_behind: cluster.is_behind || self.catalog.is_behind(), ..cluster },
            exports: self.exports.read(),
            secrets,
            took: began.elapsed(),
        }
    }
}

impl Reading {
    /// When the node was started.
    pub fn started(&self) -> SystemTime {
        self.started
    }

    /// Says all of it. What is not bound to a tenant comes first.
    pub fn write(&self, exit: &mut dyn Exit) {
        if self.silent {
            // Nothing of tunnels, which may all be well: that the node does not live is what there is to say.
            return node::write_alone(self, exit);
        }
        let tenants = self.by_tenant();
        node::write(self, exit, &tenants);
        ike::write(self, exit);
        packets::write(self, exit);
        cluster::write(self, exit);
        if tenants.len() <= self.bounds.tenants {
            of_tenants::write(self, exit, &tenants);
        } else {
            of_tenants::write_failing(self, exit, &tenants, self.bounds.tenants);
        }
        if self.snapshot.peers.len() <= self.bounds.peers {
            peers::write(self, exit, &tenants);
        } else {
            peers::write_failing(exit, &tenants, self.bounds.peers);
        }
        node::write_exports(self, exit, tenants.len());
    }

    /// About as many octets as it takes as text.
    pub fn octets(&self) -> usize {
        let of_peers =
            if self.snapshot.peers.len() <= self.bounds.peers { self.snapshot.peers.len() } else { 0 };
        let of_tenants =
            if self.snapshot.tenants.len() <= self.bounds.tenants { self.snapshot.tenants.len() } else { 0 };
        // Series and heads of the node, and a dozen or some dozens of lines each.
        64 * 1024 + of_peers * 1_536 + of_tenants * 3_072
    }

    fn by_tenant(&self) -> Vec<OfTenant<'_>> {
        let running: HashMap<&PeerName, &PeerView> =
            self.figures.peers.iter().map(|(name, view)| (name, &**view)).collect();
        let mut peers = self.snapshot.peers.iter().peekable();
        // Both are in the order of names.
        let of = |tenant: &'_ Arc<Tenant>| {
            let mut all = Vec::new();
            while let Some(peer) = peers.next_if(|peer| *peer.name.tenant() <= tenant.name) {
                all.push((peer, running.get(&peer.name).copied()));
            }
            all
        };
        let mut of = of;
        let tenants = self.snapshot.tenants.iter().map(|tenant| {
            let peers = of(tenant).into_iter().map(|(peer, view)| OfPeer { peer, view }).collect();
            OfTenant { tenant, peers }
        });
        tenants.collect()
    }
}

/// Of a peer whose actor does not run: it starts, or starts again.
const NOT_RUNNING: &str = "not_running";

impl OfPeer<'_> {
    /// Why it does not carry all that it is for; empty while it does.
    pub(super) fn why(&self) -> &'static str {
        self.view.map_or(NOT_RUNNING, PeerView::why_down)
    }

    /// Whether somebody here wants more of it than there is, and it is not about to come.
    pub(super) fn fails(&self) -> bool {
        !["", "waiting", "connecting", "terminated", "elsewhere", NOT_RUNNING].contains(&self.why())
    }

    /// In a word: `up`, `degraded`, `connecting`, `backing_off`, `waiting`, `terminated`, or `elsewhere` where another node of the cluster
    /// has it or begins with it, so that over all nodes each is counted once besides.
    pub(super) fn state(&self) -> usize {
        use culvert_proto::v1::PeerState;
        if self.view.is_some_and(PeerView::is_anothers) {
            return 6;
        }
        let state = self.view.map(|view| view.state);
        match state {
            Some(PeerState::Established) => 0,
            Some(PeerState::Degraded) => 1,
            Some(PeerState::Connecting) => 2,
            Some(PeerState::BackingOff) => 3,
            Some(PeerState::Terminated) => 5,
            Some(PeerState::Waiting | PeerState::Unspecified) | None => 4,
        }
    }
}

/// The words of [`OfPeer::state`], in the order of its numbers.
pub(super) const STATES: [&str; 7] =
    ["up", "degraded", "connecting", "backing_off", "waiting", "terminated", "elsewhere"];

/// Peers by state.
pub(super) fn count_states<'a, 'b: 'a>(peers: impl Iterator<Item = &'a OfPeer<'b>>) -> [u64; STATES.len()] {
    let mut counts = [0; STATES.len()];
    for peer in peers {
        if let Some(count) = counts.get_mut(peer.state()) {
            *count += 1;
        }
    }
    counts
}

/// Seconds since 1970.
pub(super) fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
