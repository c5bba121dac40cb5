//! A node to talk to, and requests to begin with.

#![allow(dead_code, clippy::unwrap_used)]

#[path = "../../../tenants/tests/common/mod.rs"]
mod requests;

use std::sync::Arc;

use culvert::access::{Access, Doors};
use culvert::phase::{Phase, Phases};
use culvert::runtime::{NoRuntime, Runtime};
use culvert::server::{ServeError, serve_grpc};
use culvert::telemetry::rpc::Traced;
use culvert::wide::Wide;
use culvert_proto::v1::node_service_client::NodeServiceClient;
use culvert_proto::v1::peer_service_client::PeerServiceClient;
use culvert_proto::v1::sa_service_client::SaServiceClient;
use culvert_proto::v1::secret_service_client::SecretServiceClient;
use culvert_proto::v1::tenant_service_client::TenantServiceClient;
use tenants::Catalog;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::Channel;

#[allow(unused_imports)] // Each test uses some.
pub(crate) use requests::{create_peer, create_secret, create_tenant, mask, peer};

/// A node on a port of its own, with a catalog in memory.
pub(crate) struct Node {
    pub(crate) address: String,
    channel: Channel,
    pub(crate) phases: Phases,
    server: JoinHandle<Result<(), ServeError>>,
}

impl Node {
    pub(crate) async fn start(runtime: Arc<dyn Runtime>) -> Self {
        let catalog = Arc::new(Catalog::in_memory().unwrap());
        let access = Access::open(Arc::clone(&catalog));
        Self::with(runtime, catalog, access).await
    }

    /// With rules of access.
    pub(crate) async fn with(runtime: Arc<dyn Runtime>, catalog: Arc<Catalog>, access: Access) -> Self {
        Self::wide(runtime.into(), catalog, access).await
    }

    /// As one of several nodes.
    pub(crate) async fn wide(tunnels: Wide, catalog: Arc<Catalog>, access: Access) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (doors, traced, phases) = (Doors::tcp(listener), Traced::default(), Phases::new());
        let fault = catalog.store_fault();
        let server = tokio::spawn(serve_grpc(doors, access, catalog, tunnels, traced, fault, phases.watch()));
        let channel = Channel::from_shared(address.clone()).unwrap().connect().await.unwrap();
        Self { address, channel, phases, server }
    }

    /// With one tenant that has the secret `psk`.
    pub(crate) async fn with_tenant(id: &str) -> Self {
        let node = Self::start(Arc::new(NoRuntime)).await;
        node.tenants().create_tenant(create_tenant(id)).await.unwrap();
        node.secrets().create_secret(create_secret(id, "psk", b"correct horse")).await.unwrap();
        node
    }

    /// Stops it and waits until it has ended in order.
    pub(crate) async fn stop(self) {
        self.phases.go_on(Phase::Ending);
        self.server.await.unwrap().unwrap();
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn tenants(&self) -> TenantServiceClient<Channel> {
        TenantServiceClient::new(self.channel())
    }

    pub(crate) fn secrets(&self) -> SecretServiceClient<Channel> {
        SecretServiceClient::new(self.channel())
    }

    pub(crate) fn peers(&self) -> PeerServiceClient<Channel> {
        PeerServiceClient::new(self.channel())
    }

    pub(crate) fn sas(&self) -> SaServiceClient<Channel> {
        SaServiceClient::new(self.channel())
    }

    pub(crate) fn nodes(&self) -> NodeServiceClient<Channel> {
        NodeServiceClient::new(self.channel())
    }
}

/// What a command said.
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

pub(crate) async fn culvert(server: &str, arguments: &[&str]) -> Said {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_culvert"));
    command.args(arguments).env("CULVERT_SERVER", server).env("CULVERT_TEST_PSK", "from the environment");
    // The node runs on the thread of the test, which must not wait.
    let output = tokio::task::spawn_blocking(move || command.output()).await.unwrap().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}
