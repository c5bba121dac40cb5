//! A collector behind TLS.

use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use actors::{NodeConfig, Span, SpanContext, SpanKind, SpanSink as _};
use culvert::config::{MetricsConfig, OtlpConfig};
use culvert::telemetry::Exports;
use culvert::telemetry::otlp::Exporter;
use openssl::ssl::{AlpnError, Ssl, SslAcceptor, SslMethod, SslVerifyMode, select_next_proto};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

use crate::certificates::{Alternative, Identity};
use crate::collector::Collector;
use crate::node::Running;
use crate::traces::runtime;

/// Speaks TLS before a collector that does not, and asks for a certificate.
async fn before(collector: SocketAddr, ca: &Identity) -> SocketAddr {
    let own = ca.issue("collector", &Alternative::Host("localhost"));
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).unwrap();
    acceptor.set_certificate(&own.cert).unwrap();
    acceptor.set_private_key(&own.key).unwrap();
    acceptor.cert_store_mut().add_cert(ca.cert.clone()).unwrap();
    acceptor.set_verify(SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT);
    acceptor.set_alpn_select_callback(|_, offered| {
        select_next_proto(b"\x02h2", offered).ok_or(AlpnError::ALERT_FATAL)
    });
    let acceptor = acceptor.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let mut stream = SslStream::new(Ssl::new(acceptor.context()).unwrap(), stream).unwrap();
            tokio::spawn(async move {
                if Pin::new(&mut stream).accept().await.is_ok() {
                    let mut inner = TcpStream::connect(collector).await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut stream, &mut inner).await;
                }
            });
        }
    });
    address
}

#[test]
fn a_collector_is_reached_over_tls_once_it_is_who_it_should_be() {
    runtime().block_on(async {
        let (ca, other) = (Identity::ca("one"), Identity::ca("another"));
        let directory = tempfile::tempdir().unwrap();
        let collector = Collector::start().await;
        let secure = before(collector.address, &ca).await;
        let (cert, key) = ca.issue("culvertd", &Alternative::None).write(directory.path(), "own");
        // Not that one's, at first.
        let (trusted, _) = other.write(directory.path(), "ca");
        let config = OtlpConfig {
            endpoint: Some(format!("https://localhost:{}", secure.port())),
            ca: Some(trusted),
            cert: Some(cert),
            key: Some(key),
            interval: Duration::from_secs(1),
            ..OtlpConfig::default()
        };
        config.check().unwrap();
        let exports = Exports::default();
        let running =
            Running::start(NodeConfig::default(), &MetricsConfig::default(), Exports::default()).await;
        let exporter = Exporter::new(&config, exports.clone()).unwrap().unwrap();
        exporter.spans().unwrap().take(vec![Span::begin(
            SpanContext::root(),
            None,
            "test",
            SpanKind::Internal,
        )]);
        let exporting = exporter.start(running.source.clone());
        while !exports.read().up.contains(&("traces", false)) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(collector.inbox.spans().is_empty());
        // Files are read at each connection, so it needs no restart.
        ca.write(directory.path(), "ca");
        let spans = collector.inbox.spans_when(|spans| !spans.is_empty()).await;
        assert_eq!(spans.len(), 1);
        exporting.stop().await;
        running.node.shutdown().await;
    });
}

#[test]
fn files_that_cannot_be_used_are_told_by_setting() {
    runtime().block_on(async {
        let config = OtlpConfig {
            endpoint: Some("https://localhost:4317".to_owned()),
            ca: Some("/nowhere/ca.crt".into()),
            ..OtlpConfig::default()
        };
        let refused = Exporter::new(&config, Exports::default()).err().unwrap().to_string();
        assert!(refused.starts_with("otlp.ca: /nowhere/ca.crt: No such file"), "{refused}");
    });
}
