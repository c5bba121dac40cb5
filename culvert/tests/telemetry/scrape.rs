//! What Prometheus is told.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ::certificates::issue::{Authority, KeyKind};
use actors::{HomeNews, HomeRule, Homes, NodeConfig};
use culvert::config::MetricsConfig;
use culvert::telemetry::Exports;
use culvert::telemetry::metrics::{ClusterFigures, table};
use culvert_proto::v1::{CreateSecretRequest, CreateTenantRequest, Secret};
use tenants::Catalog;
use tenants::store::{Batch, MemoryStore, Store, StoreError, Vault};

use crate::http::get;
use crate::node::{Running, SECRET};
#[cfg(feature = "fault-injection")]
use crate::pair::{Faults, Pair, right};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

/// The value of a series.
fn value(text: &str, series: &str) -> Option<f64> {
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line.rsplit(' ').next()?.parse().ok()
}

#[test]
fn every_configured_peer_has_its_series_and_none_after() {
    runtime().block_on(async {
        let running =
            Running::start(NodeConfig::default(), &MetricsConfig::default(), Exports::default()).await;
        running.fill(2, 3);
        running.stand(6).await;
        let not_after = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        running.others.certificate("grpc", move || Some(not_after));
        running.others.counters(|| vec![("api_denied", 7)]);
        running.others.files("tokens", || false);
        let metrics = running.metrics;
        let (status, text) = tokio::task::spawn_blocking(move || get(metrics, "/metrics")).await.unwrap();
        assert_eq!(status, 200);
        for t in 0..2 {
            for p in 0..3 {
                let series = |name: &str| format!("{name}{{tenant=\"tenant-{t:04}\",peer=\"branch-{p:05}\"}}");
                assert_eq!(value(&text, &series("culvert_peer_up")), Some(0.0), "{text}");
                assert_eq!(value(&text, &series("culvert_peer_losses_total")), Some(0.0));
                let why = format!(
                    "culvert_peer_down_reason{{tenant=\"tenant-{t:04}\",peer=\"branch-{p:05}\",reason=\"waiting\"}}"
                );
                assert_eq!(value(&text, &why), Some(1.0));
            }
        }
        assert_eq!(value(&text, "culvert_tenant_peers{tenant=\"tenant-0001\",state=\"waiting\"}"), Some(3.0));
        assert_eq!(value(&text, "culvert_peers{state=\"waiting\"}"), Some(6.0));
        assert_eq!(value(&text, "culvert_store_writable"), Some(1.0));
        assert_eq!(value(&text, "culvert_api_files_usable{files=\"tokens\"}"), Some(0.0));
        assert_eq!(value(&text, "culvert_ready"), Some(1.0));
        let certificate = "culvert_certificate_expiry_timestamp_seconds{certificate=\"grpc\"}";
        assert_eq!(value(&text, certificate), Some(2e9));
        assert_eq!(value(&text, "culvert_events_total{event=\"api_denied\"}"), Some(7.0));
        assert!(!text.contains(SECRET));

        // Every counter of the node's status is there once, under some name.
        let series = text.lines().filter(|line| !line.starts_with('#')).count();
        let counters = running.node.control().node_status().counters;
        for counter in counters.keys() {
            let word = counter.strip_prefix("drop_").or_else(|| counter.strip_prefix("ike_"));
            let by_label = text.contains(&format!("=\"{counter}\"}}"))
                || word.is_some_and(|word| text.contains(&format!("=\"{word}\"}}")));
            let own = ["esp_received", "esp_sent", "ike_received", "ike_sent", "ike_retransmissions", "policy_bypass"];
            assert!(by_label || own.contains(&counter.as_str()), "{counter}");
        }
        assert!(series > counters.len(), "{series} series");

        // One that is deleted leaves nothing behind.
        let name = "tenants/tenant-0001/peers/branch-00002";
        let request = culvert_proto::v1::DeletePeerRequest { name: name.to_owned(), ..Default::default() };
        running.catalog.delete_peer(&request).unwrap();
        let (_, text) = tokio::task::spawn_blocking(move || get(metrics, "/metrics")).await.unwrap();
        assert!(!text.contains("tenant=\"tenant-0001\",peer=\"branch-00002\""));
        running.node.shutdown().await;
    });
}

/// Another node begins with all peers.
struct AtB;

impl HomeRule for AtB {
    fn elsewhere(&self, _: u64, held: bool) -> Option<String> {
        (!held).then(|| "b".to_owned())
    }

    fn holder(&self, _: u64) -> Option<String> {
        None
    }

    fn hold(&self, _: u64, _: bool) {}
}

#[test]
fn peers_of_another_node_are_elsewhere() {
    runtime().block_on(async {
        let config = NodeConfig { homes: Homes::new(AtB, HomeNews::default()), ..NodeConfig::default() };
        let running = Running::start(config, &MetricsConfig::default(), Exports::default()).await;
        running.fill(1, 2);
        running.stand(2).await;
        let metrics = running.metrics;
        let (_, text) = tokio::task::spawn_blocking(move || get(metrics, "/metrics")).await.unwrap();
        let peer = "tenant=\"tenant-0000\",peer=\"branch-00001\"";
        let why = format!("culvert_peer_down_reason{{{peer},reason=\"elsewhere\"}}");
        assert_eq!(value(&text, &why), Some(1.0), "{text}");
        assert_eq!(value(&text, &format!("culvert_peer_up{{{peer}}}")), Some(0.0));
        for (state, count) in [("elsewhere", 2.0), ("waiting", 0.0)] {
            assert_eq!(value(&text, &format!("culvert_peers{{state=\"{state}\"}}")), Some(count));
            let of_tenant = format!("culvert_tenant_peers{{tenant=\"tenant-0000\",state=\"{state}\"}}");
            assert_eq!(value(&text, &of_tenant), Some(count));
        }
        running.node.shutdown().await;
    });
}

/// The table and what is told are one: nothing is told that is not in it, and each name is told in one place.
#[test]
fn what_is_told_is_in_the_table() {
    runtime().block_on(async {
        let running =
            Running::start(NodeConfig::default(), &MetricsConfig::default(), Exports::default()).await;
        running.fill(1, 1);
        running.stand(1).await;
        let metrics = running.metrics;
        let (_, text) = tokio::task::spawn_blocking(move || get(metrics, "/metrics")).await.unwrap();
        let told: Vec<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect();
        let mut once = told.clone();
        once.sort_unstable();
        once.dedup();
        assert_eq!(once.len(), told.len(), "{told:?}");
        // These need a certificate, files of the API's, an exporter or packets that are dropped.
        let later = [
            &table::CERTIFICATE,
            &table::TENANT_CERTIFICATE,
            &table::API_FILES,
            &table::EXPORT_UP,
            &table::TENANT_DROPPED,
        ];
        for metric in table::ALL {
            let expected = !later.contains(metric);
            assert_eq!(told.contains(&metric.name), expected, "{}", metric.name);
        }
        running.node.shutdown().await;
    });
}

/// A tenant is told when its own certificates end, where there are too many tenants as well if that is soon.
#[test]
fn a_certificate_of_a_tenant_has_an_end() {
    let series = |tenant: u32| {
        format!("culvert_tenant_certificate_expiry_timestamp_seconds{{tenant=\"tenant-{tenant:04}\"}}")
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    for most in [1_000, 1] {
        runtime().block_on(async {
            let config = MetricsConfig { max_tenants: most, ..MetricsConfig::default() };
            let running = Running::start(NodeConfig::default(), &config, Exports::default()).await;
            running.fill(3, 1);
            let authority = Authority::new("authority").unwrap();
            for (tenant, days) in [(1, 10), (2, 90)] {
                let id = "gw.example".parse().unwrap();
                let own = authority.issue_for(&[id], KeyKind::P256, (-1, days)).unwrap();
                let request = CreateSecretRequest {
                    parent: format!("tenants/tenant-{tenant:04}"),
                    secret_id: "own".to_owned(),
                    secret: Some(Secret { value: own.to_pem().unwrap(), ..Default::default() }),
                    ..Default::default()
                };
                running.catalog.create_secret(request).unwrap();
            }
            let metrics = running.metrics;
            let (_, text) = tokio::task::spawn_blocking(move || get(metrics, "/metrics")).await.unwrap();
            let days = |tenant| Some((value(&text, &series(tenant))? - now) / 86_400.0);
            assert_eq!(days(0), None, "{text}");
            assert!(days(1).is_some_and(|days| (9.9..10.1).contains(&days)), "{text}");
            assert_eq!(days(2).is_some(), most == 1_000, "{text}");
            running.node.shutdown().await;
        });
    }
}

/// With more peers, or tenants, than have series of their own there are sums, and it says so.
#[test]
fn beyond_the_bounds_there_are_sums() {
    runtime().block_on(async {
        let config = MetricsConfig { listen: None, max_peers: 5, max_tenants: 1 };
        let running = Running::start(NodeConfig::default(), &config, Exports::default()).await;
        running.fill(2, 3);
        running.stand(6).await;
        let metrics = running.metrics;
        let (_, text) = tokio::task::spawn_blocking(move || get(metrics, "/metrics")).await.unwrap();
        assert!(!text.contains("peer=\"") && !text.contains("tenant=\""), "{text}");
        assert_eq!(value(&text, "culvert_metrics_aggregated{scope=\"peer\"}"), Some(1.0));
        assert_eq!(value(&text, "culvert_metrics_aggregated{scope=\"tenant\"}"), Some(1.0));
        assert_eq!(value(&text, "culvert_peers{state=\"waiting\"}"), Some(6.0));

        // What alerts look at is told of those that fail.
        let failing = "tenant=\"tenant-0001\",peer=\"branch-00001\"";
        let name = "tenants/tenant-0001/peers/branch-00001".parse().unwrap();
        running.node.control().initiate(&name, None).await.unwrap_err();
        let (_, text) = tokio::task::spawn_blocking(move || get(metrics, "/metrics")).await.unwrap();
        assert_eq!(value(&text, &format!("culvert_peer_up{{{failing}}}")), Some(0.0), "{text}");
        let why = format!("culvert_peer_down_reason{{{failing},reason=\"local\"}}");
        assert_eq!((value(&text, &why), text.matches("peer=\"branch").count()), (Some(1.0), 2));
        // Out of how many is not for one of several nodes to say, so nothing is said of it.
        assert!(!text.contains("culvert_tenant_peers{") && !text.contains("tenant-0000"), "{text}");
        running.node.shutdown().await;
    });
}

/// A disk that takes nothing.
struct Full(MemoryStore);

impl Store for Full {
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.0.load()
    }

    fn commit(&self, _: &Batch) -> Result<(), StoreError> {
        Err(StoreError::Disk { path: "catalog.redb".into(), reason: "full".into() })
    }
}

#[test]
fn a_store_that_takes_no_writes_is_told_of_a_node_by_itself() {
    runtime().block_on(async {
        let store = Box::new(Full(MemoryStore::default()));
        let catalog = Arc::new(Catalog::with(store, Vault::ephemeral().unwrap()).unwrap());
        let (config, metrics) = (NodeConfig::default(), MetricsConfig::default());
        let running = Running::of(Arc::clone(&catalog), config, &metrics, Exports::default()).await;
        let request = CreateTenantRequest { tenant_id: "a".to_owned(), ..Default::default() };
        catalog.create_tenant(&request).unwrap_err();
        let told = async || {
            let metrics = running.metrics;
            let (_, text) = tokio::task::spawn_blocking(move || get(metrics, "/metrics")).await.unwrap();
            value(&text, "culvert_store_writable")
        };
        assert_eq!(told().await, Some(0.0));
        // That of a cluster is etcd, of which is told apart.
        running.others.cluster(|| ClusterFigures { etcd_is_away: true, ..ClusterFigures::default() });
        assert_eq!(told().await, Some(1.0));
        running.node.shutdown().await;
    });
}

/// A hundred thousand peers: what a scrape costs grows no faster than they do. How long it takes, and how much it is, is
/// printed.
#[test]
fn a_hundred_thousand_peers_are_told() {
    runtime().block_on(async {
        let mut times = Vec::new();
        for (peers, max_peers) in [(10_000, 10_000), (100_000, 10_000), (100_000, 100_000)] {
            let config = MetricsConfig { max_peers, ..MetricsConfig::default() };
            let running = Running::start(NodeConfig::default(), &config, Exports::default()).await;
            running.fill(100, peers / 100);
            running.stand(peers).await;
            let metrics = running.metrics;
            // The best of some, so that others on this machine do not count.
            let mut best = Duration::MAX;
            let mut octets = 0;
            for _ in 0..5 {
                let began = Instant::now();
                let (status, text) =
                    tokio::task::spawn_blocking(move || get(metrics, "/metrics")).await.unwrap();
                best = best.min(began.elapsed());
                octets = text.len();
                assert_eq!(status, 200);
                let per_peer = text.lines().filter(|line| line.starts_with("culvert_peer_up{")).count();
                assert_eq!(per_peer, if peers <= max_peers { peers } else { 0 });
            }
            println!("{peers} peers, metrics.max_peers {max_peers}: {best:?}, {octets} octets");
            times.push(best);
            running.node.shutdown().await;
        }
        assert!(times[2] < times[0] * 30, "{times:?}: ten times the peers");
    });
}

/// What stands still is to be seen for as long as it does, and nothing else is taken for gone.
#[cfg(feature = "fault-injection")]
#[test]
fn a_node_that_stands_still_is_told_to_be_so() {
    // A scrape of Prometheus may take ten seconds.
    const SCRAPE: Duration = Duration::from_secs(10);
    // How long to wait before it fails.
    const PATIENCE: Duration = Duration::from_secs(60);
    runtime().block_on(async {
        let pair = Pair::start([None, None], Faults::default()).await;
        let metrics = pair.left.metrics;
        let read = async || {
            let read = tokio::task::spawn_blocking(move || get(metrics, "/metrics").1);
            tokio::time::timeout(SCRAPE, read).await.expect("it is told in time").unwrap()
        };
        pair.control().initiate(&right(), None).await.unwrap();
        let up = "culvert_peer_up{tenant=\"acme\",peer=\"right\"}";
        let began = Instant::now();
        while value(&read().await, up) != Some(1.0) {
            assert!(began.elapsed() < PATIENCE, "it does not come up");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // A shard: it is noticed, and what it has told stays.
        let packets = "culvert_tenant_packets_total{tenant=\"acme\",direction=\"out\"}";
        let held = pair.left.node.router().inject_stall(0);
        let began = Instant::now();
        loop {
            let text = read().await;
            assert_eq!((value(&text, up), value(&text, packets)), (Some(1.0), Some(0.0)));
            if value(&text, "culvert_live") == Some(0.0) {
                assert_eq!(value(&text, "culvert_ready"), Some(0.0));
                break;
            }
            assert!(began.elapsed() < PATIENCE, "nobody has noticed");
        }
        drop(held);
        // What nobody gets past: at least the node is told, and of tunnels nothing is said.
        let held = pair.left.node.router().inject_hold();
        for _ in 0..2 {
            // Who asks at the same time waits no longer.
            for text in <[String; 3]>::from(tokio::join!(read(), read(), read())) {
                assert!(value(&text, "culvert_live").is_some(), "{text}");
                assert_eq!((value(&text, up), text.matches("tenant=").count()), (None, 0));
            }
        }
        drop(held);
        let began = Instant::now();
        while value(&read().await, up) != Some(1.0) || value(&read().await, "culvert_live") != Some(1.0) {
            assert!(began.elapsed() < PATIENCE, "it does not go on");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        pair.stop().await;
    });
}
