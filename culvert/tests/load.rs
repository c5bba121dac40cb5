//! The loads, in small: what they measure in large is only as good as they are themselves.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    unused_crate_dependencies
)]

#[path = "common/daemon.rs"]
mod daemon;

use std::process::{Child, Command};
use std::thread::JoinHandle;

use certificates::issue::{Authority, KeyKind};
use clap::{Args, Parser};
use culvert_proto::v1;
use culvert_proto::v1::batch_service_client::BatchServiceClient;
use culvert_proto::v1::object::Kind;
use loadtest::{churn, flood, handshakes, logins, rekey_storm, soak, traffic, tunnels};

#[derive(Parser)]
struct Load<A: Args> {
    #[command(flatten)]
    arguments: A,
}

/// A daemon on ports of its own.
struct Node {
    daemon: Child,
    reader: JoinHandle<usize>,
    server: String,
    ports: [String; 2],
    directory: tempfile::TempDir,
}

impl Node {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("culvertd.toml");
        let text = format!(
            "state_dir = {:?}\n[grpc]\nlisten = \"127.0.0.1:0\"\n[ike]\nlisten = [\"127.0.0.1\"]\nport = 0\n\
             natt_port = 0\n[log]\nformat = \"json\"\n",
            directory.path().join("state")
        );
        std::fs::write(&config, text).unwrap();
        let (daemon, log, ready) = daemon::launch(daemon::culvertd(), &config);
        // What it says from now on is read, so that it does not wait for a reader.
        let reader = std::thread::spawn(move || log.map_while(Result::ok).count());
        let server = format!("http://{}", ready["grpc"].as_str().unwrap());
        let ports = ["ike_port", "natt_port"].map(|name| ready[name].as_u64().unwrap().to_string());
        Self { daemon, reader, server, ports, directory }
    }

    /// Arguments of a load of tunnels on it.
    fn arguments<A: Args>(&self, words: &str) -> A {
        let [ike, natt] = &self.ports;
        let node = ["load", "--server", &self.server, "--ike-port", ike, "--natt-port", natt];
        Load::try_parse_from(node.into_iter().chain(words.split_whitespace()))
            .unwrap_or_else(|error| panic!("{error}"))
            .arguments
    }

    fn file(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn stop(mut self) {
        assert!(Command::new("kill").arg(self.daemon.id().to_string()).status().unwrap().success());
        assert!(self.daemon.wait().unwrap().success());
        self.reader.join().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_come_up_are_rekeyed_under_traffic_and_go() {
    let node = Node::start();
    let arguments = node.arguments("--count 21 --rate 50 --for 1s --concurrency 8 --settle 0s");
    assert!(tunnels::run(&arguments).await.unwrap(), "every tunnel is rekeyed, and nothing lost");
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_are_counted_and_thresholds_fail() {
    let node = Node::start();
    let (pid, page) = (node.daemon.id(), node.file("report.html"));
    let words = format!("--count 20 --responder-pid {pid} --html {page} --seed 7 --output json");
    assert!(handshakes::run(&node.arguments(&words)).await.unwrap(), "all come up");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains("<svg") && page.contains("Child SAs a second"), "{page}");

    let shared = node.arguments("--count 20 --per-socket 7 --rate 200");
    assert!(handshakes::run(&shared).await.unwrap(), "all come up on three sockets");
    let v1 = node.arguments("--count 5 --version ikev1");
    assert!(handshakes::run(&v1).await.unwrap(), "all come up in IKEv1");
    let fast = node.arguments("--count 2 --min-rate 1000000");
    assert!(!handshakes::run(&fast).await.unwrap(), "nothing is so fast");
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn handshakes_go_to_who_was_configured_by_somebody_else() {
    let node = Node::start();
    let tenant = v1::Tenant {
        name: "tenants/acme".into(),
        uplink: Some(v1::Uplink { kind: Some(v1::uplink::Kind::Hub(v1::uplink::Hub {})) }),
        ..v1::Tenant::default()
    };
    let secret = v1::Secret {
        name: "tenants/acme/secrets/psk".into(),
        value: b"correct horse battery".to_vec(),
        ..v1::Secret::default()
    };
    let peers = (0..3).map(|n| v1::Peer {
        name: format!("tenants/acme/peers/p{n}"),
        local_identity: "gateway.example".into(),
        remote_identity: format!("site-{n}.example"),
        auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk(secret.name.clone())) }),
        children: vec![v1::Child {
            name: "lan".into(),
            local_subnets: vec!["10.0.0.0/8".into()],
            remote_subnets: vec![format!("10.9.{n}.0/24")],
            ..v1::Child::default()
        }],
        ..v1::Peer::default()
    });
    let objects =
        [Kind::Tenant(tenant), Kind::Secret(secret.clone())].into_iter().chain(peers.map(Kind::Peer));
    let objects = objects.map(|kind| v1::Object { kind: Some(kind) }).collect();
    let mut batches = BatchServiceClient::connect(node.server.clone()).await.unwrap();
    batches.apply(v1::ApplyRequest { objects, ..Default::default() }).await.unwrap();

    let [good, bad] = ["good.psk", "bad.psk"].map(|name| node.file(name));
    std::fs::write(&good, "correct horse battery\n").unwrap();
    std::fs::write(&bad, "wrong horse battery\n").unwrap();
    let words = "--no-provision --identity-template site-{n}.example --remote-identity gateway.example \
                 --local-subnet 10.9.{n}.0/24 --remote-subnet 10.0.0.0/8 --psk-file";
    let arguments = node.arguments(&format!("{words} {good} --count 3"));
    assert!(handshakes::run(&arguments).await.unwrap(), "three that are known");
    let arguments = node.arguments(&format!("{words} {good} --count 4 --timeout 2s"));
    assert!(!handshakes::run(&arguments).await.unwrap(), "the fourth is not");
    let arguments = node.arguments(&format!("{words} {good} --count 4 --max-failed 1 --timeout 2s"));
    assert!(handshakes::run(&arguments).await.unwrap(), "as many failures as are allowed");
    let arguments = node.arguments(&format!("{words} {bad} --count 3 --max-failed 3 --timeout 2s"));
    assert!(!handshakes::run(&arguments).await.unwrap(), "as many, but nothing else either");
    let arguments = node.arguments(&format!("{words} {good} --tunnels 3 --for 1s --imix --flows 6"));
    assert!(traffic::run(&arguments).await.unwrap(), "and they reach each other");
    let elsewhere = words.replace("10.0.0.0/8", "192.0.2.0/24");
    let arguments = node.arguments(&format!("{elsewhere} {good} --tunnels 3"));
    let error = traffic::run(&arguments).await.unwrap_err().to_string();
    assert!(error.contains("--remote-subnet 192.0.2.0/24"), "{error}");
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_that_show_certificates_come_up_and_are_rekeyed() {
    let node = Node::start();
    assert!(handshakes::run(&node.arguments("--count 6 --per-tenant 3 --certificates")).await.unwrap());
    let words = "--tunnels 6 --per-tenant 3 --certificates --rekey-rate 20 --which both --for 1s";
    assert!(rekey_storm::run(&node.arguments(words)).await.unwrap(), "nothing is lost");
    node.stop();
}

/// A tenant whose gateway has a certificate, and three peers of which each has to have one.
async fn certified(node: &Node, authority: &Authority) {
    let secret = |id: &str, value: Vec<u8>| v1::Secret {
        name: format!("tenants/acme/secrets/{id}"),
        value,
        ..v1::Secret::default()
    };
    let gateway = authority.issue(&"gateway.example".parse().unwrap(), KeyKind::Rsa(2048)).unwrap();
    let secrets = [secret("own", gateway.to_pem().unwrap()), secret("ca", authority.to_pem().unwrap())]
        .map(Kind::Secret);
    let with = v1::Certificates {
        own: "tenants/acme/secrets/own".into(),
        authorities: "tenants/acme/secrets/ca".into(),
    };
    let peers = (0..3).map(|n| v1::Peer {
        name: format!("tenants/acme/peers/p{n}"),
        local_identity: "gateway.example".into(),
        remote_identity: format!("site-{n}.example"),
        auth: Some(v1::Auth { method: Some(v1::auth::Method::Certificates(with.clone())) }),
        children: vec![v1::Child {
            name: "lan".into(),
            local_subnets: vec!["10.0.0.0/8".into()],
            remote_subnets: vec![format!("10.9.{n}.0/24")],
            ..v1::Child::default()
        }],
        ..v1::Peer::default()
    });
    let tenant = v1::Tenant {
        name: "tenants/acme".into(),
        uplink: Some(v1::Uplink { kind: Some(v1::uplink::Kind::Hub(v1::uplink::Hub {})) }),
        ..v1::Tenant::default()
    };
    let objects = std::iter::once(Kind::Tenant(tenant)).chain(secrets).chain(peers.map(Kind::Peer));
    let objects = objects.map(|kind| v1::Object { kind: Some(kind) }).collect();
    let mut batches = BatchServiceClient::connect(node.server.clone()).await.unwrap();
    batches.apply(v1::ApplyRequest { objects, ..Default::default() }).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_shows_a_certificate_of_another_authority_stays_out() {
    let node = Node::start();
    let (authority, other) = (Authority::new("authority").unwrap(), Authority::new("other").unwrap());
    certified(&node, &authority).await;
    let [good, bad] = ["good.pem", "bad.pem"].map(|name| node.file(name));
    std::fs::write(&good, authority.to_pem_with_key().unwrap()).unwrap();
    std::fs::write(&bad, other.to_pem_with_key().unwrap()).unwrap();
    let words = "--no-provision --identity-template site-{n}.example --remote-identity gateway.example --count 3 \
                 --local-subnet 10.9.{n}.0/24 --remote-subnet 10.0.0.0/8 --timeout 2s";
    let arguments = node.arguments(&format!("{words} --ca-file {good}"));
    assert!(handshakes::run(&arguments).await.unwrap(), "three of its authority");
    let arguments = node.arguments(&format!("{words} --ca-file {bad} --trust-file {good} --max-failed 3"));
    assert!(!handshakes::run(&arguments).await.unwrap(), "nobody of another");
    let arguments = node.arguments(&format!("{words} --ca-file {good} --trust-file {bad} --max-failed 3"));
    assert!(!handshakes::run(&arguments).await.unwrap(), "nor is the gateway what it should be");
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_arrives_in_all_sizes() {
    let node = Node::start();
    let arguments = node.arguments("--tunnels 6 --flows 12 --size 64,512,1400 --for 1s");
    assert!(traffic::run(&arguments).await.unwrap(), "nothing is lost");
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn storms_of_rekeyings_lose_nothing() {
    let node = Node::start();
    let arguments = node.arguments("--tunnels 20 --per-tenant 10 --rekey-rate 40 --which both --for 1s");
    assert!(rekey_storm::run(&arguments).await.unwrap(), "nothing is lost, and nobody waits");
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn tunnels_that_come_and_go_leave_nothing() {
    let node = Node::start();
    let words = "--tunnels 20 --stable 4 --churn-rate 20 --down 100ms --for 1s";
    assert!(churn::run(&node.arguments(words)).await.unwrap(), "no SA is left over, nothing is lost");
    let everyone = node.arguments::<churn::Arguments>("--tunnels 4 --stable 4");
    let error = churn::run(&everyone).await.unwrap_err().to_string();
    assert!(error.contains("--stable 4"), "{error}");
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_soak_accounts_for_every_packet() {
    let node = Node::start();
    let words = "--tunnels 12 --stable 6 --churn-rate 4 --rekey-rate 10 --for 2s";
    assert!(soak::run(&node.arguments(words)).await.unwrap(), "nothing vanishes");
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_sent() {
    let node = Node::start();
    let words = ["load", "--ike-port", &node.ports[0], "--for", "1s", "--rate", "1000", "--seed", "1"];
    let load: Load<flood::Arguments> = Load::parse_from(words);
    assert!(flood::run(&load.arguments).unwrap());
    node.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_of_nobody_are_refused() {
    let node = Node::start();
    let words = ["load", "--server", &node.server, "--for", "1s", "--rate", "100"];
    let load: Load<logins::Arguments> = Load::parse_from(words);
    assert!(logins::run(&load.arguments).await.unwrap(), "nobody is let in");
    node.stop();
}
