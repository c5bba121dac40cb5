//! What failed beside a tunnel that is up, or before it was well again, is no news of it.

use std::net::UdpSocket;
use std::sync::Arc;

use actors::{Node, PeerView, RekeyTarget};
use culvert_proto::v1;
use tenants::PeerName;

use crate::common::{branch, branch_with, catalog, create_peer, node, until};

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

/// The key exchange that comes on top with a rekeying was another on both sides, and is the same now.
#[tokio::test(flavor = "multi_thread")]
async fn a_rekeying_that_was_refused_is_history_once_there_are_new_keys() {
    let catalog = catalog();
    let peer = |suite: &str| {
        let mut peer = create_peer(0).peer.unwrap();
        peer.name = name(0).to_string();
        peer.children[0].esp_proposals = vec![suite.into()];
        v1::UpdatePeerRequest { peer: Some(peer), ..Default::default() }
    };
    catalog.update_peer(&peer("aes256gcm16-x25519")).unwrap();
    let node = node(Arc::clone(&catalog));
    let mut branch = branch_with(&node, 0, |config| {
        let peer = Arc::get_mut(&mut config.peer).unwrap();
        let child = Arc::get_mut(&mut peer.children[0]).unwrap();
        child.proposals = ["aes256gcm16-ecp256".parse().unwrap()].into();
    });
    branch.until("up", |r| r.up).await;
    until("shown", || view(&node, 0).children.len() == 1).await;
    let first = view(&node, 0).children[0].spi_in;
    let refused = node.control().rekey(&name(0), RekeyTarget::Child("lan".into())).await;
    let why = view(&node, 0).last_error.clone();
    assert!(refused.is_err() && !why.is_empty(), "{refused:?} {why}");
    catalog.update_peer(&peer("aes256gcm16-ecp256")).unwrap();
    let renewed = || view(&node, 0).children.iter().all(|child| child.spi_in != first);
    until("there are new keys", renewed).await;
    let view = view(&node, 0);
    assert_eq!((view.state, view.last_error.as_str()), (v1::PeerState::Established, ""));
    node.shutdown().await;
}
