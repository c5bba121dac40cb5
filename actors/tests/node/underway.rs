//! A configuration that changes while a Child SA by the one before is being agreed on.

use std::sync::Arc;

use actors::{Node, PeerView, RekeyTarget};
use culvert_proto::v1;
use tenants::{Catalog, PeerName};

use crate::common::{Branch, LIMIT, also_has, branch_with, catalog, create_peer, node, until};
use crate::wire::Wire;

fn name() -> PeerName {
    "tenants/acme/peers/b0".parse().unwrap()
}

/// A node and a branch that has a second child, which our side may have as well.
struct World {
    catalog: Arc<Catalog>,
    node: Node,
    wire: Wire,
    _branch: Branch,
}

impl World {
    /// The branch is up, with these children of ours.
    async fn new(children: &[v1::Child], has_second: bool) -> Self {
        let catalog = catalog();
        update(&catalog, children);
        let node = node(Arc::clone(&catalog));
        let wire = Wire::to(&node).await;
        if children.is_empty() {
            // It asks for the child by itself where it has none: as soon as it is up, so that it would be refused, which is told, or have it once
            // it is configured.
            wire.lose_requests();
        }
        let mut branch = branch_with(&node, 0, |config| {
            if has_second {
                also_has(config, 40);
            }
            wire.lead(config);
        });
        branch.until("up", |r| r.up).await;
        let world = Self { catalog, node, wire, _branch: branch };
        until("all that is configured", || world.pairs("second").len() == children.len()).await;
        world
    }

    /// What its pairs negotiated.
    fn pairs(&self, child: &str) -> Vec<String> {
        let view = self.node.control().peer(&name());
        let children = view.iter().flat_map(|view| view.children.iter());
        children.filter(|c| c.name == child).map(|c| c.suite.trim_end_matches("-esn").to_owned()).collect()
    }

    async fn is_held(&self) {
        until("an answer is held back", || self.wire.holds_something()).await;
    }

    /// Configures other children, and waits until the connection is told.
    async fn change(&self, more: &[v1::Child]) {
        update(&self.catalog, more);
        // Changes go through the tenant's actor one after the other.
        self.catalog.create_peer(&create_peer(9)).unwrap();
        let next = "tenants/acme/peers/b9".parse().unwrap();
        until("what was changed next is there", || self.node.control().peer(&next).is_some()).await;
        self.heard().await;
    }

    /// Whatever the peer was told comes before this.
    async fn heard(&self) {
        let refused = self.node.control().rekey(&name(), RekeyTarget::Child("none".into())).await;
        assert!(refused.unwrap_err().to_string().contains("there is no such Child SA"));
    }

    /// There is one pair, of this suite, and stays.
    async fn ends_with(&self, suite: &str) {
        let there = || self.pairs("second");
        let what = || there() == [suite];
        let ended = tokio::time::timeout(LIMIT, async {
            while !what() {
                tokio::task::yield_now().await
            }
        })
        .await;
        assert!(ended.is_ok(), "{:?}", there());
        self.answered().await;
        assert_eq!(there(), [suite]);
    }

    /// Orders are carried out one after the other, and this one is the last.
    async fn answered(&self) {
        self.node.control().rekey(&name(), RekeyTarget::Child("lan".into())).await.unwrap();
    }

    fn view(&self) -> Arc<PeerView> {
        self.node.control().peer(&name()).unwrap()
    }
}

fn update(catalog: &Catalog, more: &[v1::Child]) {
    let mut peer = create_peer(0).peer.unwrap();
    peer.name = name().to_string();
    peer.children.extend_from_slice(more);
    catalog.update_peer(&v1::UpdatePeerRequest { peer: Some(peer), ..Default::default() }).unwrap();
}

fn second(suite: &str) -> v1::Child {
    v1::Child {
        name: "second".into(),
        local_subnets: vec!["10.0.0.0/8".into()],
        remote_subnets: vec!["10.40.0.0/16".into()],
        esp_proposals: vec![suite.into()],
        ..Default::default()
    }
}

const BEFORE: &str = "aes256gcm16";
const AFTER: &str = "aes128gcm16";

#[tokio::test(flavor = "multi_thread")]
async fn a_pair_that_was_asked_for_before_its_child_was_changed_makes_room_for_the_new_one() {
    let world = World::new(&[], true).await;
    world.wire.hold();
    update(&world.catalog, &[second(BEFORE)]);
    world.is_held().await;
    world.change(&[second(AFTER)]).await;
    world.wire.release();
    world.ends_with(AFTER).await;
    world.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rekeying_that_was_under_way_when_its_child_was_changed_makes_room_for_the_new_one() {
    let world = World::new(&[second(BEFORE)], true).await;
    world.wire.hold();
    let (control, target) = (world.node.control(), RekeyTarget::Child("second".into()));
    let peer = name();
    let rekeyed = control.rekey(&peer, target);
    let changed = async {
        world.is_held().await;
        world.change(&[second(AFTER)]).await;
        world.wire.release();
    };
    let (outcome, ()) = tokio::join!(rekeyed, changed);
    outcome.unwrap();
    world.ends_with(AFTER).await;
    world.node.shutdown().await;
}

/// Whether the branch has such a child or refuses it.
async fn a_child_that_was_asked_for_before_it_was_removed_is_no_gap(has_second: bool) {
    let world = World::new(&[], has_second).await;
    world.wire.hold();
    update(&world.catalog, &[second(BEFORE)]);
    world.is_held().await;
    world.change(&[]).await;
    let before = world.view().failures;
    world.wire.release();
    world.answered().await;
    until("no second child", || world.pairs("second").is_empty()).await;
    let view = world.view();
    assert_eq!((view.state, view.last_error.as_str()), (v1::PeerState::Established, ""));
    assert_eq!(view.failures, before);
    world.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_removed_before_it_is_refused_is_no_gap() {
    a_child_that_was_asked_for_before_it_was_removed_is_no_gap(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_removed_before_it_is_there_is_no_gap() {
    a_child_that_was_asked_for_before_it_was_removed_is_no_gap(true).await;
}
