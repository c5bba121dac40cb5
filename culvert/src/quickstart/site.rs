//! The concentrator of the quickstart: a node and its API in this process.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use actors::{Node, NodeConfig};
use tenants::Catalog;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::access::{Access, Doors};
use crate::config::{MetricsConfig, OtlpConfig};
use crate::console::target::{Server, Target};
use crate::console::{Client, Failure};
use crate::phase::{Phase, Phases};
use crate::quickstart::Arguments;
use crate::quickstart::directory::Directory;
use crate::quickstart::fleet::Front;
use crate::server::{self, ServeError};
use crate::telemetry::{InTheWay, Telemetry};
use crate::tunnels::Tunnels;

/// A running concentrator.
pub(crate) struct Site {
    pub(crate) front: Front,
    pub(crate) api: SocketAddr,
    node: Node,
    phases: Phases,
    api_task: JoinHandle<Result<(), ServeError>>,
    pub(crate) telemetry: Telemetry,
    _store: Directory,
}

/// How often metrics are sent: a run takes some seconds.
const OTLP_INTERVAL: Duration = Duration::from_secs(1);

impl Site {
    pub(crate) async fn start(arguments: &Arguments) -> Result<Self, Failure> {
        let store = match &arguments.state_dir {
            Some(path) => Directory::kept(path.clone()),
            None => Directory::temporary(),
        };
        let path = store.path().to_owned();
        let opened = tokio::task::spawn_blocking(move || Catalog::open(&path)).await;
        let catalog = opened
            .map_err(|error| Failure::failed(error.to_string()))?
            .map_err(|error| store_failure(&error.to_string(), arguments))?;
        if !catalog.tenants().is_empty() {
            return Err(Failure::invalid(format!("{}: the store is not empty", store.path().display()))
                .hint("name a new directory with --state-dir, or leave the option out"));
        }
        let catalog = Arc::new(catalog);
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let router = router::RouterConfig {
            listen: vec![address],
            ike_port: arguments.ike_port,
            natt_port: arguments.natt_port,
            shards: arguments.shards.into(),
            ..router::RouterConfig::default()
        };
        if !arguments.api.ip().is_loopback() {
            return Err(Failure::invalid(format!(
                "--api {}: expected an address of loopback",
                arguments.api
            ))
            .hint("the quickstart asks nobody who they are; culvertd does"));
        }
        let listener = TcpListener::bind(arguments.api).await.map_err(|e| {
            Failure::failed(format!("--api {}: {e}", arguments.api))
                .hint("--api 127.0.0.1:0 takes a free port")
        })?;
        let api = listener.local_addr().map_err(|e| Failure::failed(e.to_string()))?;
        let metrics = MetricsConfig { listen: arguments.metrics, ..MetricsConfig::default() };
        let otlp = OtlpConfig {
            endpoint: arguments.otlp.clone(),
            // Four tunnels for some seconds: all of it.
            sample_ratio: 1.0,
            interval: OTLP_INTERVAL,
            ..OtlpConfig::default()
        };
        let telemetry = Telemetry::start(&metrics, &otlp).await;
        let mut telemetry =
            telemetry.map_err(|e| Failure::failed(e.to_string().replace("metrics.listen", "--metrics")))?;
        let config = NodeConfig { spans: telemetry.spans(), ..NodeConfig::default() };
        let node = Node::start(config, router, catalog.clone()).map_err(|e| {
            Failure::failed(e.to_string()).hint("--ike-port 0 and --natt-port 0 take free ports")
        })?;
        let (ike_port, natt_port) = node.ports();
        let tunnels = Tunnels::new(&node, vec![address.to_string()], arguments.shards.into());
        let in_the_way = catalog.store_fault();
        let told = InTheWay::OfChanges(in_the_way.clone());
        telemetry.node_runs(&node, &catalog, arguments.shards.into(), told).await;
        let access = Access::open(catalog.clone());
        access.tell(&telemetry.others());
        let phases = Phases::new();
        let api_task = tokio::spawn(server::serve_grpc(
            Doors::tcp(listener),
            access,
            catalog,
            Arc::new(tunnels),
            telemetry.traced(),
            in_the_way,
            phases.watch(),
        ));
        let front = Front { address, ike_port, natt_port };
        Ok(Self { front, api, node, phases, api_task, telemetry, _store: store })
    }

    /// A client of the API, over TCP as any other.
    pub(crate) async fn client(&self) -> Result<Client, Failure> {
        let timeout = std::time::Duration::from_secs(30);
        Client::to(&Target::of(Server::Plain(format!("http://{}", self.api))), timeout).await
    }

    /// Deletes all SAs, then stops everything.
    pub(crate) async fn stop(self) {
        self.node.shutdown().await;
        self.phases.go_on(Phase::Ending);
        // The server may have failed already.
        let _ = self.api_task.await;
        self.telemetry.stop().await;
    }
}

fn store_failure(error: &str, arguments: &Arguments) -> Failure {
    let failure = Failure::failed(format!("cannot open the store: {error}"));
    match arguments.state_dir {
        Some(_) => failure.hint("--state-dir needs a directory that this user can write to"),
        None => failure.hint(
            "the directory for temporary files is not writable; name another with --state-dir or TMPDIR",
        ),
    }
}
