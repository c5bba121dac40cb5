//! What happens to the tunnels of all nodes, as one stream: where it begins at each of them. How each is followed from there is in `follow.rs`.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::SystemTime;

use culvert_proto::v1;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::{Stream, StreamExt as _};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, Streaming};

use super::Wide;
use super::ask::{Node, in_time};
use super::follow::{All, First, Teller};
use super::whose::asking;
use crate::runtime::{Runtime, RuntimeError, Scope};
use crate::status;

/// Events on their way to one client. When it is slower, the backlog of each node takes over.
const BUFFER: usize = 64;
/// Events of others that are left out before a watcher is told up to where: a small part of those that the node keeps, so that whoever
/// begins again after that one finds it kept, and a message for many, so that what is left out costs next to nothing.
const LEFT_OUT: u32 = 256;

/// In the headers of a stream of events: the number of the node's event after which it begins. Who has seen none yet begins again after that
/// one. It is also in those of NOT_FOUND: whoever knows that the node will know what is asked for begins there.
pub(crate) const LAST_EVENT: &str = "culvert-last-event";

/// The last events that a client has seen.
#[derive(Clone, Debug, Default)]
pub struct After {
    /// Of the node that is asked; zero for none.
    pub number: u64,
    /// Of each node by its name.
    pub of_nodes: HashMap<String, u64>,
}

/// Events in the order of their sequence numbers.
pub(crate) type EventStream = Pin<Box<dyn Stream<Item = Result<v1::Event, RuntimeError>> + Send>>;

/// Events, and the number of the node's own one after which they begin; zero where none are numbered.
pub(crate) struct Watched {
    pub(crate) position: u64,
    pub(crate) events: EventStream,
}

impl Wide {
    /// The events of a scope from now on, or from the last ones seen on. Those of one node are in their order. With `positions` an event
    /// says after which one they begin: first of all for this node, and for each other one of which none is known.
    pub(crate) async fn watch(
        &self,
        scope: &Scope,
        after: After,
        positions: bool,
    ) -> Result<Watched, RuntimeError> {
        let (sender, receiver) = mpsc::channel(BUFFER);
        let teller = Teller { sender, positions };
        let Some((others, placement)) = self.others() else {
            let Watched { position, events } = begin_here(&*self.0.local, scope, after.number, positions)?;
            let told = teller.position_of("", position).map(Ok);
            return Ok(Watched { position, events: Box::pin(tokio_stream::iter(told).chain(events)) });
        };
        let own = placement.own.clone();
        let at_own = |own: &str, error: &RuntimeError| elsewhere(own, &status::of_runtime(error, ""));
        let of_own = after.of_nodes.get(&own).copied().unwrap_or(after.number);
        let here = begin_here(&*self.0.local, scope, of_own, positions);
        let Watched { position, events: mut local } = here.map_err(|error| at_own(&own, &error))?;
        // Before the client hears that it watches, so that nothing is missed that happens from then on.
        let first = self.begin_elsewhere(scope, &after).await?;
        let resumed = !after.of_nodes.is_empty();
        // Before any other can say something: from the first position a client knows which node it has asked. There is room, and a reader.
        teller.position(&own, position).await;
        if resumed && of_own == 0 {
            teller.new_to_watcher(&own).await;
        }
        let mut tasks = JoinSet::new();
        let to = teller.clone();
        let name = own.clone();
        tasks.spawn(async move {
            while let Some(event) = local.next().await {
                let event = event.map(|event| v1::Event { node: name.clone(), ..event });
                to.send(event.map_err(|error| at_own(&name, &error))).await?;
            }
            Some(())
        });
        let all = All {
            wide: self.clone(),
            others: Arc::clone(others),
            own,
            scope: scope.clone(),
            resumed,
            seen: Arc::new(Mutex::new(after.of_nodes)),
            teller,
        };
        tasks.spawn(all.follow(first));
        Ok(Watched { position, events: Box::pin(Merged { receiver, _tasks: tasks }) })
    }

    /// How each of the other nodes is found. One that has lost what comes after the last event seen of it is said by its name.
    async fn begin_elsewhere(
        &self,
        scope: &Scope,
        after: &After,
    ) -> Result<BTreeMap<String, First>, RuntimeError> {
        let (found, away) = self
            .each(|node| {
                let begin = begin(node.clone(), scope.clone(), after.of_nodes.get(&node.name).copied());
                async move {
                    match in_time(begin).await {
                        Ok(begun) => Ok(Ok(First::Begun(Box::new(begun)))),
                        Err(status) if status.code() == Code::OutOfRange => Ok(Err(status)),
                        Err(status) if status.code() == Code::NotFound => {
                            Ok(Ok(First::Behind(last_event(status.metadata()))))
                        }
                        Err(status) => Err(status),
                    }
                }
            })
            .await;
        let mut first: BTreeMap<String, First> = away.into_iter().map(|name| (name, First::Away)).collect();
        for (name, found) in found {
            let found = found.map_err(|status| elsewhere(&name, &status))?;
            first.insert(name, found);
        }
        Ok(first)
    }
}

/// What says after which event those of a node begin.
pub(crate) fn position_event(node: String, sequence: u64) -> v1::Event {
    let r#type = v1::EventType::NodePosition.into();
    v1::Event { r#type, time: Some(SystemTime::now().into()), node, sequence, ..v1::Event::default() }
}

/// What a node of several answers.
fn elsewhere(node: &str, status: &Status) -> RuntimeError {
    RuntimeError::Elsewhere(Box::new(status::at_node(status, node)))
}

/// This node's own events of a scope: the others leave out by themselves what is not for the watcher. Those that come while it begins are
/// neither left out nor before the position.
fn begin_here(
    local: &dyn Runtime,
    scope: &Scope,
    after: u64,
    positions: bool,
) -> Result<Watched, RuntimeError> {
    let position = if after > 0 { after } else { local.last_event() };
    let (scope, mut left_out) = (scope.clone(), 0);
    let events = local.watch(position)?.filter_map(move |happened| match happened {
        Err(error) => Some(Err(error)),
        Ok(happened) if scope.covers_event(&happened) => Some(Ok(happened.event)),
        Ok(happened) => {
            left_out = (left_out + 1) % LEFT_OUT;
            (positions && left_out == 0).then(|| Ok(position_event(String::new(), happened.event.sequence)))
        }
    });
    Ok(Watched { position, events: Box::pin(events) })
}

struct Merged {
    receiver: mpsc::Receiver<Result<v1::Event, RuntimeError>>,
    _tasks: JoinSet<Option<()>>,
}

impl Stream for Merged {
    type Item = Result<v1::Event, RuntimeError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx)
    }
}

/// Events of a node with its positions, and the number of its last one before them; zero where it does not say.
pub(super) struct Begun {
    pub(super) stream: Streaming<v1::Event>,
    pub(super) last: u64,
}

pub(super) async fn begin(node: Node, scope: Scope, after: Option<u64>) -> Result<Begun, Status> {
    let after_sequence = after.unwrap_or_default();
    // Also where the client wants none: it is begun again after them.
    let positions = true;
    let parent = scope.parent();
    let request =
        v1::WatchEventsRequest { parent, after_sequence, positions, ..v1::WatchEventsRequest::default() };
    let response = node.watching().watch_events(asking(&scope, request)).await?;
    Ok(Begun { last: last_event(response.metadata()), stream: response.into_inner() })
}

/// Zero where it does not say.
pub(super) fn last_event(metadata: &MetadataMap) -> u64 {
    let last = metadata.get(LAST_EVENT).and_then(|last| last.to_str().ok()?.parse().ok());
    last.unwrap_or_default()
}
