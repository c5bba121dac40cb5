//! First messages of nobody, and copies of somebody's: each is counted by what becomes of it, and none is in anybody's way.

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use actors::Node;
use latest::Latest as _;
use loadtest::flood::{Forge, Kind};

use culvert_proto::v1;
use ike::config::Opening;

use crate::common::{LIMIT, branch, branch_with, catalog, create_peer, node, until, until_within};

fn counter(node: &Node, name: &str) -> u64 {
    node.control().node_status().counters.get(name).copied().unwrap_or_default()
}

/// A stranger at an address of its own.
struct Stranger {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Stranger {
    fn new(node: &Node, from: &str) -> Self {
        let socket = UdpSocket::bind((from, 0)).unwrap();
        Self { socket, to: ([127, 0, 0, 1], node.ports().0).into() }
    }

    fn send(&self, message: &[u8]) {
        self.socket.send_to(message, self.to).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_counts_until_a_cookie_is_asked_for_and_a_newcomer_comes_up() {
    let node = node(catalog());
    let stranger = Stranger::new(&node, "127.0.9.1");
    let mut forge = Forge::new(ike::config::Opening::Init, Kind::Zeros).unwrap();
    until("a cookie is asked for", || {
        (0..100).for_each(|_| stranger.send(&forge.message()));
        counter(&node, "ike_init_cookie") > 0
    })
    .await;
    assert!(counter(&node, "ike_init_refused") > 0);
    assert_eq!(node.control().node_status().half_open, 0, "nothing is kept for what is refused");
    // The one who invents them has no cookie to return, whatever his public values are.
    let mut forge = Forge::new(ike::config::Opening::Init, Kind::Good).unwrap();
    (0..2_000).for_each(|_| stranger.send(&forge.message()));
    let mut newcomer = branch(&node, 0);
    newcomer.until("up", |r| r.up).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_comes_again_and_again_is_answered_now_and_then() {
    let node = node(catalog());
    let stranger = Stranger::new(&node, "127.0.9.2");
    let message = Forge::new(ike::config::Opening::Init, Kind::Repeated).unwrap().message();
    until("most are dropped", || {
        (0..50).for_each(|_| stranger.send(&message));
        counter(&node, "ike_init_repeated") > 500
    })
    .await;
    assert_eq!(node.control().node_status().half_open, 1);
    assert!(counter(&node, "ike_answered_again") < counter(&node, "ike_init_repeated"));
    let long = Forge::new(ike::config::Opening::Init, Kind::TooLarge).unwrap().message();
    stranger.send(&long);
    until("it is too long", || counter(&node, "ike_init_too_long") == 1).await;
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_a_first_message_that_comes_late_is_ignored() {
    let node = node(catalog());
    // What the branch sends to the port of IKE passes here.
    let relay = UdpSocket::bind("127.0.0.1:0").unwrap();
    relay.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let port = relay.local_addr().unwrap().port();
    let to: SocketAddr = ([127, 0, 0, 1], node.ports().0).into();
    let passed = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 4096];
        let (length, from) = relay.recv_from(&mut buffer).unwrap();
        let first = buffer[..length].to_vec();
        relay.send_to(&first, to).unwrap();
        // Where the node takes its time the branch repeats itself.
        loop {
            let (length, sender) = relay.recv_from(&mut buffer).unwrap();
            let answered = sender == to;
            relay.send_to(&buffer[..length], if answered { from } else { to }).unwrap();
            if answered {
                return (relay, first);
            }
        }
    });
    let mut branch = branch_with(&node, 0, |config| config.ike_port = port);
    let (relay, first) = passed.await.unwrap();
    branch.until("up", |r| r.up).await;
    until("handed over", || node.control().node_status().half_open == 0).await;
    // From where it came, and from elsewhere.
    relay.send_to(&first, to).unwrap();
    Stranger::new(&node, "127.0.9.3").send(&first);
    until("both are copies", || counter(&node, "ike_init_duplicate") == 2).await;
    assert_eq!(node.control().node_status().half_open, 0);
    assert!(branch.report.latest().up);
    node.shutdown().await;
}

/// In IKEv1 nobody proves an address before it is answered. Whoever sends each of its messages twice from addresses that are not its
/// own has proved nothing by that, and does not keep a table full that others have to get into.
#[tokio::test(flavor = "multi_thread")]
async fn a_first_message_that_comes_twice_proves_nothing() {
    let catalog = catalog();
    let mut old = create_peer(9);
    if let Some(peer) = &mut old.peer {
        peer.ike = Some(v1::IkeConfig { version: v1::IkeVersion::Ikev1.into(), ..Default::default() });
    }
    catalog.create_peer(&old).unwrap();
    let node = node(catalog);
    let mut forge = Forge::new(Opening::Main, Kind::Good).unwrap();
    // As many prefixes as it takes, for one has a share alone.
    let strangers: Vec<_> = (1..=64).map(|net| Stranger::new(&node, &format!("127.0.{net}.1"))).collect();
    let outcomes = || {
        let of = |name| counter(&node, name);
        let taken = of("ike_init_accepted") + of("ike_answered_again") + of("ike_init_repeated");
        taken + of("ike_init_over_budget") + of("ike_init_waiting")
    };
    let (mut sent, accepted) = (0, || counter(&node, "ike_init_accepted"));
    // More than there is room for, and not faster than they are taken.
    until_within(4 * LIMIT, "the last is answered as the first was", || {
        if outcomes() == sent && accepted() < 8_192 + 512 {
            for stranger in &strangers {
                let message = forge.message();
                stranger.send(&message);
                stranger.send(&message);
                sent += 2;
            }
        }
        outcomes() == sent && accepted() >= 8_192 + 512
    })
    .await;
    // Where that takes long the first ones have ended by themselves.
    assert!(node.control().node_status().half_open <= 8_192);
    assert!(counter(&node, "ike_half_open_evicted") <= accepted() - 8_192);
    assert!(counter(&node, "ike_answered_again") > 4_096, "most were answered twice");
    node.shutdown().await;
}
