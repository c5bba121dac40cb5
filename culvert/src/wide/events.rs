//! What happens to the tunnels of all nodes, as one stream.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use culvert_proto::v1;
use latest::Follow as _;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Code, Status, Streaming};

use super::ask::{Node, in_time};
use super::{Others, Wide};
use crate::runtime::{EventStream, RuntimeError, Scope};

/// Events on their way to one client. When it is slower, the backlog of each node takes over.
const BUFFER: usize = 64;
/// Before a node that is away is asked again, and between looks whether one that says nothing is still heard.
const PAUSE: Duration = Duration::from_millis(500);
/// Between looks who is to be followed.
const LOOK: Duration = Duration::from_secs(5);

/// In the headers of a stream of events: the number of the node's last event when it began. Who has seen none yet begins again after that one.
pub(crate) const LAST_EVENT: &str = "culvert-last-event";

/// The last events that a client has seen.
#[derive(Clone, Debug, Default)]
pub struct After {
    /// Of the node that is asked; zero for none.
    pub number: u64,
    /// Of each node by its name.
    pub of_nodes: HashMap<String, u64>,
}

/// The last events of each node that was followed, by its name. A node that is not there for a while is followed from there when it comes back; one
/// that was started again says that it has no such event.
type Seen = Arc<Mutex<HashMap<String, u64>>>;

type Sender = mpsc::Sender<Result<v1::Event, RuntimeError>>;

impl Wide {
    /// The events of a scope from now on, or from the last ones seen on. Those of one node are in their order.
    pub(crate) async fn watch(&self, scope: &Scope, after: After) -> Result<EventStream, RuntimeError> {
        let Some((others, placement)) = self.others() else { return self.0.local.watch(after.number) };
        let own = placement.own.clone();
        let of_own = after.of_nodes.get(&own).copied().unwrap_or(after.number);
        let mut local = self.0.local.watch(of_own)?;
        let parent = scope.parent();
        // Before the client hears that it watches, so that nothing is missed that happens from then on.
        let (mut begun, _) = self
            .each(|node| {
                let begin = begin(node.clone(), parent.clone(), after.of_nodes.get(&node.name).copied());
                async move {
                    match in_time(begin).await {
                        Err(status) if status.code() == Code::OutOfRange => Ok(Err(status)),
                        other => other.map(Ok),
                    }
                }
            })
            .await;
        if let Some(at) = begun.iter().position(|(_, begun)| begun.is_err())
            && let (_, Err(status)) = begun.swap_remove(at)
        {
            return Err(RuntimeError::Elsewhere(Box::new(status)));
        }
        let begun = begun.into_iter().filter_map(|(name, begun)| Some((name, begun.ok()?))).collect();
        let (sender, receiver) = mpsc::channel(BUFFER);
        let mut tasks = JoinSet::new();
        let to = sender.clone();
        tasks.spawn(async move {
            while let Some(event) = local.next().await {
                let event = event.map(|event| v1::Event { node: own.clone(), ..event });
                if to.send(event).await.is_err() {
                    return;
                }
            }
        });
        let all = All { wide: self.clone(), others: Arc::clone(others), parent, sender };
        tasks.spawn(all.follow(begun, Arc::new(Mutex::new(after.of_nodes))));
        Ok(Box::pin(Merged { receiver, _tasks: tasks }))
    }
}

struct Merged {
    receiver: mpsc::Receiver<Result<v1::Event, RuntimeError>>,
    _tasks: JoinSet<()>,
}

impl Stream for Merged {
    type Item = Result<v1::Event, RuntimeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx)
    }
}

/// Events of a node, and the number of its last one before them; zero where it does not say.
struct Begun {
    stream: Streaming<v1::Event>,
    last: u64,
}

async fn begin(node: Node, parent: String, after: Option<u64>) -> Result<Begun, Status> {
    let after_sequence = after.unwrap_or_default();
    let request = v1::WatchEventsRequest { parent, after_sequence, ..v1::WatchEventsRequest::default() };
    let response = node.watching().watch_events(request).await?;
    let last = response.metadata().get(LAST_EVENT).and_then(|last| last.to_str().ok()?.parse().ok());
    Ok(Begun { last: last.unwrap_or_default(), stream: response.into_inner() })
}

/// All other nodes, those that come later as well.
struct All {
    wide: Wide,
    others: Arc<dyn Others>,
    parent: String,
    sender: Sender,
}

impl All {
    async fn follow(self, mut begun: BTreeMap<String, Begun>, seen: Seen) {
        let mut placement = self.others.placement();
        let (mut tasks, mut followed) = (JoinSet::new(), BTreeMap::<String, AbortHandle>::new());
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
            for name in now {
                if followed.contains_key(&name) {
                    continue;
                }
                let one = One {
                    node: self.wide.node(&self.others, &name),
                    others: Arc::clone(&self.others),
                    parent: self.parent.clone(),
                    seen: Arc::clone(&seen),
                    sender: self.sender.clone(),
                };
                let begun = begun.remove(&name);
                followed.insert(name, tasks.spawn(one.follow(begun)));
            }
            // Who is heard, or owns a slot, changes without it.
            if let Ok(Err(_)) = tokio::time::timeout(LOOK, placement.changed()).await {
                return;
            }
        }
    }
}

/// Another node.
struct One {
    node: Node,
    others: Arc<dyn Others>,
    parent: String,
    /// Of all of them.
    seen: Seen,
    sender: Sender,
}

impl One {
    /// Until nobody wants to know any more.
    async fn follow(self, begun: Option<Begun>) -> Option<()> {
        let mut away = begun.is_none();
        if away {
            self.tell("is away: what happens at it is not told").await?;
        }
        let mut begun = begun;
        loop {
            if let Some(Begun { stream, last }) = begun.take() {
                if self.last() == 0 {
                    self.saw(last);
                }
                if std::mem::take(&mut away) {
                    self.tell("is there again").await?;
                }
                self.pass_on(stream).await?;
            }
            match in_time(begin(self.node.clone(), self.parent.clone(), Some(self.last()))).await {
                Ok(again) => {
                    begun = Some(again);
                    continue;
                }
                Err(status) if status.code() == Code::OutOfRange => {
                    self.saw(0);
                    self.tell("was started again, or has had more events than it keeps: some are missing")
                        .await?;
                    continue;
                }
                // It does not know yet of what was made at another node.
                Err(status) if status.code() == Code::NotFound => {}
                Err(_) if std::mem::replace(&mut away, true) => {}
                Err(_) => self.tell("is away: what happens at it is not told").await?,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Until the stream ends, or nothing is heard of the node.
    async fn pass_on(&self, mut stream: Streaming<v1::Event>) -> Option<()> {
        loop {
            let event = match tokio::time::timeout(PAUSE, stream.message()).await {
                Ok(Ok(Some(event))) => event,
                Ok(_) => return Some(()),
                Err(_) if self.sender.is_closed() => return None,
                Err(_) if self.others.hears(&self.node.name) => continue,
                Err(_) => return Some(()),
            };
            let number = event.sequence;
            self.send(v1::Event { node: self.node.name.clone(), ..event }).await?;
            // Not before: whoever waits for room may be ended, and begun again where this ends.
            self.saw(number);
        }
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
        let event = v1::Event {
            r#type: v1::EventType::NodeChanged.into(),
            time: Some(SystemTime::now().into()),
            node: self.node.name.clone(),
            message: format!("node {} {what}", self.node.name),
            ..v1::Event::default()
        };
        self.send(event).await
    }

    async fn send(&self, event: v1::Event) -> Option<()> {
        self.sender.send(Ok(event)).await.ok()
    }
}
