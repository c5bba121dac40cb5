//! Streams of octets between nodes, as gRPC takes them.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use quinn::{RecvStream, SendStream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio_stream::Stream;
use tonic::transport::server::Connected;

use super::counters::Counters;

/// Streams that wait to be taken: who serves them takes them at once.
const MAX_WAITING: usize = 32;

/// What the first octet of a stream says of it.
pub(super) mod opening {
    use crate::mesh::Lane;

    /// Who we are.
    pub(in crate::mesh) const HELLO: u8 = 0;
    const CHECKPOINT: u8 = 1;
    const CONTROL: u8 = 2;
    /// Octets that the mesh knows no more of.
    pub(in crate::mesh) const OCTETS: u8 = 3;

    /// Questions of a lane.
    pub(in crate::mesh) const fn of(lane: Lane) -> u8 {
        match lane {
            Lane::Checkpoint => CHECKPOINT,
            Lane::Control => CONTROL,
        }
    }

    /// The lane, if it is one.
    pub(in crate::mesh) fn lane(first: u8) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| of(*lane) == first)
    }
}

/// A stream of octets, both ways. It is closed when it is dropped.
#[derive(Debug)]
pub struct NodeStream {
    send: SendStream,
    recv: RecvStream,
    node: Arc<str>,
}

/// The node at the other end of a stream: in the extensions of gRPC requests that came by one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerNode(pub Arc<str>);

impl NodeStream {
    pub(super) fn new(send: SendStream, recv: RecvStream, node: Arc<str>) -> Self {
        Self { send, recv, node }
    }

    /// The node at the other end.
    pub fn node(&self) -> &str {
        &self.node
    }
}

impl Connected for NodeStream {
    type ConnectInfo = PeerNode;

    fn connect_info(&self) -> PeerNode {
        PeerNode(self.node.clone())
    }
}

impl AsyncRead for NodeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        AsyncRead::poll_read(Pin::new(&mut self.recv), cx, buf)
    }
}

impl AsyncWrite for NodeStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        AsyncWrite::poll_write(Pin::new(&mut self.send), cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_flush(Pin::new(&mut self.send), cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        AsyncWrite::poll_shutdown(Pin::new(&mut self.send), cx)
    }
}

/// The streams that other nodes open.
#[derive(Debug)]
pub struct Incoming(mpsc::Receiver<NodeStream>);

impl Stream for Incoming {
    type Item = io::Result<NodeStream>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|stream| stream.map(Ok))
    }
}

/// Where they are until they are taken.
#[derive(Default)]
pub(super) struct Streams(Mutex<Option<mpsc::Sender<NodeStream>>>);

impl Streams {
    /// For the first who asks.
    pub(super) fn take(&self) -> Option<Incoming> {
        let mut taken = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.is_some() {
            return None;
        }
        let (sender, receiver) = mpsc::channel(MAX_WAITING);
        *taken = Some(sender);
        Some(Incoming(receiver))
    }

    pub(super) fn offer(&self, stream: NodeStream, counters: &Counters) {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let refused = match taken {
            Some(taken) => taken.try_send(stream).err().map(TrySendError::into_inner),
            None => Some(stream),
        };
        if refused.is_some() {
            // Before it is dropped: then it is at its end for the other side, and whoever sees that finds it counted.
            Counters::add(&counters.streams_refused, 1);
        }
    }
}
