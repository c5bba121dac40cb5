//! The command line as scripts use it: output and exit codes, against a node of its own.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use actors::{Happened, Whose};
use common::{Node, culvert};
use culvert::runtime::{HappenedStream, NoRuntime, RekeyTarget, Runtime, RuntimeError, Scope};
use culvert_proto::v1;
use serde_json::Value;
use tenants::Peer;

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/acme.yaml")
}

#[tokio::test]
async fn the_example_is_applied_changed_and_deleted() {
    let node = Node::start(Arc::new(NoRuntime)).await;
    let run = |arguments: &'static [&'static str]| culvert(&node.address, arguments);
    let example = example();
    let file = example.to_str().unwrap();

    // Nothing is there yet, so everything refers to what would be created.
    let said = culvert(&node.address, &["apply", "--dry-run", "-f", file]).await;
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.contains("tenants/acme/peers/branch-12 created (dry run)"), "{}", said.out);
    assert_eq!(run(&["get", "tenants", "-o", "json"]).await.out.trim(), "[]");

    let said = culvert(&node.address, &["apply", "-f", file]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.ends_with("3 created, 0 updated, 0 unchanged\n"), "{}", said.out);
    let said = culvert(&node.address, &["apply", "-f", file, "-o", "json"]).await;
    let outcomes: Value = serde_json::from_str(&said.out).unwrap();
    assert!(
        outcomes.as_array().unwrap().iter().all(|outcome| outcome["action"] == "unchanged"),
        "{outcomes}"
    );

    // A change is told field by field, in a dry run too.
    let directory = tempfile::tempdir().unwrap();
    let changed = directory.path().join("changed.yaml");
    let text = std::fs::read_to_string(&example).unwrap();
    let text = text.replace("dpdInterval: 30s", "dpdInterval: 10s");
    std::fs::write(&changed, text.replace("value: example-only-change-me", "valueFromEnv: CULVERT_TEST_PSK"))
        .unwrap();
    for dry_run in [true, false] {
        let mut arguments = vec!["apply", "-f", changed.to_str().unwrap()];
        arguments.extend(dry_run.then_some("--dry-run"));
        let said = culvert(&node.address, &arguments).await;
        assert!(said.out.contains("\n    ike.dpdInterval: 30s → 10s\n"), "{}", said.out);
        assert!(said.out.contains("\n    value\n"), "{}", said.out);
        assert!(said.out.contains("0 created, 2 updated, 1 unchanged"), "{}", said.out);
    }

    // What is printed as YAML can be applied.
    let printed = directory.path().join("printed.yaml");
    let said = run(&["get", "peers", "-t", "acme", "-o", "yaml"]).await;
    assert!(said.out.starts_with("---\nkind: Peer\nname: tenants/acme/peers/branch-12\n"), "{}", said.out);
    std::fs::write(&printed, said.out).unwrap();
    let said = culvert(&node.address, &["apply", "-f", printed.to_str().unwrap()]).await;
    assert!(said.out.contains("0 created, 0 updated, 1 unchanged"), "{}{}", said.out, said.err);

    let said = run(&["describe", "peer", "acme/branch-12"]).await;
    assert!(said.out.contains("Name:         tenants/acme/peers/branch-12"), "{}", said.out);
    assert!(said.out.contains("remoteSubnets:\n    - 10.12.0.0/24"), "{}", said.out);
    assert!(!run(&["describe", "tenants/acme/secrets/branch-12"]).await.out.contains("environment"));

    // In the order of creation it would be refused; by file it is reversed.
    assert_eq!(run(&["delete", "tenants/acme"]).await.code, 5);
    let said = culvert(&node.address, &["delete", "-f", file]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(run(&["get", "tenants", "-o", "json"]).await.out.trim(), "[]");
    node.stop().await;
}

#[tokio::test]
async fn exit_codes_tell_failures_apart() {
    let node = Node::with_tenant("acme").await;
    let run = |arguments: &'static [&'static str]| culvert(&node.address, arguments);
    assert_eq!(run(&["get", "peers"]).await.code, 0);
    assert_eq!(run(&["get"]).await.code, 2);
    assert_eq!(run(&["frobnicate"]).await.code, 2);
    let said = run(&["get", "peer", "acme/nope"]).await;
    assert_eq!(said.code, 3);
    assert!(said.err.starts_with("error: tenants/acme/peers/nope not found\nhint: "), "{}", said.err);
    assert_eq!(run(&["get", "pears"]).await.code, 4);
    assert_eq!(run(&["delete", "tenants/acme"]).await.code, 5);
    assert_eq!(run(&["initiate", "acme/nope"]).await.code, 3);
    let said = run(&["--server", "http://127.0.0.1:1", "get", "peers"]).await;
    assert_eq!(said.code, 6);
    assert!(said.err.contains("hint: is culvertd running there?"), "{}", said.err);
    assert_eq!(run(&["delete", "acme/nope"]).await.code, 3);
    let said = run(&["delete", "tenants/nope", "secret/acme/psk", "--ignore-not-found"]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert_eq!(said.out, "tenants/acme/secrets/psk deleted\ntenants/nope not found, ignored\n");
    node.stop().await;
}

/// What is told beside the results goes nowhere, as on a full disk or into a pipe whose reader has gone; what is done is done all the same.
#[tokio::test]
async fn nobody_has_to_read_standard_error() {
    let node = Node::with_tenant("acme").await;
    let run = |arguments: &'static [&'static str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_culvert"));
        let nowhere = std::fs::File::options().write(true).open("/dev/full").unwrap();
        command.args(arguments).env("CULVERT_SERVER", &node.address).stderr(nowhere);
        tokio::task::spawn_blocking(move || command.output().unwrap())
    };
    // Its value is shown once.
    let made = run(&["create", "token", "ops", "--role", "viewer"]).await.unwrap();
    assert_eq!(made.status.code(), Some(0));
    assert!(!made.stdout.is_empty());
    for (arguments, code) in [
        (&["get", "peer", "acme/nope"][..], 3),
        (&["--server", "http://127.0.0.1:1", "get", "peers"], 6),
        (&["frobnicate"], 2),
        (&["--trace", "get", "tenants"], 0),
    ] {
        assert_eq!(run(arguments).await.unwrap().status.code(), Some(code), "{arguments:?}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_faulty_manifest_is_refused_with_every_fault_in_its_place() {
    let node = Node::with_tenant("acme").await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("m.yaml");
    let apply = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        culvert(&node.address, &["apply", "-f", file.to_str().unwrap()]).await
    };
    let said = apply("kind: Peer\nname: tenants/acme/peers/b1\ncolour: red\nchildren: {}\n").await;
    assert_eq!(said.code, 4);
    assert!(
        said.err.contains("document 1 (Peer tenants/acme/peers/b1): colour: unknown field"),
        "{}",
        said.err
    );
    assert!(said.err.contains("children: expected a list"), "{}", said.err);

    let said = apply(
        "kind: Peer
name: tenants/acme/peers/b1
localIdentity: gw.example
remoteIdentity: b1.example
auth: { psk: tenants/acme/secrets/psk }
ike: { proposals: [rot13] }
children:
- { name: lan, localSubnets: [10.0.0.0/24], remoteSubnets: [10.0.0.1/24] }
---
kind: Tenant
name: tenants/globex
",
    )
    .await;
    assert_eq!(said.code, 4);
    assert!(said.err.contains("ike.proposals[0]: unknown algorithm \"rot13\""), "{}", said.err);
    let fault = "children[0].remoteSubnets[0]: 10.0.0.1/24: host bits set, did you mean 10.0.0.0/24";
    assert!(said.err.contains(fault), "{}", said.err);
    // All of it or nothing.
    assert!(said.err.contains("nothing was changed"), "{}", said.err);
    assert_eq!(said.out, "");
    assert_eq!(culvert(&node.address, &["get", "tenant/globex"]).await.code, 3);
    node.stop().await;
}

/// A node with one tunnel that is always up.
struct OneTunnel;

fn status() -> v1::PeerStatus {
    v1::PeerStatus {
        state: v1::PeerState::Established.into(),
        child_rekeys: 2,
        packets_in: 10,
        packets_out: 20,
        bytes_in: 2048,
        remote_address: "192.0.2.12:4500".to_owned(),
        // Which is now for whoever shows it, however late.
        since: Some((std::time::SystemTime::now() + std::time::Duration::from_secs(3600)).into()),
        ike_version: v1::IkeVersion::Ikev1.into(),
        ike_proposal: "aes256-sha256-modp1024".to_owned(),
        ike_legacy: vec!["modp1024".to_owned()],
        children: vec![v1::ChildStatus {
            name: "lan".to_owned(),
            inbound_spi: 0x0400_0001,
            outbound_spi: 0x0000_abcd,
            suite: "3des-sha1".to_owned(),
            legacy: vec!["3des".to_owned(), "sha1".to_owned()],
            packets_in: 10,
            packets_out: 20,
            bytes_in: 2048,
            bytes_out: 0,
            ..Default::default()
        }],
        ..Default::default()
    }
}

#[tonic::async_trait]
impl Runtime for OneTunnel {
    fn health(&self) -> tokio::sync::watch::Receiver<actors::Health> {
        culvert::runtime::NoRuntime.health()
    }

    async fn list_sas(&self, scope: &Scope) -> Result<Vec<v1::Sa>, RuntimeError> {
        let child = v1::ChildSa { name: "lan".to_owned(), inbound_spi: 0x0400_0001, ..Default::default() };
        let ike = v1::IkeSa {
            version: v1::IkeVersion::Ikev1.into(),
            proposal: "aes256-sha256-modp1024".to_owned(),
            legacy: vec!["modp1024".to_owned()],
            ..Default::default()
        };
        let sa = |kind| {
            let peer = "tenants/acme/peers/branch-12".to_owned();
            v1::Sa { peer, kind: Some(kind), ..Default::default() }
        };
        let all = [sa(v1::sa::Kind::Ike(ike)), sa(v1::sa::Kind::Child(child))];
        Ok(all.into_iter().filter(|sa| scope.covers(&sa.peer)).collect())
    }

    fn watch(&self, after: u64) -> Result<HappenedStream, RuntimeError> {
        let event = |sequence, peer: &str| {
            let event = v1::Event {
                sequence,
                r#type: v1::EventType::ChildSaRekeyed.into(),
                peer: peer.to_owned(),
                state: v1::PeerState::Established.into(),
                message: format!("number {sequence}"),
                ..Default::default()
            };
            Happened { event, whose: Whose { tenant: 1, peer: 1 } }
        };
        let events = (after + 1..after + 10).flat_map(move |i| {
            [Ok(event(i, "tenants/acme/peers/branch-12")), Ok(event(i, "tenants/globex/peers/b1"))]
        });
        Ok(Box::pin(tokio_stream::iter(events)))
    }

    async fn node_status(&self) -> v1::NodeStatus {
        v1::NodeStatus { child_sas: 1, counters: [("no_route".to_owned(), 7)].into(), ..Default::default() }
    }

    async fn peer_statuses(&self, peers: &[Arc<Peer>]) -> Vec<Option<v1::PeerStatus>> {
        peers.iter().map(|_| Some(status())).collect()
    }

    async fn initiate(&self, _peer: Arc<Peer>) -> Result<v1::PeerStatus, RuntimeError> {
        Err(RuntimeError::Failed("the peer answered NO_PROPOSAL_CHOSEN".to_owned()))
    }

    async fn terminate(&self, _peer: Arc<Peer>, _by: &str) -> Result<v1::PeerStatus, RuntimeError> {
        Err(RuntimeError::Refused("the tunnel is down".to_owned()))
    }

    async fn send_dummies(&self, _peer: Arc<Peer>, count: u16, length: u16) -> Result<u32, RuntimeError> {
        assert_eq!((count, length), (3, 200));
        Ok(2)
    }

    async fn explain(&self, _peer: Arc<Peer>) -> Result<v1::ExplainPeerResponse, RuntimeError> {
        Ok(v1::ExplainPeerResponse { status: Some(status()), ..Default::default() })
    }

    async fn rekey(&self, _peer: Arc<Peer>, target: RekeyTarget) -> Result<v1::PeerStatus, RuntimeError> {
        assert_eq!(target, RekeyTarget::Child("lan".to_owned()));
        Ok(status())
    }
}

#[tokio::test]
async fn a_tunnel_is_shown_watched_and_commanded() {
    let node = Node::start(Arc::new(OneTunnel)).await;
    let run = |arguments: &'static [&'static str]| culvert(&node.address, arguments);
    assert_eq!(culvert(&node.address, &["apply", "-f", example().to_str().unwrap()]).await.code, 0);

    let said = run(&["get", "peers"]).await;
    let row: Vec<&str> = said.out.lines().nth(1).unwrap().split_whitespace().collect();
    let expected = "tenants/acme/peers/branch-12 ESTABLISHED 0s 192.0.2.12:4500 04000001/0000abcd 0/2 10/20";
    assert_eq!(row[..7].join(" "), expected);
    assert!(said.out.contains("2.0 KiB/0 B"), "{}", said.out);
    let said = run(&["dummies", "acme/branch-12", "-n", "3", "--length", "200"]).await;
    assert!(said.out.contains("on each of 2 Child SAs"), "{} {}", said.out, said.err);
    let said = run(&["dummies", "acme/branch-12", "-n", "65"]).await;
    assert!(said.code != 0 && said.err.contains("count") && said.err.contains("1 to 64"), "{}", said.err);
    let said = run(&["get", "sas", "acme/branch-12", "-o", "json"]).await;
    let sas: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(
        (&sas[0]["ike"]["version"], &sas[1]["child"]["inboundSpi"]),
        (&"IKEV1".into(), &0x0400_0001.into())
    );
    let said = run(&["get", "sas"]).await;
    let row = said.out.lines().nth(1).unwrap();
    assert!(row.contains("IKEv1 (responder)"), "{row}");
    assert!(row.contains("aes256-sha256-modp1024 (legacy: modp1024)"), "{row}");
    let said = run(&["describe", "acme/branch-12"]).await;
    let squeezed = said.out.split_whitespace().collect::<Vec<_>>().join(" ");
    for line in [
        "IKE version: IKEv1",
        "IKE algorithms: aes256-sha256-modp1024 (legacy: modp1024)",
        "Algorithms: 3des-sha1 (legacy: 3des, sha1)",
    ] {
        assert!(squeezed.contains(line), "{line}: {}", said.out);
    }
    let said = run(&["get", "node"]).await;
    let last: Vec<&str> = said.out.lines().last().unwrap().split_whitespace().collect();
    assert_eq!(last, ["no_route:", "7"], "{}", said.out);

    let said = run(&["watch", "acme", "--after", "5", "--count", "2", "-o", "json"]).await;
    let events: Vec<Value> = said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events.len(), 2, "{}", said.out);
    assert_eq!((events[0]["sequence"].as_str(), events[1]["sequence"].as_str()), (Some("6"), Some("7")));

    let said = run(&["initiate", "acme/branch-12"]).await;
    assert_eq!(said.code, 5);
    assert!(said.err.contains("NO_PROPOSAL_CHOSEN"), "{}", said.err);
    assert_eq!(run(&["terminate", "acme/branch-12"]).await.code, 5);
    let said = run(&["rekey", "acme/branch-12", "--child", "lan"]).await;
    assert!(
        said.out.starts_with("tenants/acme/peers/branch-12 ESTABLISHED\n  lan 04000001/0000abcd"),
        "{}",
        said.out
    );
    assert_eq!(run(&["rekey", "acme/branch-12", "--child", "wan"]).await.code, 4);
    node.stop().await;
}

#[tokio::test]
async fn completions_are_printed() {
    for shell in ["bash", "zsh", "fish"] {
        let said = culvert("http://127.0.0.1:1", &["completions", shell]).await;
        assert!(said.code == 0 && said.out.contains("initiate"), "{}", said.err);
    }
}
