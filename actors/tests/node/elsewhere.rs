//! Peers that another node has, or begins with, as this one shows them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use actors::{HomeRule, PeerView, Rival, Whereabouts};
use culvert_proto::v1;
use ike::supervise::Claim;

use crate::common::{branch, branch_with, until};
use crate::others::{Among, NODE};

/// The node that the peer is at home with, and the one that says that it has it, where those are others.
#[derive(Clone, Copy, Default)]
struct At {
    home: Option<&'static str>,
    holder: Option<&'static str>,
}

#[derive(Clone, Default)]
struct Rule(Arc<Mutex<At>>);

impl HomeRule for Rule {
    fn elsewhere(&self, _: u64, held: bool) -> Option<String> {
        let At { home, holder } = *self.0.lock().unwrap();
        holder.or(home).filter(|_| !held).map(str::to_owned)
    }

    fn holder(&self, _: u64) -> Option<String> {
        self.0.lock().unwrap().holder.map(str::to_owned)
    }

    fn hold(&self, _: u64, _: bool) {}
}

type World = Among<Rule>;

impl World {
    fn view(&self) -> Option<Arc<PeerView>> {
        self.node.control().peer(&self.name)
    }

    fn why(&self) -> &'static str {
        self.view().map_or("not there", |view| view.why_down())
    }

    async fn is_at(&self, at: At, why: &'static str) {
        *self.rule.0.lock().unwrap() = at;
        self.news.these([self.uid]);
        until(why, || self.why() == why).await;
    }

    /// Somebody who says that he is the peer, and has another secret.
    async fn refuse_one(&self) {
        let mut refused = branch_with(&self.node, 0, |config| {
            let peer = Arc::get_mut(&mut config.peer).unwrap();
            peer.auth = ike::config::Auth::Psk(ike::config::Psk::new(b"another secret".to_vec().into()));
        });
        while refused.report.changed().await.is_ok() {}
    }
}

const BY_B: At = At { home: None, holder: Some("b") };
const FOR_B: At = At { home: Some("b"), holder: None };
const OURS: At = At { home: None, holder: None };

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_has_come_to_another_node_is_not_down_here_for_what_was_before() {
    let world = World::new();
    world.is_at(OURS, "waiting").await;
    world.refuse_one().await;
    until("refused", || world.why() == "psk").await;
    world.is_at(BY_B, "elsewhere").await;
    // Who says that he is the peer is not missed.
    let before = world.view().unwrap().last_error.clone();
    world.refuse_one().await;
    until("refused", || world.view().unwrap().last_error != before).await;
    assert_eq!(world.why(), "elsewhere");
    // What was before it was up is history.
    world.is_at(OURS, "waiting").await;
    world.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_another_node_begins_with_is_down_here_for_what_only_this_one_knows() {
    let world = World::new();
    world.is_at(FOR_B, "elsewhere").await;
    world.refuse_one().await;
    until("refused", || world.why() == "psk").await;
    // Its home says so; here it is one of another node's.
    world.node.control().terminate(&world.name, "somebody").await.unwrap();
    assert_eq!(world.why(), "elsewhere");
    world.is_at(OURS, "terminated").await;
    world.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_makes_room_for_one_of_another_node_is_not_lost() {
    let world = World::new();
    let mut up = branch(&world.node, 0);
    up.until("up", |report| report.up).await;
    until("told of", || !world.nodes.told().is_empty()).await;
    // Before it is shown as up it is shown as waiting, which it would be taken for below.
    until("shown as up", || world.view().unwrap().ups == 1).await;
    let ours = world.nodes.told()[0].claim.spi;
    let claim = Claim { initiator: false, spi: 7, began: Duration::ZERO, up: Duration::ZERO };
    let remote = "192.0.2.1:500".parse().unwrap();
    let rival = Rival { uid: world.uid, claim, remote, instead_of: Some(ours) };
    world.node.control().rival(rival, Whereabouts { node: Some(NODE), we_decide: false });
    until("closed", || world.view().unwrap().state == v1::PeerState::Waiting).await;
    let view = world.view().unwrap();
    assert_eq!((view.ups, view.losses, view.why_down()), (1, 0, "elsewhere"));
    world.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_its_peer_ends_is_lost_and_one_that_is_taken_down_is_not() {
    let world = World::new();
    let mut first = branch(&world.node, 0);
    first.until("up", |report| report.up).await;
    first.commands.send(loadtest::Command::Close).await.unwrap();
    until("lost", || world.view().unwrap().losses == 1).await;
    let mut second = branch(&world.node, 0);
    second.until("up", |report| report.up).await;
    until("shown", || world.view().unwrap().ups == 2).await;
    world.node.control().terminate(&world.name, "somebody").await.unwrap();
    assert_eq!(world.view().unwrap().losses, 1);
    world.node.shutdown().await;
}
