//! The events of other nodes, on and on: whoever is away is begun again after the last event that was passed on, and nothing is left out
//! without a word.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use culvert_proto::v1;
use latest::Follow as _;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tonic::{Code, Streaming};

use super::ask::{Node, in_time};
use super::events::{Begun, begin, last_event, position_event};
use super::{Others, Wide};
use crate::runtime::{RuntimeError, Scope};

/// Before a node that is away is asked again, and between looks whether one that says nothing is still heard.
const PAUSE: Duration = Duration::from_millis(500);
/// Between looks who is to be followed.
const LOOK: Duration = Duration::from_secs(5);

const AWAY: &str = "is away: what happens at it is not told";
const GONE: &str = "has gone: what happens at it is not told";
const AGAIN: &str = "is there again";
const NEW: &str = "is watched from now on: what has happened at it so far is not told";
const LOST: &str = "was started again, or has had more events than it keeps: some are missing";

/// The last events of each node, by its name. A node that is not there for a while is followed from there when it comes back; one that was
/// started again says that it has no such event.
type Seen = Arc<Mutex<HashMap<String, u64>>>;

/// How a node is found when it is to be followed.
pub(super) enum First {
    /// Its events come.
    Begun(Box<Begun>),
    /// It does not know yet of what was made at another node. The number is of its last event: it had none of that before.
    Behind(u64),
    /// It does not answer.
    Away,
    /// It is one that had gone.
    Again,
    /// Nothing was known of it.
    New,
}

/// What the client thinks of a node.
#[derive(PartialEq, Eq)]
enum Told {
    There,
    Away,
    Nothing,
}

/// Tells one client. `None` is a client that wants to know no more.
#[derive(Clone)]
pub(super) struct Teller {
    pub(super) sender: mpsc::Sender<Result<v1::Event, RuntimeError>>,
    /// Whether it wants to know where the events of a node begin of which it has seen none.
    pub(super) positions: bool,
}

impl Teller {
    pub(super) async fn send(&self, event: Result<v1::Event, RuntimeError>) -> Option<()> {
        self.sender.send(event).await.ok()
    }

    async fn changed(&self, node: &str, what: &str) -> Option<()> {
        let event = v1::Event {
            r#type: v1::EventType::NodeChanged.into(),
            time: Some(SystemTime::now().into()),
            node: node.to_owned(),
            message: format!("node {node} {what}"),
            ..v1::Event::default()
        };
        self.send(Ok(event)).await
    }

    /// Of a node that a client who has watched before does not know.
    pub(super) async fn new_to_watcher(&self, node: &str) -> Option<()> {
        self.changed(node, NEW).await
    }

    pub(super) async fn position(&self, node: &str, number: u64) -> Option<()> {
        match self.position_of(node, number) {
            Some(event) => self.send(Ok(event)).await,
            None => Some(()),
        }
    }

    /// What says after which event those of a node begin, if there is that to tell.
    pub(super) fn position_of(&self, node: &str, number: u64) -> Option<v1::Event> {
        (self.positions && number > 0).then(|| position_event(node.to_owned(), number))
    }
}

/// All other nodes, those that come later as well.
pub(super) struct All {
    pub(super) wide: Wide,
    pub(super) others: Arc<dyn Others>,
    pub(super) own: String,
    pub(super) scope: Scope,
    /// The client has watched before.
    pub(super) resumed: bool,
    pub(super) seen: Seen,
    pub(super) teller: Teller,
}

impl All {
    pub(super) async fn follow(self, mut first: BTreeMap<String, First>) -> Option<()> {
        let mut placement = self.others.placement();
        let (mut tasks, mut followed) = (JoinSet::new(), BTreeMap::<String, AbortHandle>::new());
        // Whom the client has heard of, and of those whom it was told to be gone.
        let (mut known, mut gone) = (self.seen_nodes(), BTreeSet::new());
        known.extend(first.keys().cloned());
        loop {
            placement.take_latest();
            let now = self.others.names();
            followed.retain(|name, task| {
                let there = now.contains(name);
                if !there {
                    task.abort();
                }
                there
            });
            for name in known.difference(&now) {
                if gone.insert(name.clone()) {
                    self.teller.changed(name, GONE).await?;
                }
            }
            for name in now {
                if followed.contains_key(&name) {
                    continue;
                }
                let found = first.remove(&name).unwrap_or(First::New);
                let found = if gone.remove(&name) { First::Again } else { found };
                known.insert(name.clone());
                let one = One {
                    node: self.wide.node(&self.others, &name),
                    others: Arc::clone(&self.others),
                    scope: self.scope.clone(),
                    resumed: self.resumed,
                    seen: Arc::clone(&self.seen),
                    teller: self.teller.clone(),
                };
                followed.insert(name, tasks.spawn(one.follow(found)));
            }
            // Who is heard, or owns a slot, changes without it.
            if let Ok(Err(_)) = tokio::time::timeout(LOOK, placement.changed()).await {
                return None;
            }
        }
    }

    /// The other nodes of which the client has seen something.
    fn seen_nodes(&self) -> BTreeSet<String> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.keys().filter(|name| **name != self.own).cloned().collect()
    }
}

/// Another node.
struct One {
    node: Node,
    others: Arc<dyn Others>,
    scope: Scope,
    resumed: bool,
    /// Of all of them.
    seen: Seen,
    teller: Teller,
}

impl One {
    /// Until nobody wants to know any more.
    async fn follow(self, first: First) -> Option<()> {
        let (mut told, mut begun) = (Told::There, None);
        match first {
            First::Begun(now) => {
                if self.resumed && self.last() == 0 {
                    told = Told::Nothing;
                }
                begun = Some(*now);
            }
            First::Behind(last) => self.learn(last).await?,
            First::Away => {
                told = Told::Away;
                self.tell(AWAY).await?;
            }
            First::Again => told = Told::Away,
            First::New => told = Told::Nothing,
        }
        loop {
            if let Some(Begun { stream, last }) = begun.take() {
                // First, so that whoever is told that it is watched from here on, and is cut off then, knows from where.
                self.learn(last).await?;
                match std::mem::replace(&mut told, Told::There) {
                    Told::There => {}
                    Told::Away => self.tell(AGAIN).await?,
                    Told::Nothing => self.tell(NEW).await?,
                }
                self.pass_on(stream).await?;
            }
            match in_time(begin(self.node.clone(), self.scope.clone(), Some(self.last()))).await {
                Ok(again) => {
                    begun = Some(again);
                    continue;
                }
                Err(status) if status.code() == Code::OutOfRange => {
                    self.saw(0);
                    self.tell(LOST).await?;
                    continue;
                }
                Err(status) if status.code() == Code::NotFound => {
                    self.learn(last_event(status.metadata())).await?;
                }
                Err(_) if std::mem::replace(&mut told, Told::Away) == Told::Away => {}
                Err(_) => self.tell(AWAY).await?,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Until the stream ends, or nothing is heard of the node. Where the client does not read, neither is the stream read: it has room of its
    /// own, and its node ends it when that and the backlog are full.
    async fn pass_on(&self, mut stream: Streaming<v1::Event>) -> Option<()> {
        loop {
            let event = match tokio::time::timeout(PAUSE, stream.message()).await {
                Ok(Ok(Some(event))) => event,
                Ok(_) => return Some(()),
                Err(_) if self.teller.sender.is_closed() => return None,
                Err(_) if self.others.hears(&self.node.name) => continue,
                Err(_) => return Some(()),
            };
            let number = event.sequence;
            if event.r#type() == v1::EventType::NodePosition {
                // Where it begins is known already; what it leaves out takes it on from there.
                if number > self.last() {
                    self.teller.position(&self.node.name, number).await?;
                    self.saw(number);
                }
                continue;
            }
            self.teller.send(Ok(v1::Event { node: self.node.name.clone(), ..event })).await?;
            // Not before: whoever waits for room may be ended, and begun again where this ends.
            self.saw(number);
        }
    }

    /// Where its events begin, if nothing was known of that.
    async fn learn(&self, last: u64) -> Option<()> {
        if self.last() > 0 || last == 0 {
            return Some(());
        }
        self.saw(last);
        self.teller.position(&self.node.name, last).await
    }

    /// The number of its last event; zero if none is known.
    fn last(&self) -> u64 {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.get(&self.node.name).copied().unwrap_or_default()
    }

    fn saw(&self, number: u64) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen.get_mut(&self.node.name) {
            Some(last) => *last = number,
            None => drop(seen.insert(self.node.name.clone(), number)),
        }
    }

    async fn tell(&self, what: &str) -> Option<()> {
        self.teller.changed(&self.node.name, what).await
    }
}
