//! Every method of the protos, with every kind of caller.

use culvert::access::{Rule, rules};
use culvert_proto::v1;
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use tenants::Role;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::world::{World, call};

/// A request of the method about what `tenant` has, which changes nothing.
fn request(path: &str, rule: &Rule, tenant: &str) -> Vec<u8> {
    let named = match path.split('/').nth(1).unwrap() {
        "culvert.v1.TenantService" => format!("tenants/{tenant}"),
        "culvert.v1.SecretService" => format!("tenants/{tenant}/secrets/psk"),
        "culvert.v1.TokenService" => format!("tenants/{tenant}/tokens/viewer"),
        _ => format!("tenants/{tenant}/peers/p"),
    };
    let mut message = DynamicMessage::new(rule.request.clone());
    for field in rule.request.fields() {
        match field.name() {
            "name" => message.set_field(&field, Value::String(named.clone())),
            "names" => message.set_field(&field, Value::List(vec![Value::String(named.clone())])),
            "parent" => message.set_field(&field, Value::String(format!("tenants/{tenant}"))),
            "validate_only" => message.set_field(&field, Value::Bool(true)),
            "tenant" | "secret" | "peer" => {
                let mut inner = DynamicMessage::new(field.kind().as_message().unwrap().clone());
                inner.set_field_by_name("name", Value::String(named.clone()));
                message.set_field(&field, Value::Message(inner));
            }
            "objects" => {
                let peer = v1::Peer { name: named.clone(), ..Default::default() };
                let object = v1::Object { kind: Some(v1::object::Kind::Peer(peer)) };
                let mut inner = DynamicMessage::new(field.kind().as_message().unwrap().clone());
                inner.merge(object.encode_to_vec().as_slice()).unwrap();
                message.set_field(&field, Value::List(vec![Value::Message(inner)]));
            }
            _ => {}
        }
    }
    message.encode_to_vec()
}

#[tokio::test]
async fn every_method_is_for_those_it_says_and_for_nobody_else() {
    let world = World::new().await;
    let mut tried = 0;
    for (path, rule) in rules() {
        let about_b = request(path, rule, "b");
        // A connection of its own: one on which many logins fail is closed.
        let stranger = Channel::from_shared(world.node.address.clone()).unwrap().connect().await.unwrap();
        for shown in [None, Some("Bearer nobodys"), Some("Basic YTpi"), Some("Bearer ")] {
            let refused = call(stranger.clone(), path, &about_b, shown).await.unwrap_err();
            let codes = [Code::Unauthenticated, Code::ResourceExhausted];
            assert!(codes.contains(&refused.code()), "{path} with {shown:?}: {refused:?}");
        }
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            for of in ["node", "a", "b"] {
                let shown = format!("Bearer {}", world.tokens[&format!("{role} of {of}")]);
                let answer = world.call(path, &about_b, Some(&shown)).await;
                let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
                let of_tenant = of != "node";
                let expected = if role < rule.role || (of_tenant && rule.scope == v1::Scope::Node) {
                    Some(Code::PermissionDenied)
                } else if of == "a" && rule.scope == v1::Scope::Tenant {
                    Some(Code::NotFound)
                } else {
                    None
                };
                match expected {
                    Some(expected) => assert_eq!(code, expected, "{path} as {role} of {of}: {answer:?}"),
                    // Whatever else is wrong with it, it is the caller's to ask.
                    None => assert!(
                        ![Code::Unauthenticated, Code::PermissionDenied, Code::NotFound].contains(&code),
                        "{path} as {role} of {of}: {answer:?}"
                    ),
                }
                tried += 1;
            }
        }
    }
    assert!(tried > 9 * 30, "{tried}");
    assert_eq!(world.catalog.tenants().len(), 2);
    world.node.stop().await;
}

#[tokio::test]
async fn what_is_anothers_cannot_be_told_from_what_is_not_there() {
    let world = World::new().await;
    let shown = format!("Bearer {}", world.tokens["admin of a"]);
    for path in ["/culvert.v1.PeerService/GetPeer", "/culvert.v1.PeerService/ExplainPeer"] {
        let ask = |name: &str| v1::GetPeerRequest { name: name.into() }.encode_to_vec();
        let there = world.call(path, &ask("tenants/b/peers/p"), Some(&shown)).await.unwrap_err();
        let absent = world.call(path, &ask("tenants/c/peers/p"), Some(&shown)).await.unwrap_err();
        let own = world.call(path, &ask("tenants/a/peers/q"), Some(&shown)).await.unwrap_err();
        assert_eq!(there.message(), "tenants/b/peers/p not found");
        assert_eq!(there.message().replace("/b/", "/c/"), absent.message());
        assert_eq!(own.message().replace("/a/peers/q", "/b/peers/p"), there.message());
        assert_eq!(
            (there.code(), absent.code(), own.code()),
            (Code::NotFound, Code::NotFound, Code::NotFound)
        );
        assert_eq!(there.details().len(), absent.details().len());
    }
    world.node.stop().await;
}

#[tokio::test]
async fn a_tenants_caller_lists_its_own_and_does_not_reach_further() {
    let world = World::new().await;
    let shown = format!("Bearer {}", world.tokens["admin of a"]);
    let list = v1::ListPeersRequest { parent: "tenants/-".into(), ..Default::default() };
    let answer = world.call("/culvert.v1.PeerService/ListPeers", &list.encode_to_vec(), Some(&shown)).await;
    let peers = v1::ListPeersResponse::decode(answer.unwrap()).unwrap().peers;
    assert_eq!(peers.iter().map(|peer| peer.name.as_str()).collect::<Vec<_>>(), ["tenants/a/peers/p"]);
    let answer = world.call("/culvert.v1.TenantService/ListTenants", &[], Some(&shown)).await;
    let tenants = v1::ListTenantsResponse::decode(answer.unwrap()).unwrap().tenants;
    assert_eq!(tenants.iter().map(|tenant| tenant.name.as_str()).collect::<Vec<_>>(), ["tenants/a"]);
    let answer = world.call("/culvert.v1.TokenService/ListTokens", &[], Some(&shown)).await;
    let tokens = v1::ListTokensResponse::decode(answer.unwrap()).unwrap().tokens;
    assert!(
        tokens.len() == 3 && tokens.iter().all(|token| token.name.starts_with("tenants/a/")),
        "{tokens:?}"
    );
    assert!(tokens.iter().all(|token| token.value.is_empty()));
    // Of what it shares with others it may see all and change nothing.
    let quotas = Some(v1::Quotas { max_peers: 100_000, ..Default::default() });
    let tenant = Some(v1::Tenant { name: "tenants/a".into(), quotas, ..Default::default() });
    let update = v1::UpdateTenantRequest { tenant, ..Default::default() }.encode_to_vec();
    let refused =
        world.call("/culvert.v1.TenantService/UpdateTenant", &update, Some(&shown)).await.unwrap_err();
    assert_eq!(refused.code(), Code::PermissionDenied);
    assert!(refused.message().contains("quotas"), "{}", refused.message());
    // And makes no token for more than itself.
    let wide = v1::CreateTokenRequest {
        token_id: "wide".into(),
        token: Some(v1::Token { role: v1::Role::Viewer.into(), ..Default::default() }),
        ..Default::default()
    };
    let refused = world
        .call("/culvert.v1.TokenService/CreateToken", &wide.encode_to_vec(), Some(&shown))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    world.node.stop().await;
}

#[tokio::test]
async fn probes_need_no_credential_and_reflection_does() {
    let world = World::new().await;
    world.call("/grpc.health.v1.Health/Check", &[], None).await.unwrap();
    for path in
        ["/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", "/culvert.v1.PeerService/Nothing"]
    {
        let refused = world.call(path, &[], None).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unauthenticated, "{path}");
    }
    let shown = format!("Bearer {}", world.tokens["viewer of a"]);
    let unknown = world.call("/culvert.v1.PeerService/Nothing", &[], Some(&shown)).await.unwrap_err();
    assert_eq!(unknown.code(), Code::Unimplemented);
    // What is no message is refused before anybody looks for names in it.
    let broken =
        world.call("/culvert.v1.PeerService/GetPeer", &[0xff, 0xff], Some(&shown)).await.unwrap_err();
    assert_eq!(broken.code(), Code::InvalidArgument);
    world.node.stop().await;
}
