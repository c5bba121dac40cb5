//! How a tunnel is taken down that any of several nodes may have, and begin again.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use actors::{SpanContext, Within};
use cluster::Placement;
use culvert_proto::v1;
use http::HeaderMap;
use tenants::Peer;
use tonic::metadata::MetadataValue;
use tonic::{Request, Status};

use super::ask::{Node, in_time};
use super::orders::{has_moved, there};
use super::place::{At, Place};
use super::{Others, Wide, merge};
use crate::access::{self, serving};
use crate::runtime::{ORDER_ENDED, RuntimeError};

/// What another node means by a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Meant {
    /// What it says.
    #[default]
    Said,
    /// To take down a tunnel that this node is said to have, and no other.
    Held,
    /// The tunnel is not to be kept down any longer. It comes with a question, which is all that a node sees in it that does not know the word.
    LetBe,
}

/// How long an order takes at most: two nodes may take a minute each for what they do.
const PATIENCE: Duration = Duration::from_secs(150);
/// The header that says so. It is read of nodes alone.
const MEANT: &str = "culvert-meant";
const HELD: &str = "held";
const LET_BE: &str = "let-be";

impl Meant {
    /// What was said with a request.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        match headers.get(MEANT).map(http::HeaderValue::as_bytes) {
            Some(word) if word == HELD.as_bytes() => Self::Held,
            Some(word) if word == LET_BE.as_bytes() => Self::LetBe,
            _ => Self::Said,
        }
    }

    fn with<T>(self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let word = match self {
            Self::Said => return request,
            Self::Held => HELD,
            Self::LetBe => LET_BE,
        };
        request.metadata_mut().insert(MEANT, MetadataValue::from_static(word));
        request
    }
}

impl Wide {
    /// Takes the tunnel down at the wish of `by`; answers when it is. What another node has `meant` is about this one alone.
    pub(crate) async fn terminate(
        &self,
        peer: Arc<Peer>,
        by: &str,
        meant: Meant,
    ) -> Result<v1::PeerStatus, RuntimeError> {
        if self.others().is_none() {
            return self.terminate_local(&peer, by, meant).await;
        }
        let (wide, by) = (self.clone(), by.to_owned());
        let order = async move {
            let mut result = wide.terminate_anywhere(&peer, &by).await;
            if has_moved(&result) {
                result = wide.terminate_anywhere(&peer, &by).await;
            }
            if result.is_err() {
                wide.let_be_what_is_up(&peer).await;
            }
            result
        };
        // Its steps belong together, and whoever has asked may go away between them.
        match spawn(tokio::time::timeout(PATIENCE, order)).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(RuntimeError::Failed(format!("no outcome after {} s", PATIENCE.as_secs()))),
            Err(error) => {
                tracing::error!(%error, "an order has come to an end");
                Err(ORDER_ENDED)
            }
        }
    }

    async fn terminate_anywhere(&self, peer: &Arc<Peer>, by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        let Some((others, placement)) = self.others() else {
            return self.terminate_local(peer, by, Meant::Said).await;
        };
        let Place { at, has, unsure } = self.place(peer).await?;
        if unsure {
            return Err(RuntimeError::Moved);
        }
        // The node that the peer is at home with begins with it when the connection that another has ends. It is told first, so that
        // the tunnel stays down.
        let own = placement.own.as_str();
        let home = placement.home(peer.uid).map(|node| node.name.as_str());
        let home = home.filter(|home| *home != at.name().unwrap_or(own));
        let kept = match home {
            Some(home) => self.keep_down(others, &placement, home, peer, by).await,
            None => Ok(()),
        };
        let meant = if has { Meant::Held } else { Meant::Said };
        let done = match &at {
            At::Here => self.terminate_local(peer, by, meant).await.map(|status| self.here(status)),
            At::There(node) => self.terminate_there(node, peer, meant).await,
        };
        match (done, kept, home) {
            (Ok(_), Err(error), Some(home)) => {
                let reason = format!(
                    "the tunnel was taken down, but node {home}, which begins with the peer, was not told to leave it so ({error}); ask again"
                );
                Err(RuntimeError::Elsewhere(Box::new(Status::unavailable(reason))))
            }
            (done, ..) => done,
        }
    }

    /// What was to be taken down and is up all the same, its node must not keep down once it is lost. Whatever the error says: that is what shows it.
    async fn let_be_what_is_up(&self, peer: &Arc<Peer>) {
        let Some((others, placement)) = self.others() else { return };
        let told = self.statuses_once(std::slice::from_ref(peer)).await;
        let up = told.known.what.into_iter().flatten().find(merge::is_up);
        let home = placement.home(peer.uid).map(|node| node.name.as_str());
        if let (Some(up), Some(home)) = (up, home)
            && up.node != home
        {
            self.let_be(others, &placement, home, peer).await;
        }
    }

    async fn terminate_local(
        &self,
        peer: &Arc<Peer>,
        by: &str,
        meant: Meant,
    ) -> Result<v1::PeerStatus, RuntimeError> {
        let peer = Arc::clone(peer);
        match meant {
            Meant::Held => self.0.local.terminate_held(peer, by).await,
            Meant::Said | Meant::LetBe => self.0.local.terminate(peer, by).await,
        }
    }

    async fn terminate_there(
        &self,
        node: &Node,
        peer: &Peer,
        meant: Meant,
    ) -> Result<v1::PeerStatus, RuntimeError> {
        let request = meant.with(v1::TerminatePeerRequest { name: peer.name.to_string() });
        let answer = self.ordered(node, node.peers().terminate_peer(request)).await?;
        Ok(there(node, answer.status))
    }

    /// Has a node not begin with the peer, within the time in which it has to answer.
    async fn keep_down(
        &self,
        others: &Arc<dyn Others>,
        placement: &Placement,
        name: &str,
        peer: &Arc<Peer>,
        by: &str,
    ) -> Result<(), RuntimeError> {
        if name == placement.own {
            let told = async { Ok(self.0.local.terminate(Arc::clone(peer), by).await.map(drop)) };
            let late = |status| RuntimeError::Elsewhere(Box::new(status));
            return in_time(told).await.unwrap_or_else(|status| Err(late(status)));
        }
        let node = self.heard_node(others, name)?;
        let told = async { Ok(self.terminate_there(&node, peer, Meant::Said).await.map(drop)) };
        in_time(told).await.unwrap_or_else(|late: Status| Err(node.refused(late)))
    }

    /// Has a node not keep the tunnel down any longer.
    async fn let_be(&self, others: &Arc<dyn Others>, placement: &Placement, name: &str, peer: &Arc<Peer>) {
        let told = if name == placement.own {
            self.0.local.let_be(Arc::clone(peer)).await.map_err(|error| error.to_string())
        } else {
            match self.heard_node(others, name) {
                Ok(node) => let_be_there(node, peer).await.map_err(|status| status.message().to_owned()),
                Err(error) => Err(error.to_string()),
            }
        };
        if let Err(error) = told {
            tracing::warn!(peer = %peer.name, node = name, error, "the node may not begin with a peer that was to be taken down");
        }
    }

    /// Has all nodes that are heard not keep the tunnel down any longer, but for the one that is told otherwise: this one if that has no name. Nobody waits
    /// for that.
    pub(super) fn let_others_be(&self, peer: &Arc<Peer>, but: Option<&str>) {
        if self.others().is_none() {
            return;
        }
        let (wide, peer, but) = (self.clone(), Arc::clone(peer), but.map(str::to_owned));
        drop(spawn(async move {
            let told = async {
                if but.is_some()
                    && let Err(error) = wide.0.local.let_be(Arc::clone(&peer)).await
                {
                    tracing::debug!(peer = %peer.name, %error, "no tunnel to let be");
                }
            };
            let others = wide.each(|node| {
                let (peer, is_told) = (Arc::clone(&peer), but.as_deref() == Some(node.name.as_str()));
                async move { if is_told { Ok(()) } else { let_be_there(node, &peer).await } }
            });
            tokio::join!(told, others)
        }));
    }
}

/// Begins a task for whoever asks now, with the trace of that.
fn spawn<T: Send + 'static>(task: impl Future<Output = T> + Send + 'static) -> tokio::task::JoinHandle<T> {
    let task: Pin<Box<dyn Future<Output = T> + Send>> = match SpanContext::current() {
        Some(context) => Box::pin(Within::new(context, task)),
        None => Box::pin(task),
    };
    match access::current() {
        Some(caller) => tokio::spawn(serving(caller, access::author(), task)),
        None => tokio::spawn(task),
    }
}

async fn let_be_there(node: Node, peer: &Peer) -> Result<(), Status> {
    let request = Meant::LetBe.with(v1::ExplainPeerRequest { name: peer.name.to_string() });
    in_time(node.peers().explain_peer(request)).await.map(drop)
}
