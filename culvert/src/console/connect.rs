//! The connection to the node.

use std::time::Duration;

use culvert_proto::v1::batch_service_client::BatchServiceClient;
use culvert_proto::v1::node_service_client::NodeServiceClient;
use culvert_proto::v1::peer_service_client::PeerServiceClient;
use culvert_proto::v1::sa_service_client::SaServiceClient;
use culvert_proto::v1::secret_service_client::SecretServiceClient;
use culvert_proto::v1::tenant_service_client::TenantServiceClient;
use tonic::transport::{Channel, Endpoint};

use crate::console::Global;
use crate::console::failure::{Failure, exit};

/// A node that does not accept a connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Greatest answer accepted: a full page of peers with many children.
const MAX_ANSWER: usize = 64 << 20;

/// A connection, with a client for each service.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    channel: Channel,
}

impl Client {
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let server = match global.server.as_str() {
            server if server.contains("://") => server.to_owned(),
            server => format!("http://{server}"),
        };
        let endpoint = Endpoint::from_shared(server.clone()).map_err(|error| {
            Failure::invalid(format!("--server {server}: {error}"))
                .hint("expected the form http://127.0.0.1:50051")
        })?;
        let connection = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(global.timeout).connect().await;
        let channel = connection.map_err(|error| {
            Failure::new(exit::UNAVAILABLE, format!("cannot reach {server}: {}", root_cause(&error))).hint(
                "is culvertd running there? Start it with `culvertd`, or name another node with --server",
            )
        })?;
        Ok(Self { channel })
    }

    pub(crate) fn tenants(&self) -> TenantServiceClient<Channel> {
        TenantServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn secrets(&self) -> SecretServiceClient<Channel> {
        SecretServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn peers(&self) -> PeerServiceClient<Channel> {
        PeerServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn sas(&self) -> SaServiceClient<Channel> {
        SaServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn batches(&self) -> BatchServiceClient<Channel> {
        BatchServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn nodes(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel.clone())
    }
}

/// The innermost error: the one that says "connection refused".
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}
