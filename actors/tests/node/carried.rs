//! What is known of a tunnel at its node is known where it goes on.

use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use actors::{Node, NodeConfig, Span, SpanSink, Taken};
use ike::config::Retransmit;
use loadtest::Command;
use snapshot::Handover;

use crate::common::{branch_with, catalog, until};
use crate::moved::{CONNECTION, OTHER, Old, Place, name, start, start_with, view};
use crate::others::{Nodes, SLOT};
use crate::wire::Wire;

/// The name of each span, and whose it is.
type Told = Vec<(String, Option<String>)>;

/// Keeps what is told, all of it sampled.
#[derive(Clone, Debug, Default)]
struct Kept(Arc<Mutex<Told>>);

impl SpanSink for Kept {
    fn samples(&self, _: u128) -> bool {
        true
    }

    fn take(&self, spans: Vec<Span>) {
        for Span { name, attributes, .. } in spans {
            let peer = attributes.settle().into_iter().find(|(key, _)| *key == "culvert.peer");
            self.0.lock().unwrap().push((name.into_owned(), peer.map(|(_, of)| format!("{of:?}"))));
        }
    }
}

impl Kept {
    fn all(&self) -> Told {
        self.0.lock().unwrap().clone()
    }
}

/// A sign of life is worth no trace, and a rekeying is found by its peer.
#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_traced_where_it_goes_on() {
    let Old { place, catalog, node, others, mut branches } = Old::new().await;
    let rows = node.control().give_slot(SLOT, None).await;
    node.shutdown().await;
    let spans = Kept::default();
    let config = NodeConfig { slot: OTHER, spans: Some(Arc::new(spans.clone())), ..NodeConfig::default() };
    let node = start_with(config, place, &others, &catalog);
    until("their actors are there", || (0..3).all(|n| view(&node, n).is_some())).await;
    let taken = node.control().take_slot(SLOT, rows, Handover::Exact).await;
    assert_eq!(taken, Taken { connections: 3, pairs: 3, lost: 0 });
    for branch in &mut branches {
        // It is answered before what is asked next.
        branch.commands.send(Command::Ask).await.unwrap();
        branch.commands.send(Command::RekeyChild).await.unwrap();
        branch.until("rekeyed", |report| report.child_rekeys > 0).await;
    }
    until("all is told", || spans.all().len() >= 3).await;
    node.shutdown().await;
    let told = spans.all();
    assert!(told.iter().all(|(name, _)| name != "informational"), "{told:?}");
    for n in 0..3 {
        let is_of = |peer: &str| peer.contains(&name(n).to_string());
        let of: Vec<_> = told.iter().filter(|(_, peer)| peer.as_deref().is_some_and(is_of)).collect();
        assert!(of.iter().any(|(name, _)| name == "rekey Child SA"), "{told:?}");
    }
}

/// What is shown of a tunnel is of the tunnel, wherever it is.
#[tokio::test(flavor = "multi_thread")]
async fn a_tunnel_is_as_old_as_it_is_and_its_pair_was_rekeyed_as_often() {
    let mut old = Old::new().await;
    for times in 1..=2 {
        let branch = &mut old.branches[0];
        branch.commands.send(Command::RekeyChild).await.unwrap();
        branch.until("rekeyed", |report| report.child_rekeys >= times).await;
    }
    let newest = |node: &Node| {
        let view = view(node, 0)?;
        let child = view.children.iter().max_by_key(|child| child.installed)?;
        Some((view.ike.as_ref()?.installed, child.installed, child.rekeys))
    };
    until("rekeyed twice", || newest(&old.node).is_some_and(|(.., rekeys)| rekeys == 2)).await;
    let before = newest(&old.node).unwrap();
    let (node, _branches, taken) = old.dies(|_, _| ()).await;
    assert_eq!((taken.connections, taken.lost), (3, 0));
    // The node takes longer to begin than clocks differ.
    let about = |a: SystemTime, b: SystemTime| {
        let apart = a.duration_since(b).unwrap_or_else(|before| before.duration());
        apart < Duration::from_millis(20)
    };
    let is_as_before =
        |(ike, child, rekeys)| about(ike, before.0) && about(child, before.1) && rekeys == before.2;
    until("it is shown as it was", || newest(&node).is_some_and(is_as_before)).await;
    node.shutdown().await;
}

/// A peer is in the middle of its negotiation when its slot is to go: that waits for it, and for nobody who does not answer.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_has_begun_is_there_before_its_slot_goes() {
    let (place, catalog, others) = (Place::that_begins(), catalog(), Nodes::with_standby());
    let node = start(place, SLOT, &others, &catalog);
    let wire = Wire::to(&node).await;
    wire.lose_auth(true);
    let mut branch = branch_with(&node, 0, |config| {
        wire.lead(config);
        let often = Retransmit { first: Duration::from_millis(50), factor_tenths: 10, tries: 600 };
        Arc::get_mut(&mut config.peer).unwrap().retransmit = often;
    });
    let accepted = || node.control().node_status().counters["ike_init_accepted"];
    until("it has begun", || accepted() == 1).await;
    node.control().settle_slot(SLOT).await;
    assert!(node.control().connections_by_slot().is_empty(), "it is not waited for for ever");
    let control = node.control();
    let settled = async {
        control.settle_slot(SLOT).await;
        control.connections_by_slot()
    };
    let (there, ()) = tokio::join!(settled, async { wire.lose_auth(false) });
    assert_eq!(there.get(&SLOT), Some(&1));
    let rows = node.control().give_slot(SLOT, None).await;
    assert!(rows.iter().any(|row| row.class == CONNECTION));
    branch.until("it was told", |report| report.established == 1).await;
    node.shutdown().await;
}
