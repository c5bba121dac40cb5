//! What the nodes of a cluster say to each other, over QUIC with both sides authenticated.
//!
//! * [`Credentials`] is what a node proves its name with.
//! * [`Mesh`] is the handle: one connection with each other node, made by the one whose name is lower and made again when it is lost.
//! * [`Mesh::silence`] and [`Mesh::standing`] say who is heard: each node sends a heartbeat every [`BEAT`].
//! * [`Mesh::ask`] asks and is answered, in order within a [`Lane`].
//! * [`Mesh::packet`] passes a packet on and knows no more of it.
//! * [`Mesh::open`] and [`Mesh::incoming`] are streams of octets, for gRPC between nodes.
//!
//! It knows nothing of what is said by it. Start reading with `link.rs`, which is one connection, and `dial.rs`, which makes them.

mod accept;
mod ask;
mod counters;
mod credentials;
mod datagram;
mod dial;
mod endpoint;
mod frame;
mod hearing;
mod heart;
mod hello;
mod joiner;
mod link;
mod packets;
mod peer;
mod refusal;
mod serve;
mod session;
mod stream;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::Instant;

pub use counters::{Counters, Figures};
pub use credentials::{CredentialError, CredentialFiles, Credentials, certified_name};
pub(crate) use dial::LONGEST_PAUSE;
pub use frame::MAX_BODY;
pub use hearing::{BEAT, SILENT, Standing, Standings};
pub use joiner::MAX_PACKET;
pub use stream::{Incoming, NodeStream, PeerNode};

use crate::members::Placement;
use peer::{Inner, Peer};
use refusal::code;

/// What an ask is about. What is asked in one lane is not held up by what is asked in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lane {
    /// States of connections, to those who are to take over.
    Checkpoint,
    /// All else.
    Control,
}

impl Lane {
    const ALL: [Self; 2] = [Self::Checkpoint, Self::Control];
}

/// An answer that is being made.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send + 'a>>;

/// What other nodes meet here.
pub trait Handler: Send + Sync + 'static {
    /// Answers. The next of the same node and lane is asked when this has been; it is carried to its end even if nobody waits any more.
    /// It may wait for others, and must not keep the thread that it is called by.
    fn ask<'a>(&'a self, from: &'a str, lane: Lane, kind: u16, body: Bytes) -> Answer<'a>;

    /// Takes a packet. It is called by what reads the connection, so it must not wait.
    fn packet(&self, from: &str, kind: u8, packet: Bytes);
}

/// Why something was not said, or not answered.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// There is no connection with the node now.
    #[error("there is no connection with node {0}")]
    Away(String),
    /// The connection ended while something was under way. Whether it was done is unknown.
    #[error("the connection with node {0} ended before it answered")]
    Lost(String),
    /// It was not answered in time. Whether it was done is unknown.
    #[error("node {0} did not answer within {1:?}")]
    Late(String, Duration),
    /// As much is under way as may be.
    #[error("as much is under way to node {0} as may be; it does not keep up")]
    Full(String),
    /// It is larger than may be.
    #[error("{length} octets are to be sent to another node; at most {most}")]
    TooLarge {
        /// How large.
        length: usize,
        /// How large it may be.
        most: usize,
    },
    /// The node was asked and says no.
    #[error("node {node}: {reason}")]
    Refused {
        /// Which.
        node: String,
        /// Why.
        reason: String,
    },
    /// The socket.
    #[error("{place}: {error}")]
    Socket {
        /// Where.
        place: String,
        /// Why.
        error: std::io::Error,
    },
    /// TLS or QUIC as they are set up.
    #[error("connections between nodes: {0}")]
    Setting(String),
    /// There is no thread for them.
    #[error("connections between nodes have no thread: {0}")]
    Thread(std::io::Error),
}

/// A socket that the others can be told of before anything is heard on it.
#[derive(Debug)]
pub struct Bound {
    socket: UdpSocket,
    address: SocketAddr,
}

impl Bound {
    /// Binds; port 0 is any.
    ///
    /// # Errors
    /// If the system does not let us.
    pub fn bind(listen: SocketAddr) -> Result<Self, MeshError> {
        let place = |error| MeshError::Socket { place: format!("cluster.listen {listen}"), error };
        let socket = endpoint::bind(listen).map_err(place)?;
        let address = socket.local_addr().map_err(place)?;
        Ok(Self { socket, address })
    }

    /// Where it is bound to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the other nodes are to be told: where it is bound to, if that is one address, else the one from which the system reaches
    /// the first of these URLs, such as of members of etcd, that it has a way to.
    ///
    /// # Errors
    /// If there is none.
    pub async fn advertised(&self, towards: &[String]) -> Result<SocketAddr, MeshError> {
        if !self.address.ip().is_unspecified() {
            return Ok(self.address);
        }
        for url in towards {
            let Some(own) = endpoint::own_address(url, self.address).await else { continue };
            return Ok(SocketAddr::new(own, self.address.port()));
        }
        let error = std::io::Error::other(
            "which of its addresses the other nodes reach is not known; set cluster.advertise",
        );
        Err(MeshError::Socket { place: format!("cluster.listen {}", self.address), error })
    }
}

/// Who this node is.
#[derive(Debug)]
pub struct Settings {
    /// Its name among the others.
    pub name: String,
    /// Its process: one that was started again is another.
    pub instance: Vec<u8>,
    /// What it proves its name with.
    pub credentials: Credentials,
}

/// The connections with all other nodes. Clones are the same; when the last is dropped the connections end.
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
    end: Arc<watch::Sender<()>>,
    runtime: tokio::runtime::Handle,
}

impl Mesh {
    /// Begins to connect and to listen, on a thread of its own: heartbeats wait for nothing else, and what reads a connection does not
    /// compete for it with what drives it. The handler is called by that thread.
    ///
    /// # Errors
    /// If the credentials are of no use, or the system gives no thread.
    pub fn start(
        bound: Bound,
        settings: Settings,
        placement: watch::Receiver<Arc<Placement>>,
        handler: Arc<dyn Handler>,
    ) -> Result<Self, MeshError> {
        let Settings { name, instance, credentials } = settings;
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(MeshError::Thread)?;
        let inner = {
            let _within = runtime.enter();
            let (endpoint, client) = endpoint::endpoint(bound.socket, &credentials)?;
            Inner::new(endpoint, client, name, instance, placement, handler)
        };
        let (end, ended) = watch::channel(());
        let running = run(inner.clone(), ended);
        let handle = runtime.handle().clone();
        let thread = std::thread::Builder::new().name("nodes".to_owned());
        thread.spawn(move || runtime.block_on(running)).map_err(MeshError::Thread)?;
        Ok(Self { inner, end: Arc::new(end), runtime: handle })
    }

    /// Begins a task on the thread of the connections: what it asks and is answered wakes no other thread. It ends when they are
    /// [closed](Self::close), and must never keep that thread for long, as heartbeats wait for it.
    pub fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.runtime.spawn(task);
    }

    /// Ends the connections, and waits until the others have been told, which does not take long.
    pub async fn close(&self) {
        self.inner.endpoint.close(code::ENDED, ENDS);
        let _ = self.end.send(());
        self.end.closed().await;
    }

    /// Proves the name with these from now on, as when files have been renewed. Connections that are there stay.
    ///
    /// # Errors
    /// If the credentials are of no use.
    pub fn renew(&self, credentials: &Credentials) -> Result<(), MeshError> {
        let (client, server) = endpoint::configurations(credentials)?;
        self.inner.client.store(Arc::new(client));
        self.inner.endpoint.set_server_config(Some(server));
        Ok(())
    }

    /// Asks a node, and waits for the answer. What is asked in one lane arrives in the order in which this is called, which begins at
    /// once and not when the answer is waited for.
    ///
    /// # Errors
    /// [`MeshError`]. With [`MeshError::Lost`] and [`MeshError::Late`] it is not known whether it was done.
    pub fn ask(
        &self,
        node: &str,
        lane: Lane,
        kind: u16,
        body: Bytes,
        patience: Duration,
    ) -> impl Future<Output = Result<Bytes, MeshError>> + Send + use<> {
        let asked = self.inner.link(node).and_then(|link| link.ask(lane, kind, body));
        let node = node.to_owned();
        async move {
            let Ok(answered) = tokio::time::timeout(patience, asked?).await else {
                return Err(MeshError::Late(node, patience));
            };
            answered.unwrap_or(Err(MeshError::Lost(node)))
        }
    }

    /// Passes a packet on to a node. It may be called by any thread and does not wait; what cannot be sent is dropped and counted.
    ///
    /// # Errors
    /// If it is dropped here and now. That it arrives nobody says.
    pub fn packet(&self, node: &str, kind: u8, packet: &[u8]) -> Result<(), MeshError> {
        let counters = &self.inner.counters;
        let link =
            self.inner.link(node).inspect_err(|_| Counters::add(&counters.packets_without_connection, 1))?;
        link.packet(kind, packet)
    }

    /// Opens a stream of octets to a node, which finds it in its [`Mesh::incoming`].
    ///
    /// # Errors
    /// [`MeshError::Away`] or [`MeshError::Lost`].
    pub async fn open(&self, node: &str) -> Result<NodeStream, MeshError> {
        self.inner.link(node)?.open_stream().await
    }

    /// A channel of gRPC to a node, which serves what comes by [`Mesh::incoming`]. It connects when it is used, and again when it has to,
    /// as the endpoint says; where that leads to says nothing, for the name is in the certificate.
    pub fn channel(&self, node: &str, endpoint: &tonic::transport::Endpoint) -> tonic::transport::Channel {
        let (inner, node) = (Arc::downgrade(&self.inner), node.to_owned());
        let connector = tower::service_fn(move |_: http::Uri| {
            let link = inner
                .upgrade()
                .ok_or_else(|| MeshError::Away(node.clone()))
                .and_then(|inner| inner.link(&node));
            async move { Ok::<_, MeshError>(hyper_util::rt::TokioIo::new(link?.open_stream().await?)) }
        });
        endpoint.connect_with_connector_lazy(connector)
    }

    /// The streams that other nodes open, for the first who asks; others get none. As long as nobody has them they are refused.
    pub fn incoming(&self) -> Option<Incoming> {
        self.inner.streams.take()
    }

    /// How long nothing was heard of a node. `None` if there never was anything. Time in which this process did not run is not counted,
    /// for it is not the other's silence.
    pub fn silence(&self, node: &str) -> Option<Duration> {
        let peer: Arc<Peer> = self.inner.peer(node)?;
        Some(self.inner.hearing.silence(&peer.heard, Instant::now()))
    }

    /// Who is heard and who is silent, now and later: of all nodes that have been connected with.
    pub fn standing(&self) -> watch::Receiver<Arc<Standings>> {
        self.inner.standings.subscribe()
    }

    /// What has been counted.
    pub fn counters(&self) -> Figures {
        self.inner.counters.figures(self.inner.connected())
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mesh").field("name", &self.inner.name).finish_non_exhaustive()
    }
}

/// What the others are told at the end.
const ENDS: &[u8] = b"this node ends";
/// How long they are told it, for what says so may be lost.
const FAREWELL: Duration = Duration::from_millis(200);

/// All of it, until the last handle is dropped. What is not done then goes with the runtime.
async fn run(inner: Arc<Inner>, mut ended: watch::Receiver<()>) {
    tokio::spawn(accept::accept(inner.clone()));
    tokio::spawn(dial::dial(inner.clone()));
    tokio::spawn(heart::beat(inner.clone()));
    // Either there is none any more, or somebody waits until this has come to its end.
    let _ = ended.changed().await;
    inner.endpoint.close(code::ENDED, ENDS);
    let _ = tokio::time::timeout(FAREWELL, inner.endpoint.wait_idle()).await;
}
