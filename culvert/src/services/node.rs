//! NodeService.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use culvert_proto::v1;
use culvert_proto::v1::node_service_server::NodeService;
use tenants::{Catalog, Error};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use crate::access::Counters;
use crate::runtime::Runtime;
use crate::services::{blocking, status};
use crate::telemetry::resident_bytes;

/// NodeService over a catalog and the tunnels.
pub struct Nodes {
    catalog: Arc<Catalog>,
    runtime: Arc<dyn Runtime>,
    api: Arc<Counters>,
    started: SystemTime,
}

impl Nodes {
    /// Serves this catalog and these tunnels, and takes now for the start of the node.
    pub fn new(catalog: Arc<Catalog>, runtime: Arc<dyn Runtime>, api: Arc<Counters>) -> Self {
        Self { catalog, runtime, api, started: SystemTime::now() }
    }
}

#[tonic::async_trait]
impl NodeService for Nodes {
    async fn get_node_status(
        &self,
        _request: Request<v1::GetNodeStatusRequest>,
    ) -> Result<Response<v1::NodeStatus>, Status> {
        let snapshot = self.catalog.snapshot();
        let mut status = self.runtime.node_status().await;
        let api = self.api.all(self.catalog.audit());
        status.counters.extend(api.into_iter().map(|(name, count)| (name.to_owned(), count)));
        Ok(Response::new(v1::NodeStatus {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            start_time: status.start_time.or_else(|| Some(self.started.into())),
            tenants: snapshot.tenants.len() as u64,
            peers: snapshot.peers.len() as u64,
            resident_bytes: resident_bytes().unwrap_or(0),
            ..status
        }))
    }

    async fn list_nodes(
        &self,
        _request: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        let peers = self.catalog.peers();
        let Some(placement) = self.runtime.cluster() else {
            let status = self.runtime.node_status().await;
            let alone = v1::ClusterNode {
                name: String::new(),
                slot: status.slot,
                addresses: status.listen_addresses,
                version: env!("CARGO_PKG_VERSION").to_owned(),
                start_time: status.start_time.or_else(|| Some(self.started.into())),
                answers: true,
                home_peers: peers.len() as u64,
            };
            return Ok(Response::new(v1::ListNodesResponse { nodes: vec![alone] }));
        };
        let mut at_home: HashMap<&str, u64> = HashMap::new();
        for node in peers.iter().filter_map(|peer| placement.begins(peer.uid, |_| true)) {
            *at_home.entry(&node.name).or_default() += 1;
        }
        let node = |node: &cluster::Node| v1::ClusterNode {
            name: node.name.clone(),
            slot: node.slot.into(),
            addresses: node.addresses.iter().map(ToString::to_string).collect(),
            version: node.version.clone(),
            start_time: Some(node.since.into()),
            answers: node.name == placement.own,
            home_peers: at_home.get(node.name.as_str()).copied().unwrap_or_default(),
        };
        Ok(Response::new(v1::ListNodesResponse { nodes: placement.nodes.iter().map(node).collect() }))
    }

    type BackupStoreStream = Pin<Box<dyn Stream<Item = Result<v1::BackupStoreResponse, Status>> + Send>>;

    async fn backup_store(
        &self,
        _request: Request<v1::BackupStoreRequest>,
    ) -> Result<Response<Self::BackupStoreStream>, Status> {
        let rows = blocking(&self.catalog, "BackupStore", Catalog::backup).await?;
        let rows = rows.map_err(|error| status::of_error(&Error::Store(error)))?;
        let mut rows = rows.into_iter().map(|(key, value)| v1::StoredRow { key, value }).peekable();
        let parts = std::iter::from_fn(move || {
            rows.peek()?;
            Some(Ok(v1::BackupStoreResponse { rows: rows.by_ref().take(ROWS_PER_PART).collect() }))
        });
        Ok(Response::new(Box::pin(tokio_stream::iter(parts))))
    }
}

/// Rows of a message of a backup: the largest peer is some tens of KiB, and a message stays below the 4 MiB that clients
/// take by default.
const ROWS_PER_PART: usize = 64;
