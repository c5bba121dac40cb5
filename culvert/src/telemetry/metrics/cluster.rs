//! What a node has to do with the others. A node by itself says the same of no others, so that panels have something to show.

use super::exit::Exit;
use super::source::Reading;
use super::table;

/// As the node knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClusterFigures {
    /// Whether etcd is away.
    pub etcd_is_away: bool,
    /// Whether what other nodes write there, of nodes and slots or of the catalog, does not come in.
    pub is_behind: bool,
    /// Other nodes that etcd says are there.
    pub joined: usize,
    /// Those of them that were heard of late.
    pub heard: usize,
    /// Slots of this node, and connections in them, that another node could go on with.
    pub protected: (usize, u64),
    /// Those that none could go on with.
    pub unprotected: (usize, u64),
    /// Rows that standbys have not been told of yet.
    pub waiting: usize,
    /// Rows and octets kept for slots of other nodes.
    pub kept: (usize, usize),
    /// Slots that came here from a node that was gone, and by a move.
    pub arrivals: (u64, u64),
    /// Packets passed on to other nodes, and their octets.
    pub sent: (u64, u64),
    /// Packets that came from other nodes, and their octets.
    pub received: (u64, u64),
}

pub(super) fn write(reading: &Reading, exit: &mut dyn Exit) {
    let figures = reading.cluster;
    exit.number(&table::CLUSTER_ETCD, &[], (!figures.etcd_is_away).into());
    exit.number(&table::CLUSTER_FOLLOWS, &[], (!figures.is_behind).into());
    exit.number(&table::CLUSTER_NODES, &["joined"], figures.joined.into());
    exit.number(&table::CLUSTER_NODES, &["heard"], figures.heard.into());
    exit.number(&table::CLUSTER_SLOTS, &["protected"], figures.protected.0.into());
    exit.number(&table::CLUSTER_SLOTS, &["unprotected"], figures.unprotected.0.into());
    exit.number(&table::CLUSTER_CONNECTIONS, &["protected"], figures.protected.1.into());
    exit.number(&table::CLUSTER_CONNECTIONS, &["unprotected"], figures.unprotected.1.into());
    exit.number(&table::CLUSTER_WAITING, &[], figures.waiting.into());
    exit.number(&table::CLUSTER_KEPT_ROWS, &[], figures.kept.0.into());
    exit.number(&table::CLUSTER_KEPT, &[], figures.kept.1.into());
    exit.number(&table::CLUSTER_ARRIVALS, &["sudden"], figures.arrivals.0.into());
    exit.number(&table::CLUSTER_ARRIVALS, &["moved"], figures.arrivals.1.into());
    exit.number(&table::CLUSTER_PACKETS, &["sent"], figures.sent.0.into());
    exit.number(&table::CLUSTER_PACKETS, &["received"], figures.received.0.into());
    exit.number(&table::CLUSTER_BYTES, &["sent"], figures.sent.1.into());
    exit.number(&table::CLUSTER_BYTES, &["received"], figures.received.1.into());
}
