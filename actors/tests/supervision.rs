//! A panic in one peer's code: the others carry on, this one comes back, and it is counted.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unused_crate_dependencies
)]

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use actors::{Node, NodeConfig};
use culvert_proto::v1;
use ike::config::{ChildConfig, PeerConfig, Psk, Retransmit, Uniqueness};
use ike::wire::TrafficSelector;
use loadtest::{Command, Flow, Initiator, InitiatorConfig, Report};
use tenants::Catalog;
use tokio::sync::{mpsc, watch};

/// Only a bound: everything here takes milliseconds.
const LIMIT: Duration = Duration::from_secs(30);

struct Branch {
    commands: mpsc::Sender<Command>,
    report: watch::Receiver<Report>,
}

impl Branch {
    async fn until(&mut self, what: &str, condition: impl FnMut(&Report) -> bool) {
        let waited = tokio::time::timeout(LIMIT, self.report.wait_for(condition)).await;
        let reached = matches!(waited, Ok(Ok(_)));
        drop(waited);
        assert!(reached, "{what}: {:?}", *self.report.borrow());
    }

    fn received(&self) -> u64 {
        self.report.borrow().received.values().map(|r| r.0).sum()
    }

    /// More probes arrive.
    async fn flows(&mut self) {
        let before = self.received();
        let more = |r: &Report| r.received.values().map(|r| r.0).sum::<u64>() > before + 20;
        self.until("traffic flows", more).await;
    }
}

fn catalog() -> Arc<Catalog> {
    let catalog = Catalog::in_memory().unwrap();
    let tenant = v1::CreateTenantRequest {
        tenant_id: "acme".into(),
        tenant: Some(v1::Tenant {
            uplink: Some(v1::Uplink { kind: Some(v1::uplink::Kind::Hub(v1::uplink::Hub {})) }),
            ..Default::default()
        }),
        ..Default::default()
    };
    catalog.create_tenant(&tenant).unwrap();
    let secret = v1::CreateSecretRequest {
        parent: "tenants/acme".into(),
        secret_id: "psk".into(),
        secret: Some(v1::Secret { value: b"a shared secret".to_vec(), ..Default::default() }),
        ..Default::default()
    };
    catalog.create_secret(secret).unwrap();
    for n in 0..3 {
        let peer = v1::Peer {
            local_identity: "hub.example".into(),
            remote_identity: format!("b{n}.example"),
            auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk("tenants/acme/secrets/psk".into())) }),
            children: vec![v1::Child {
                name: "lan".into(),
                local_subnets: vec!["10.0.0.0/8".into()],
                remote_subnets: vec![format!("10.{n}.0.0/16")],
                ..Default::default()
            }],
            ..Default::default()
        };
        let request = v1::CreatePeerRequest {
            parent: "tenants/acme".into(),
            peer_id: format!("b{n}"),
            peer: Some(peer),
            ..Default::default()
        };
        catalog.create_peer(&request).unwrap();
    }
    Arc::new(catalog)
}

/// Branch `n` sends to the next one of the three.
fn branch(node: &Node, n: u8) -> Branch {
    let net = |n: u8| {
        TrafficSelector::range(Ipv4Addr::new(10, n, 0, 0).into(), Ipv4Addr::new(10, n, 255, 255).into())
    };
    let all =
        TrafficSelector::range(Ipv4Addr::new(10, 0, 0, 0).into(), Ipv4Addr::new(10, 255, 255, 255).into());
    let to = (n + 1) % 3;
    let (ike_port, natt_port) = node.ports();
    let config = InitiatorConfig {
        peer: Arc::new(PeerConfig {
            name: format!("b{n}").into(),
            local_id: format!("b{n}.example").parse().unwrap(),
            remote_id: "hub.example".parse().unwrap(),
            psk: Psk::new(b"a shared secret".to_vec().into()),
            ike_proposals: ike::IkeProposal::defaults(),
            children: vec![Arc::new(ChildConfig {
                name: "lan".into(),
                local: vec![net(n)],
                remote: vec![all],
                proposals: ike::EspProposal::defaults(),
                mode: ike::config::Mode::Tunnel,
            })],
            dpd_interval: Duration::ZERO,
            force_encapsulation: true,
            uniqueness: Uniqueness::Replace,
            retransmit: Retransmit::DEFAULT,
        }),
        server: IpAddr::V4(Ipv4Addr::LOCALHOST),
        ike_port,
        natt_port,
        source: None,
        inner: Ipv4Addr::new(10, n, 0, 1),
        flow: Flow { tenant: 1, from: n.into(), to: to.into() },
        destination: Ipv4Addr::new(10, to, 0, 1),
        rate: 500,
        packet_len: 100,
    };
    let (initiator, report) = Initiator::start(config).unwrap();
    let (commands, receiver) = mpsc::channel(8);
    tokio::spawn(initiator.run(receiver));
    Branch { commands, report }
}

async fn panics(node: &Node) -> u64 {
    node.control().node_status().counters.get("actor_panics").copied().unwrap_or_default()
}

async fn a_panic_is_contained(connection: bool) {
    let router = router::RouterConfig {
        listen: vec![Ipv4Addr::LOCALHOST.into()],
        ike_port: 0,
        natt_port: 0,
        shards: 2,
        ..Default::default()
    };
    let node = Node::start(NodeConfig::default(), router, catalog()).unwrap();
    let mut branches: Vec<Branch> = (0..3).map(|n| branch(&node, n)).collect();
    for b in &mut branches {
        b.until("up", |r| r.up).await;
        b.commands.send(Command::Send(true)).await.unwrap();
    }
    for b in &mut branches {
        b.flows().await;
    }
    let name: tenants::PeerName = "tenants/acme/peers/b1".parse().unwrap();
    assert!(node.control().inject_panic(&name, connection));
    // Counted once the supervisor has noticed.
    let noticed = async {
        while panics(&node).await == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LIMIT, noticed).await.unwrap();
    // Branch 2 sends to 0, which has nothing to do with branch 1.
    branches[0].flows().await;
    // Branch 1 starts again, and its peer is there.
    branches[1] = branch(&node, 1);
    let back = async {
        // Refused while the peer's actor is being started again: then its report ends without having been up.
        while branches[1].report.wait_for(|r| r.up || !r.last_error.is_empty()).await.is_err()
            || !branches[1].report.borrow().up
        {
            branches[1] = branch(&node, 1);
        }
    };
    tokio::time::timeout(LIMIT, back).await.unwrap();
    branches[1].commands.send(Command::Send(true)).await.unwrap();
    for b in &mut branches {
        b.flows().await;
    }
    assert_eq!(panics(&node).await, 1);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_actor_of_a_peer_is_contained() {
    a_panic_is_contained(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_actor_of_a_connection_is_contained() {
    a_panic_is_contained(true).await;
}
