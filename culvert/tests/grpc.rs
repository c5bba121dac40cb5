//! The API as a client sees it, over a real connection.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Node, create_peer, create_secret, create_tenant, mask, peer};
use culvert_proto::v1;
use culvert_proto::v1::batch_service_client::BatchServiceClient;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

/// The one field the status complains about, and how.
fn violation(status: &Status) -> (String, String) {
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let details = status.get_details_bad_request().expect("google.rpc.BadRequest");
    assert_eq!(details.field_violations.len(), 1, "{details:?}");
    let violation = &details.field_violations[0];
    (violation.field.clone(), violation.description.clone())
}

#[tokio::test]
async fn a_duplicate_name_is_refused() {
    let node = Node::with_tenant("acme").await;
    let status = node.tenants().create_tenant(create_tenant("acme")).await.unwrap_err();
    assert_eq!(status.code(), Code::AlreadyExists);
    assert_eq!(status.message(), "tenants/acme already exists");
    let info = status.get_details_error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("ALREADY_EXISTS", "culvert"));
    node.stop().await;
}

#[tokio::test]
async fn a_stale_etag_is_refused() {
    let node = Node::with_tenant("acme").await;
    let old =
        node.peers().create_peer(create_peer(peer("acme", "b1", "10.1.0.0/24"))).await.unwrap().into_inner();
    let update = |display_name: &str, etag: &str| v1::UpdatePeerRequest {
        peer: Some(v1::Peer { display_name: display_name.into(), etag: etag.into(), ..old.clone() }),
        update_mask: mask(&["display_name"]),
        ..Default::default()
    };
    let new = node.peers().update_peer(update("first", &old.etag)).await.unwrap().into_inner();
    assert_ne!(new.etag, old.etag);
    let status = node.peers().update_peer(update("second", &old.etag)).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted);
    assert!(status.message().contains("read it again"), "{}", status.message());
    let delete = v1::DeletePeerRequest { name: old.name.clone(), etag: old.etag, ..Default::default() };
    assert_eq!(node.peers().delete_peer(delete).await.unwrap_err().code(), Code::Aborted);
    node.stop().await;
}

#[tokio::test]
async fn a_bad_cidr_and_an_unknown_cipher_are_named_with_their_field() {
    let node = Node::with_tenant("acme").await;
    let status = node.peers().create_peer(create_peer(peer("acme", "b1", "10.0.0.1/24"))).await.unwrap_err();
    let (field, text) = violation(&status);
    assert_eq!(field, "peer.children[0].remote_subnets[0]");
    assert_eq!(text, "10.0.0.1/24: host bits set, did you mean 10.0.0.0/24");

    let mut unknown = peer("acme", "b1", "10.1.0.0/24");
    unknown.children[0].esp_proposals = vec!["aes128gcm16".into(), "blowfish-sha256".into()];
    let status = node.peers().create_peer(create_peer(unknown)).await.unwrap_err();
    let (field, text) = violation(&status);
    assert_eq!(field, "peer.children[0].esp_proposals[1]");
    assert!(text.contains("blowfish") && text.contains("aes256gcm16"), "{text}");
    node.stop().await;
}

#[tokio::test]
async fn a_secret_of_ten_megabytes_is_refused_by_its_field() {
    let node = Node::with_tenant("acme").await;
    let status =
        node.secrets().create_secret(create_secret("acme", "big", &vec![0; 10_000_000])).await.unwrap_err();
    assert_eq!(violation(&status), ("secret.value".into(), "10000000 octets; at most 16384".into()));
    node.stop().await;
}

#[tokio::test]
async fn a_secret_goes_in_and_never_comes_out() {
    let node = Node::with_tenant("acme").await;
    let get = v1::GetSecretRequest { name: "tenants/acme/secrets/psk".into() };
    assert!(node.secrets().get_secret(get).await.unwrap().into_inner().value.is_empty());
    let list = v1::ListSecretsRequest { parent: "tenants/acme".into(), ..Default::default() };
    let list = node.secrets().list_secrets(list).await.unwrap().into_inner();
    assert_eq!(list.secrets.len(), 1);
    assert!(list.secrets[0].value.is_empty());
    node.peers().create_peer(create_peer(peer("acme", "b1", "10.1.0.0/24"))).await.unwrap();
    let delete = v1::DeleteSecretRequest { name: "tenants/acme/secrets/psk".into(), ..Default::default() };
    let status = node.secrets().delete_secret(delete).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("tenants/acme/peers/b1"));
    node.stop().await;
}

#[tokio::test]
async fn an_update_mask_changes_what_it_names() {
    let node = Node::with_tenant("acme").await;
    let old =
        node.peers().create_peer(create_peer(peer("acme", "b1", "10.1.0.0/24"))).await.unwrap().into_inner();
    let patch = v1::Peer {
        name: old.name.clone(),
        display_name: "ignored".into(),
        ike: Some(v1::IkeConfig {
            dpd_interval: Some(prost_types::Duration { seconds: 9, nanos: 0 }),
            ..Default::default()
        }),
        ..Default::default()
    };
    let update = v1::UpdatePeerRequest {
        peer: Some(patch.clone()),
        update_mask: mask(&["ike.dpd_interval"]),
        ..Default::default()
    };
    let new = node.peers().update_peer(update).await.unwrap().into_inner();
    assert_eq!(new.ike.as_ref().unwrap().dpd_interval.unwrap().seconds, 9);
    assert_eq!(new.ike.unwrap().proposals, old.ike.unwrap().proposals);
    assert_eq!((new.display_name, new.children), (old.display_name, old.children));

    let update =
        v1::UpdatePeerRequest { peer: Some(patch), update_mask: mask(&["colour"]), ..Default::default() };
    let (field, text) = violation(&node.peers().update_peer(update).await.unwrap_err());
    assert_eq!(field, "update_mask");
    assert!(text.contains("colour") && text.contains("display_name"), "{text}");
    node.stop().await;
}

#[tokio::test]
async fn validate_only_leaves_everything_as_it_was() {
    let node = Node::with_tenant("acme").await;
    let tenant = v1::CreateTenantRequest { validate_only: true, ..create_tenant("globex") };
    node.tenants().create_tenant(tenant).await.unwrap();
    let request =
        v1::CreatePeerRequest { validate_only: true, ..create_peer(peer("acme", "b1", "10.1.0.0/24")) };
    let would_be = node.peers().create_peer(request).await.unwrap().into_inner();
    assert_eq!(would_be.name, "tenants/acme/peers/b1");
    let request =
        v1::CreatePeerRequest { validate_only: true, ..create_peer(peer("acme", "b1", "10.1.0.9/24")) };
    violation(&node.peers().create_peer(request).await.unwrap_err());
    let delete = v1::DeleteTenantRequest {
        name: "tenants/acme".into(),
        force: true,
        validate_only: true,
        ..Default::default()
    };
    node.tenants().delete_tenant(delete).await.unwrap();

    let tenants =
        node.tenants().list_tenants(v1::ListTenantsRequest::default()).await.unwrap().into_inner().tenants;
    assert_eq!(tenants.len(), 1);
    let peers = v1::ListPeersRequest { parent: "tenants/-".into(), ..Default::default() };
    assert!(node.peers().list_peers(peers).await.unwrap().into_inner().peers.is_empty());
    node.stop().await;
}

#[tokio::test]
async fn lists_are_paged() {
    let node = Node::with_tenant("acme").await;
    for i in 0..7 {
        let peer = peer("acme", &format!("b{i}"), &format!("10.{i}.0.0/24"));
        node.peers().create_peer(create_peer(peer)).await.unwrap();
    }
    let (mut names, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = v1::ListPeersRequest { parent: "tenants/acme".into(), page_size: 3, page_token };
        let page = node.peers().list_peers(request).await.unwrap().into_inner();
        assert!(page.peers.len() <= 3);
        names.extend(page.peers.into_iter().map(|peer| peer.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let expected: Vec<String> = (0..7).map(|i| format!("tenants/acme/peers/b{i}")).collect();
    assert_eq!(names, expected);
    let request =
        v1::ListPeersRequest { parent: "tenants/acme".into(), page_size: 0, page_token: "bogus".into() };
    assert_eq!(violation(&node.peers().list_peers(request).await.unwrap_err()).0, "page_token");
    node.stop().await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let node = Node::with_tenant("acme").await;
    let get = v1::GetPeerRequest { name: "tenants/acme/peers/nope".into() };
    assert_eq!(node.peers().get_peer(get).await.unwrap_err().code(), Code::NotFound);
    let get = v1::GetPeerRequest { name: "acme/nope".into() };
    assert_eq!(violation(&node.peers().get_peer(get).await.unwrap_err()).0, "name");
    let list = v1::ListSasRequest { parent: "tenants/nope".into(), ..Default::default() };
    assert_eq!(node.sas().list_sas(list).await.unwrap_err().code(), Code::NotFound);
    node.stop().await;
}

#[tokio::test]
async fn a_node_without_tunnels_says_so() {
    let node = Node::with_tenant("acme").await;
    node.peers().create_peer(create_peer(peer("acme", "b1", "10.1.0.0/24"))).await.unwrap();
    let name = "tenants/acme/peers/b1".to_owned();
    let initiate = v1::InitiatePeerRequest { name: name.clone() };
    assert_eq!(node.peers().initiate_peer(initiate).await.unwrap_err().code(), Code::Unavailable);
    let rekey = v1::RekeyPeerRequest { name, target: 0, child: "wan".into() };
    let (field, text) = violation(&node.peers().rekey_peer(rekey).await.unwrap_err());
    assert_eq!((field.as_str(), text.as_str()), ("child", "there is no child \"wan\"; expected one of lan"));
    let status = node.nodes().get_node_status(v1::GetNodeStatusRequest {}).await.unwrap().into_inner();
    assert_eq!((status.tenants, status.peers), (1, 1));
    node.stop().await;
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

    let node = Node::with_tenant("acme").await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(node.channel());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.iter().map(|service| service.name.as_str()).collect();
    for service in
        ["TenantService", "SecretService", "PeerService", "SaService", "NodeService", "BatchService"]
    {
        assert!(names.contains(&format!("culvert.v1.{service}").as_str()), "{names:?}");
    }
    assert!(names.contains(&"grpc.health.v1.Health"), "{names:?}");
    drop(answers);
    node.stop().await;
}

#[tokio::test]
async fn reflection_answers_older_clients_too() {
    use tonic_reflection::pb::v1alpha::ServerReflectionRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1alpha::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1alpha::server_reflection_response::MessageResponse;

    let node = Node::with_tenant("acme").await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::FileContainingSymbol("culvert.v1.BatchService".to_owned())),
    };
    let mut client = ServerReflectionClient::new(node.channel());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::FileDescriptorResponse(files) = answer else { panic!("{answer:?}") };
    assert!(!files.file_descriptor_proto.is_empty());
    drop(answers);
    node.stop().await;
}

#[tokio::test]
async fn an_update_says_what_it_interrupts_in_a_dry_run_too() {
    let node = Node::with_tenant("acme").await;
    let old = create_peer(peer("acme", "b1", "10.1.0.0/24"));
    let old = node.peers().create_peer(old).await.unwrap().into_inner();
    assert_eq!(old.impact, None);
    for validate_only in [true, false] {
        let mut patch = old.clone();
        patch.children[0].remote_subnets = vec!["10.2.0.0/24".to_owned()];
        let update_mask = mask(&["children"]);
        let request =
            v1::UpdatePeerRequest { peer: Some(patch), update_mask, validate_only, ..Default::default() };
        let impact = node.peers().update_peer(request).await.unwrap().into_inner().impact.unwrap();
        assert_eq!(impact.effect(), v1::Effect::ChildrenChange);
        assert_eq!((impact.children_changed, impact.children_kept), (vec!["lan".to_owned()], vec![]));
        assert_eq!(impact.fields, ["children[lan].remote_subnets"]);
    }
    let delete = v1::DeleteTenantRequest { name: "tenants/acme".into(), force: true, ..Default::default() };
    let would = v1::DeleteTenantRequest { validate_only: true, ..delete.clone() };
    let would = node.tenants().delete_tenant(would).await.unwrap().into_inner().deleted;
    assert_eq!(would, ["tenants/acme/peers/b1", "tenants/acme/secrets/psk", "tenants/acme"]);
    assert_eq!(node.tenants().delete_tenant(delete).await.unwrap().into_inner().deleted, would);
    node.stop().await;
}

/// A change of everything has an answer that can be read.
#[tokio::test]
async fn an_answer_without_values_says_what_became_of_each() {
    let node = Node::with_tenant("acme").await;
    let old = create_peer(peer("acme", "b1", "10.1.0.0/24"));
    let old = node.peers().create_peer(old).await.unwrap().into_inner();
    for (without_values, subnet) in [(true, "10.2.0.0/24"), (false, "10.3.0.0/24")] {
        let mut new = v1::Peer { etag: String::new(), ..old.clone() };
        new.children[0].remote_subnets = vec![subnet.to_owned()];
        let objects = vec![v1::Object { kind: Some(v1::object::Kind::Peer(new)) }];
        let request = v1::ApplyRequest { objects, without_values, ..Default::default() };
        let mut batches = BatchServiceClient::new(node.channel());
        let applied = batches.apply(request).await.unwrap().into_inner().objects.remove(0);
        assert_eq!(applied.action(), v1::AppliedAction::Updated);
        assert_eq!(applied.impact.unwrap().effect(), v1::Effect::ChildrenChange);
        assert_eq!((applied.before.is_none(), applied.after.is_none()), (without_values, without_values));
    }
    node.stop().await;
}

#[tokio::test]
async fn health_is_serving_and_a_watcher_does_not_hold_up_the_end() {
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let node = Node::with_tenant("acme").await;
    for service in ["", "culvert.v1.PeerService"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(node.channel()).check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving);
    }
    let watch = v1::WatchEventsRequest { parent: "tenants/-".into(), ..Default::default() };
    let mut events = node.sas().watch_events(watch).await.unwrap().into_inner();
    node.stop().await;
    let status = events.message().await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_node_that_drains_is_live_and_serves_and_is_not_ready() {
    use culvert::phase::Phase;
    use tonic_health::pb::HealthCheckRequest;
    use tonic_health::pb::health_check_response::ServingStatus;
    use tonic_health::pb::health_client::HealthClient;

    let node = Node::with_tenant("acme").await;
    let request = |service: &str| HealthCheckRequest { service: service.to_owned() };
    let mut ready = HealthClient::new(node.channel()).watch(request("")).await.unwrap().into_inner();
    assert_eq!(ready.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    node.phases.go_on(Phase::Draining);
    assert_eq!(ready.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    let live = HealthClient::new(node.channel()).check(request("live")).await.unwrap().into_inner();
    assert_eq!(live.status(), ServingStatus::Serving);
    node.tenants().create_tenant(create_tenant("globex")).await.unwrap();
    node.stop().await;
}
