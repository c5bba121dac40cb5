//! A node with three peers, and branches that come to it.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use actors::{Node, NodeConfig};
use culvert_proto::v1;
use ike::config::{Auth, ChildConfig, PeerConfig, Psk, Retransmit, Uniqueness};
use ike::wire::TrafficSelector;
use latest::{Follow as _, Latest as _};
use loadtest::{Command, Flow, Initiator, InitiatorConfig, InitiatorError, Report};
use tenants::Catalog;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

/// Only a bound: everything here takes milliseconds.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

pub(crate) struct Branch {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) report: watch::Receiver<Report>,
    task: JoinHandle<Result<(), InitiatorError>>,
}

impl Branch {
    pub(crate) async fn until(&mut self, what: &str, condition: impl FnMut(&Report) -> bool) {
        let waited = tokio::time::timeout(LIMIT, self.report.until(condition)).await;
        let reached = matches!(waited, Ok(Ok(_)));
        drop(waited);
        assert!(reached, "{what}: {:?}", self.report.latest());
    }

    /// It has ended by itself.
    pub(crate) async fn ended(&mut self) {
        let ended = async { while self.report.changed().await.is_ok() {} };
        assert!(tokio::time::timeout(LIMIT, ended).await.is_ok(), "{:?}", self.report.latest());
    }

    /// It is gone, without a word to the node.
    ///
    /// When this returns its task has ended. One that runs at this moment ends a little later than it is told to: it would answer
    /// meanwhile, and close its tunnels once nobody can order anything of it any more.
    pub(crate) async fn vanish(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// Stops to send: what it has seen until then. What it tells while it sends is a little behind what it does.
    pub(crate) async fn stops(&mut self) -> Report {
        for command in [Command::Send(false), Command::Tally] {
            self.commands.send(command).await.unwrap();
        }
        self.until("it has told", |report| report.arrived.is_some()).await;
        self.report.latest()
    }

    pub(crate) fn received(&self) -> u64 {
        self.report.latest().received.values().map(|r| r.0).sum()
    }

    /// More probes arrive.
    pub(crate) async fn flows(&mut self) {
        let before = self.received();
        let more = |r: &Report| r.received.values().map(|r| r.0).sum::<u64>() > before + 20;
        self.until("traffic flows", more).await;
    }
}

pub(crate) fn catalog() -> Arc<Catalog> {
    let catalog = Catalog::in_memory().unwrap();
    fill(&catalog);
    Arc::new(catalog)
}

/// Makes the tenant with all that it has.
pub(crate) fn fill(catalog: &Catalog) {
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
        catalog.create_peer(&create_peer(n)).unwrap();
    }
}

/// The peer of branch `n`.
pub(crate) fn create_peer(n: u8) -> v1::CreatePeerRequest {
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
    v1::CreatePeerRequest {
        parent: "tenants/acme".into(),
        peer_id: format!("b{n}"),
        peer: Some(peer),
        ..Default::default()
    }
}

/// Branch `n` sends to the next one of the three.
pub(crate) fn branch(node: &Node, n: u8) -> Branch {
    branch_with(node, n, |_| ())
}

/// The branch has a second Child SA, for the network 10.`n`.0.0/16 of its own.
pub(crate) fn also_has(config: &mut InitiatorConfig, n: u8) {
    let peer = Arc::get_mut(&mut config.peer).unwrap();
    let first = &peer.children[0];
    let net =
        TrafficSelector::range(Ipv4Addr::new(10, n, 0, 0).into(), Ipv4Addr::new(10, n, 255, 255).into());
    let second = ChildConfig {
        name: "second".into(),
        local: vec![net],
        remote: first.remote.clone(),
        proposals: first.proposals.clone(),
        mode: first.mode,
        life: ike::config::Life::default(),
        resources: 1,
    };
    peer.children.push(Arc::new(second));
}

/// Branch `n`, in something different from the others.
pub(crate) fn branch_with(node: &Node, n: u8, change: impl FnOnce(&mut InitiatorConfig)) -> Branch {
    let net = |n: u8| {
        TrafficSelector::range(Ipv4Addr::new(10, n, 0, 0).into(), Ipv4Addr::new(10, n, 255, 255).into())
    };
    let all =
        TrafficSelector::range(Ipv4Addr::new(10, 0, 0, 0).into(), Ipv4Addr::new(10, 255, 255, 255).into());
    let to = (n + 1) % 3;
    let (ike_port, natt_port) = node.ports();
    let mut config = InitiatorConfig {
        peer: Arc::new(PeerConfig {
            name: format!("b{n}").into(),
            local_id: format!("b{n}.example").parse().unwrap(),
            remote_id: "hub.example".parse().unwrap(),
            auth: Auth::Psk(Psk::new(b"a shared secret".to_vec().into())),
            ike_proposals: ike::IkeProposal::defaults().into(),
            children: vec![Arc::new(ChildConfig {
                name: "lan".into(),
                local: vec![net(n)],
                remote: vec![all],
                proposals: ike::EspProposal::defaults().into(),
                mode: ike::config::Mode::Tunnel,
                life: ike::config::Life::default(),
                resources: 1,
            })],
            dpd_interval: Duration::ZERO,
            force_encapsulation: true,
            uniqueness: Uniqueness::Replace,
            retransmit: Retransmit::DEFAULT,
            version: ike::config::Version::default(),
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
    change(&mut config);
    let (initiator, report) = Initiator::start(config).unwrap();
    let (commands, receiver) = mpsc::channel(8);
    let task = tokio::spawn(initiator.run(receiver));
    Branch { commands, report, task }
}

/// A node on ports that the system chooses.
pub(crate) fn node(catalog: Arc<Catalog>) -> Node {
    node_with(NodeConfig::default(), catalog)
}

/// The same, run in a way of its own.
pub(crate) fn node_with(config: NodeConfig, catalog: Arc<Catalog>) -> Node {
    let router = router::RouterConfig {
        listen: vec![Ipv4Addr::LOCALHOST.into()],
        ike_port: 0,
        natt_port: 0,
        shards: 2,
        ..Default::default()
    };
    Node::start(config, router, catalog).unwrap()
}

/// Actors that have panicked so far.
pub(crate) fn panics(node: &Node) -> u64 {
    node.control().node_status().counters.get("actor_panics").copied().unwrap_or_default()
}

/// Waits until something holds.
pub(crate) async fn until(what: &str, condition: impl FnMut() -> bool) {
    until_within(LIMIT, what, condition).await;
}

/// The same, of something that is much.
pub(crate) async fn until_within(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) {
    let holds = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(limit, holds).await.is_ok(), "{what}");
}

/// Waits until something holds that has to be asked for.
pub(crate) async fn until_shown(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let holds = async {
        while !condition().await {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, holds).await.is_ok(), "{what}");
}
