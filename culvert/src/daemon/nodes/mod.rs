//! The daemon as one of the nodes of a cluster: who is there, the way between them, and whose tunnels are whose.
//!
//! [`join`] comes first, as the slot of the router and of the actors is given out by it; [`Joined::run`] when those are there. Between
//! the two what the actors and the router have to say to others finds nobody.
//!
//! `shown.rs` is what the API shows and orders of slots, `homes.rs` which node begins with a peer, `passing.rs` what goes from node to node and how it looks, `ours.rs` what slots are for, `renewal.rs` the certificate for the others.

mod homes;
mod ours;
mod passing;
mod renewal;
mod shown;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use actors::{Control, HomeNews, Homes, Others, Rival};
use anyhow::Context as _;
use cluster::mesh::{self, Credentials, Mesh};
use cluster::{Etcd, Identity, Members, Slots};
use latest::{Follow as _, Latest as _};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::config::Config;
use crate::telemetry::metrics;
use renewal::Renewal;

pub use shown::slot_of;

/// Standbys learn this often how far packets have come: what came in since is taken once more from whoever has recorded it, if the node
/// is lost at that moment.
const PROGRESS: Duration = Duration::from_millis(100);

/// A node of a cluster that has given its tunnels away passes on what still lands on it, for as long as `shutdown.drain` says and no less
/// than this: whoever is in front learns within it that the node is not ready.
pub const PASSES_ON: Duration = Duration::from_secs(3);

/// How long a node that starts waits for the way to the others before it says that it is ready: packets land on it from then on, most of
/// which it passes on. Those that start at the same time are in etcd a second before they can be reached; one that was killed is there until
/// its lease ends.
const REACHED: Duration = Duration::from_secs(2);
/// For what came to a node that ends while it begins: a few slots, of others that go at the same time.
const GIVEN_BACK: Duration = Duration::from_secs(15);

/// The other nodes, as the actors and the router see them. Clones are the same.
#[derive(Clone)]
pub struct Nodes(Arc<Inner>);

struct Inner {
    name: String,
    first_slot: u8,
    placement: watch::Receiver<Arc<cluster::Placement>>,
    runtime: tokio::runtime::Handle,
    /// Tells which peers may be at home elsewhere.
    news: HomeNews,
    mesh: OnceLock<Mesh>,
    slots: OnceLock<Slots>,
    control: OnceLock<Control>,
    /// Connections that are new here and when that was said, for the others: as many as are negotiated while some are told of.
    established: mpsc::UnboundedSender<(Rival, Instant)>,
    drained: cluster::Drained,
    renewal: Option<Renewal>,
}

/// A node that has its place among the others.
pub struct Joined {
    members: Members,
    bound: mesh::Bound,
    credentials: Credentials,
    nodes: Nodes,
    new: mpsc::UnboundedReceiver<(Rival, Instant)>,
}

/// A node that does its part.
pub struct Running {
    members: Members,
    nodes: Nodes,
    astray: watch::Receiver<Option<String>>,
    lost: watch::Receiver<Option<String>>,
    tasks: JoinSet<()>,
}

/// Joins the cluster of this etcd, if there is one.
///
/// # Errors
/// If there is a node of this name, no slot is left, etcd is away, or the others cannot be reached by what is configured.
pub async fn join(config: &Config, etcd: Option<Etcd>) -> anyhow::Result<Option<Joined>> {
    let Some(etcd) = etcd else { return Ok(None) };
    let settings = &config.cluster;
    let key_file = config.vault.key_path(&config.state_dir.0);
    let credentials = settings.credentials(&key_file)?;
    let renewal = Renewal::of(settings, key_file, &credentials);
    let bound = mesh::Bound::bind(settings.mesh_listen(&config.ike.listen))?;
    let mesh = match settings.advertise {
        Some(advertise) => advertise,
        None => bound.advertised(&settings.etcd).await?,
    };
    let identity = Identity {
        name: settings.name(),
        addresses: config.ike.listen.clone(),
        mesh: Some(mesh),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let members = Members::join(etcd, identity).await.context("cluster")?;
    let own = members.own();
    tracing::info!(node = own.name, slot = own.slot, %mesh, "joined the cluster");
    let (established, new) = mpsc::unbounded_channel();
    let nodes = Nodes(Arc::new(Inner {
        name: own.name.clone(),
        first_slot: own.slot,
        placement: members.placement(),
        runtime: tokio::runtime::Handle::current(),
        news: HomeNews::default(),
        mesh: OnceLock::new(),
        slots: OnceLock::new(),
        control: OnceLock::new(),
        established,
        drained: members.drained(),
        renewal,
    }));
    Ok(Some(Joined { members, bound, credentials, nodes, new }))
}

impl Joined {
    /// The slot that the router and the actors begin with; 0 if none was free.
    pub fn slot(&self) -> u8 {
        self.members.own().slot
    }

    /// Which peers the actors are to begin with.
    pub fn homes(&self) -> Homes {
        homes::homes(&self.members, self.nodes.clone(), self.nodes.0.news.clone())
    }

    /// The others, for the actors.
    pub fn others(&self) -> Others {
        Others::new(Arc::new(self.nodes.clone()))
    }

    /// The others, for the router.
    pub fn elsewhere(&self) -> Arc<dyn router::Elsewhere> {
        Arc::new(self.nodes.clone())
    }

    /// Does its part from now on, with the tunnels of this control. `None` if `stop` comes first. With that, and with an error, it has left
    /// the others, who else would wait for the end of its lease, as would this node when it is started again.
    ///
    /// # Errors
    /// If etcd is away, or the others cannot be reached by what is configured.
    pub async fn run(
        self,
        control: Control,
        stop: impl Future<Output = &'static str>,
    ) -> anyhow::Result<Option<Running>> {
        let Self { members, bound, credentials, nodes, new } = self;
        let begun = tokio::select! {
            begun = begin(&members, bound, credentials, &nodes, new, control) => begun.map(Some),
            signal = stop => {
                tracing::info!(signal, "leaves before it has begun");
                Ok(None)
            }
        };
        match begun {
            Ok(Some(Begun { astray, lost, tasks })) => {
                Ok(Some(Running { members, nodes, astray, lost, tasks }))
            }
            other => {
                // What came here meanwhile goes to others, as at any other end.
                if tokio::time::timeout(GIVEN_BACK, nodes.drain()).await.is_err() {
                    tracing::warn!("not all that came meanwhile has changed hands; it goes with this node");
                }
                leave(members, &nodes, || ()).await;
                other.map(|_| None)
            }
        }
    }

    /// Leaves the others again.
    pub async fn leave(self) {
        self.members.leave().await;
    }
}

/// What there is of a node that does its part, beside its place and the others.
struct Begun {
    astray: watch::Receiver<Option<String>>,
    lost: watch::Receiver<Option<String>>,
    tasks: JoinSet<()>,
}

/// Begins to do the part of a node.
async fn begin(
    members: &Members,
    bound: mesh::Bound,
    credentials: Credentials,
    nodes: &Nodes,
    new: mpsc::UnboundedReceiver<(Rival, Instant)>,
    control: Control,
) -> anyhow::Result<Begun> {
    let inner = &nodes.0;
    let _ = inner.control.set(control.clone());
    let (name, instance) = (inner.name.clone(), members.own().instance().to_vec());
    let settings = mesh::Settings { name, instance, credentials };
    let handler = Arc::new(nodes.clone());
    let mesh = Mesh::start(bound, settings, members.placement(), handler).context("cluster")?;
    let (heard_in, heard) = watch::channel(Arc::default());
    let (mut standing, mut placement) = (mesh.standing(), members.placement());
    let mut tasks = JoinSet::new();
    let told = nodes.clone();
    tasks.spawn(async move {
        let mut before = (Arc::default(), Arc::default());
        loop {
            let all = standing.take_latest();
            let there = placement.take_latest();
            // A node that was started again is there before it is reached; what was heard is of the process before it, and no help.
            let is_now = |name: &str, standing: &mesh::Standing| {
                let node = there.nodes.iter().find(|node| node.name == name);
                node.is_none_or(|node| node.instance == standing.instance)
            };
            let heard = all.iter().filter(|(name, standing)| !standing.silent && is_now(name, standing));
            let heard = heard.map(|(name, _)| name.clone());
            let heard = Arc::new(heard.collect::<BTreeSet<String>>());
            heard_in.send_replace(Arc::clone(&heard));
            let (heard_before, placed_before) =
                std::mem::replace(&mut before, (heard.clone(), there.clone()));
            if heard == heard_before {
                homes::tell(&told.0.news, &placed_before, &there);
            } else {
                told.0.news.all();
            }
            let ended = tokio::select! {
                changed = standing.changed() => changed.is_err(),
                changed = placement.changed() => changed.is_err(),
            };
            if ended {
                return;
            }
        }
    });
    let mut reached = mesh.standing();
    let telling = mesh.clone();
    let _ = inner.mesh.set(mesh);
    telling.spawn(passing::tell_established(nodes.clone(), new));
    // Until then whoever would give a slot to this node is told that it has only just begun: one that comes to a node whose peers are not there
    // yet loses its tunnels. It is heard meanwhile, or it would pass for one of several that nobody hears.
    control.peers_stand().await;
    let ours = Arc::new(nodes.clone());
    let (slots, mut stewards) =
        Slots::start(members, ours.clone(), ours, heard).await.context("cluster.etcd")?;
    let astray = slots.astray();
    let _ = inner.slots.set(slots);
    let (lost_in, lost) = watch::channel(None);
    let mut without_place = members.lost();
    tasks.spawn(async move {
        let why = tokio::select! {
            gone = without_place.until(Option::is_some) => match gone {
                Ok(why) => why,
                // Whoever could say so is gone, as it is when this node leaves.
                Err(_) => Some("nobody keeps the place of this node any more".to_owned()),
            },
            _ = stewards.join_next() => Some("nobody looks after the slots of this node any more".to_owned()),
        };
        lost_in.send_replace(why);
        while stewards.join_next().await.is_some() {}
    });
    tasks.spawn(async move {
        let mut tick = tokio::time::interval(PROGRESS);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            control.tell_progress().await;
        }
    });
    let renewed = nodes.clone();
    tasks.spawn(async move {
        if let Some((renewal, mesh)) = renewed.0.renewal.as_ref().zip(renewed.0.mesh.get()) {
            renewal.run(renewal::renew(mesh)).await;
        }
    });
    let there = members.placement();
    let all_heard = reached.until(|standing| {
        let there = there.latest();
        let heard = |name: &String| standing.get(name).is_some_and(|standing| !standing.silent);
        there.nodes.iter().all(|node| node.name == there.own || heard(&node.name))
    });
    if tokio::time::timeout(REACHED, all_heard).await.is_err() {
        tracing::warn!("not all other nodes are reached yet; what lands here and is for them is lost");
    }
    Ok(Begun { astray, lost, tasks })
}

impl Running {
    /// Who is there.
    pub fn placement(&self) -> watch::Receiver<Arc<cluster::Placement>> {
        self.members.placement()
    }

    /// Why this node has no place any more, once that is so.
    pub fn lost(&self) -> watch::Receiver<Option<String>> {
        self.lost.clone()
    }

    /// Why nothing is to be sent here, as it could not be passed on to those it is for, if that is so.
    pub fn astray(&self) -> watch::Receiver<Option<String>> {
        self.astray.clone()
    }

    /// The others.
    pub fn nodes(&self) -> Nodes {
        self.nodes.clone()
    }

    /// Says what there is to tell of how this node stands among the others.
    pub fn tell(&self, others: &metrics::Others) {
        let (figures, counts) = (self.nodes(), self.nodes());
        others.cluster(move || figures.figures());
        others.counters(move || counts.counts());
        if self.nodes.0.renewal.is_some() {
            let (expires, usable) = (self.nodes(), self.nodes());
            others.certificate("nodes", move || expires.0.renewal.as_ref().and_then(Renewal::expires));
            others.files("nodes", move || usable.0.renewal.as_ref().is_none_or(Renewal::is_usable));
        }
    }

    /// Leaves the tunnels that other nodes can go on with to them, without a word to anybody, and is heard no more: something has failed here, and
    /// those are as they were.
    pub async fn abandon(&self) {
        if let Some(slots) = self.nodes.0.slots.get() {
            let left = slots.abandon().await;
            tracing::warn!(slots = ?left, "slots are left to their standbys");
        }
        if let Some(mesh) = self.nodes.0.mesh.get() {
            mesh.close().await;
        }
    }

    /// Takes nothing over any more, and gives away what has come since it was drained, if it was.
    pub async fn stop_taking(&self) {
        if let Some(slots) = self.nodes.0.slots.get().filter(|slots| slots.is_leaving()) {
            slots.stop_taking().await;
        }
    }

    /// Leaves for good. What is left of its slots is nobody's.
    pub async fn leave(self) {
        let Self { members, nodes, mut tasks, .. } = self;
        leave(members, &nodes, || tasks.abort_all()).await;
    }
}

/// Leaves the others, as far as this node has got among them. `end` ends what it does there.
async fn leave(members: Members, nodes: &Nodes, end: impl FnOnce()) {
    if let Some(slots) = nodes.0.slots.get() {
        slots.leave().await;
    }
    end();
    members.leave().await;
    if let Some(mesh) = nodes.0.mesh.get() {
        // Its thread ends before the process does: OpenSSL puts things away at the end that it would still use.
        mesh.close().await;
    }
}

impl Inner {
    /// Whether there is no slot to begin anything in: it was drained, or has begun when none was free and has got none yet.
    fn is_without_slot(&self) -> bool {
        self.slots.get().map_or(self.first_slot == 0, |slots| !slots.begins())
    }
}

impl Nodes {
    /// Moves all tunnels of this node to others, without a word to their peers.
    pub async fn drain(&self) {
        let Some(slots) = self.0.slots.get() else { return };
        for (slot, reason) in slots.drain().await {
            tracing::warn!(slot, reason, "the tunnels of a slot end here");
        }
    }

    /// The other nodes that may have tunnels, by their names. One whose lease has run out, as it does not reach etcd, has them still: it is heard,
    /// or owns a slot until that is another's.
    fn others(&self) -> BTreeSet<String> {
        let mut names: BTreeSet<String> =
            self.0.placement.latest().nodes.iter().map(|node| node.name.clone()).collect();
        if let Some(mesh) = self.0.mesh.get() {
            let standings = mesh.standing().latest();
            let heard = standings.iter().filter(|(_, standing)| !standing.silent);
            names.extend(heard.map(|(name, _)| name.clone()));
        }
        if let Some(slots) = self.0.slots.get() {
            names.extend(slots.table().latest().values().map(|slot| slot.owner.node.clone()));
        }
        names.remove(&self.0.name);
        names
    }

    /// Whether a node was heard of late.
    fn hears(&self, node: &str) -> bool {
        let silence = self.0.mesh.get().and_then(|mesh| mesh.silence(node));
        silence.is_some_and(|silence| silence < mesh::SILENT)
    }

    /// The slots of this node and of others.
    pub fn slots(&self) -> Option<&Slots> {
        self.0.slots.get()
    }
}
