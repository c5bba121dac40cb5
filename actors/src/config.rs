//! How a node is run.

use std::collections::HashSet;
use std::sync::Arc;

use tenants::PeerName;

use crate::homes::Homes;
use crate::key_log::KeyLog;
use crate::moves::Others;
use crate::resolver::Lookup;
use crate::span::SpanSink;

/// How a node is run.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The cluster's slot this node serves, 1..=63; it goes into every SPI. 0 where there are other nodes and none was free.
    pub slot: u8,
    /// Threads for actors.
    pub arbiters: usize,
    /// Port to which negotiations with peers are started.
    pub remote_ike_port: u16,
    /// Port of peers for NAT traversal.
    pub remote_natt_port: u16,
    /// Peers whose tunnels were up when the node was stopped last: they are called back at once where they have an address.
    pub recall: HashSet<PeerName>,
    /// Where the keys of all SAs are written, if somebody has asked for it.
    pub key_log: Option<Arc<KeyLog>>,
    /// How the host names of peers become addresses.
    pub lookup: Lookup,
    /// Where the spans of negotiations go, if anywhere.
    pub spans: Option<Arc<dyn SpanSink>>,
    /// Which peers another node begins with.
    pub homes: Homes,
    /// The other nodes, as far as tunnels go to them and come from them.
    pub others: Others,
}

impl Default for NodeConfig {
    fn default() -> Self {
        Self {
            slot: 1,
            arbiters: 2,
            remote_ike_port: 500,
            remote_natt_port: 4500,
            recall: HashSet::new(),
            key_log: None,
            lookup: Lookup::default(),
            spans: None,
            homes: Homes::default(),
            others: Others::default(),
        }
    }
}
