//! A node with a catalog in memory, in the process of the test.

use std::net::SocketAddr;
use std::sync::Arc;

use actors::{Node, NodeConfig};
use culvert::config::MetricsConfig;
use culvert::telemetry::http::{self, Served};
use culvert::telemetry::metrics::{Others, Source};
use culvert::telemetry::{Exports, InTheWay, Probes};
use culvert_proto::v1;
use culvert_proto::v1::object::Kind;
use tenants::Catalog;

/// See the module.
pub(crate) struct Running {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) node: Node,
    pub(crate) metrics: SocketAddr,
    pub(crate) others: Others,
    pub(crate) source: Arc<Source>,
}

impl Running {
    /// With the metrics served.
    pub(crate) async fn start(node: NodeConfig, config: &MetricsConfig, exports: Exports) -> Self {
        Self::of(Arc::new(Catalog::in_memory().unwrap()), node, config, exports).await
    }

    /// The same of this catalog.
    pub(crate) async fn of(
        catalog: Arc<Catalog>,
        node: NodeConfig,
        config: &MetricsConfig,
        exports: Exports,
    ) -> Self {
        let router = router::RouterConfig {
            listen: vec!["127.0.0.1".parse().unwrap()],
            ike_port: 0,
            natt_port: 0,
            ..router::RouterConfig::default()
        };
        let node = Node::start(node, router, Arc::clone(&catalog)).unwrap();
        let (probes, others) = (Probes::default(), Others::default());
        let served = Served::new(probes.clone());
        let listener = http::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let metrics = listener.local_addr().unwrap();
        tokio::spawn(http::serve(listener, served.clone()));
        probes.started(node.health(), InTheWay::OfChanges(catalog.store_fault()));
        let source = Source::new(
            Arc::clone(&catalog),
            node.control(),
            1,
            (probes, config.into()),
            others.clone(),
            exports,
        );
        let source = Arc::new(source);
        served.started(Arc::clone(&source)).await;
        Self { catalog, node, metrics, others, source }
    }

    /// `tenants` tenants with `peers` peers each, that wait to be called.
    pub(crate) fn fill(&self, tenants: usize, peers: usize) {
        let object = |kind| v1::Object { kind: Some(kind) };
        let mut objects = Vec::new();
        for t in 0..tenants {
            let quotas = v1::Quotas { max_peers: 100_000, ..Default::default() };
            let name = format!("tenants/tenant-{t:04}");
            let secret = format!("{name}/secrets/psk");
            let tenant = v1::Tenant { name: name.clone(), quotas: Some(quotas), ..Default::default() };
            objects.push(object(Kind::Tenant(tenant)));
            let value = SECRET.as_bytes().to_vec();
            objects.push(object(Kind::Secret(v1::Secret {
                name: secret.clone(),
                value,
                ..Default::default()
            })));
            for p in 0..peers {
                let (high, low) = (p / 256, p % 256);
                objects.push(object(Kind::Peer(v1::Peer {
                    name: format!("{name}/peers/branch-{p:05}"),
                    local_identity: "hub.example".to_owned(),
                    remote_identity: format!("branch-{p}.tenant-{t}.example"),
                    auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk(secret.clone())) }),
                    children: vec![v1::Child {
                        name: "lan".to_owned(),
                        local_subnets: vec!["172.16.0.0/16".to_owned()],
                        remote_subnets: vec![format!("10.{}.{}.0/24", high % 256, low)],
                        ..Default::default()
                    }],
                    ..Default::default()
                })));
            }
        }
        for some in objects.chunks(100_000) {
            self.catalog.apply(v1::ApplyRequest { objects: some.to_vec(), ..Default::default() }).unwrap();
        }
    }

    /// Waits until so many peers have their actors.
    pub(crate) async fn stand(&self, peers: usize) {
        while self.node.control().figures().await.peers.len() < peers {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// Must not be found anywhere.
pub(crate) const SECRET: &str = "correct horse battery staple";
