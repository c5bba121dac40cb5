//! Peers that have a connection with another node as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actors::{HomeNews, HomeRule, Homes, NodeConfig, Others, Rival, Whereabouts};
use ike::config::Retransmit;
use latest::Latest as _;
use loadtest::Command;

use crate::common::{branch, branch_with, catalog, node_with, until};
use crate::others::{NODE, Nodes};

/// Whether another node says that it has a connection with the peer, whichever.
struct Rule(Arc<AtomicBool>);

impl HomeRule for Rule {
    fn elsewhere(&self, _: u64, _: bool) -> Option<String> {
        None
    }

    fn holder(&self, _: u64) -> Option<String> {
        self.0.load(Ordering::Relaxed).then(|| "b".to_owned())
    }

    fn hold(&self, _: u64, _: bool) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_that_it_has_a_connection_as_well_is_told_of_the_one_here() {
    let (nodes, also, news) = (Nodes::default(), Arc::default(), HomeNews::default());
    let homes = Homes::new(Rule(Arc::clone(&also)), news.clone());
    let config = NodeConfig { homes, others: Others::new(Arc::new(nodes.clone())), ..NodeConfig::default() };
    let node = node_with(config, catalog());
    let mut up = branch(&node, 0);
    up.until("up", |r| r.up).await;
    let told = || nodes.told();
    until("told when it is new", || told().len() == 1).await;
    // It was cut off, and was not told.
    also.store(true, Ordering::Relaxed);
    news.these([told()[0].uid]);
    until("told again", || told().len() == 2).await;
    assert_eq!(told()[0].claim.spi, told()[1].claim.spi);
    node.shutdown().await;
}

/// The former owner of its slot is heard again, and does not know yet that it is one.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_is_no_rival_of_itself() {
    let nodes = Nodes::default();
    let config = NodeConfig { others: Others::new(Arc::new(nodes.clone())), ..NodeConfig::default() };
    let node = node_with(config, catalog());
    let mut branches = [branch(&node, 0), branch(&node, 2)];
    for branch in &mut branches {
        branch.until("up", |report| report.up).await;
        branch.commands.send(Command::Send(true)).await.unwrap();
    }
    until("told when they are new", || nodes.told().len() == 2).await;
    for we_decide in [true, false] {
        for rival in nodes.told() {
            for instead_of in [None, Some(rival.claim.spi)] {
                node.control()
                    .rival(Rival { instead_of, ..rival }, Whereabouts { node: Some(NODE), we_decide });
            }
        }
    }
    // Whatever they were told comes before this.
    for n in [0, 2] {
        let name = format!("tenants/acme/peers/b{n}").parse().unwrap();
        node.control().rekey(&name, actors::RekeyTarget::Ike).await.unwrap();
    }
    // 2 sends to 0.
    branches[0].flows().await;
    assert_eq!(nodes.told().len(), 2, "nobody is told anything of it");
    assert!(branches.iter().all(|branch| branch.report.latest().up));
    node.shutdown().await;
}

/// Its slot goes between its authentication and the actor of its peer. The branch is told nothing, above all no success, and begins anew with whoever
/// has the slot.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_whose_slot_has_gone_before_it_is_taken_on_is_none() {
    let nodes = Nodes::default();
    let config = NodeConfig { others: Others::new(Arc::new(nodes.clone())), ..NodeConfig::default() };
    let node = node_with(config, catalog());
    nodes.holds_yet(Some(1));
    let mut first = branch_with(&node, 0, |config| {
        Arc::get_mut(&mut config.peer).unwrap().retransmit = Retransmit::ONCE;
    });
    first.ended().await;
    assert_eq!(first.report.latest().established, 0);
    let not_adopted = || node.control().node_status().counters.get("ike_not_adopted").copied();
    until("counted", || not_adopted() == Some(1)).await;
    let view = || node.control().peer(&"tenants/acme/peers/b0".parse().unwrap()).unwrap();
    until("nothing is left", || node.control().connections_by_slot().is_empty()).await;
    assert_eq!((view().losses, view().last_error.as_ref()), (0, ""), "nothing has failed");
    nodes.holds_yet(None);
    branch(&node, 0).until("up", |report| report.up).await;
    node.shutdown().await;
}
