//! The gRPC server: all services, reflection and health behind the same doors.

mod nodes;

use std::sync::Arc;
use std::time::Duration;

use actors::Health;
use culvert_proto::FILE_DESCRIPTOR_SET;
use culvert_proto::v1::audit_service_server::AuditServiceServer;
use culvert_proto::v1::batch_service_server::BatchServiceServer;
use culvert_proto::v1::node_service_server::NodeServiceServer;
use culvert_proto::v1::peer_service_server::PeerServiceServer;
use culvert_proto::v1::sa_service_server::SaServiceServer;
use culvert_proto::v1::secret_service_server::SecretServiceServer;
use culvert_proto::v1::tenant_service_server::TenantServiceServer;
use culvert_proto::v1::token_service_server::TokenServiceServer;
use latest::Follow as _;
use tenants::Catalog;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

pub use nodes::serve_nodes;

use crate::access::{Access, AccessLayer, Doors, MAX_BATCH_REQUEST, MAX_REQUEST};
use crate::phase::Phase;
use crate::services::{Audits, Batches, Nodes, Peers, Sas, Secrets, Tenants, Tokens};
use crate::telemetry::rpc::Traced;
use crate::wide::Wide;

/// Requests of one connection served at a time; the others wait. A client that floods delays itself.
const MAX_CONCURRENT: usize = 64;
/// Streams of HTTP/2 that a client may have open on a connection: what is served, and as many that wait or are being read. Clients keep to
/// it by themselves and wait; whoever does not is told.
const MAX_STREAMS: u32 = 128;
/// Octets of a question to health and reflection: the name of a service, a method or a file, many times.
const MAX_NAMED: usize = 4 << 10;
/// A connection that has been silent this long is asked for a sign of life, so that dead watchers go away.
const KEEPALIVE: Duration = Duration::from_secs(30);
/// What is under way when the node goes down gets this long to finish.
const GRACE: Duration = Duration::from_secs(5);

/// Why the API cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The server failed.
    #[error("gRPC server: {0}")]
    Server(#[from] tonic::transport::Error),
    /// The descriptors of the build are broken.
    #[error("gRPC reflection: {0}")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves the API to who comes in by `doors` and is let in by `access`, until the daemon ends, or whoever knew is gone, then
/// lets what is under way finish. `in_the_way` is why the node is not to be sent work, if it is not.
pub async fn serve_grpc(
    doors: Doors,
    access: Access,
    catalog: Arc<Catalog>,
    tunnels: impl Into<Wide>,
    traced: Traced,
    in_the_way: watch::Receiver<Option<String>>,
    mut phase: watch::Receiver<Phase>,
) -> Result<(), ServeError> {
    let tunnels: Wide = tunnels.into();
    let runtime = Arc::clone(tunnels.local());
    let (down, is_down) = watch::channel(false);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    // Many clients still ask by the older name alone, the stock one of Python among them.
    let (reflection, old_reflection) = (reflection().build_v1()?, reflection().build_v1alpha()?);
    let (health, health_service) = tonic_health::server::health_reporter();

    let tenants = TenantServiceServer::new(Tenants::new(Arc::clone(&catalog), Arc::clone(&runtime)));
    let secrets = SecretServiceServer::new(Secrets::new(Arc::clone(&catalog)));
    let peers = PeerServiceServer::new(Peers::new(Arc::clone(&catalog), tunnels.clone()));
    let sas = Sas::new(Arc::clone(&catalog), tunnels.clone(), access.counters(), is_down.clone());
    let sas = SaServiceServer::new(sas);
    let state = runtime.health();
    let batches = BatchServiceServer::new(Batches::new(Arc::clone(&catalog)));
    let tokens = TokenServiceServer::new(Tokens::new(Arc::clone(&catalog)));
    let audits = AuditServiceServer::new(Audits::new(Arc::clone(&catalog)));
    let nodes = NodeServiceServer::new(Nodes::new(Arc::clone(&catalog), tunnels.clone(), access.counters()));
    let for_nodes = tunnels.incoming().map(|incoming| {
        let (catalog, api) = (Arc::clone(&catalog), access.counters());
        let served = serve_nodes(incoming, catalog, runtime, api, is_down.clone());
        AbortOnDrop(tokio::spawn(async move {
            if let Err(error) = served.await {
                tracing::error!(%error, "the other nodes cannot ask this one any more");
            }
        }))
    });
    let access = Arc::new(access);
    health.set_serving::<TenantServiceServer<Tenants>>().await;
    health.set_serving::<SecretServiceServer<Secrets>>().await;
    health.set_serving::<PeerServiceServer<Peers>>().await;
    health.set_serving::<SaServiceServer<Sas>>().await;
    health.set_serving::<NodeServiceServer<Nodes>>().await;
    let told = AbortOnDrop(tokio::spawn(tell_health(health.clone(), state, in_the_way, phase.clone())));
    health.set_serving::<BatchServiceServer<Batches>>().await;
    health.set_serving::<TokenServiceServer<Tokens>>().await;
    health.set_serving::<AuditServiceServer<Audits>>().await;

    let drained = |mut is_down: watch::Receiver<bool>| async move {
        // An error is the sender gone, which is the end too.
        let _ = is_down.until(|down| *down).await;
    };
    let serve = Server::builder()
        .concurrency_limit_per_connection(MAX_CONCURRENT)
        // What waits for its turn holds what has come of it.
        .max_concurrent_streams(MAX_STREAMS)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .layer(traced)
        .layer(AccessLayer::new(Arc::clone(&access)))
        .add_service(tenants.max_decoding_message_size(MAX_REQUEST))
        .add_service(secrets.max_decoding_message_size(MAX_REQUEST))
        .add_service(peers.max_decoding_message_size(MAX_REQUEST))
        .add_service(sas)
        .add_service(nodes)
        .add_service(tokens)
        .add_service(audits)
        .add_service(batches.max_decoding_message_size(MAX_BATCH_REQUEST))
        // What no rule is about is bounded here, before anything of it is kept: probes have no credential.
        .add_service(reflection.max_decoding_message_size(MAX_NAMED))
        .add_service(old_reflection.max_decoding_message_size(MAX_NAMED))
        .add_service(health_service.max_decoding_message_size(MAX_NAMED))
        .serve_with_incoming_shutdown(doors.open(&access), drained(is_down.clone()));
    tokio::pin!(serve);
    tokio::select! {
        result = &mut serve => return Ok(result?),
        // An error is the sender gone, which is the end too.
        _ = phase.until(|phase| *phase == Phase::Ending) => {}
    }
    // Load balancers see it before the connections close.
    drop(told);
    health.set_service_status("", ServingStatus::NotServing).await;
    let _ = down.send(true);
    let served = match tokio::time::timeout(GRACE, serve).await {
        Ok(result) => result.map_err(ServeError::from),
        Err(_) => {
            tracing::warn!("requests were still under way after {GRACE:?} and are cut off");
            Ok(())
        }
    };
    drop(for_nodes);
    let kept = tokio::task::spawn_blocking(move || {
        catalog.audit().sync();
        catalog.tend()
    });
    if let Ok(Err(error)) = kept.await {
        tracing::warn!(%error, "the store was not left in order: when tokens were shown last may be older than it was");
    }
    served
}

/// The service that says whether everything runs that must: what is not well here is mended by a restart.
const LIVE: &str = "live";
/// The service that says whether the uplinks of all tenants work.
const UPLINKS: &str = "uplinks";

/// The node as a whole, which is the service without a name, is serving while everything runs that must, nothing else is in the
/// way, and the daemon is not to end; [`LIVE`] leaves the last two out. A tenant's uplink is its own affair, and keeps nobody else from being served:
/// [`UPLINKS`] says whether all of them work, and each is a condition of its tenant.
async fn tell_health(
    reporter: HealthReporter,
    mut state: watch::Receiver<Health>,
    mut in_the_way: watch::Receiver<Option<String>>,
    mut phase: watch::Receiver<Phase>,
) {
    loop {
        let (live, uplinks) = {
            let health = state.take_latest();
            (health.is_good(), health.uplinks.is_empty())
        };
        let serving = phase.take_latest() == Phase::Serving;
        let ready = live && serving && in_the_way.take_latest().is_none();
        for (service, good) in [(LIVE, live), (UPLINKS, uplinks), ("", ready)] {
            let status = if good { ServingStatus::Serving } else { ServingStatus::NotServing };
            reporter.set_service_status(service, status).await;
        }
        // What is gone says no more; the others do.
        tokio::select! {
            Ok(()) = state.changed() => {}
            Ok(()) = in_the_way.changed() => {}
            Ok(()) = phase.changed() => {}
            else => return,
        }
    }
}

/// A task that ends with whoever started it.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
