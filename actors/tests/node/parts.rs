//! A panic in a part that is nobody's peer: it is started again, or the node says that it cannot go on.

use std::time::Duration;

use actors::Part;
use latest::{Follow as _, Latest as _};
use router::RouterThread;

use crate::common::{LIMIT, branch, catalog, node, panics, until};

/// The node goes on: branches come up as before, and the fault is counted.
async fn is_contained(part: Part) {
    let node = node(catalog());
    let mut first = branch(&node, 0);
    first.until("up", |r| r.up).await;
    assert!(node.inject_panic(&part));
    // What makes it do something: another branch, until it is up. The first message may be lost with the part.
    let mut second = branch(&node, 1);
    let up = async {
        while second.report.until(|r| r.up || !r.last_error.is_empty()).await.is_err()
            || !second.report.latest().up
        {
            second = branch(&node, 1);
        }
    };
    tokio::time::timeout(LIMIT, up).await.unwrap();
    until("counted", || panics(&node) == 1).await;
    assert!(node.health().latest().is_good());
    // The first one's tunnel is not the worse for it, or comes back.
    let name: tenants::PeerName = "tenants/acme/peers/b0".parse().unwrap();
    if matches!(part, Part::Tenant(_)) {
        // One that comes while the peers of the tenant are on their way out goes with them.
        let again = async {
            while node.control().peer(&name).is_none_or(|view| view.ike.is_none()) {
                first = branch(&node, 0);
                let _ = first.report.until(|r| r.up || !r.last_error.is_empty()).await;
                let shown =
                    until("shown", || node.control().peer(&name).is_some_and(|view| view.ike.is_some()));
                let _ = tokio::time::timeout(Duration::from_secs(2), shown).await;
            }
        };
        tokio::time::timeout(LIMIT, again).await.unwrap();
    }
    until("shown as up", || node.control().peer(&name).is_some_and(|view| view.ike.is_some())).await;
    node.shutdown().await;
}

/// The node says that it is not well, and what it is.
async fn is_told(part: Part, name: &str) {
    let node = node(catalog());
    let mut health = node.health();
    assert!(health.latest().is_good());
    assert!(node.inject_panic(&part));
    let failed = tokio::time::timeout(Duration::from_secs(30), health.until(|h| h.failed.is_some()));
    let text = failed.await.unwrap().unwrap().failed.clone().unwrap();
    assert!(text.contains(name), "{text}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_dispatcher_costs_one_event() {
    is_contained(Part::Dispatcher).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reception_that_panics_is_started_again() {
    is_contained(Part::Reception).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_that_panics_is_started_again() {
    is_contained(Part::Tenant(1)).await;
}

/// A branch whose connection is on its way to an actor that is no more is told so, and does not repeat its IKE_AUTH until it
/// gives up, for longer than the limit here. Once told, it ends after it has lingered.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_nobody_takes_is_closed() {
    let node = node(catalog());
    assert!(node.inject_panic(&Part::Adoption));
    branch(&node, 0).ended().await;
    let not_adopted = || node.control().node_status().counters.get("ike_not_adopted").copied();
    until("counted", || not_adopted() == Some(1)).await;
    // Once the actor is there again the branch is served.
    let mut second = branch(&node, 0);
    while second.report.until(|r| r.up).await.is_err() {
        second = branch(&node, 0);
    }
    assert_eq!(panics(&node), 1);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_node_s_actor_is_told() {
    is_told(Part::Node, "the node's actor").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_a_shard_is_told() {
    is_told(Part::Router(RouterThread::Shard(1)), "shard-1").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_control_thread_is_told() {
    is_told(Part::Router(RouterThread::Control), "router-control").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_device_thread_is_told() {
    is_told(Part::Router(RouterThread::Devices), "router-devices").await;
}
