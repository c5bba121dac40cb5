//! Connects with other nodes: of two the one whose name is lower does, so that there is one connection.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use latest::Follow as _;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::credentials::certified_name;
use super::hearing::SILENT;
use super::hello;
use super::link::Link;
use super::peer::{Inner, Peer};
use super::refusal::{code, of_identity};

/// After the first try that came to nothing, and twice as long after each that follows.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// A connection by which nothing comes for as long is made anew. It may come to life again by itself, and what waits for an answer by it
/// is lost with it.
pub(super) const GIVEN_UP: Duration = Duration::from_secs(1);
/// At most: a node that comes back is connected with within a second.
pub(crate) const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// As long as the mesh is there: sees to it that each node that is ours to connect with is.
pub(super) async fn dial(inner: Arc<Inner>) {
    let mut placement = inner.placement.clone();
    let mut dialing = Dialing::default();
    loop {
        let now = placement.take_latest();
        let ours = now.nodes.iter().filter(|node| node.name.as_str() > inner.name.as_str());
        let wanted: BTreeMap<_, _> =
            ours.filter_map(|node| Some((node.name.clone(), (node.mesh?, node.instance.clone())))).collect();
        dialing.0.retain(|name, (target, task)| {
            let kept = wanted.get(name) == Some(target);
            if !kept {
                task.abort();
            }
            kept
        });
        for (name, target) in wanted {
            dialing.0.entry(name.clone()).or_insert_with(|| {
                let task = tokio::spawn(keep_connected(inner.clone(), name, target.0));
                (target, task.abort_handle())
            });
        }
        if placement.changed().await.is_err() {
            // Nobody says any more who is there: those who are stay.
            std::future::pending::<()>().await;
        }
    }
}

/// Where a node is, of which process, and what keeps the connection with it.
#[derive(Default)]
struct Dialing(BTreeMap<String, ((SocketAddr, Vec<u8>), AbortHandle)>);

impl Drop for Dialing {
    fn drop(&mut self) {
        for (_, task) in self.0.values() {
            task.abort();
        }
    }
}

async fn keep_connected(inner: Arc<Inner>, node: String, address: SocketAddr) {
    let mut pause = FIRST_PAUSE;
    loop {
        missed(&inner, &node).await;
        let tried = tokio::select! {
            tried = tokio::time::timeout(hello::PATIENCE, connect(&inner, &node, address)) => tried,
            // It is there after all: what is under way on the connection would be lost with it.
            () = heard(&inner, &node) => continue,
        };
        match tried {
            Ok(Ok(())) => {
                pause = FIRST_PAUSE;
                continue;
            }
            Ok(Err(Failure::Identity(reason))) => {
                inner.refuse(Some(&node), &address.to_string(), &reason);
            }
            Ok(Err(Failure::Other(reason))) => tracing::debug!(node, %address, reason, "cannot connect"),
            Err(_) => tracing::debug!(node, %address, "does not answer"),
        }
        // All nodes that miss one would try at the same time.
        tokio::time::sleep(pause.mul_f64(0.5 + rand::random::<f64>() / 2.0)).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits until there is no connection, or nothing comes by it.
async fn missed(inner: &Inner, node: &str) {
    while let Ok(link) = inner.link(node) {
        if is_given_up(inner, node) {
            return;
        }
        tokio::select! {
            () = link.closed() => {}
            () = tokio::time::sleep(SILENT) => {}
        }
    }
}

/// Waits until something comes by the connection that is there.
async fn heard(inner: &Inner, node: &str) {
    let mut standings = inner.standings.subscribe();
    while inner.link(node).is_err() || is_given_up(inner, node) {
        if standings.changed().await.is_err() {
            return;
        }
    }
}

/// As it is now: a connection that was just made is not told of yet.
fn is_given_up(inner: &Inner, node: &str) -> bool {
    let silence = |peer: Arc<Peer>| inner.hearing.silence(&peer.heard, Instant::now());
    inner.peer(node).is_some_and(|peer| silence(peer) >= GIVEN_UP)
}

enum Failure {
    Identity(String),
    Other(String),
}

async fn connect(inner: &Arc<Inner>, node: &str, address: SocketAddr) -> Result<(), Failure> {
    let failed = |error: &quinn::ConnectionError, proved| match of_identity(error, proved) {
        Some(reason) => Failure::Identity(reason),
        None => Failure::Other(error.to_string()),
    };
    let client = inner.client.load().as_ref().clone();
    let connecting = inner.endpoint.connect_with(client, address, &certified_name(node));
    let connection = connecting.map_err(|error| Failure::Other(error.to_string()))?;
    let connection = connection.await.map_err(|error| failed(&error, false))?;
    let other = match hello::greet(inner, &connection, node).await {
        Ok(other) => other,
        Err(reason) => {
            // TLS 1.3 is over for us before the other side has seen our certificate; we have seen its.
            if let Some(error) = connection.close_reason() {
                return Err(failed(&error, true));
            }
            connection.close(code::REFUSED, reason.as_bytes());
            return Err(Failure::Identity(reason));
        }
    };
    let Some(peer) = inner.admit(node) else {
        return Err(Failure::Other("as many nodes are known here as there may be".to_owned()));
    };
    Link::start(inner, &peer, connection, other.instance);
    Ok(())
}
