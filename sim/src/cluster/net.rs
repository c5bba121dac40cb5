//! What is between the nodes, and between them and etcd: each way is there or is cut, and takes its time.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cluster::{Ask, Later, Path, Simulated, Slots, Wire};
use snapshot::Octets;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::witness::Witness;
use crate::random::Random;

/// The longest that a message takes on a network that is well.
const SHORT: Duration = Duration::from_millis(3);

/// What a node asks of etcd in a second at most, many times what is seen in histories: whoever asks more never ends asking.
const ASKS: u32 = 2_000;
/// For as long they are counted.
const COUNTED: Duration = Duration::from_secs(1);

/// Names of nodes.
pub(super) type Names = BTreeSet<String>;

/// The network. Nodes are known by their names.
pub(super) struct Net {
    state: Mutex<State>,
    witness: Arc<Witness>,
}

pub(super) struct State {
    pub(super) chance: Random,
    pub(super) nodes: BTreeMap<String, There>,
    /// Nothing gets from the first to the second.
    pub(super) cut: BTreeSet<(String, String)>,
    /// Nodes that etcd is away from.
    pub(super) cut_from_etcd: Names,
    /// The longest that a message takes now.
    longest: Duration,
    /// Nothing happens: what goes to etcd is there at once, which spares the simulation work.
    pub(super) calm: bool,
    lanes: BTreeMap<Lane, mpsc::UnboundedSender<Message>>,
    /// Whether the first of two will be heard by the second, and by which change that is so.
    pub(super) will_hear: BTreeMap<(String, String), (bool, u64)>,
    pub(super) changes: u64,
    /// What each node has asked of etcd since when.
    asked: BTreeMap<String, (Instant, u32)>,
}

/// A process of a node.
#[derive(Clone)]
pub(super) struct There {
    pub(super) process: Simulated,
    pub(super) slots: Slots,
    pub(super) hears: Arc<watch::Sender<Arc<Names>>>,
}

/// From which node to which one, and the kind of what is asked.
type Lane = (String, String, u16);

struct Message {
    arrives: Instant,
    body: Octets,
    tell: oneshot::Sender<Result<Vec<u8>, String>>,
}

impl Net {
    pub(super) fn new(chance: Random, witness: Arc<Witness>) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(State {
                chance,
                nodes: BTreeMap::new(),
                cut: BTreeSet::new(),
                cut_from_etcd: BTreeSet::new(),
                longest: SHORT,
                calm: false,
                lanes: BTreeMap::new(),
                will_hear: BTreeMap::new(),
                changes: 0,
                asked: BTreeMap::new(),
            }),
            witness,
        })
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A process of a node can be reached.
    pub(super) fn join(self: &Arc<Self>, name: &str, there: There) {
        self.state().nodes.insert(name.to_owned(), there);
        self.listen();
    }

    /// A process of a node is gone: nothing reaches it any more.
    pub(super) fn leave(self: &Arc<Self>, name: &str) {
        {
            let mut state = self.state();
            state.nodes.remove(name);
            state.lanes.retain(|(_, to, _), _| to != name);
            state.will_hear.retain(|(_, to), _| to != name);
        }
        self.listen();
    }

    /// From now on messages take as long as this at most; as ever without.
    pub(super) fn slow(&self, longest: Option<Duration>) {
        self.state().longest = longest.unwrap_or(SHORT);
    }

    fn carry(
        self: &Arc<Self>,
        (from, to): (&str, &str),
        ask: Ask,
        body: Octets,
        tell: oneshot::Sender<Result<Vec<u8>, String>>,
    ) {
        let mut state = self.state();
        if !state.gets_through(from, to) {
            return;
        }
        let Some(there) = state.nodes.get(to).cloned() else { return };
        let arrives = Instant::now() + state.time();
        let lane = (from.to_owned(), to.to_owned(), ask as u16);
        let queue = state.lanes.entry(lane).or_insert_with(|| {
            let (queue, messages) = mpsc::unbounded_channel();
            let answers =
                answer(Arc::clone(self), (from.to_owned(), to.to_owned()), ask, there.slots, messages);
            tokio::spawn(there.process.task(answers));
            queue
        });
        // If the process is gone nobody answers.
        let _ = queue.send(Message { arrives, body, tell });
    }
}

impl State {
    pub(super) fn gets_through(&self, from: &str, to: &str) -> bool {
        !self.cut.contains(&(from.to_owned(), to.to_owned()))
    }

    /// How often a node has asked etcd lately, with this time.
    fn asks(&mut self, name: &str) -> u32 {
        let now = Instant::now();
        let (since, asked) = self.asked.entry(name.to_owned()).or_insert((now, 0));
        if now.duration_since(*since) >= COUNTED {
            (*since, *asked) = (now, 0);
        }
        *asked += 1;
        *asked
    }

    /// How long a message takes.
    fn time(&mut self) -> Duration {
        let longest = self.longest;
        self.chance.time_up_to(longest)
    }
}

/// Answers what comes by one lane, in its order.
async fn answer(
    net: Arc<Net>,
    (from, to): (String, String),
    ask: Ask,
    slots: Slots,
    mut messages: mpsc::UnboundedReceiver<Message>,
) {
    while let Some(Message { arrives, body, tell }) = messages.recv().await {
        tokio::time::sleep_until(arrives).await;
        let answer = slots.answer(&from, ask, &body).await;
        let back = {
            let mut state = net.state();
            state.gets_through(&to, &from).then(|| state.time())
        };
        if let Some(back) = back {
            tokio::spawn(async move {
                tokio::time::sleep(back).await;
                // Whoever asked may have given up.
                let _ = tell.send(answer);
            });
        }
    }
}

/// The way of a node to the others.
pub(super) struct Line {
    pub(super) net: Arc<Net>,
    pub(super) name: String,
}

impl Wire for Line {
    fn ask(
        &self,
        node: &str,
        ask: Ask,
        body: Octets,
        patience: Duration,
    ) -> Later<'_, Result<Vec<u8>, String>> {
        let node = node.to_owned();
        Box::pin(async move {
            let (tell, told) = oneshot::channel();
            self.net.carry((&self.name, &node), ask, body, tell);
            let until = Instant::now() + patience;
            match tokio::time::timeout_at(until, told).await {
                Ok(Ok(answer)) => answer,
                // It is lost, which nobody says.
                Ok(Err(_)) => {
                    tokio::time::sleep_until(until).await;
                    Err("no answer".to_owned())
                }
                Err(_) => Err("no answer".to_owned()),
            }
        })
    }
}

/// The way of a node to etcd.
pub(super) struct ToEtcd {
    pub(super) net: Arc<Net>,
    pub(super) name: String,
}

impl fmt::Debug for ToEtcd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ToEtcd({})", self.name)
    }
}

impl Path for ToEtcd {
    fn time(&self) -> Option<Duration> {
        let mut state = self.net.state();
        if state.cut_from_etcd.contains(&self.name) {
            return None;
        }
        let asks = state.asks(&self.name);
        if asks == ASKS {
            self.net.witness.violation(&format!("{} asks etcd without end", self.name));
        }
        Some(if state.calm && asks < ASKS { Duration::ZERO } else { state.time() })
    }
}
