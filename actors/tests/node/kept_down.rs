//! Tunnels that are taken down by command while another node has them, or gets them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use actors::{HomeRule, Rival, Whereabouts};
use culvert_proto::v1::PeerState::{self, Terminated, Waiting};
use ike::supervise::Claim;

use crate::common::{branch, until};
use crate::others::{Among, NODE};

/// Whether another node says that it has the tunnel, and how often that was asked.
#[derive(Clone, Default)]
struct Rule(Arc<(AtomicBool, AtomicUsize)>, Stall);

/// Who asks next says that he does, and waits.
type Stall = Arc<Mutex<Option<(tokio::sync::oneshot::Sender<()>, mpsc::Receiver<()>)>>>;

impl HomeRule for Rule {
    fn elsewhere(&self, _: u64, _: bool) -> Option<String> {
        None
    }

    fn holder(&self, _: u64) -> Option<String> {
        let stall = self.1.lock().unwrap().take();
        if let Some((waits, go_on)) = stall {
            let _ = waits.send(());
            let _ = go_on.recv();
        }
        let (held, asked) = &*self.0;
        let holder = held.load(Ordering::Relaxed).then(|| "b".to_owned());
        asked.fetch_add(1, Ordering::Relaxed);
        holder
    }

    fn hold(&self, _: u64, _: bool) {}
}

/// A node that the peer is at home with, and whether another one says that it has the tunnel.
type World = Among<Rule>;

impl World {
    /// The other node says that it has the tunnel, or has it no more, and this one has looked at that.
    async fn held(&self, held: bool) {
        let (now, asked) = &*self.rule.0;
        // It asks several times in one look, and what it asks now would be of the one before.
        self.heard().await;
        now.store(held, Ordering::Relaxed);
        let before = asked.load(Ordering::Relaxed);
        self.news.these([self.uid]);
        until("looked at", || asked.load(Ordering::Relaxed) > before).await;
        self.heard().await;
        let shown = || self.node.control().peer(&self.name).is_some_and(|view| view.elsewhere == held);
        until("shown", shown).await;
    }

    /// Whatever it was told comes before this.
    async fn heard(&self) {
        let refused = self.node.control().rekey(&self.name, actors::RekeyTarget::Ike).await.unwrap_err();
        assert!(refused.to_string().contains("the tunnel is not up"), "{refused}");
    }

    fn state(&self) -> (PeerState, String) {
        let view = self.node.control().peer(&self.name).unwrap();
        (view.state, view.state_reason.clone())
    }

    /// The peer's actor stands still until this is told, or dropped: what comes for it meanwhile it finds together.
    async fn stand_still(&self) -> mpsc::Sender<()> {
        let ((waits, waited), (tell, go_on)) = (tokio::sync::oneshot::channel(), mpsc::channel());
        *self.rule.1.lock().unwrap() = Some((waits, go_on));
        self.news.these([self.uid]);
        waited.await.unwrap();
        tell
    }

    async fn keep_down(&self) {
        self.node.control().terminate(&self.name, "somebody").await.unwrap();
        assert_eq!(self.state(), (Terminated, "taken down by somebody".to_owned()));
    }

    /// The other node tells of a connection that is this old.
    fn tells(&self, began: Duration) {
        let claim = Claim { initiator: false, spi: 7, began, up: began };
        let rival =
            Rival { uid: self.uid, claim, remote: "192.0.2.1:500".parse().unwrap(), instead_of: None };
        self.node.control().rival(rival, Whereabouts { node: Some(NODE), we_decide: false });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_stays_down_until_the_peer_comes_to_whichever_node() {
    let world = World::new();
    until("there", || world.node.control().peer(&world.name).is_some()).await;
    world.held(true).await;
    world.keep_down().await;
    world.held(true).await;
    world.held(false).await;
    assert_eq!(world.state().0, Terminated, "the other one has taken it down as well");
    // The peer comes to it again.
    world.held(true).await;
    until("no longer kept down", || world.state() == (Waiting, String::new())).await;
    world.node.shutdown().await;
}

/// It comes again so soon that nobody hears of the time in between.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_began_later_shows_that_the_peer_has_come() {
    let world = World::new();
    until("there", || world.node.control().peer(&world.name).is_some()).await;
    world.held(true).await;
    world.keep_down().await;
    world.tells(Duration::from_secs(60));
    world.heard().await;
    assert_eq!(world.state().0, Terminated, "that is the one that is taken down");
    world.tells(Duration::ZERO);
    until("no longer kept down", || world.state() == (Waiting, String::new())).await;
    world.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_does_not_take_down_is_not_kept_down() {
    let world = World::new();
    until("there", || world.node.control().peer(&world.name).is_some()).await;
    world.held(true).await;
    // Who believes that it is here is mistaken.
    let refused = world.node.control().terminate_held(&world.name, "somebody").await.unwrap_err();
    assert!(refused.to_string().contains("moved to another node meanwhile; ask again"), "{refused}");
    assert_eq!(world.state().0, Waiting);
    world.keep_down().await;
    world.node.control().let_be(&world.name).await.unwrap();
    assert_eq!(world.state(), (Waiting, String::new()));
    // One that is up here is none of it.
    world.held(false).await;
    let mut up = branch(&world.node, 0);
    up.until("up", |report| report.up).await;
    world.node.control().let_be(&world.name).await.unwrap();
    assert_eq!(world.state().0, PeerState::Established);
    world.node.control().terminate(&world.name, "somebody").await.unwrap();
    assert_eq!(world.state().0, Terminated);
    world.node.shutdown().await;
}

/// Whoever takes it down need not know that it has just come.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_adopted_and_taken_down_in_one_stays_down() {
    let world = World::new();
    until("there", || world.node.control().peer(&world.name).is_some()).await;
    let go_on = world.stand_still().await;
    let _coming = branch(&world.node, 0);
    until("handed over", || {
        let status = world.node.control().node_status();
        status.counters.get("ike_init_accepted") == Some(&1) && status.half_open == 0
    })
    .await;
    let control = world.node.control();
    let (taken_down, ()) =
        tokio::join!(control.terminate(&world.name, "somebody"), async { go_on.send(()).unwrap() });
    taken_down.unwrap();
    assert_eq!(world.state(), (Terminated, "taken down by somebody".to_owned()));
    world.node.shutdown().await;
}

/// What was ordered last is carried out, and nobody is told that a tunnel is up which is on its way down.
#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_ordered_up_while_it_goes_down_is_begun_once_it_is_down() {
    let world = World::new();
    let mut up = branch(&world.node, 0);
    up.until("up", |report| report.up).await;
    until("shown", || world.state().0 == PeerState::Established).await;
    let go_on = world.stand_still().await;
    let control = world.node.control();
    let (taken_down, begun, ()) = tokio::join!(
        control.terminate(&world.name, "somebody"),
        control.initiate(&world.name, None),
        async { go_on.send(()).unwrap() }
    );
    taken_down.unwrap();
    // Where to it is not configured, which is found out only where it is tried.
    let begun = begun.unwrap_err().to_string();
    assert!(begun.contains("it has no address to start to"), "{begun}");
    assert_eq!(world.state(), (Waiting, String::new()));
    assert_eq!(world.node.control().peer(&world.name).unwrap().attempts, 1);
    world.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_that_is_taken_down_after_all_is_not_begun() {
    let world = World::new();
    let mut up = branch(&world.node, 0);
    up.until("up", |report| report.up).await;
    until("shown", || world.state().0 == PeerState::Established).await;
    let go_on = world.stand_still().await;
    let control = world.node.control();
    let (first, begun, again, ()) = tokio::join!(
        control.terminate(&world.name, "somebody"),
        control.initiate(&world.name, None),
        control.terminate(&world.name, "another"),
        async { go_on.send(()).unwrap() }
    );
    first.and(again).unwrap();
    assert!(begun.unwrap_err().to_string().contains("taken down by another"));
    assert_eq!(world.state(), (Terminated, "taken down by another".to_owned()));
    world.node.shutdown().await;
}
