//! One connection with another node: what goes by it, and who reads and writes it.

use std::sync::Arc;

use bytes::Bytes;
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::ask::Asking;
use super::counters::Counters;
use super::packets::{Passing, read_datagrams};
use super::peer::{Inner, Peer};
use super::refusal::code;
use super::stream::{NodeStream, opening};
use super::{Lane, MeshError, datagram, hello, serve};

/// A connection whose two ends know each other.
pub(super) struct Link {
    node: Arc<str>,
    /// The process at the other end.
    pub(super) instance: Vec<u8>,
    connection: Connection,
    lanes: [Asking; Lane::ALL.len()],
    passing: Passing,
    counters: Arc<Counters>,
}

impl Link {
    /// Makes it the connection with this node, in place of the one before.
    pub(super) fn start(inner: &Arc<Inner>, peer: &Arc<Peer>, connection: Connection, instance: Vec<u8>) {
        let mut tasks = JoinSet::new();
        let lanes = Lane::ALL.map(|lane| {
            let (asking, questions) = Asking::new();
            tasks.spawn(questions.ask(inner.clone(), peer.clone(), connection.clone(), lane));
            asking
        });
        let (passing, packets) = Passing::new();
        tasks.spawn(packets.send(connection.clone(), inner.counters.clone()));
        tasks.spawn(read_datagrams(inner.clone(), peer.clone(), connection.clone()));
        tasks.spawn(accept_streams(inner.clone(), peer.clone(), connection.clone()));
        let counters = inner.counters.clone();
        let (node, of) = (peer.name.clone(), connection.clone());
        tracing::debug!(%node, place = %connection.remote_address(), "connected with a node");
        inner.replace(peer, Arc::new(Self { node, instance, connection, lanes, passing, counters }));
        tokio::spawn(end_together(of, tasks));
    }

    #[cfg(test)]
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    pub(super) fn is_open(&self) -> bool {
        self.connection.close_reason().is_none()
    }

    pub(super) async fn closed(&self) {
        self.connection.closed().await;
    }

    pub(super) fn close(&self, code: VarInt, reason: &str) {
        self.connection.close(code, reason.as_bytes());
    }

    pub(super) fn heartbeat(&self, hears: bool) {
        // If it is closed, that is told where it is noticed.
        let _ = self.connection.send_datagram(datagram::heartbeat(hears));
    }

    pub(super) fn ask(
        &self,
        lane: Lane,
        kind: u16,
        body: Bytes,
    ) -> Result<oneshot::Receiver<Result<Bytes, MeshError>>, MeshError> {
        let [checkpoint, control] = &self.lanes;
        let asking = match lane {
            Lane::Checkpoint => checkpoint,
            Lane::Control => control,
        };
        let full = |error: &MeshError| matches!(error, MeshError::Full(_));
        asking
            .ask(&self.node, kind, body)
            .inspect_err(|error| Counters::add(&self.counters.asks_full, full(error).into()))
    }

    pub(super) fn packet(&self, kind: u8, packet: &[u8]) -> Result<(), MeshError> {
        self.passing.pass(&self.node, kind, packet, &self.counters)
    }

    pub(super) async fn open_stream(&self) -> Result<NodeStream, MeshError> {
        let lost = || MeshError::Lost(self.node.to_string());
        let (mut send, recv) = self.connection.open_bi().await.map_err(|_| lost())?;
        send.write_all(&[opening::OCTETS]).await.map_err(|_| lost())?;
        Ok(NodeStream::new(send, recv, self.node.clone()))
    }
}

/// Where one part of a connection ends, all do, and another connection is made.
async fn end_together(connection: Connection, mut tasks: JoinSet<()>) {
    tokio::select! {
        _ = connection.closed() => {}
        _ = tasks.join_next() => connection.close(code::BROKEN, b"a part of this connection has ended"),
    }
}

/// Streams that the other node opens say with their first octet what they are.
async fn accept_streams(inner: Arc<Inner>, peer: Arc<Peer>, connection: Connection) {
    while let Ok((send, recv)) = connection.accept_bi().await {
        tokio::spawn(accept_stream(inner.clone(), peer.clone(), connection.clone(), send, recv));
    }
}

async fn accept_stream(
    inner: Arc<Inner>,
    peer: Arc<Peer>,
    connection: Connection,
    send: SendStream,
    mut recv: RecvStream,
) {
    let mut first = [0];
    if !matches!(tokio::time::timeout(hello::PATIENCE, recv.read_exact(&mut first)).await, Ok(Ok(()))) {
        return;
    }
    inner.hear(&peer);
    let [first] = first;
    if let Some(lane) = opening::lane(first) {
        serve::serve(&inner, &peer, &connection, lane, send, recv).await;
        // An orderly end is none: whoever asks would wait.
        connection.close(code::BROKEN, b"a lane has ended");
    } else if first == opening::OCTETS {
        inner.streams.offer(NodeStream::new(send, recv, peer.name.clone()), &inner.counters);
    }
}
