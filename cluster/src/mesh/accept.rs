//! Lets other nodes connect.

use std::net::{IpAddr, SocketAddr};
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
        let from = incoming.remote_address().ip();
        let known = inner.placement.latest().nodes.iter().any(|node| is_at(node, from));
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
    let place = incoming.remote_address();
    let connection = match async { incoming.accept()?.await }.await {
        Ok(connection) => connection,
        Err(error) => return tell(inner, place, &error, false),
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
            // Its certificate is of the authority of the nodes.
            Some(error) => tell(inner, place, &error, true),
            None => {
                connection.close(code::REFUSED, reason.as_bytes());
                refuse(inner, place, &reason);
            }
        },
    }
}

fn tell(inner: &Inner, place: SocketAddr, error: &quinn::ConnectionError, proved: bool) {
    match of_identity(error, proved) {
        Some(reason) => refuse(inner, place, &reason),
        None => tracing::debug!(%place, %error, "a connection has not come to be"),
    }
}

/// Refuses one who says that it is a node, and may be that whose address it comes from.
fn refuse(inner: &Inner, place: SocketAddr, reason: &str) {
    let placement = inner.placement.latest();
    let node = placement.nodes.iter().find(|node| is_at(node, place.ip()));
    inner.refuse(node.map(|node| node.name.as_str()), &place.to_string(), reason);
}

fn is_at(node: &Node, place: IpAddr) -> bool {
    node.mesh.is_some_and(|mesh| mesh.ip().to_canonical() == place.to_canonical())
}
