//! The other nodes of a cluster, in memory: what they were told.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use actors::{Cluster, HomeNews, HomeRule, Homes, Node, NodeConfig, Others, Rival};
use router::IkeDatagram;
use snapshot::{Done, Kept, Row};
use tenants::PeerName;

use crate::common::{catalog, node_with};

/// The slot that all is in.
pub(crate) const SLOT: u8 = 1;
/// The number of another node.
pub(crate) const NODE: u32 = 7;

type Rows = BTreeMap<(u8, u64), Row>;

/// They pass nothing on. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Nodes {
    /// What the standby of the slot knows, if there is one.
    rows: Option<Arc<Mutex<Rows>>>,
    /// Of connections.
    told: Arc<Mutex<Vec<Rival>>>,
    /// How often it is said yet that the slot is here; for ever without a number.
    here: Arc<Mutex<Option<u32>>>,
}

impl Nodes {
    /// One of them is the standby of the slot.
    pub(crate) fn with_standby() -> Self {
        Self { rows: Some(Arc::default()), ..Self::default() }
    }

    /// Whoever asks is told so often yet that the slot is here.
    pub(crate) fn holds_yet(&self, times: Option<u32>) {
        *self.here.lock().unwrap() = times;
    }

    /// Another is the standby from now on, and knows nothing yet.
    pub(crate) fn forget(&self) {
        self.rows.iter().for_each(|rows| rows.lock().unwrap().clear());
    }

    pub(crate) fn rows(&self) -> Vec<Row> {
        self.rows.iter().flat_map(|rows| rows.lock().unwrap().values().cloned().collect::<Vec<_>>()).collect()
    }

    pub(crate) fn told(&self) -> Vec<Rival> {
        self.told.lock().unwrap().clone()
    }
}

/// A node of a cluster whose peers are at home by a rule, and one of them.
pub(crate) struct Among<R> {
    pub(crate) node: Node,
    pub(crate) nodes: Nodes,
    pub(crate) rule: R,
    pub(crate) news: HomeNews,
    pub(crate) name: PeerName,
    pub(crate) uid: u64,
}

impl<R: HomeRule + Clone + Default> Among<R> {
    pub(crate) fn new() -> Self {
        let (rule, news, nodes, catalog) = (R::default(), HomeNews::default(), Nodes::default(), catalog());
        let homes = Homes::new(rule.clone(), news.clone());
        let others = Others::new(Arc::new(nodes.clone()));
        let name: PeerName = "tenants/acme/peers/b0".parse().unwrap();
        let uid = catalog.get_peer(&name).unwrap().uid;
        let node = node_with(NodeConfig { homes, others, ..NodeConfig::default() }, catalog);
        Self { node, nodes, rule, news, name, uid }
    }
}

impl Cluster for Nodes {
    fn slot(&self) -> u8 {
        SLOT
    }

    fn holds(&self, slot: u8) -> bool {
        let mut here = self.here.lock().unwrap();
        let is_here = *here != Some(0);
        *here = here.map(|times| times.saturating_sub(1));
        slot == SLOT && is_here
    }

    fn is_told(&self, slot: u8) -> bool {
        slot == SLOT && self.rows.is_some()
    }

    fn put(&self, _: u8, rows: Vec<Row>, done: Done) {
        let Some(all) = &self.rows else { return done(Kept::Free) };
        for row in rows {
            let mut all = all.lock().unwrap();
            match &row.octets {
                Some(_) => all.insert((row.class, row.id), row),
                None => all.remove(&(row.class, row.id)),
            };
        }
        done(Kept::Known);
    }

    fn pass_on(&self, _: u8, _: &IkeDatagram) -> bool {
        false
    }

    fn begins_nothing(&self) -> bool {
        false
    }

    fn pass_first(&self, _: &IkeDatagram) -> bool {
        false
    }

    fn established(&self, rival: Rival) {
        self.told.lock().unwrap().push(rival);
    }

    fn number(&self, _: &str) -> Option<u32> {
        Some(NODE)
    }
}
