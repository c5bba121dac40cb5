//! A changed configuration meets tunnels that are up: what stays is not touched, and what had to go comes back.

use std::collections::HashSet;
use std::net::{Ipv4Addr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use actors::{Happened, HomeNews, HomeRule, Homes, Node, NodeConfig, PeerView};
use culvert_proto::v1;
use latest::Follow as _;
use loadtest::Command;
use tenants::{Catalog, PeerName};

use crate::common::{LIMIT, also_has, branch, branch_with, catalog, create_peer, node, node_with, until};

fn name(n: u8) -> PeerName {
    format!("tenants/acme/peers/b{n}").parse().unwrap()
}

fn view(node: &Node, n: u8) -> Arc<PeerView> {
    node.control().peer(&name(n)).unwrap()
}

/// The inbound SPIs of a child.
fn pairs(node: &Node, n: u8, child: &str) -> Vec<u32> {
    view(node, n).children.iter().filter(|c| c.name == child).map(|c| c.spi_in).collect()
}

fn update(catalog: &Catalog, n: u8, change: impl FnOnce(&mut v1::Peer)) {
    let mut peer = create_peer(n).peer.unwrap();
    peer.name = name(n).to_string();
    change(&mut peer);
    let request = v1::UpdatePeerRequest { peer: Some(peer), ..Default::default() };
    catalog.update_peer(&request).unwrap();
}

fn second_child() -> v1::Child {
    v1::Child {
        name: "second".into(),
        local_subnets: vec!["10.0.0.0/8".into()],
        remote_subnets: vec!["10.40.0.0/16".into()],
        ..Default::default()
    }
}

/// Children come, change and go on the IKE_SA that is up, and those that stay keep their pair and lose nothing.
#[tokio::test(flavor = "multi_thread")]
async fn children_change_on_the_running_ike_sa() {
    let catalog = catalog();
    let node = node(Arc::clone(&catalog));
    // Branch 2 sends to branch 0.
    let mut sender = branch(&node, 2);
    // A gateway that would have a second Child SA for a network of its own.
    let mut gateway = branch_with(&node, 0, |config| {
        also_has(config, 40);
    });
    for branch in [&mut sender, &mut gateway] {
        branch.until("up", |r| r.up).await;
    }
    sender.commands.send(Command::Send(true)).await.unwrap();
    gateway.flows().await;
    until("one pair", || pairs(&node, 0, "lan").len() == 1).await;
    let ike = |node: &Node| view(node, 0).ike.as_ref().map(|ike| (ike.initiator_spi, ike.responder_spi));
    let (before, lan) = (ike(&node), pairs(&node, 0, "lan"));

    update(&catalog, 0, |peer| {
        // In front, so that the one that stays has another place in the list.
        peer.children.insert(0, second_child());
    });
    until("a second child", || pairs(&node, 0, "second").len() == 1).await;
    let second = pairs(&node, 0, "second");

    update(&catalog, 0, |peer| {
        let changed = v1::Child { esp_proposals: vec!["aes256gcm16".into()], ..second_child() };
        peer.children.insert(0, changed);
    });
    until("another pair", || {
        let now = pairs(&node, 0, "second");
        now.len() == 1 && now != second
    })
    .await;

    update(&catalog, 0, |_| ());
    until("no second child", || pairs(&node, 0, "second").is_empty()).await;
    assert_eq!((ike(&node), pairs(&node, 0, "lan")), (before, lan), "what stays is not touched");
    gateway.flows().await;
    node.shutdown().await;
}

/// Stopping a node takes its tunnels down. The next start calls those back that have an address, also where the branch began.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_up_is_called_back_after_a_restart() {
    let catalog = catalog();
    let first = node(Arc::clone(&catalog));
    let mut up = branch(&first, 0);
    up.until("up", |r| r.up).await;
    until("shown", || view(&first, 0).ike.is_some()).await;
    let recall: HashSet<PeerName> = first.shutdown().await.into_iter().collect();
    assert_eq!(recall, HashSet::from([name(0)]));

    // Where the branch is.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let remote = socket.local_addr().unwrap();
    update(&catalog, 0, |peer| peer.remote_addresses = vec!["127.0.0.1".into()]);
    let config = NodeConfig { recall, remote_ike_port: remote.port(), ..NodeConfig::default() };
    let second = node_with(config, catalog);
    let called = tokio::task::spawn_blocking(move || socket.recv(&mut [0; 2048]).is_ok()).await.unwrap();
    assert!(called, "called back though the branch is the one to begin");
    // It has not answered yet, so the start after this one calls it back too.
    assert_eq!(second.shutdown().await, [name(0)]);
}

/// All peers are at home with another node, which has a connection with none of them.
struct Guests;

impl HomeRule for Guests {
    fn elsewhere(&self, _: u64, held: bool) -> Option<String> {
        (!held).then(|| "b".to_owned())
    }

    fn holder(&self, _: u64) -> Option<String> {
        None
    }

    fn hold(&self, _: u64, _: bool) {}
}

/// Nobody but this node knows that it was up.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_change_takes_down_is_called_back_from_where_it_was() {
    let catalog = catalog();
    update(&catalog, 0, |peer| peer.remote_addresses = vec!["127.0.0.1".into()]);
    // Where the branch is.
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let homes = Homes::new(Guests, HomeNews::default());
    let remote_ike_port = socket.local_addr().unwrap().port();
    let config = NodeConfig { homes, remote_ike_port, ..NodeConfig::default() };
    let node = node_with(config, Arc::clone(&catalog));
    let is_at_home = |at: &str| node.control().peer(&name(0)).is_some_and(|view| view.home_node == at);
    until("at home elsewhere", || is_at_home("b")).await;
    let mut up = branch(&node, 0);
    up.until("up", |r| r.up).await;
    until("at home where it is up", || is_at_home("")).await;
    update(&catalog, 0, |peer| {
        peer.remote_addresses = vec!["127.0.0.1".into()];
        peer.ike =
            Some(v1::IkeConfig { proposals: vec!["aes256-sha256-x25519".into()], ..Default::default() });
    });
    let called = tokio::task::spawn_blocking(move || socket.recv(&mut [0; 2048]).is_ok()).await.unwrap();
    assert!(called, "the node that it is at home with does not know that it was up");
    node.shutdown().await;
}

/// Who took a tunnel down is shown, and events carry the state that they have led to.
#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_was_taken_down_says_by_whom() {
    let node = node(catalog());
    let (_, mut events) = node.control().events().watch(0).unwrap();
    let mut branch = branch(&node, 2);
    branch.until("up", |r| r.up).await;
    until("shown", || view(&node, 2).ike.is_some()).await;
    node.control().terminate(&name(2), "somebody").await.unwrap();
    let shown = view(&node, 2);
    assert_eq!(shown.state, v1::PeerState::Terminated);
    assert_eq!(shown.state_reason, "taken down by somebody");
    let mut states = Vec::new();
    while let Ok(Ok(Happened { event, .. })) =
        tokio::time::timeout(Duration::from_millis(1), events.recv()).await
    {
        states.push((event.r#type(), event.state()));
    }
    assert!(states.contains(&(v1::EventType::IkeSaEstablished, v1::PeerState::Established)), "{states:?}");
    assert!(states.contains(&(v1::EventType::IkeSaDeleted, v1::PeerState::Terminated)), "{states:?}");
    node.shutdown().await;
}

/// More changes at once than wait for whoever carries them out: what was missed is looked up, secrets included.
#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_change_with_thousands_of_others_are_told() {
    let catalog = catalog();
    let node = node(Arc::clone(&catalog));
    let mut first = branch(&node, 0);
    first.until("up", |r| r.up).await;
    let secret = |name: &str, value: &[u8]| v1::Object {
        kind: Some(v1::object::Kind::Secret(v1::Secret {
            name: format!("tenants/acme/secrets/{name}"),
            value: value.to_vec(),
            ..Default::default()
        })),
    };
    let quotas = v1::Quotas { max_secrets: 10_000, ..Default::default() };
    let hub = v1::Uplink { kind: Some(v1::uplink::Kind::Hub(v1::uplink::Hub {})) };
    let name = "tenants/acme".into();
    let tenant = v1::Tenant { name, uplink: Some(hub), quotas: Some(quotas), ..Default::default() };
    // That of the peers in the middle of them.
    let mut objects = vec![v1::Object { kind: Some(v1::object::Kind::Tenant(tenant)) }];
    objects.extend((0..900).map(|n| secret(&format!("before-{n}"), b"something else")));
    objects.push(secret("psk", b"another secret"));
    objects.extend((0..1_500).map(|n| secret(&format!("after-{n}"), b"something else")));
    catalog.apply(v1::ApplyRequest { objects, ..Default::default() }).unwrap();
    // Until it is told the node refuses the new one.
    let told = async {
        loop {
            let mut second = branch_with(&node, 1, |config| {
                let peer = Arc::get_mut(&mut config.peer).unwrap();
                peer.auth = ike::config::Auth::Psk(ike::config::Psk::new(b"another secret".to_vec().into()));
            });
            let report = second.report.until(|r| r.up || !r.last_error.is_empty()).await;
            if report.is_ok_and(|r| r.up) {
                return;
            }
            second.vanish().await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, told).await.is_ok(), "the new secret is not known");
}
