//! Lets other nodes connect.

use std::sync::Arc;

use latest::Latest as _;
use quinn::Incoming;
use tokio::sync::Semaphore;

use super::counters::Counters;
use super::hello;
use super::link::Link;
use super::peer::{Inner, MAX_NODES};
use super::refusal::{code, of_identity};
use crate::members::Node;

/// Handshakes at a time with those who come from the address of a node: as many as there may be nodes.
const MAX_OF_NODES: usize = MAX_NODES;
/// With all others, who may be strangers, or nodes that are seen by another address than they are told by. Each is over within a moment.
const MAX_OF_OTHERS: usize = 16;

/// As long as the endpoint is there.
pub(super) async fn accept(inner: Arc<Inner>) {
    let [of_nodes, of_others] = [MAX_OF_NODES, MAX_OF_OTHERS].map(|room| Arc::new(Semaphore::new(room)));
    while let Some(incoming) = inner.endpoint.accept().await {
        let from = incoming.remote_address().ip().to_canonical();
        let is_node = |node: &Node| node.mesh.is_some_and(|mesh| mesh.ip().to_canonical() == from);
        let known = inner.placement.latest().nodes.iter().any(is_node);
        let room = if known { &of_nodes } else { &of_others };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            Counters::add(&inner.counters.refused_for_room, 1);
            incoming.refuse();
            continue;
        };
        let inner = inner.clone();
        tokio::spawn(async move {
            let place = incoming.remote_address();
            if tokio::time::timeout(hello::PATIENCE, welcome(&inner, incoming)).await.is_err() {
                tracing::debug!(%place, "somebody has not said in time which node it is");
            }
            drop(permit);
        });
    }
}

async fn welcome(inner: &Arc<Inner>, incoming: Incoming) {
    let place = incoming.remote_address().to_string();
    let connection = match async { incoming.accept()?.await }.await {
        Ok(connection) => connection,
        Err(error) => return tell(inner, &place, &error),
    };
    match hello::welcome(inner, &connection).await {
        Ok(other) => match inner.admit(&other.node) {
            Some(peer) => Link::start(inner, &peer, connection, other.instance),
            None => {
                Counters::add(&inner.counters.refused_for_room, 1);
                connection.close(code::REFUSED, b"as many nodes are known here as there may be");
            }
        },
        // Either it has gone, or it is to go.
        Err(reason) => match connection.close_reason() {
            Some(error) => tell(inner, &place, &error),
            None => {
                connection.close(code::REFUSED, reason.as_bytes());
                inner.refuse(&place, &reason);
            }
        },
    }
}

fn tell(inner: &Inner, place: &str, error: &quinn::ConnectionError) {
    match of_identity(error) {
        Some(reason) => inner.refuse(place, &reason),
        None => tracing::debug!(place, %error, "a connection has not come to be"),
    }
}
