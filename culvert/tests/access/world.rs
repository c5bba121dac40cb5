//! A node of two tenants with callers of every kind, and how it is called.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actors::Health;
use bytes::{Buf, BufMut, Bytes};
use culvert::access::{Access, rules};
use culvert::config::{Anonymous, GrpcConfig};
use culvert::runtime::{HappenedStream, NoRuntime, RekeyTarget, Runtime, RuntimeError, Scope};
use culvert_proto::v1;
use tenants::{Catalog, Peer, Role};
use tokio::sync::{Notify, watch};
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status};

use crate::common::{Node, create_peer, create_secret, create_tenant, peer};

/// Messages as they are on the wire.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = src.remaining();
        Ok(Some(src.copy_to_bytes(length)))
    }
}

/// As many dummies are never done.
pub(crate) const ENDLESS: u16 = 64;
/// When they have begun.
pub(crate) static BEGUN: Notify = Notify::const_new();

/// A node without tunnels, on which nothing ever happens to them.
struct Quiet;

#[tonic::async_trait]
impl Runtime for Quiet {
    fn health(&self) -> watch::Receiver<Health> {
        NoRuntime.health()
    }

    fn watch(&self, _after: u64) -> Result<HappenedStream, RuntimeError> {
        Ok(Box::pin(tokio_stream::pending()))
    }

    async fn list_sas(&self, scope: &Scope) -> Result<Vec<v1::Sa>, RuntimeError> {
        NoRuntime.list_sas(scope).await
    }

    async fn node_status(&self) -> v1::NodeStatus {
        NoRuntime.node_status().await
    }

    async fn peer_statuses(&self, peers: &[Arc<Peer>]) -> Vec<Option<v1::PeerStatus>> {
        NoRuntime.peer_statuses(peers).await
    }

    async fn send_dummies(&self, peer: Arc<Peer>, count: u16, length: u16) -> Result<u32, RuntimeError> {
        if count == ENDLESS {
            BEGUN.notify_one();
            std::future::pending::<()>().await;
        }
        NoRuntime.send_dummies(peer, count, length).await
    }

    async fn explain(&self, peer: Arc<Peer>) -> Result<v1::ExplainPeerResponse, RuntimeError> {
        NoRuntime.explain(peer).await
    }

    async fn initiate(&self, peer: Arc<Peer>) -> Result<v1::PeerStatus, RuntimeError> {
        NoRuntime.initiate(peer).await
    }

    async fn terminate(&self, peer: Arc<Peer>, by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        NoRuntime.terminate(peer, by).await
    }

    async fn rekey(&self, peer: Arc<Peer>, target: RekeyTarget) -> Result<v1::PeerStatus, RuntimeError> {
        NoRuntime.rekey(peer, target).await
    }
}

/// A node with the tenants `a` and `b`, each with a peer, a secret and a token, where nobody is anonymous.
pub(crate) struct World {
    pub(crate) node: Node,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) tokens: HashMap<String, String>,
}

fn strict() -> GrpcConfig {
    GrpcConfig { anonymous: Some(Anonymous(None)), ..GrpcConfig::default() }
}

pub(crate) fn token(catalog: &Catalog, parent: &str, id: &str, role: Role, life: Duration) -> String {
    try_token(catalog, parent, id, role, life).unwrap()
}

/// A token of a viewer whose time is over. If it is over before the node has it the token is refused, and another is made.
pub(crate) fn expired_token(catalog: &Catalog, id: &str) -> String {
    let value = loop {
        match try_token(catalog, "", id, Role::Viewer, Duration::from_millis(5)) {
            Ok(value) => break value,
            Err(error) => assert!(error.to_string().contains("is in the past"), "{error}"),
        }
    };
    while catalog.verify_token(value.as_bytes(), SystemTime::now()).is_ok() {}
    value
}

fn try_token(
    catalog: &Catalog,
    parent: &str,
    id: &str,
    role: Role,
    life: Duration,
) -> Result<String, tenants::Error> {
    let request = v1::CreateTokenRequest {
        parent: parent.into(),
        token_id: id.into(),
        token: Some(v1::Token {
            role: role.to_proto().into(),
            expire_time: Some((SystemTime::now() + life).into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    catalog.create_token(&request).map(|(_, value)| value.to_string())
}

impl World {
    pub(crate) async fn new() -> Self {
        let catalog = Arc::new(Catalog::in_memory().unwrap());
        let mut tokens = HashMap::new();
        let hour = Duration::from_secs(3600);
        for tenant in ["a", "b"] {
            catalog.create_tenant(&create_tenant(tenant)).unwrap();
            catalog.create_secret(create_secret(tenant, "psk", b"correct horse")).unwrap();
            let mut request = create_peer(peer(tenant, "p", "10.1.0.0/24"));
            request.peer.as_mut().unwrap().remote_identity = format!("p.{tenant}.example.net");
            catalog.create_peer(&request).unwrap();
        }
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            for (parent, of) in [("", "node"), ("tenants/a", "a"), ("tenants/b", "b")] {
                let value = token(&catalog, parent, &role.to_string(), role, hour);
                tokens.insert(format!("{role} of {of}"), value);
            }
        }
        let access = Access::new(Arc::clone(&catalog), &strict()).unwrap();
        let node = Node::with(Arc::new(Quiet), Arc::clone(&catalog), access).await;
        Self { node, catalog, tokens }
    }

    pub(crate) async fn call(
        &self,
        path: &str,
        message: &[u8],
        authorization: Option<&str>,
    ) -> Result<Bytes, Status> {
        call(self.node.channel(), path, message, authorization).await
    }

    /// A connection of somebody who reads next to nothing.
    pub(crate) async fn deaf(&self) -> Channel {
        let endpoint = Channel::from_shared(self.node.address.clone()).unwrap();
        endpoint.initial_stream_window_size(1 << 10).connect().await.unwrap()
    }

    /// An answer that has begun, of which nothing is read.
    pub(crate) async fn begin(
        &self,
        channel: &Channel,
        path: &str,
        message: &[u8],
        who: &str,
    ) -> Result<tonic::Streaming<Bytes>, Status> {
        let shown = format!("Bearer {}", self.tokens[who]);
        begin(channel.clone(), path, message, Some(&shown)).await
    }
}

/// The first message of the answer to a request whose own comes in its time.
pub(crate) async fn call_slowly(
    channel: Channel,
    path: &str,
    message: impl tokio_stream::Stream<Item = Bytes> + Send + 'static,
    authorization: &str,
) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", MetadataValue::try_from(authorization).unwrap());
    Ok(grpc.client_streaming(request, path.parse().unwrap(), Raw).await?.into_inner())
}

async fn begin(
    channel: Channel,
    path: &str,
    message: &[u8],
    authorization: Option<&str>,
) -> Result<tonic::Streaming<Bytes>, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(Bytes::copy_from_slice(message));
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", MetadataValue::try_from(value).unwrap());
    }
    Ok(grpc.server_streaming(request, path.parse().unwrap(), Raw).await?.into_inner())
}

/// The first message of the answer.
pub(crate) async fn call(
    channel: Channel,
    path: &str,
    message: &[u8],
    authorization: Option<&str>,
) -> Result<Bytes, Status> {
    let mut answer = begin(channel, path, message, authorization).await?;
    let first = answer.message();
    // A stream on which nothing happens was opened all the same. What is no stream has an answer, whenever that comes.
    let first = if rules().get(path).is_some_and(|rule| rule.streams) {
        tokio::time::timeout(Duration::from_millis(200), first).await.unwrap_or(Ok(None))
    } else {
        first.await
    };
    first.map(Option::unwrap_or_default)
}
