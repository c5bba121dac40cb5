//! Streams of octets, and gRPC by them.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_stream::StreamExt as _;

use super::*;
use crate::mesh::PeerNode;

#[tokio::test(flavor = "multi_thread")]
async fn octets_go_both_ways_and_each_says_whose_they_are() {
    let [a, b] = cluster(["a", "b"]).await;
    let mut incoming = b.mesh.incoming().unwrap();
    assert!(b.mesh.incoming().is_none(), "there is one who takes them");
    let mut there = a.mesh.open("b").await.unwrap();
    there.write_all(b"hello").await.unwrap();
    let mut here = incoming.next().await.unwrap().unwrap();
    assert_eq!((here.node(), there.node()), ("a", "b"));
    let mut read = [0; 5];
    here.read_exact(&mut read).await.unwrap();
    here.write_all(&read).await.unwrap();
    here.shutdown().await.unwrap();
    let mut back = Vec::new();
    there.read_to_end(&mut back).await.unwrap();
    assert_eq!((&read, back.as_slice()), (b"hello", b"hello".as_slice()));
}

/// A real service, by a real channel: that of the certificates of nodes is who calls.
#[tokio::test(flavor = "multi_thread")]
async fn grpc_goes_by_a_stream_and_knows_who_calls() {
    let [a, b] = cluster(["a", "b"]).await;
    let (reporter, health) = tonic_health::server::health_reporter();
    reporter.set_service_status("culvert", tonic_health::ServingStatus::Serving).await;
    let seen = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let note = seen.clone();
    let layer = tonic::service::InterceptorLayer::new(move |request: tonic::Request<()>| {
        note.lock().unwrap().extend(request.extensions().get::<PeerNode>().cloned());
        Ok(request)
    });
    let server = tonic::transport::Server::builder().layer(layer).add_service(health);
    tokio::spawn(server.serve_with_incoming(b.mesh.incoming().unwrap()));
    let endpoint = tonic::transport::Endpoint::from_static("http://node");
    let mut client = tonic_health::pb::health_client::HealthClient::new(a.mesh.channel("b", &endpoint));
    for _ in 0..3 {
        let request = tonic_health::pb::HealthCheckRequest { service: "culvert".to_owned() };
        let status = client.check(request).await.unwrap().into_inner().status;
        assert_eq!(status, tonic_health::pb::health_check_response::ServingStatus::Serving as i32);
    }
    assert_eq!(*seen.lock().unwrap(), vec![PeerNode("a".into()); 3]);
    let away = tonic_health::pb::health_client::HealthClient::new(a.mesh.channel("x", &endpoint));
    let error = { away }.check(tonic_health::pb::HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(error.code(), tonic::Code::Unavailable, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_nobody_takes_are_at_their_end() {
    let [a, b] = cluster(["a", "b"]).await;
    let mut there = a.mesh.open("b").await.unwrap();
    assert_eq!(there.read(&mut [0]).await.unwrap_or(0), 0);
    assert_eq!(b.mesh.counters().streams_refused, 1);
}
