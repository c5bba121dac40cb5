//! A node of nothing but its API, for tests: it says what it is told to.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use culvert_proto::v1;
use culvert_proto::v1::batch_service_server::{BatchService, BatchServiceServer};
use culvert_proto::v1::node_service_server::{NodeService, NodeServiceServer};
use culvert_proto::v1::sa_service_server::{SaService, SaServiceServer};
use tokio::sync::Notify;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::{Api, Fleet, Plan, Session, Target, Traffic};
use crate::engine::words;

/// What it has.
#[derive(Default)]
pub(super) struct Fake {
    /// IKE_SAs and Child SAs in its status.
    pub(super) sas: Mutex<[u64; 2]>,
    /// Peers that are in its list, each with an SA of both kinds.
    pub(super) listed: Vec<&'static str>,
    /// Its name in a cluster.
    pub(super) node: &'static str,
    /// It takes no call any more.
    pub(super) gone: AtomicBool,
    /// It answers none.
    pub(super) frozen: AtomicBool,
    /// A call has come.
    pub(super) asked: Notify,
    /// Requests to apply something.
    pub(super) applied: AtomicU32,
    /// Names that were to be deleted.
    pub(super) deleted: Mutex<Vec<String>>,
}

impl Fake {
    /// Listens; where.
    pub(super) async fn serve(self) -> (Arc<Self>, String) {
        let this = Arc::new(self);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = format!("http://{}", listener.local_addr().unwrap());
        let router = tonic::transport::Server::builder()
            .add_service(NodeServiceServer::from_arc(this.clone()))
            .add_service(SaServiceServer::from_arc(this.clone()))
            .add_service(BatchServiceServer::from_arc(this.clone()));
        tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
        (this, server)
    }

    /// A load of so many tunnels on it, none of which was started.
    pub(super) async fn session(server: &str, tunnels: u32) -> Session {
        Self::session_to(server, tunnels, 500).await
    }

    /// The same, of tunnels to this port.
    pub(super) async fn session_to(server: &str, tunnels: u32, ike_port: u16) -> Session {
        let target: Target = words::arguments(&format!("--server {server} --ike-port {ike_port}"));
        let plan = Plan::new(&target, None, tunnels).unwrap();
        let fleet = Fleet::new(plan.clone(), &target, Traffic::none(), 0).unwrap();
        Session { plan, api: Some(Api::connect(server).await.unwrap()), fleet }
    }

    async fn answers(&self) -> Result<(), Status> {
        self.asked.notify_one();
        if self.frozen.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        match self.gone.load(Ordering::Relaxed) {
            true => Err(Status::unavailable("gone")),
            false => Ok(()),
        }
    }
}

type Stream<T> = std::pin::Pin<Box<dyn tokio_stream::Stream<Item = Result<T, Status>> + Send>>;

fn never<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("no load asks for it"))
}

#[tonic::async_trait]
impl NodeService for Fake {
    async fn get_node_status(
        &self,
        _: Request<v1::GetNodeStatusRequest>,
    ) -> Result<Response<v1::NodeStatus>, Status> {
        self.answers().await?;
        let [ike_sas, child_sas] = *self.sas.lock().unwrap();
        Ok(Response::new(v1::NodeStatus { ike_sas, child_sas, ..v1::NodeStatus::default() }))
    }

    async fn list_nodes(
        &self,
        _: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        never()
    }

    async fn list_slots(
        &self,
        _: Request<v1::ListSlotsRequest>,
    ) -> Result<Response<v1::ListSlotsResponse>, Status> {
        never()
    }

    async fn move_slot(&self, _: Request<v1::MoveSlotRequest>) -> Result<Response<v1::MovedSlot>, Status> {
        never()
    }

    async fn drain_node(
        &self,
        _: Request<v1::DrainNodeRequest>,
    ) -> Result<Response<v1::DrainNodeResponse>, Status> {
        never()
    }

    type BackupStoreStream = Stream<v1::BackupStoreResponse>;

    async fn backup_store(
        &self,
        _: Request<v1::BackupStoreRequest>,
    ) -> Result<Response<Self::BackupStoreStream>, Status> {
        never()
    }
}

#[tonic::async_trait]
impl SaService for Fake {
    async fn list_sas(
        &self,
        _: Request<v1::ListSasRequest>,
    ) -> Result<Response<v1::ListSasResponse>, Status> {
        never()
    }

    type StreamSasStream = Stream<v1::Sa>;

    async fn stream_sas(
        &self,
        _: Request<v1::StreamSasRequest>,
    ) -> Result<Response<Self::StreamSasStream>, Status> {
        self.answers().await?;
        let kinds = || [v1::sa::Kind::Ike(v1::IkeSa::default()), v1::sa::Kind::Child(v1::ChildSa::default())];
        let sas: Vec<_> = self.listed.iter().flat_map(|peer| kinds().map(|kind| (*peer, kind))).collect();
        let node = self.node;
        let sas = sas.into_iter().map(move |(peer, kind)| {
            Ok(v1::Sa { peer: peer.into(), kind: Some(kind), node: node.into(), ..v1::Sa::default() })
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(sas))))
    }

    type WatchEventsStream = Stream<v1::Event>;

    async fn watch_events(
        &self,
        _: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        never()
    }
}

#[tonic::async_trait]
impl BatchService for Fake {
    async fn apply(&self, _: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        self.answers().await?;
        self.applied.fetch_add(1, Ordering::Relaxed);
        Ok(Response::new(v1::ApplyResponse::default()))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        self.answers().await?;
        self.deleted.lock().unwrap().extend(request.into_inner().names);
        Ok(Response::new(v1::DeleteResponse::default()))
    }
}
