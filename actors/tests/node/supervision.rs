//! A panic in one peer's code: the others carry on, this one comes back, and it is counted.

use crate::common::{Branch, LIMIT, branch, catalog, node, panics, until};
use latest::{Follow as _, Latest as _};
use loadtest::Command;

async fn a_panic_is_contained(connection: bool) {
    let node = node(catalog());
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
    until("counted", || panics(&node) > 0).await;
    // Branch 2 sends to 0, which has nothing to do with branch 1.
    branches[0].flows().await;
    // Branch 1 starts again, and its peer is there.
    branches[1] = branch(&node, 1);
    let back = async {
        // Refused while the peer's actor is being started again: then its report ends without having been up.
        while branches[1].report.until(|r| r.up || !r.last_error.is_empty()).await.is_err()
            || !branches[1].report.latest().up
        {
            branches[1] = branch(&node, 1);
        }
    };
    tokio::time::timeout(LIMIT, back).await.unwrap();
    branches[1].commands.send(Command::Send(true)).await.unwrap();
    for b in &mut branches {
        b.flows().await;
    }
    assert_eq!(panics(&node), 1);
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
