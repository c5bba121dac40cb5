//! What traces tell of negotiations: each is whole, its spans are parts of one another, and nothing secret is in them.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use actors::{RekeyTarget, SpanContext, SpanSink};
use culvert::access::{Access, Doors};
use culvert::config::{MetricsConfig, OtlpConfig};
use culvert::telemetry::Exports;
use culvert::telemetry::otlp::Exporter;
use culvert::telemetry::rpc::{TRACEPARENT, Traced};
use culvert_proto::v1;
use culvert_proto::v1::peer_service_client::PeerServiceClient;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use tokio::net::UdpSocket;

use crate::collector::{Collector, text};
use crate::node::Running;
use crate::pair::{Faults, KEY, Pair, right};

pub(crate) fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}

/// An exporter to this collector that keeps such a share of the traces.
pub(crate) fn exporter(collector: &Collector, sample_ratio: f64, exports: &Exports) -> Exporter {
    let endpoint = Some(collector.endpoint());
    let config =
        OtlpConfig { endpoint, sample_ratio, interval: Duration::from_secs(1), ..OtlpConfig::default() };
    Exporter::new(&config, exports.clone()).unwrap().unwrap()
}

fn sink(exporter: &Exporter) -> Option<Arc<dyn SpanSink>> {
    exporter.spans().map(|spans| spans as Arc<dyn SpanSink>)
}

/// A pair whose spans go to one collector.
async fn pair(ratio: f64, faults: Faults) -> (Collector, Pair) {
    let collector = Collector::start().await;
    let exports = Exports::default();
    let (left, right) = (exporter(&collector, ratio, &exports), exporter(&collector, ratio, &exports));
    let pair = Pair::start([sink(&left), sink(&right)], faults).await;
    // They send for as long as the process lives.
    std::mem::forget(left.start(pair.left.source.clone()));
    std::mem::forget(right.start(pair.right.source.clone()));
    (collector, pair)
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn named<'a>(spans: &'a [Span], name: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| span.name == name).collect()
}

fn events(span: &Span) -> Vec<&str> {
    span.events.iter().map(|event| event.name.as_str()).collect()
}

/// Every span is a part of one that is there, of the same trace, and lies within it; but for roots.
fn whole(spans: &[Span], outside: &[SpanContext]) {
    let outside: HashSet<String> = outside.iter().map(SpanContext::span_id).collect();
    let by_id: HashMap<&[u8], &Span> = spans.iter().map(|span| (&span.span_id[..], span)).collect();
    assert_eq!(by_id.len(), spans.len(), "each has a number of its own");
    for span in spans {
        assert!(span.end_time_unix_nano >= span.start_time_unix_nano);
        if span.parent_span_id.is_empty() || outside.contains(&hex(&span.parent_span_id)) {
            continue;
        }
        let parent = by_id.get(&span.parent_span_id[..]).unwrap_or_else(|| panic!("{span:?} has no parent"));
        assert_eq!(parent.trace_id, span.trace_id);
        assert!(parent.start_time_unix_nano <= span.start_time_unix_nano);
        assert!(parent.end_time_unix_nano >= span.end_time_unix_nano);
    }
}

fn nothing_secret(spans: &[Span]) {
    let all = format!("{spans:?}");
    assert!(!all.contains(KEY) && !all.contains("another-key-altogether"));
}

fn roots(spans: &[Span], role: &str) -> Vec<Span> {
    let of = |span: &&Span| text(&span.attributes, "culvert.ike.role").as_deref() == Some(role);
    spans.iter().filter(of).cloned().collect()
}

#[test]
fn a_negotiation_is_one_trace_on_each_side() {
    runtime().block_on(async {
        let (collector, pair) = pair(1.0, Faults::default()).await;
        let cause = SpanContext { sampled: true, ..SpanContext::root() };
        pair.control().initiate(&right(), Some(cause)).await.unwrap();
        let spans = collector.inbox.spans_when(|spans| spans.len() >= 6).await;
        whole(&spans, &[cause]);
        nothing_secret(&spans);

        let [ours] = &roots(&spans, "initiator")[..] else { panic!("{spans:?}") };
        assert_eq!(hex(&ours.trace_id), cause.trace_id());
        assert_eq!(hex(&ours.parent_span_id), cause.span_id());
        assert_eq!((ours.name.as_str(), ours.kind()), ("negotiate", SpanKind::Client));
        let value = |name: &str| text(&ours.attributes, name).unwrap_or_else(|| panic!("{name}: {ours:?}"));
        assert_eq!(value("culvert.tenant"), "acme");
        assert_eq!(value("culvert.peer"), "tenants/acme/peers/right");
        assert_eq!(value("culvert.ike.proposal"), "aes128gcm16-prfsha256-x25519");
        assert!(value("culvert.ike.proposals.offered").contains("aes128gcm16-prfsha256-x25519"));
        assert!(value("culvert.child.proposals.offered").contains("lan: aes128gcm16"));
        assert_eq!(value("culvert.ike.spi.initiator").len(), 16);
        assert!(!value("culvert.ike.nat.local").is_empty());
        assert_eq!(value("network.peer.address"), "127.0.0.1");
        assert!(ours.status.is_none());
        assert_eq!(events(ours), ["authenticated", "child_sa.installed"]);
        let child = &ours.events[1].attributes;
        assert_eq!(text(child, "culvert.child.name").as_deref(), Some("lan"));
        assert!(text(child, "culvert.child.selectors.remote").unwrap().contains("10.2.0.0"));

        let [theirs] = &roots(&spans, "responder")[..] else { panic!("{spans:?}") };
        assert_eq!(theirs.kind(), SpanKind::Server);
        assert!(theirs.parent_span_id.is_empty() && theirs.trace_id != ours.trace_id);
        let offered = text(&theirs.attributes, "culvert.ike.proposals.offered").unwrap();
        assert!(offered.contains("aes128gcm16-prfsha256-x25519"), "{offered}");
        let spi = "culvert.ike.spi.responder";
        assert_eq!(text(&theirs.attributes, spi), text(&ours.attributes, spi), "by this one finds the other");
        assert_eq!(text(&theirs.attributes, "culvert.peer").as_deref(), Some("tenants/acme/peers/left"));
        for exchange in ["IKE_SA_INIT", "IKE_AUTH"] {
            let both = named(&spans, exchange);
            assert_eq!(both.len(), 2, "{exchange}: {spans:?}");
            assert!(both.iter().any(|span| span.parent_span_id == ours.span_id));
            assert!(both.iter().any(|span| span.parent_span_id == theirs.span_id));
        }

        // What follows has traces of its own, which name the one that it follows from.
        pair.control().rekey(&right(), RekeyTarget::Children).await.unwrap();
        pair.control().rekey(&right(), RekeyTarget::Ike).await.unwrap();
        let done = |spans: &[Span]| {
            named(spans, "rekey Child SA").len() >= 2 && named(spans, "rekey IKE SA").len() >= 2
        };
        let spans = collector.inbox.spans_when(done).await;
        for name in ["rekey Child SA", "rekey IKE SA"] {
            let rekeys = named(&spans, name);
            let of_ours = rekeys.iter().filter(|span| span.links.iter().any(|l| l.span_id == ours.span_id));
            let of_theirs =
                rekeys.iter().filter(|span| span.links.iter().any(|l| l.span_id == theirs.span_id));
            assert_eq!((of_ours.count(), of_theirs.count()), (1, 1), "{name}: {rekeys:?}");
        }
        whole(&spans, &[cause]);
        pair.stop().await;
    });
}

#[test]
fn ikev1_is_told_as_well() {
    runtime().block_on(async {
        let (collector, pair) = pair(1.0, Faults { old: true, ..Faults::default() }).await;
        pair.control().initiate(&right(), None).await.unwrap();
        let done = |spans: &[Span]| roots(spans, "initiator").len() + roots(spans, "responder").len() >= 2;
        let spans = collector.inbox.spans_when(done).await;
        whole(&spans, &[]);
        nothing_secret(&spans);
        for role in ["initiator", "responder"] {
            let [root] = &roots(&spans, role)[..] else { panic!("{role}: {spans:?}") };
            assert_eq!(events(root), ["authenticated", "child_sa.installed"], "{role}");
            for exchange in ["MAIN_MODE", "QUICK_MODE"] {
                let of = named(&spans, exchange);
                let count = of.iter().filter(|span| span.parent_span_id == root.span_id).count();
                assert_eq!(count, 1, "{role}, {exchange}: {spans:?}");
            }
        }
        pair.stop().await;
    });
}

/// Nothing is sampled; failures are kept all the same, with what has caused them, and what succeeds is not.
#[test]
fn failures_are_kept_whatever_is_sampled() {
    let causes = [
        (Faults { key: true, ..Faults::default() }, "authentication", "psk"),
        (Faults { proposal: true, ..Faults::default() }, "proposal", "proposal"),
    ];
    for (faults, ours, theirs) in causes {
        runtime().block_on(async {
            let (collector, pair) = pair(0.0, faults).await;
            let outcome = pair.control().initiate(&right(), None).await;
            assert!(outcome.is_err());
            let done = |spans: &[Span]| {
                !roots(spans, "initiator").is_empty() && !roots(spans, "responder").is_empty()
            };
            let spans = collector.inbox.spans_when(done).await;
            whole(&spans, &[]);
            nothing_secret(&spans);
            for (role, cause) in [("initiator", ours), ("responder", theirs)] {
                let root = &roots(&spans, role)[0];
                assert_eq!(text(&root.attributes, "error.type").as_deref(), Some(cause), "{root:?}");
                assert!(!root.status.as_ref().unwrap().message.is_empty());
                let parts = spans.iter().filter(|span| span.parent_span_id == root.span_id);
                assert!(parts.count() >= 1, "{role}: {spans:?}");
            }
            pair.stop().await;
        });
    }
    runtime().block_on(async {
        let (collector, pair) = pair(0.0, Faults::default()).await;
        pair.control().initiate(&right(), None).await.unwrap();
        // A failure afterwards shows that what came before would have arrived.
        let nobody = "tenants/acme/peers/right".parse().unwrap();
        pair.control().terminate(&nobody, "a test").await.unwrap();
        pair.left
            .catalog
            .update_secret(v1::UpdateSecretRequest {
                secret: Some(v1::Secret {
                    name: "tenants/acme/secrets/psk".to_owned(),
                    value: b"another-key-altogether".to_vec(),
                    ..Default::default()
                }),
                update_mask: Some(prost_types::FieldMask { paths: vec!["value".to_owned()] }),
                ..Default::default()
            })
            .unwrap();
        while pair.control().initiate(&right(), None).await.is_ok() {
            // The peer's actor has not been told yet.
            pair.control().terminate(&right(), "a test").await.unwrap();
        }
        let spans = collector.inbox.spans_when(|spans| !roots(spans, "initiator").is_empty()).await;
        assert!(roots(&spans, "initiator").iter().all(|span| span.status.is_some()), "{spans:?}");
        pair.stop().await;
    });
}

/// Loses the first datagrams, so many, then hands on what the two say to each other for as long as the way is open.
async fn between(to: SocketAddr, loses: usize, open: Arc<AtomicBool>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut buffer, mut peer, mut lost) = (vec![0; 65_536], None, 0);
        loop {
            let Ok((length, from)) = socket.recv_from(&mut buffer).await else { return };
            let message = &buffer[..length];
            if !open.load(Ordering::Relaxed) {
                continue;
            }
            if from == to {
                if let Some(peer) = peer {
                    socket.send_to(message, peer).await.unwrap();
                }
            } else if lost == loses {
                peer = Some(from);
                socket.send_to(message, to).await.unwrap();
            } else {
                lost += 1;
            }
        }
    });
    address
}

#[test]
fn what_is_sent_again_shows_in_its_exchange_and_silence_as_a_failure() {
    runtime().block_on(async {
        let collector = Collector::start().await;
        let exports = Exports::default();
        let exporter = exporter(&collector, 1.0, &exports);
        let right_side =
            Running::start(actors::NodeConfig::default(), &MetricsConfig::default(), Exports::default())
                .await;
        let (ike, natt) = right_side.node.ports();
        let open = Arc::new(AtomicBool::new(true));
        let there = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let (ike, natt) =
            (between(there(ike), 1, open.clone()).await, between(there(natt), 0, open.clone()).await);
        let config = actors::NodeConfig {
            spans: sink(&exporter),
            remote_ike_port: ike.port(),
            remote_natt_port: natt.port(),
            ..actors::NodeConfig::default()
        };
        let left = Running::start(config, &MetricsConfig::default(), Exports::default()).await;
        let pair = Pair::of(left, right_side).await;
        std::mem::forget(exporter.start(pair.left.source.clone()));
        pair.control().initiate(&right(), None).await.unwrap();
        let spans = collector.inbox.spans_when(|spans| !named(spans, "negotiate").is_empty()).await;
        let [init] = &named(&spans, "IKE_SA_INIT")[..] else { panic!("{spans:?}") };
        let sent_again = |span| events(span).iter().filter(|event| **event == "retransmission").count();
        // On a busy machine an answer may take longer than our patience with it.
        assert!(sent_again(init) >= 1 && sent_again(init) == events(init).len(), "{init:?}");

        // The peer falls silent: the check that nobody answers is told, and which negotiation had made the tunnel.
        open.store(false, Ordering::Relaxed);
        let spans = collector.inbox.spans_when(|spans| !named(spans, "liveness").is_empty()).await;
        let (lost, made) = (named(&spans, "liveness")[0], named(&spans, "negotiate")[0]);
        assert_eq!(text(&lost.attributes, "error.type").as_deref(), Some("silent"));
        assert!(events(lost).contains(&"retransmission"), "{lost:?}");
        assert_eq!(lost.links[0].span_id, made.span_id);
        assert_eq!(text(&lost.attributes, "culvert.peer").as_deref(), Some("tenants/acme/peers/right"));
        pair.stop().await;
    });
}

/// A client's context goes into the negotiation that it asks for, and comes back.
#[test]
fn a_request_is_a_part_of_its_clients_trace_and_its_negotiation_of_it() {
    runtime().block_on(async {
        let (collector, pair) = pair(0.0, Faults::default()).await;
        let exports = Exports::default();
        let exporter = exporter(&collector, 0.0, &exports);
        let traced = Traced::new(sink(&exporter));
        std::mem::forget(exporter.start(pair.left.source.clone()));
        let tunnels = culvert::tunnels::Tunnels::new(&pair.left.node, Vec::new(), 1);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = format!("http://{}", listener.local_addr().unwrap());
        let phases = culvert::phase::Phases::new();
        let served = culvert::server::serve_grpc(
            Doors::tcp(listener),
            Access::open(pair.left.catalog.clone()),
            pair.left.catalog.clone(),
            Arc::new(tunnels),
            traced,
            pair.left.catalog.store_fault(),
            phases.watch(),
        );
        let server = tokio::spawn(served);
        let mut client = PeerServiceClient::connect(api.clone()).await.unwrap();
        let context = SpanContext { sampled: true, ..SpanContext::root() };
        let mut request = tonic::Request::new(v1::InitiatePeerRequest { name: right().to_string() });
        request.metadata_mut().insert(TRACEPARENT, context.to_string().parse().unwrap());
        let answer = client.initiate_peer(request).await.unwrap();
        let returned: SpanContext =
            answer.metadata().get(TRACEPARENT).unwrap().to_str().unwrap().parse().unwrap();
        assert_eq!((returned.trace, returned.sampled), (context.trace, true));
        assert_ne!(returned.span, context.span);

        let spans = collector.inbox.spans_when(|spans| spans.len() >= 4).await;
        whole(&spans, &[context]);
        let [request] = &named(&spans, "culvert.v1.PeerService/InitiatePeer")[..] else {
            panic!("{spans:?}")
        };
        assert_eq!(hex(&request.parent_span_id), context.span_id());
        assert_eq!(hex(&request.span_id), returned.span_id());
        assert_eq!(text(&request.attributes, "rpc.response.status_code").as_deref(), Some("OK"));
        let [negotiation] = &named(&spans, "negotiate")[..] else { panic!("{spans:?}") };
        assert_eq!(negotiation.parent_span_id, request.span_id);

        // What is only asked for by somebody without a context is not sampled, and gets none.
        let answer = client.get_peer(v1::GetPeerRequest { name: right().to_string() }).await.unwrap();
        assert!(answer.metadata().get(TRACEPARENT).is_none());

        // The command line starts a trace of its own, and says which.
        let said = tokio::task::spawn_blocking(move || {
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_culvert"));
            command.args(["--server", &api, "--trace", "get", "peers", "tenants/acme"]).output().unwrap()
        });
        let said = String::from_utf8(said.await.unwrap().stderr).unwrap();
        let trace = said.strip_prefix("trace ").unwrap_or_else(|| panic!("{said}")).trim().to_owned();
        let name = "culvert.v1.PeerService/ListPeers";
        let spans = collector.inbox.spans_when(|spans| !named(spans, name).is_empty()).await;
        assert_eq!(hex(&named(&spans, name)[0].trace_id), trace);
        server.abort();
        pair.stop().await;
    });
}
