//! What the audit log says of callers.

use culvert_proto::v1;
use prost::Message as _;
use tonic::{Code, Request};

use crate::common::create_secret;
use crate::world::{BEGUN, ENDLESS, World};

#[tokio::test]
async fn the_audit_log_says_who_did_what_and_what_was_refused() {
    let world = World::new().await;
    let shown = format!("Bearer {}", world.tokens["admin of a"]);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut secrets = v1::secret_service_client::SecretServiceClient::new(world.node.channel());
    let mut request = Request::new(create_secret("a", "new", b"battery staple"));
    request.metadata_mut().insert("authorization", shown.parse().unwrap());
    request.metadata_mut().insert("traceparent", trace.parse().unwrap());
    secrets.create_secret(request).await.unwrap();
    let initiate = v1::InitiatePeerRequest { name: "tenants/a/peers/p".into() }.encode_to_vec();
    let path = "/culvert.v1.PeerService/InitiatePeer";
    world.call(path, &initiate, Some(&shown)).await.unwrap_err();
    let other = v1::InitiatePeerRequest { name: "tenants/b/peers/p".into() }.encode_to_vec();
    world.call(path, &other, Some(&shown)).await.unwrap_err();

    let ask =
        v1::ListAuditEntriesRequest { parent: "tenants/-".into(), ..Default::default() }.encode_to_vec();
    let path = "/culvert.v1.AuditService/ListAuditEntries";
    let list = |octets| v1::ListAuditEntriesResponse::decode(octets).unwrap().entries;
    let all = list(
        world.call(path, &ask, Some(&format!("Bearer {}", world.tokens["admin of node"]))).await.unwrap(),
    );
    let told: Vec<_> = all
        .iter()
        .take(3)
        .map(|entry| {
            (entry.method.rsplit('/').next().unwrap(), entry.result.as_str(), entry.objects[0].name.as_str())
        })
        .collect();
    assert_eq!(
        told,
        [
            ("InitiatePeer", "NOT_FOUND", "tenants/a"),
            ("InitiatePeer", "UNAVAILABLE", "tenants/a/peers/p"),
            ("CreateSecret", "OK", "tenants/a/secrets/new"),
        ]
    );
    let created = &all[2];
    assert_eq!(created.principal, "token tenants/a/tokens/admin");
    assert_eq!(created.trace_id, "4bf92f3577b34da6a3ce929d0e0e4736");
    assert!(created.from.starts_with("127.0.0.1:"), "{}", created.from);
    assert!(!format!("{all:?}").contains("staple"));
    // A tenant sees what is its own, and not that somebody asked for what is not.
    let own = list(world.call(path, &ask, Some(&shown)).await.unwrap());
    assert!(own.iter().all(|entry| entry.objects.iter().all(|object| object.name.starts_with("tenants/a"))));
    assert_eq!(own[0].objects[0].name, "tenants/a");
    // And whose it would have been does not see who has asked.
    let of_b = format!("Bearer {}", world.tokens["admin of b"]);
    let theirs = list(world.call(path, &ask, Some(&of_b)).await.unwrap());
    assert!(theirs.iter().all(|entry| !entry.principal.contains("tenants/a")), "{theirs:?}");
    world.node.stop().await;
}

/// Whoever goes away before the answer has had the order carried out, and cannot keep it out of the log by that.
#[tokio::test]
async fn an_order_is_noted_though_its_caller_goes_away() {
    let world = World::new().await;
    let shown = format!("Bearer {}", world.tokens["operator of a"]);
    let (name, count) = ("tenants/a/peers/p".to_owned(), u32::from(ENDLESS));
    let order = v1::SendDummiesRequest { name, count, ..Default::default() }.encode_to_vec();
    let call = world.call("/culvert.v1.PeerService/SendDummies", &order, Some(&shown));
    tokio::select! {
        answer = call => panic!("{answer:?}"),
        () = BEGUN.notified() => {}
    }
    let noted = loop {
        let first = world.catalog.page_audit("", 1, "").unwrap().items.remove(0);
        if first.method.ends_with("SendDummies") {
            break first;
        }
        tokio::task::yield_now().await;
    };
    assert_eq!((noted.result.as_str(), noted.objects[0].name.as_str()), ("CANCELLED", "tenants/a/peers/p"));
    assert_eq!(noted.principal, "token tenants/a/tokens/operator");
    world.node.stop().await;
}

/// What a caller of the whole node was refused is noted with what it was about, but for what is long.
#[tokio::test]
async fn what_was_refused_is_noted_with_its_name_and_not_read_if_it_is_long() {
    let world = World::new().await;
    let shown = format!("Bearer {}", world.tokens["viewer of node"]);
    let path = "/culvert.v1.PeerService/InitiatePeer";
    let named = v1::InitiatePeerRequest { name: "tenants/a/peers/p".into() }.encode_to_vec();
    let long = v1::InitiatePeerRequest { name: "x".repeat(1 << 20) }.encode_to_vec();
    for (request, objects) in [(named, vec!["tenants/a/peers/p".to_owned()]), (long, Vec::new())] {
        let refused = world.call(path, &request, Some(&shown)).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        let entry = world.catalog.page_audit("", 1, "").unwrap().items.remove(0);
        let noted: Vec<_> = entry.objects.into_iter().map(|object| object.name).collect();
        assert_eq!((entry.result.as_str(), noted), ("PERMISSION_DENIED", objects));
    }
    world.node.stop().await;
}
