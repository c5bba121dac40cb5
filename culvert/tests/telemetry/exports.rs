//! A collector that misbehaves: nothing waits for it, nothing grows, and what is lost is counted.

use std::time::{Duration, Instant};

use actors::{NodeConfig, Span, SpanContext, SpanKind, SpanSink as _};
use culvert::config::{MetricsConfig, OtlpConfig};
use culvert::telemetry::Exports;
use culvert::telemetry::otlp::Exporter;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::collector::{Collector, Mood};
use crate::node::{Running, SECRET};
use crate::traces::exporter;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

fn span() -> Span {
    Span::begin(SpanContext::root(), None, "test", SpanKind::Internal)
}

fn dropped(exports: &Exports, signal: &str, reason: &str) -> u64 {
    let figures = exports.read();
    figures.dropped.iter().find(|(s, r, _)| (*s, *r) == (signal, reason)).unwrap().2
}

fn exported(exports: &Exports, signal: &str) -> u64 {
    exports.read().exported.iter().find(|(s, _)| *s == signal).unwrap().1
}

async fn until(what: impl Fn() -> bool) {
    while !what() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn node() -> Running {
    let running = Running::start(NodeConfig::default(), &MetricsConfig::default(), Exports::default()).await;
    running.fill(1, 2);
    running.stand(2).await;
    running
}

#[test]
fn metrics_arrive_and_the_headers_with_them() {
    runtime().block_on(async {
        let (collector, running, exports) = (Collector::start().await, node().await, Exports::default());
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("headers");
        std::fs::write(&path, "authorization: Bearer it-is-me\n").unwrap();
        let config = OtlpConfig {
            endpoint: Some(collector.endpoint()),
            headers_file: Some(path),
            interval: Duration::from_secs(1),
            ..OtlpConfig::default()
        };
        let exporter = Exporter::new(&config, exports.clone()).unwrap().unwrap();
        exporter.spans().unwrap().take(vec![span()]);
        let exporting = exporter.start(running.source.clone());
        until(|| exported(&exports, "metrics") > 0 && exported(&exports, "traces") > 0).await;
        exporting.stop().await;
        let metrics = collector.inbox.metrics();
        for name in ["culvert_peer_up", "culvert_handshake_duration_seconds", "culvert_dropped_packets_total"]
        {
            assert!(metrics.iter().any(|metric| metric.name == name), "{name}");
        }
        assert!(!format!("{metrics:?}").contains(SECRET));
        assert_eq!(collector.inbox.authorization().as_deref(), Some("Bearer it-is-me"));
        running.node.shutdown().await;
    });
}

/// Not there at first, then there, then killed, then there again.
#[test]
fn a_collector_comes_and_goes() {
    runtime().block_on(async {
        let collector = Collector::start().await;
        let (running, exports) = (node().await, Exports::default());
        let exporter = exporter(&collector, 1.0, &exports);
        let queue = exporter.spans().unwrap();
        let (address, inbox) = collector.kill();
        let exporting = exporter.start(running.source.clone());
        queue.take(vec![span()]);
        until(|| exports.read().up.contains(&("traces", false))).await;
        let collector = Collector::again(address, inbox).await;
        until(|| exported(&exports, "traces") == 1).await;
        assert_eq!(dropped(&exports, "traces", "failed"), 0, "it was sent again");
        assert!(exports.read().up.contains(&("traces", true)));
        let (address, inbox) = collector.kill();
        queue.take(vec![span(), span()]);
        let _collector = Collector::again(address, inbox.clone()).await;
        until(|| exported(&exports, "traces") == 3).await;
        assert_eq!(inbox.spans().len(), 3);
        exporting.stop().await;
        running.node.shutdown().await;
    });
}

/// One that takes connections and never answers: putting spans in goes on as fast, and no more are held than may be.
#[test]
fn a_collector_that_stands_still_holds_up_nobody() {
    runtime().block_on(async {
        let (collector, running, exports) = (Collector::start().await, node().await, Exports::default());
        collector.inbox.be(Mood::Stalls);
        let exporter = exporter(&collector, 1.0, &exports);
        let queue = exporter.spans().unwrap();
        let exporting = exporter.start(running.source.clone());
        let began = Instant::now();
        for _ in 0..100_000 {
            queue.take(vec![span()]);
        }
        let stalled = began.elapsed();
        let limit = exports.read().queues[0].limit;
        assert!(exports.read().queues[0].depth <= limit);
        // One request is under way besides.
        let lost = dropped(&exports, "traces", "queue_full");
        assert!(lost >= 100_000 - limit - 2 * 512, "{lost}");
        // The node is read as ever.
        let metrics = running.metrics;
        let text =
            tokio::task::spawn_blocking(move || crate::http::get(metrics, "/metrics")).await.unwrap().1;
        assert!(text.contains("culvert_peer_up"));
        // Side by side with a queue that nobody empties at all: it costs no more.
        let other = Exporter::new(
            &OtlpConfig { endpoint: Some(collector.endpoint()), ..OtlpConfig::default() },
            Exports::default(),
        );
        let (other, began) = (other.unwrap().unwrap().spans().unwrap(), Instant::now());
        for _ in 0..100_000 {
            other.take(vec![span()]);
        }
        let alone = began.elapsed();
        assert!(stalled < alone * 20 + Duration::from_millis(50), "{stalled:?} beside {alone:?}");
        // It ends all the same.
        exporting.stop().await;
        running.node.shutdown().await;
    });
}

/// An hour of the clock that the exporter goes by, with ten spans a second: a queue full is held, and each span is accounted for.
#[test]
fn a_collector_that_stands_still_for_an_hour_costs_a_queue_and_no_more() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (collector, running, exports) = (Collector::start().await, node().await, Exports::default());
        collector.inbox.be(Mood::Stalls);
        let exporter = exporter(&collector, 1.0, &exports);
        let queue = exporter.spans().unwrap();
        let exporting = exporter.start(running.source.clone());
        tokio::time::pause();
        let (seconds, each) = (3_600, 10);
        for _ in 0..seconds {
            queue.take((0..each).map(|_| span()).collect());
            tokio::time::sleep(Duration::from_secs(1)).await;
            let waits = &exports.read().queues[0];
            assert!(waits.depth <= waits.limit);
        }
        let (given, limit) = (seconds * each, exports.read().queues[0].limit);
        let lost = || dropped(&exports, "traces", "queue_full") + dropped(&exports, "traces", "failed");
        assert!(lost() >= given - limit - 2 * 512, "{}", lost());
        assert!(dropped(&exports, "metrics", "failed") > 10, "each is tried, and the next is a new one");
        assert!(exports.read().up.contains(&("traces", false)));
        tokio::time::resume();
        collector.inbox.be(Mood::Takes);
        until(|| exported(&exports, "traces") + lost() == given && exported(&exports, "metrics") > 0).await;
        assert!(exports.read().up.contains(&("traces", true)));
        // What arrived twice had been taken by a collector that did not say so.
        assert!(collector.inbox.spans().len() as u64 >= exported(&exports, "traces"));
        exporting.stop().await;
        running.node.shutdown().await;
    });
}

#[test]
fn what_is_refused_is_counted_and_not_sent_again() {
    runtime().block_on(async {
        let (collector, running, exports) = (Collector::start().await, node().await, Exports::default());
        collector.inbox.be(Mood::Refuses);
        let exporter = exporter(&collector, 1.0, &exports);
        exporter.spans().unwrap().take(vec![span(), span()]);
        let exporting = exporter.start(running.source.clone());
        until(|| dropped(&exports, "traces", "failed") == 2 && dropped(&exports, "metrics", "failed") > 0)
            .await;
        collector.inbox.be(Mood::Busy);
        until(|| dropped(&exports, "metrics", "failed") > 1).await;
        collector.inbox.be(Mood::Takes);
        until(|| exported(&exports, "metrics") > 0).await;
        assert_eq!(exported(&exports, "traces"), 0);
        exporting.stop().await;
        running.node.shutdown().await;
    });
}

#[test]
fn what_is_taken_and_thrown_away_is_not_counted_as_exported() {
    runtime().block_on(async {
        let (collector, running, exports) = (Collector::start().await, node().await, Exports::default());
        collector.inbox.be(Mood::Discards);
        let exporter = exporter(&collector, 1.0, &exports);
        exporter.spans().unwrap().take(vec![span(), span()]);
        let exporting = exporter.start(running.source.clone());
        until(|| {
            dropped(&exports, "traces", "rejected") == 1 && dropped(&exports, "metrics", "rejected") > 0
        })
        .await;
        assert_eq!((exported(&exports, "traces"), exported(&exports, "metrics")), (1, 0));
        exporting.stop().await;
        running.node.shutdown().await;
    });
}

/// Something else listens there, and answers what is no HTTP/2.
#[test]
fn rubbish_is_as_good_as_nothing() {
    runtime().block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = Some(format!("http://{}", listener.local_addr().unwrap()));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut buffer = [0; 1024];
                    let _ = stream.read(&mut buffer).await;
                    while stream.write_all(&[0x5a; 4096]).await.is_ok() {}
                });
            }
        });
        let (running, exports) = (node().await, Exports::default());
        let config = OtlpConfig { endpoint, interval: Duration::from_secs(1), ..OtlpConfig::default() };
        let exporter = Exporter::new(&config, exports.clone()).unwrap().unwrap();
        exporter.spans().unwrap().take(vec![span()]);
        let exporting = exporter.start(running.source.clone());
        until(|| dropped(&exports, "metrics", "failed") > 1).await;
        assert_eq!(exported(&exports, "metrics"), 0);
        exporting.stop().await;
        running.node.shutdown().await;
    });
}
