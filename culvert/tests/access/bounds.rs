//! How much a caller may ask for.

use std::sync::Arc;

use culvert::access::Access;
use culvert::config::GrpcConfig;
use culvert::runtime::NoRuntime;
use culvert_proto::v1;
use prost::Message as _;
use tenants::Catalog;
use tonic::{Code, Request};

use crate::common::{Node, create_peer, peer};
use crate::world::{World, call};

#[tokio::test]
async fn who_asks_too_much_is_told_to_wait() {
    let catalog = Arc::new(Catalog::in_memory().unwrap());
    let config = GrpcConfig { rate_limit: 5, ..GrpcConfig::default() };
    let access = Access::new(Arc::clone(&catalog), &config).unwrap();
    let node = Node::with(Arc::new(NoRuntime), catalog, access).await;
    let mut refused = 0;
    for _ in 0..200 {
        match call(node.channel(), "/culvert.v1.TokenService/WhoAmI", &[], None).await {
            Ok(_) => {}
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted);
                assert!(status.message().contains("grpc.rate_limit"));
                refused += 1;
            }
        }
    }
    assert!(refused > 0);
    node.stop().await;
}

/// The most that this process ever held, in MiB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// Two octets each on the wire, they would be gigabytes.
#[tokio::test]
async fn a_flood_of_empty_elements_is_refused_before_any_is_made() {
    use tonic_types::StatusExt as _;
    let world = World::new().await;
    let path = "/culvert.v1.BatchService/Apply";
    let flood = [0x0a, 0].repeat((32 << 20) - 8);
    for (who, expected) in [
        ("viewer of a", Code::PermissionDenied),
        ("viewer of node", Code::PermissionDenied),
        ("admin of a", Code::InvalidArgument),
        ("admin of node", Code::InvalidArgument),
    ] {
        let shown = format!("Bearer {}", world.tokens[who]);
        let refused = world.call(path, &flood, Some(&shown)).await.unwrap_err();
        assert_eq!(refused.code(), expected, "{who}: {refused:?}");
        if expected == Code::InvalidArgument {
            let told = refused.get_details_bad_request().unwrap().field_violations;
            assert_eq!(told[0].field, "objects");
        }
    }
    // Nor is there so much room where one object is meant, or by whoever only reads.
    let shown = format!("Bearer {}", world.tokens["admin of a"]);
    for path in ["/culvert.v1.PeerService/UpdatePeer", "/culvert.v1.PeerService/BatchGetPeerStatuses"] {
        let refused = world.call(path, &flood, Some(&shown)).await.unwrap_err();
        assert_eq!(refused.code(), Code::ResourceExhausted, "{path}: {refused:?}");
        let refused = world.call(path, &flood[..512 << 10], Some(&shown)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{path}: {refused:?}");
    }
    assert!(peak() < 1_000, "{} MiB", peak());
    // Whoever sends what is no flood is served as ever.
    let delete = v1::DeleteRequest {
        names: vec!["tenants/a/peers/p".into()],
        validate_only: true,
        ..Default::default()
    };
    world.call("/culvert.v1.BatchService/Delete", &delete.encode_to_vec(), Some(&shown)).await.unwrap();
    world.node.stop().await;
}

#[tokio::test]
async fn a_tenant_has_so_many_streams_and_no_more() {
    let world = World::new().await;
    let open = async |who: &str, of: &str| {
        let mut sas = v1::sa_service_client::SaServiceClient::new(world.node.channel());
        let mut request = Request::new(v1::WatchEventsRequest { parent: of.into(), ..Default::default() });
        request
            .metadata_mut()
            .insert("authorization", format!("Bearer {}", world.tokens[who]).parse().unwrap());
        sas.watch_events(request).await.map(tonic::Response::into_inner)
    };
    let mut streams = Vec::new();
    // All callers of a tenant together.
    for who in ["viewer of a", "admin of a"].repeat(16) {
        streams.push(open(who, "tenants/a").await.unwrap());
    }
    let refused = open("operator of a", "tenants/a").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("32 streams"), "{}", refused.message());
    let _other = open("viewer of b", "tenants/b").await.unwrap();
    let _whole = open("viewer of node", "tenants/-").await.unwrap();
    // One that ends makes room, once the node has learned of it.
    drop(streams.pop());
    while let Err(status) = open("viewer of a", "tenants/a").await {
        assert_eq!(status.code(), Code::ResourceExhausted);
    }
    drop(streams);
    world.node.stop().await;
}

/// Probes have no credential, so nothing of what they send is kept that is no name.
#[tokio::test]
async fn a_probe_names_a_service_and_no_more() {
    let world = World::new().await;
    let shown = format!("Bearer {}", world.tokens["viewer of a"]);
    for (path, credential) in [
        ("/grpc.health.v1.Health/Check", None),
        ("/grpc.health.v1.Health/Watch", None),
        ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", Some(&*shown)),
        ("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", Some(&*shown)),
    ] {
        match world.call(path, &[0; 5 << 10], credential).await {
            Err(refused) => assert_eq!(refused.code(), Code::OutOfRange, "{path}: {refused:?}"),
            // Reflection ends without a word.
            Ok(answer) => assert!(path.contains("reflection") && answer.is_empty(), "{path}"),
        }
    }
    world.node.stop().await;
}

/// Peers of some 15 KiB each.
fn large(n: u8) -> v1::CreatePeerRequest {
    let mut request = create_peer(peer("a", &format!("large{n}"), "10.2.0.0/24"));
    let peer = request.peer.as_mut().unwrap();
    peer.remote_identity = format!("large{n}.example.net");
    let child = peer.children[0].clone();
    peer.children = (0..15)
        .map(|c| v1::Child {
            name: format!("c{c}"),
            local_subnets: (0..64).map(|s| format!("172.16.{s}.{}/32", c * 8)).collect(),
            remote_subnets: vec![format!("10.{n}.{c}.0/24")],
            ..child.clone()
        })
        .collect();
    request
}

#[tokio::test]
async fn answers_that_nobody_reads_are_not_made_without_end() {
    let world = World::new().await;
    for n in 10..210 {
        world.catalog.create_peer(&large(n)).unwrap();
    }
    let list = async |who: &str| {
        let mut peers = v1::peer_service_client::PeerServiceClient::new(world.node.channel());
        let message =
            v1::ListPeersRequest { parent: "tenants/a".into(), page_size: 1000, ..Default::default() };
        let mut request = Request::new(message);
        let shown = format!("Bearer {}", world.tokens[who]);
        request.metadata_mut().insert("authorization", shown.parse().unwrap());
        peers.list_peers(request).await.map(tonic::Response::into_inner)
    };
    // A page is no larger than clients take.
    let page = list("viewer of a").await.unwrap();
    assert!(!page.next_page_token.is_empty() && page.encoded_len() < 2 << 20, "{}", page.encoded_len());
    assert!(page.encoded_len() > 900 << 10, "{}", page.encoded_len());
    let message = v1::ListPeersRequest { parent: "tenants/a".into(), page_size: 1000, ..Default::default() };
    let (mut unread, deaf) = (Vec::new(), world.deaf().await);
    let path = "/culvert.v1.PeerService/ListPeers";
    let refused = loop {
        assert!(unread.len() < 100, "all that nobody has read is kept");
        match world.begin(&deaf, path, &message.encode_to_vec(), "admin of a").await {
            Ok(answer) => unread.push(answer),
            Err(status) => break status,
        }
    };
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("not read yet"), "{}", refused.message());
    // All callers of a tenant together, and nobody else.
    list("viewer of a").await.unwrap_err();
    list("viewer of node").await.unwrap();
    drop(unread);
    while let Err(status) = list("viewer of a").await {
        assert_eq!(status.code(), Code::ResourceExhausted);
    }
    world.node.stop().await;
}
