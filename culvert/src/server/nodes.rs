//! Where other nodes ask this one. Who comes in here is a node, which has proved that to the mesh, and asks in the name of somebody whose
//! rights it has looked into; what it asks is about the tunnels of this node alone.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use cluster::mesh::PeerNode;
use culvert_proto::v1::node_service_server::NodeServiceServer;
use culvert_proto::v1::peer_service_server::PeerServiceServer;
use culvert_proto::v1::sa_service_server::SaServiceServer;
use http::{Request, Response};
use latest::Follow as _;
use tenants::Catalog;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::body::Body;
use tonic::metadata::{BinaryMetadataValue, MetadataMap};
use tonic::transport::Server;
use tonic::transport::server::Connected;
use tower::{Layer, Service};

use crate::access::{Abreast, Caller, Counters, rules, serving};
use crate::runtime::Runtime;
use crate::services::{Nodes, Peers, Sas};
use crate::wide::{BY, MAX_STREAMS, Meant, Wide};

/// How long an order of another node waits for what was written before it: half as long as that node waits for the answer.
const CATCH_UP: Duration = Duration::from_secs(1);

/// Serves the tunnels of this node to other nodes, until `down` becomes true.
///
/// # Errors
/// If the server fails.
pub async fn serve_nodes<S>(
    incoming: impl Stream<Item = std::io::Result<S>> + Send,
    catalog: Arc<Catalog>,
    local: Arc<dyn Runtime>,
    api: Arc<Counters>,
    mut down: watch::Receiver<bool>,
) -> Result<(), tonic::transport::Error>
where
    S: AsyncRead + AsyncWrite + Connected + Unpin + Send + 'static,
{
    let alone = Wide::alone(local);
    let peers = PeerServiceServer::new(Peers::new(Arc::clone(&catalog), alone.clone()));
    let sas = Sas::new(Arc::clone(&catalog), alone.clone(), Arc::clone(&api), down.clone());
    let sas = SaServiceServer::new(sas);
    let nodes = NodeServiceServer::new(Nodes::new(Arc::clone(&catalog), alone, api));
    let ended = async move {
        // An error is the sender gone, which is the end too.
        let _ = down.until(|down| *down).await;
    };
    Server::builder()
        .max_concurrent_streams(MAX_STREAMS)
        .layer(OfNodes(Abreast::of(catalog)))
        .add_service(peers)
        .add_service(sas)
        .add_service(nodes)
        .serve_with_incoming_shutdown(incoming, ended)
        .await
}

/// Says who calls, and brings the catalog up to date before an order: what it is about may have been made at the node that gives it.
#[derive(Clone)]
struct OfNodes(Abreast);

impl<S> Layer<S> for OfNodes {
    type Service = Served<S>;

    fn layer(&self, inner: S) -> Served<S> {
        Served { abreast: self.0.clone(), inner }
    }
}

#[derive(Clone)]
struct Served<S> {
    abreast: Abreast,
    inner: S,
}

impl<S> Service<Request<Body>> for Served<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        // The one that is ready serves; the copy has to become so for the next.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let abreast = self.abreast.clone();
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            if rules().get(path.as_str()).is_some_and(crate::access::Rule::is_audited) {
                // What has come until now has to do then: the order is not to be late because etcd is slow.
                let _ = tokio::time::timeout(CATCH_UP, abreast.catch_up()).await;
            }
            let meant = Meant::of(request.headers());
            let metadata = MetadataMap::from_headers(request.headers().clone());
            let by = metadata.get_bin(BY).map(BinaryMetadataValue::to_bytes).and_then(Result::ok);
            let by = by.and_then(|by| String::from_utf8(by.to_vec()).ok());
            request.extensions_mut().insert(meant);
            let node = request.extensions().get::<PeerNode>();
            let node = node.map_or_else(|| "another node".to_owned(), |node| format!("node {}", node.0));
            let caller = Caller::behind(by.unwrap_or_else(|| "somebody".to_owned()), node);
            let author = Arc::new(caller.author(path.trim_start_matches('/'), None));
            serving(Arc::new(caller), author, inner.call(request)).await
        })
    }
}
