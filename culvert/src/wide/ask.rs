//! How other nodes are asked.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use cluster::Placement;
use culvert_proto::v1::node_service_client::NodeServiceClient;
use culvert_proto::v1::peer_service_client::PeerServiceClient;
use culvert_proto::v1::sa_service_client::SaServiceClient;
use latest::Latest as _;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::metadata::MetadataValue;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use super::{Others, Wide};
use crate::access;
use crate::runtime::RuntimeError;

/// How long a node that is heard is waited for: one that has more to do than it can is named, and the rest is shown.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// Between looks whether a node that is asked is still heard: how often it says so.
const LOOK: Duration = cluster::mesh::BEAT;
/// Greatest answer: a page of peers with many children, or of SAs with many selectors.
const MAX_ANSWER: usize = 64 << 20;
/// A node that carries out an order is lost when it is silent for as long: orders may take minutes, in which one that is short of processors is
/// silent for a moment.
const LOST_AFTER: Duration = Duration::from_secs(2);
/// Who gave an order, as the log of the other node has it.
pub(crate) const BY: &str = "culvert-by-bin";

/// Streams of HTTP/2 that a node may have open at another one: one for each watcher that it has, of whom each tenant may have 32, and far
/// more than it can do otherwise.
pub(crate) const MAX_STREAMS: u32 = 16_384;
/// Octets of events from another node for one watcher that does not read them: some hundred events. The rest stays there, where all watchers
/// share it.
const WATCH_WINDOW: u32 = 64 << 10;
/// Octets of events for all watchers. None that reads waits for one that does not, however many those are.
const ALL_WATCH_WINDOWS: u32 = MAX_STREAMS * WATCH_WINDOW;

/// Another node.
#[derive(Clone)]
pub(super) struct Node {
    pub(super) name: String,
    ways: Ways,
    by: By,
}

/// The connections with a node. What is not read of one answer takes room from all others of the same connection.
#[derive(Clone)]
pub(super) struct Ways {
    /// For what is answered at once, and read.
    asking: Channel,
    /// For what goes on for as long as somebody watches, and is read when they do.
    watching: Channel,
}

impl Ways {
    fn to(others: &Arc<dyn Others>, name: &str) -> Self {
        let asking = Endpoint::from_static("http://node");
        let watching = asking
            .clone()
            .initial_stream_window_size(WATCH_WINDOW)
            .initial_connection_window_size(ALL_WATCH_WINDOWS);
        Self { asking: others.channel(name, &asking), watching: others.channel(name, &watching) }
    }
}

/// Says in whose name a node is asked.
#[derive(Clone)]
pub(super) struct By(String);

type Asked = InterceptedService<Channel, By>;

impl Interceptor for By {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert_bin(BY, MetadataValue::from_bytes(self.0.as_bytes()));
        Ok(request)
    }
}

impl Node {
    pub(super) fn peers(&self) -> PeerServiceClient<Asked> {
        PeerServiceClient::with_interceptor(self.ways.asking.clone(), self.by.clone())
            .max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn sas(&self) -> SaServiceClient<Asked> {
        SaServiceClient::with_interceptor(self.ways.asking.clone(), self.by.clone())
            .max_decoding_message_size(MAX_ANSWER)
    }

    /// For its events.
    pub(super) fn watching(&self) -> SaServiceClient<Asked> {
        SaServiceClient::with_interceptor(self.ways.watching.clone(), self.by.clone())
    }

    pub(super) fn nodes(&self) -> NodeServiceClient<Asked> {
        NodeServiceClient::with_interceptor(self.ways.asking.clone(), self.by.clone())
    }

    /// What it answers to an order instead of carrying it out.
    pub(super) fn refused(&self, status: Status) -> RuntimeError {
        let code = match status.code() {
            // It was found here: the other one does not know of it yet, as while etcd is slow.
            Code::NotFound => Code::Unavailable,
            // It has said why itself.
            _ if !status.details().is_empty() => {
                return RuntimeError::Elsewhere(Box::new(status));
            }
            // What tonic makes of a connection that broke.
            Code::Unknown | Code::Cancelled => Code::Unavailable,
            code => code,
        };
        let message = format!("node {}: {}", self.name, status.message());
        RuntimeError::Elsewhere(Box::new(Status::new(code, message)))
    }
}

impl Wide {
    /// The other nodes and who is where; none for a node that is alone.
    pub(super) fn others(&self) -> Option<(&Arc<dyn Others>, Arc<Placement>)> {
        let others = self.0.others.as_ref()?;
        let placement = others.placement().latest();
        Some((others, placement))
    }

    /// As other nodes call this one; empty for one that is alone.
    pub(super) fn own_name(&self) -> String {
        self.others().map(|(_, placement)| placement.own.clone()).unwrap_or_default()
    }

    /// Another node, to be asked in the name of whoever asks this one.
    pub(super) fn node(&self, others: &Arc<dyn Others>, name: &str) -> Node {
        let mut ways = self.0.ways.lock().unwrap_or_else(PoisonError::into_inner);
        let ways = ways.entry(name.to_owned()).or_insert_with(|| Ways::to(others, name)).clone();
        let by = access::current().map_or_else(|| "somebody".to_owned(), |caller| caller.principal());
        Node { name: name.to_owned(), ways, by: By(by) }
    }

    /// A node that is asked for something that it alone can do.
    pub(super) fn heard_node(&self, others: &Arc<dyn Others>, name: &str) -> Result<Node, RuntimeError> {
        if others.hears(name) {
            return Ok(self.node(others, name));
        }
        let reason =
            format!("node {name}, which this is for, is away; `culvert get nodes` shows who is there");
        Err(RuntimeError::Elsewhere(Box::new(Status::unavailable(reason))))
    }

    /// What another node answers to an order. It takes as long as it takes, unless that node is lost.
    pub(super) async fn ordered<T>(
        &self,
        node: &Node,
        answer: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, RuntimeError> {
        let lost = async {
            match &self.0.others {
                Some(others) => silence(&**others, &node.name, LOST_AFTER).await,
                None => std::future::pending().await,
            }
        };
        let answer = tokio::select! {
            answer = answer => answer,
            () = lost => Err(Status::unavailable("it is not heard any more; whether it was done is not known")),
        };
        answer.map(Response::into_inner).map_err(|status| node.refused(status))
    }

    /// Asks all other nodes at a time: their answers in the order of their names, and the names of those that gave none. What is
    /// not found there is no answer, and no fault either: the node does not know yet what it would be about.
    pub(super) async fn each<T, A>(&self, ask: impl Fn(Node) -> A) -> (Vec<(String, T)>, Vec<String>)
    where
        T: Send + 'static,
        A: Future<Output = Result<T, Status>> + Send + 'static,
    {
        let Some((others, _)) = self.others() else { return (Vec::new(), Vec::new()) };
        let (mut asked, mut away) = (JoinSet::new(), Vec::new());
        for name in others.names() {
            if !others.hears(&name) {
                away.push(name);
                continue;
            }
            let answer = ask(self.node(others, &name));
            let others = Arc::clone(others);
            asked.spawn(async move {
                let answer = tokio::select! {
                    answer = answer => answer,
                    () = silence(&*others, &name, Duration::ZERO) => Err(Status::unavailable("it is not heard any more")),
                };
                (name, answer)
            });
        }
        let mut answers = Vec::new();
        while let Some(answered) = asked.join_next().await {
            match answered {
                Ok((name, Ok(answer))) => answers.push((name, answer)),
                Ok((_, Err(status))) if status.code() == Code::NotFound => {}
                Ok((node, Err(status))) => {
                    tracing::debug!(node, %status, "a node that is heard has not answered");
                    away.push(node);
                }
                Err(error) => tracing::error!(%error, "asking another node"),
            }
        }
        answers.sort_by(|(one, _), (other, _)| one.cmp(other));
        away.sort();
        (answers, away)
    }
}

/// Until a node has not been heard for so long: whoever is lost while it is asked is not waited for.
async fn silence(others: &dyn Others, name: &str, lasting: Duration) {
    let (mut silent, mut looked) = (Duration::ZERO, Instant::now());
    loop {
        let now = Instant::now();
        // Where this process stood still, that is not the other's silence.
        let passed = now.duration_since(std::mem::replace(&mut looked, now)).min(2 * LOOK);
        if others.hears(name) {
            silent = Duration::ZERO;
        } else {
            silent += passed;
            if silent >= lasting {
                return;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Within [`PATIENCE`].
pub(super) async fn in_time<T>(answer: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    within(PATIENCE, answer).await
}

pub(super) async fn within<T>(
    patience: Duration,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let late = |_| Err(Status::deadline_exceeded("it has not answered in time"));
    tokio::time::timeout(patience, answer).await.unwrap_or_else(late)
}

#[cfg(test)]
mod tests {
    use tonic::transport::Endpoint;
    use tonic_types::StatusExt as _;

    use super::*;
    use crate::status::{self, invalid};

    #[tokio::test]
    async fn what_another_node_says_is_passed_on_with_all_its_details() {
        let channel = Endpoint::from_static("http://node").connect_lazy();
        let node = Node {
            name: "b".to_owned(),
            ways: Ways { asking: channel.clone(), watching: channel },
            by: By(String::new()),
        };
        let passed = |status| match node.refused(status) {
            RuntimeError::Elsewhere(status) => *status,
            other => panic!("{other}"),
        };
        let fields = passed(invalid("to", "there is no such node"));
        let fields = fields.get_details_bad_request().unwrap().field_violations;
        assert_eq!((fields.len(), fields[0].field.as_str()), (1, "to"));
        let unknown = passed(status::of_error(&tenants::Error::NotFound("tenants/a/peers/b".to_owned())));
        assert_eq!(
            (unknown.code(), unknown.message()),
            (Code::Unavailable, "node b: tenants/a/peers/b not found")
        );
        let broken = passed(Status::unknown("transport error"));
        assert_eq!((broken.code(), broken.message()), (Code::Unavailable, "node b: transport error"));
    }
}
