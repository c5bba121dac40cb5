//! The board: what every peer looks like now, written by its actor, read by the API without asking any actor.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use culvert_proto::v1;
use dashmap::DashMap;
use ike::config::{Mode, Opening};
use router::{Carried, SaStats};
use tenants::PeerName;

use crate::condition::Conditions;
use crate::convert;
use crate::history::History;
use crate::sums::Drops;
use crate::table::{Registration, Table, Turn};

/// A peer as it stands.
#[derive(Clone, Debug, Default)]
pub struct PeerView {
    /// The peer's number.
    pub uid: u64,
    /// The last negotiations.
    pub(crate) history: Arc<History>,
    /// Where it stands.
    pub state: v1::PeerState,
    /// Since when.
    pub since: Option<SystemTime>,
    /// Why the last attempt failed or the last tunnel ended; empty if none did.
    pub last_error: String,
    /// Who wanted it in this state; empty if nobody did.
    pub state_reason: String,
    /// The other node of the cluster that it is at home with; empty if that is this one.
    pub home_node: String,
    /// Another node of the cluster has its tunnel, or begins with it.
    pub elsewhere: bool,
    /// What must hold for its tunnel.
    pub conditions: Arc<Conditions>,
    /// The cause of the last failure in a word, while nothing has gone well since, here or at another node; empty otherwise.
    pub last_cause: &'static str,
    /// When that was.
    pub blamed: Option<SystemTime>,
    /// Negotiations that failed, rekeyings among them.
    pub failures: u64,
    /// Times the tunnel came up, and times it was lost though nobody here wanted that. One that goes to another node is not lost.
    pub ups: u64,
    /// See `ups`.
    pub losses: u64,
    /// Negotiations started by us.
    pub attempts: u64,
    /// IKE_SAs rekeyed.
    pub ike_rekeys: u64,
    /// Child SAs rekeyed.
    pub child_rekeys: u64,
    /// When the next attempt is due.
    pub next_attempt: Option<SystemTime>,
    /// The IKE_SA in use.
    pub ike: Option<Arc<IkeView>>,
    /// All IKE_SAs, those included that another is taking over from.
    pub ike_sas: usize,
    /// The Child SAs in place.
    pub children: Vec<Arc<ChildView>>,
}

/// The IKE_SA of a peer.
#[derive(Clone, Debug)]
pub struct IkeView {
    /// SPI of the initiator.
    pub initiator_spi: u64,
    /// SPI of the responder.
    pub responder_spi: u64,
    /// We are the initiator.
    pub initiator: bool,
    /// How it was negotiated.
    pub opening: Opening,
    /// The algorithms.
    pub proposal: String,
    /// Those of them that are legacy.
    pub legacy: Vec<&'static str>,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// Its Child SAs go in UDP.
    pub encapsulated: bool,
    /// When it was made.
    pub installed: SystemTime,
    /// When it will be rekeyed.
    pub rekey_due: Option<SystemTime>,
    /// When it ends.
    pub expires: Option<SystemTime>,
}

/// A Child SA of a peer.
#[derive(Clone, Debug)]
pub struct ChildView {
    /// Its policy.
    pub name: String,
    /// Inbound SPI.
    pub spi_in: u32,
    /// Outbound SPI.
    pub spi_out: u32,
    /// The algorithms.
    pub suite: String,
    /// Those of them that are legacy.
    pub legacy: Vec<String>,
    /// What it protects.
    pub mode: Mode,
    /// Our side's selectors.
    pub local: Vec<String>,
    /// The peer's side's selectors.
    pub remote: Vec<String>,
    /// Times its policy was rekeyed.
    pub rekeys: u64,
    /// When it was installed.
    pub installed: SystemTime,
    /// When it will be rekeyed.
    pub rekey_due: Option<SystemTime>,
    /// When it ends.
    pub expires: Option<SystemTime>,
}

/// Packets and octets over some Child SAs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Inner packets that came in.
    pub packets_in: u64,
    /// Inner packets that went out.
    pub packets_out: u64,
    /// Their octets.
    pub bytes_in: u64,
    /// Their octets.
    pub bytes_out: u64,
}

impl Traffic {
    /// All that a pair has carried, at whichever nodes.
    pub(crate) fn add(&mut self, stats: &SaStats) {
        *self = self.plus(Self::of(stats));
    }

    /// What a pair has carried at this node.
    pub(crate) fn add_here(&mut self, stats: &SaStats) {
        let Carried { packets_in, packets_out, bytes_in, bytes_out } = stats.elsewhere;
        let elsewhere = Self { packets_in, packets_out, bytes_in, bytes_out };
        *self = self.plus(Self::of(stats).each(elsewhere, u64::saturating_sub));
    }

    /// The larger of each.
    pub(crate) fn or_more(self, other: Self) -> Self {
        self.each(other, u64::max)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.each(other, |one, other| one + other)
    }

    fn of(stats: &SaStats) -> Self {
        let SaStats { packets_in, packets_out, bytes_in, bytes_out, .. } = *stats;
        Self { packets_in, packets_out, bytes_in, bytes_out }
    }

    fn each(self, other: Self, of: impl Fn(u64, u64) -> u64) -> Self {
        Self {
            packets_in: of(self.packets_in, other.packets_in),
            packets_out: of(self.packets_out, other.packets_out),
            bytes_in: of(self.bytes_in, other.bytes_in),
            bytes_out: of(self.bytes_out, other.bytes_out),
        }
    }
}

/// All peers.
#[derive(Default)]
pub(crate) struct Board {
    views: Table<PeerName, Arc<PeerView>>,
    /// Traffic of Child SAs that are gone, by peer.
    past: DashMap<u64, Past>,
    /// And by tenant.
    of_tenants: Mutex<OfTenants>,
}

/// What Child SAs of a peer have carried that are gone.
#[derive(Clone, Copy, Debug, Default)]
struct Past {
    /// At whichever nodes.
    all: Traffic,
    /// At this node, those included that are at another now.
    here: Traffic,
}

/// What Child SAs of tenants have come to at this node that are gone, or at another now.
#[derive(Clone, Debug, Default)]
pub(crate) struct OfTenants {
    /// By the tenant's number.
    pub(crate) carried: BTreeMap<u32, Traffic>,
    pub(crate) drops: Drops,
}

/// A peer's place on the board.
pub(crate) struct BoardPlace {
    view: Registration<PeerName, Arc<PeerView>>,
}

impl BoardPlace {
    /// Shows this from now on, unless a successor has the place.
    pub(crate) fn show(&self, view: Arc<PeerView>) {
        self.view.set(view);
    }
}

impl Board {
    /// Gives a peer its place, and what the traffic of an actor before was.
    pub(crate) fn place(&self, name: &PeerName, uid: u64, turn: Turn, view: Arc<PeerView>) -> BoardPlace {
        self.past.entry(uid).or_default();
        BoardPlace { view: self.views.register(name.clone(), turn, view) }
    }

    /// A peer is deleted. Until then its sum stays, whatever becomes of its actor.
    pub(crate) fn forget(&self, uid: u64) {
        self.past.remove(&uid);
    }

    /// Forgets peers that have no actor if there are many of them: their deletion was not heard of.
    pub(crate) fn forget_strangers(&self, known: impl Fn(u64) -> bool) {
        /// More than are started again at the same time.
        const SLACK: usize = 1_024;
        if self.past.len() > 2 * self.views.len() + SLACK {
            self.past.retain(|uid, _| known(*uid));
        }
    }

    /// A pair of this peer is gone; its figures stay in the peer's sum for as long as the peer is there.
    pub(crate) fn add_past(&self, stats: &SaStats) {
        if let Some(mut past) = self.past.get_mut(&convert::peer_of_tunnel(stats.tunnel)) {
            past.all.add(stats);
        }
        self.add_past_here(stats);
    }

    /// A pair of this peer goes to another node, where its figures go on. What it has come to here stays in the node's own sums.
    pub(crate) fn add_past_here(&self, stats: &SaStats) {
        if let Some(mut past) = self.past.get_mut(&convert::peer_of_tunnel(stats.tunnel)) {
            past.here.add_here(stats);
        }
        let (mut sums, number) = (self.of_tenants(), stats.tenant.0);
        sums.carried.entry(number).or_default().add_here(stats);
        for (name, count) in &stats.drops {
            *sums.drops.entry((number, *name)).or_default() += count;
        }
    }

    /// What the pairs of all peers have carried at this node that are gone.
    pub(crate) fn all_past_here(&self) -> Vec<(u64, Traffic)> {
        self.past.iter().map(|past| (*past.key(), past.here)).collect()
    }

    /// What the pairs of these tenants have come to at this node that are gone. Of others nothing is kept.
    pub(crate) fn past_of(&self, tenants: &BTreeSet<u32>) -> OfTenants {
        let mut sums = self.of_tenants();
        sums.carried.retain(|number, _| tenants.contains(number));
        sums.drops.retain(|(number, _), _| tenants.contains(number));
        sums.clone()
    }

    fn of_tenants(&self) -> MutexGuard<'_, OfTenants> {
        self.of_tenants.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Traffic of the peer's pairs that are gone.
    pub(crate) fn past(&self, uid: u64) -> Traffic {
        self.past.get(&uid).map_or_else(Traffic::default, |past| past.all)
    }

    pub(crate) fn get(&self, name: &PeerName) -> Option<Arc<PeerView>> {
        self.views.get(name)
    }

    pub(crate) fn contains(&self, name: &PeerName) -> bool {
        self.views.get(name).is_some()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    pub(crate) fn all(&self) -> Vec<(PeerName, Arc<PeerView>)> {
        self.views.all()
    }
}
