//! Records of logs at a collector: who did what, and what happened to tunnels.

use std::sync::Arc;
use std::time::Duration;

use actors::{NodeConfig, SpanContext};
use culvert::config::{LogConfig, MetricsConfig, OtlpConfig};
use culvert::logging;
use culvert::telemetry::Exports;
use culvert::telemetry::otlp::Exporter;
use culvert_proto::v1;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, SeverityNumber};
use tenants::audit::{AuditSink, Deed};
use tenants::{Author, Catalog};

use crate::collector::{Collector, Mood, text};
use crate::node::{Running, SECRET};
use crate::pair::{Faults, KEY, Pair, right};
use crate::traces::{hex, runtime};

fn exporter(collector: &Collector, exports: &Exports) -> Exporter {
    let (endpoint, interval) = (Some(collector.endpoint()), Duration::from_secs(1));
    let config = OtlpConfig { endpoint, interval, logs: true, ..OtlpConfig::default() };
    Exporter::new(&config, exports.clone()).unwrap().unwrap()
}

async fn node() -> Running {
    Running::start(NodeConfig::default(), &MetricsConfig::default(), Exports::default()).await
}

fn body(record: &LogRecord) -> &str {
    match record.body.as_ref().and_then(|body| body.value.as_ref()) {
        Some(Value::StringValue(text)) => text,
        other => panic!("{other:?}"),
    }
}

/// The records of one kind, once there are so many.
async fn records(collector: &Collector, kind: &str, count: usize) -> Vec<LogRecord> {
    loop {
        let all = collector.inbox.logs();
        let of_kind: Vec<_> =
            all.into_iter().map(|(_, record)| record).filter(|r| r.event_name == kind).collect();
        if of_kind.len() >= count {
            return of_kind;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn who_did_what_arrives_as_it_stands_in_the_file_and_nothing_secret() {
    runtime().block_on(async {
        let (collector, running, exports) = (Collector::start().await, node().await, Exports::default());
        let exporter = exporter(&collector, &exports);
        let directory = tempfile::tempdir().unwrap();
        let sink = exporter.logs().map(|logs| logs as Arc<dyn AuditSink>);
        let options = tenants::Options { audit_sink: sink, ..tenants::Options::default() };
        let catalog = Catalog::open_with(directory.path(), &options).unwrap();
        let exporting = exporter.start(running.source.clone());
        let context = SpanContext { sampled: true, ..SpanContext::root() };
        let author = Arc::new(Author {
            principal: "token tokens/ops".to_owned(),
            from: "192.0.2.7:5000".to_owned(),
            method: "culvert.v1.TenantService/CreateTenant".to_owned(),
            traceparent: Some(context.to_string()),
            ..(*Author::node()).clone()
        });
        author.acting(|| {
            let tenant = v1::CreateTenantRequest { tenant_id: "acme".to_owned(), ..Default::default() };
            catalog.create_tenant(&tenant).unwrap();
            let secret = v1::Secret { value: SECRET.into(), ..Default::default() };
            let (parent, secret_id) = ("tenants/acme".to_owned(), "psk".to_owned());
            catalog
                .create_secret(v1::CreateSecretRequest {
                    parent,
                    secret_id,
                    secret: Some(secret),
                    ..Default::default()
                })
                .unwrap();
        });
        let deed = Deed {
            author: (*author).clone(),
            result: "NOT_FOUND",
            message: "tenants/globex not found".to_owned(),
            names: vec!["tenants/globex".to_owned()],
            suppressed: 2,
        };
        catalog.audit().note(deed, false);
        let records = records(&collector, "culvert.audit", 3).await;
        exporting.stop().await;

        let file = std::fs::read_to_string(directory.path().join("audit/audit.jsonl")).unwrap();
        assert_eq!(records.iter().map(body).collect::<Vec<_>>(), file.lines().collect::<Vec<_>>());
        assert!(!format!("{records:?}").contains(SECRET));
        let [tenant, _, refused] = &records[..] else { panic!("{records:?}") };
        assert_eq!(tenant.severity_number(), SeverityNumber::Info);
        assert_eq!(refused.severity_number(), SeverityNumber::Warn);
        assert_eq!((hex(&tenant.trace_id), hex(&tenant.span_id)), (context.trace_id(), context.span_id()));
        let value = |record: &LogRecord, name: &str| text(&record.attributes, name).unwrap();
        assert_eq!(value(tenant, "enduser.id"), "token tokens/ops");
        assert_eq!(value(tenant, "client.address"), "192.0.2.7");
        assert_eq!(value(tenant, "culvert.tenant"), "acme");
        assert_eq!(value(refused, "rpc.response.status_code"), "NOT_FOUND");
        assert_eq!(value(refused, "culvert.audit.sequence"), "3");
        let (resource, _) = &collector.inbox.logs()[0];
        assert_eq!(text(&resource.attributes, "service.name").as_deref(), Some("culvertd"));
        assert!(exports.read().exported.contains(&("logs", 3)), "{:?}", exports.read());
        running.node.shutdown().await;
    });
}

/// One that takes connections and never answers: changes go on, a queue full is held, and the rest is counted.
#[test]
fn a_collector_that_stands_still_holds_up_no_change() {
    const CHANGES: u64 = 6_000;
    runtime().block_on(async {
        let (collector, running, exports) = (Collector::start().await, node().await, Exports::default());
        collector.inbox.be(Mood::Stalls);
        let exporter = exporter(&collector, &exports);
        let sink = exporter.logs().unwrap();
        let exporting = exporter.start(running.source.clone());
        for sequence in 0..CHANGES {
            sink.written(&v1::AuditEntry { sequence, ..v1::AuditEntry::default() });
        }
        let figures = exports.read();
        let queue = figures.queues.iter().find(|queue| queue.name == "otlp_logs").unwrap();
        let lost = figures.dropped.iter().find(|(s, why, _)| (*s, *why) == ("logs", "queue_full")).unwrap().2;
        assert!(queue.depth <= queue.limit && lost > 0, "{figures:?}");
        // What is missing is under way.
        assert!(lost + queue.depth <= CHANGES, "{figures:?}");
        assert!(lost + queue.limit + 1_024 >= CHANGES, "{figures:?}");
        exporting.stop().await;
        running.node.shutdown().await;
    });
}

#[test]
fn what_happens_to_tunnels_arrives_within_its_trace() {
    runtime().block_on(async {
        let (collector, exports) = (Collector::start().await, Exports::default());
        let exporter = exporter(&collector, &exports);
        // The log is the process's own, and no other test here starts it.
        let log = logging::start(&LogConfig::default());
        log.lines.give_to(exporter.logs().unwrap());
        let spans = exporter.spans().map(|spans| spans as Arc<dyn actors::SpanSink>);
        let pair = Pair::start([spans, None], Faults::default()).await;
        let exporting = exporter.start(pair.left.source.clone());
        let cause = SpanContext { sampled: true, ..SpanContext::root() };
        pair.control().initiate(&right(), Some(cause)).await.unwrap();
        let of_ours = |record: &LogRecord| {
            text(&record.attributes, "culvert.peer").as_deref() == Some("tenants/acme/peers/right")
        };
        let established = loop {
            let all = records(&collector, "culvert.tunnel", 2).await;
            assert!(!format!("{all:?}").contains(KEY));
            let found =
                all.into_iter().find(|record| of_ours(record) && body(record) == "IKE_SA established");
            if let Some(record) = found {
                break record;
            }
        };
        assert_eq!(hex(&established.trace_id), cause.trace_id());
        assert_eq!(text(&established.attributes, "culvert.initiator").as_deref(), Some("true"));
        exporting.stop().await;
        pair.stop().await;
    });
}
