//! What failed beside a tunnel that is up, or before it was well again, is no news of it.

use std::net::UdpSocket;
use std::sync::Arc;

use actors::{Node, PeerView};
use culvert_proto::v1;
use tenants::PeerName;

use crate::common::{branch, catalog, create_peer, node, until};

fn name(n: u8) -> PeerName {
    format!("tenants/acme/peers/b{n}").parse().unwrap()
}

fn view(node: &Node, n: u8) -> Arc<PeerView> {
    node.control().peer(&name(n)).unwrap()
}

/// The branch was moved, and begins by itself from where it is now; where it is configured to be nobody answers.
#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_nobody_answers_is_no_news_of_the_tunnel_that_came_up_meanwhile() {
    let catalog = catalog();
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut request = create_peer(6);
    request.peer.as_mut().unwrap().remote_addresses = vec![silent.local_addr().unwrap().to_string()];
    catalog.create_peer(&request).unwrap();
    let node = node(catalog);
    until("there", || node.control().peer(&name(6)).is_some()).await;
    // What the branch sends by a tunnel that is not here has us begin, and be content with one message.
    let (_, natt) = node.ports();
    silent.send_to(&[7; 64], ("127.0.0.1", natt)).unwrap();
    until("we begin", || view(&node, 6).attempts == 1).await;
    let mut branch = branch(&node, 6);
    branch.until("up", |r| r.up).await;
    until("nobody has answered", || view(&node, 6).failures == 1).await;
    let view = view(&node, 6);
    assert_eq!((view.state, view.last_error.as_str()), (v1::PeerState::Established, ""));
    assert_eq!(view.conditions.reachable.holds, Some(true), "{:?}", view.conditions);
    node.shutdown().await;
}
