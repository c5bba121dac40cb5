//! What all actors share.

use std::sync::Arc;
use std::time::SystemTime;

use actix::ArbiterHandle;
use router::RouterHandle;
use tenants::Catalog;

use crate::counters::Counters;
use crate::events::EventHub;
use crate::history::Strangers;
use crate::key_log::KeyLog;
use crate::node::NodeConfig;
use crate::registry::Registry;
use crate::status::Board;

/// Shared by every actor of a node. Nothing here is locked for longer than a look-up.
pub(crate) struct Env {
    pub(crate) config: NodeConfig,
    pub(crate) router: RouterHandle,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) registry: Registry,
    pub(crate) board: Board,
    pub(crate) hub: EventHub,
    pub(crate) counters: Counters,
    pub(crate) strangers: Strangers,
    pub(crate) arbiters: Vec<ArbiterHandle>,
    pub(crate) started: SystemTime,
    /// ESP can go without UDP at all our addresses.
    pub(crate) raw_esp: bool,
    /// Only where somebody has asked for it.
    pub(crate) key_log: Option<Arc<KeyLog>>,
}

impl Env {
    /// The thread that `key` belongs to: everything of one peer runs on one.
    pub(crate) fn arbiter(&self, key: u64) -> Option<&ArbiterHandle> {
        let count = u64::try_from(self.arbiters.len()).unwrap_or(1).max(1);
        self.arbiters.get(usize::try_from(key % count).unwrap_or(0))
    }
}
