//! The other nodes, and what all connections share.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, ArcSwapOption};
use latest::Latest as _;
use quinn::{ClientConfig, Endpoint};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::counters::Counters;
use super::hearing::{Heard, Hearing, SILENT, Standings};
use super::hello::Hello;
use super::link::Link;
use super::refusal::{Told, code};
use super::stream::Streams;
use super::{Handler, Lane, MeshError};
use crate::members::{Placement, SLOTS};

/// Nodes that are known at a time: as many as there are slots. A name that nobody has any more goes when its connection does.
pub(super) const MAX_NODES: usize = *SLOTS.end() as usize;

/// Another node.
pub(super) struct Peer {
    pub(super) name: Arc<str>,
    /// The connection with it, if there is one.
    link: ArcSwapOption<Link>,
    pub(super) heard: Heard,
    /// As it says itself. Whoever hears and is not heard is cut off all the same, and both have to see it so.
    pub(super) hears_us: AtomicBool,
    /// As it has been told last, so that who hears it knows that it is to be told anew.
    pub(super) silent: AtomicBool,
    /// Held while it is answered: its next question waits, though it may come by another connection.
    pub(super) answering: [tokio::sync::Mutex<()>; Lane::ALL.len()],
}

impl Peer {
    fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            link: ArcSwapOption::empty(),
            heard: Heard::default(),
            hears_us: AtomicBool::new(true),
            silent: AtomicBool::new(false),
            answering: Default::default(),
        }
    }

    pub(super) fn link(&self) -> Option<Arc<Link>> {
        self.link.load_full().filter(|link| link.is_open())
    }
}

/// What all parts of a mesh share.
pub(super) struct Inner {
    pub(super) name: String,
    pub(super) instance: Vec<u8>,
    pub(super) endpoint: Endpoint,
    pub(super) client: ArcSwap<ClientConfig>,
    pub(super) placement: watch::Receiver<Arc<Placement>>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) counters: Arc<Counters>,
    pub(super) hearing: Hearing,
    pub(super) standings: watch::Sender<Arc<Standings>>,
    /// Something is to be told sooner than at the next heartbeat.
    pub(super) news: Notify,
    pub(super) streams: Streams,
    pub(super) told: Mutex<Told>,
    peers: ArcSwap<BTreeMap<Arc<str>, Arc<Peer>>>,
    /// Held while nodes and connections come and go.
    changing: Mutex<()>,
}

impl Inner {
    pub(super) fn new(
        endpoint: Endpoint,
        client: ClientConfig,
        name: String,
        instance: Vec<u8>,
        placement: watch::Receiver<Arc<Placement>>,
        handler: Arc<dyn Handler>,
    ) -> Arc<Self> {
        Arc::new(Self {
            name,
            instance,
            endpoint,
            client: ArcSwap::from_pointee(client),
            placement,
            handler,
            counters: Arc::default(),
            hearing: Hearing::new(Instant::now()),
            standings: watch::Sender::default(),
            news: Notify::new(),
            streams: Streams::default(),
            told: Mutex::default(),
            peers: ArcSwap::default(),
            changing: Mutex::default(),
        })
    }

    /// A node that there is or was a connection with.
    pub(super) fn peer(&self, node: &str) -> Option<Arc<Peer>> {
        self.peers.load().get(node).cloned()
    }

    /// All of them.
    pub(super) fn peers(&self) -> Arc<BTreeMap<Arc<str>, Arc<Peer>>> {
        self.peers.load_full()
    }

    pub(super) fn link(&self, node: &str) -> Result<Arc<Link>, MeshError> {
        self.peers
            .load()
            .get(node)
            .and_then(|peer| peer.link())
            .ok_or_else(|| MeshError::Away(node.to_owned()))
    }

    pub(super) fn connected(&self) -> u64 {
        self.peers.load().values().filter(|peer| peer.link().is_some()).count() as u64
    }

    /// The node of a new connection. None if as many are known as may be.
    pub(super) fn admit(&self, node: &str) -> Option<Arc<Peer>> {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let peers = self.peers.load();
        if let Some(peer) = peers.get(node) {
            return Some(peer.clone());
        }
        if peers.len() >= MAX_NODES {
            return None;
        }
        let peer = Arc::new(Peer::new(node));
        let mut more = BTreeMap::clone(&peers);
        more.insert(peer.name.clone(), peer.clone());
        self.peers.store(Arc::new(more));
        Some(peer)
    }

    /// Whether another process of the node is connected with and heard, and is the one that has the name: one that stood still for long, and goes on,
    /// does not know yet that it has lost it.
    pub(super) fn is_outdone(&self, other: &Hello) -> bool {
        let Some(peer) = self.peer(&other.node) else { return false };
        let Some(link) = peer.link() else { return false };
        let placement = self.placement.latest();
        let has_name = |instance: &[u8]| {
            placement.nodes.iter().any(|node| node.name == other.node && node.instance == instance)
        };
        link.instance != other.instance
            && has_name(&link.instance)
            && self.hearing.silence(&peer.heard, Instant::now()) < SILENT
    }

    /// A connection takes the place of the one before. What waits for an answer there fails.
    pub(super) fn replace(&self, peer: &Peer, link: Arc<Link>) {
        let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = peer.link.swap(Some(link));
        if let Some(before) = before {
            before.close(code::REPLACED, "there is a newer connection");
        }
        self.hear(peer);
        Counters::add(&self.counters.connections, 1);
        self.news.notify_one();
    }

    /// Something came of this node.
    pub(super) fn hear(&self, peer: &Peer) {
        self.hearing.hear(&peer.heard, Instant::now());
        if peer.silent.load(Ordering::Relaxed) {
            self.news.notify_one();
        }
    }

    /// Forgets nodes that are silent, without a connection, and not among those that are there.
    pub(super) fn forget(&self) {
        let placement = self.placement.latest();
        let there = |name: &str| placement.nodes.iter().any(|node| node.name == name);
        let gone =
            |peer: &Peer| peer.silent.load(Ordering::Relaxed) && peer.link().is_none() && !there(&peer.name);
        if self.peers.load().values().any(|peer| gone(peer)) {
            let _changing = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
            let mut rest = BTreeMap::clone(&self.peers.load());
            rest.retain(|_, peer| !gone(peer));
            self.peers.store(Arc::new(rest));
        }
    }

    /// Says why somebody has not become a node to speak with, not too often. `node` is its name, as far as that is known.
    pub(super) fn refuse(&self, node: Option<&str>, place: &str, reason: &str) {
        Counters::add(&self.counters.refused_identities, 1);
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(untold) = told.is_news(node, Instant::now()) {
            #[cfg(test)]
            told.last.replace(reason.to_owned());
            tracing::warn!(node, place, reason, untold, "no connection between nodes");
        }
    }
}
