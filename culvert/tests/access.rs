//! Who may call what: every method of the protos, with every kind of caller.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actors::Health;
use bytes::{Buf, BufMut, Bytes};
use common::{Node, create_peer, create_secret, create_tenant, peer};
use culvert::access::{Access, Rule, rules};
use culvert::config::{Anonymous, GrpcConfig};
use culvert::runtime::{EventStream, NoRuntime, RekeyTarget, Runtime, RuntimeError, Scope};
use culvert_proto::v1;
use prost::Message as _;
use prost_reflect::{DynamicMessage, Value};
use tenants::{Catalog, Peer, Role};
use tokio::sync::watch;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

/// Messages as they are on the wire.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        let length = src.remaining();
        Ok(Some(src.copy_to_bytes(length)))
    }
}

/// As many dummies are never done.
const ENDLESS: u16 = 64;

/// A node without tunnels, on which nothing ever happens to them.
struct Quiet;

#[tonic::async_trait]
impl Runtime for Quiet {
    fn health(&self) -> watch::Receiver<Health> {
        NoRuntime.health()
    }

    fn watch(&self, _after: u64) -> Result<EventStream, RuntimeError> {
        Ok(Box::pin(tokio_stream::pending()))
    }

    async fn list_sas(&self, scope: &Scope) -> Result<Vec<v1::Sa>, RuntimeError> {
        NoRuntime.list_sas(scope).await
    }

    async fn node_status(&self) -> v1::NodeStatus {
        NoRuntime.node_status().await
    }

    async fn peer_statuses(&self, peers: &[Arc<Peer>]) -> Vec<Option<v1::PeerStatus>> {
        NoRuntime.peer_statuses(peers).await
    }

    async fn send_dummies(&self, peer: Arc<Peer>, count: u16, length: u16) -> Result<u32, RuntimeError> {
        if count == ENDLESS {
            std::future::pending::<()>().await;
        }
        NoRuntime.send_dummies(peer, count, length).await
    }

    async fn explain(&self, peer: Arc<Peer>) -> Result<v1::ExplainPeerResponse, RuntimeError> {
        NoRuntime.explain(peer).await
    }

    async fn initiate(&self, peer: Arc<Peer>) -> Result<v1::PeerStatus, RuntimeError> {
        NoRuntime.initiate(peer).await
    }

    async fn terminate(&self, peer: Arc<Peer>, by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        NoRuntime.terminate(peer, by).await
    }

    async fn rekey(&self, peer: Arc<Peer>, target: RekeyTarget) -> Result<v1::PeerStatus, RuntimeError> {
        NoRuntime.rekey(peer, target).await
    }
}

/// A node with the tenants `a` and `b`, each with a peer, a secret and a token, where nobody is anonymous.
struct World {
    node: Node,
    catalog: Arc<Catalog>,
    tokens: HashMap<String, String>,
}

fn strict() -> GrpcConfig {
    GrpcConfig { anonymous: Some(Anonymous(None)), ..GrpcConfig::default() }
}

fn token(catalog: &Catalog, parent: &str, id: &str, role: Role, life: Duration) -> String {
    let request = v1::CreateTokenRequest {
        parent: parent.into(),
        token_id: id.into(),
        token: Some(v1::Token {
            role: role.to_proto().into(),
            expire_time: Some((SystemTime::now() + life).into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    catalog.create_token(&request).unwrap().1.to_string()
}

impl World {
    async fn new() -> Self {
        let catalog = Arc::new(Catalog::in_memory().unwrap());
        let mut tokens = HashMap::new();
        let hour = Duration::from_secs(3600);
        for tenant in ["a", "b"] {
            catalog.create_tenant(&create_tenant(tenant)).unwrap();
            catalog.create_secret(create_secret(tenant, "psk", b"correct horse")).unwrap();
            let mut request = create_peer(peer(tenant, "p", "10.1.0.0/24"));
            request.peer.as_mut().unwrap().remote_identity = format!("p.{tenant}.example.net");
            catalog.create_peer(&request).unwrap();
        }
        for role in [Role::Viewer, Role::Operator, Role::Admin] {
            for (parent, of) in [("", "node"), ("tenants/a", "a"), ("tenants/b", "b")] {
                let value = token(&catalog, parent, &role.to_string(), role, hour);
                tokens.insert(format!("{role} of {of}"), value);
            }
        }
        let access = Access::new(Arc::clone(&catalog), &strict()).unwrap();
        let node = Node::with(Arc::new(Quiet), Arc::clone(&catalog), access).await;
        Self { node, catalog, tokens }
    }

    async fn call(&self, path: &str, message: &[u8], authorization: Option<&str>) -> Result<Bytes, Status> {
        call(self.node.channel(), path, message, authorization).await
    }
}

/// The first message of the answer.
async fn call(
    channel: Channel,
    path: &str,
    message: &[u8],
    authorization: Option<&str>,
) -> Result<Bytes, Status> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::unavailable(error.to_string()))?;
    let mut request = Request::new(Bytes::copy_from_slice(message));
    if let Some(value) = authorization {
        request.metadata_mut().insert("authorization", MetadataValue::try_from(value).unwrap());
    }
    let mut answer = grpc.server_streaming(request, path.parse().unwrap(), Raw).await?.into_inner();
    let first = tokio::time::timeout(Duration::from_millis(200), answer.message()).await;
    // A stream on which nothing happens was opened all the same.
    first.unwrap_or(Ok(None)).map(Option::unwrap_or_default)
}

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
async fn a_token_ends_at_once_when_it_is_revoked_or_its_time_is_over() {
    let world = World::new().await;
    let value = token(&world.catalog, "", "short", Role::Viewer, Duration::from_secs(3600));
    let shown = format!("Bearer {value}");
    let who = "/culvert.v1.TokenService/WhoAmI";
    let me = v1::WhoAmIResponse::decode(world.call(who, &[], Some(&shown)).await.unwrap()).unwrap();
    assert_eq!((me.principal.as_str(), me.role()), ("token tokens/short", v1::Role::Viewer));
    assert!(me.expire_time.is_some() && me.tenant.is_empty());

    let mut sas = v1::sa_service_client::SaServiceClient::new(world.node.channel());
    let mut request =
        Request::new(v1::WatchEventsRequest { parent: "tenants/-".into(), ..Default::default() });
    request.metadata_mut().insert("authorization", shown.parse().unwrap());
    let mut stream = sas.watch_events(request).await.unwrap().into_inner();
    let delete = v1::DeleteTokenRequest { name: "tokens/short".into(), ..Default::default() };
    world.catalog.delete_token(&delete).unwrap();
    let refused = world.call(who, &[], Some(&shown)).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::Unauthenticated, "the token is unknown or was revoked")
    );
    // A stream that was opened before ends too, though nothing happens on it.
    let ended = stream.message().await.unwrap_err();
    assert_eq!(
        (ended.code(), ended.message()),
        (Code::Unauthenticated, "token tokens/short is no longer good")
    );

    let brief = token(&world.catalog, "", "brief", Role::Viewer, Duration::from_millis(5));
    while world.catalog.verify_token(brief.as_bytes(), SystemTime::now()).is_ok() {}
    let refused = world.call(who, &[], Some(&format!("Bearer {brief}"))).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    let why = refused.message();
    assert!(why.starts_with("the token has expired; by the clock of the node it is 2"), "{why}");
    world.node.stop().await;
}

#[tokio::test]
async fn a_flood_of_wrong_tokens_is_cut_short_and_stops_nobody_else() {
    let world = World::new().await;
    let good = format!("Bearer {}", world.tokens["viewer of node"]);
    let (mut told, mut spared, mut closed) = (0, 0, 0);
    let mut channel = world.node.channel();
    for n in 0..2_000 {
        let shown = format!("Bearer wrong-{n}");
        let code = call(channel.clone(), "/culvert.v1.TokenService/WhoAmI", &[], Some(&shown))
            .await
            .unwrap_err()
            .code();
        match code {
            Code::Unauthenticated => told += 1,
            Code::ResourceExhausted => spared += 1,
            _ => {
                closed += 1;
                channel = Channel::from_shared(world.node.address.clone()).unwrap().connect().await.unwrap();
            }
        }
    }
    assert!(spared > told, "{told} told, {spared} not, {closed} closed");
    assert!(closed > 10, "{closed} closed");
    let channel = Channel::from_shared(world.node.address.clone()).unwrap().connect().await.unwrap();
    let me = call(channel, "/culvert.v1.TokenService/WhoAmI", &[], Some(&good)).await.unwrap();
    assert_eq!(v1::WhoAmIResponse::decode(me).unwrap().principal, "token tokens/viewer");
    // The next entry says how many there would have been.
    let path = "/culvert.v1.PeerService/InitiatePeer";
    let channel = Channel::from_shared(world.node.address.clone()).unwrap().connect().await.unwrap();
    call(channel, path, &[], Some(&good)).await.unwrap_err();
    let entries = world.catalog.page_audit("", 1000, "").unwrap().items;
    let failed = entries.iter().filter(|entry| entry.principal == "unknown").count();
    // What is told on a connection that is being closed may not get through.
    assert!((told..=told + closed).contains(&failed), "{failed} noted, {told} told, {closed} closed");
    assert!(failed < 1_000, "{failed} noted");
    assert!(entries.iter().map(|entry| entry.suppressed).sum::<u64>() > 0, "{entries:?}");
    world.node.stop().await;
}

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
    tokio::time::timeout(Duration::from_millis(100), call).await.unwrap_err();
    let noted = loop {
        let first = world.catalog.page_audit("", 1, "").unwrap().items.remove(0);
        if first.method.ends_with("SendDummies") {
            break first;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!((noted.result.as_str(), noted.objects[0].name.as_str()), ("CANCELLED", "tenants/a/peers/p"));
    assert_eq!(noted.principal, "token tenants/a/tokens/operator");
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
