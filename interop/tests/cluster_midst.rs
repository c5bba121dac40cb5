//! A node of a cluster is killed in the middle of an exchange: it is ended by another one, and no peer notices.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

#[path = "common/sites.rs"]
mod sites;

use interop::capture::Capture;
use interop::cluster::{Cluster, INSIDE, NODES, Way};
use interop::command::Said;
use interop::traffic::until_ping;
use interop::wait::until;
use sites::{Sites, inside_of};

const PEER: &str = "acme/s1";
const AT: &str = "10.97.0.1";

/// Does something whose messages are held, kills the node of the peer once there is one, and lets the others go on. Which node that was, and
/// what was said.
fn amidst(
    cluster: &mut Cluster,
    owner: Option<usize>,
    way: Way,
    act: impl FnOnce() -> Said + Send,
) -> (usize, Said) {
    cluster.hold(AT, way);
    let (owner, said) = std::thread::scope(|scope| {
        let acting = scope.spawn(act);
        cluster.until_held();
        let owner = owner.unwrap_or_else(|| cluster.owner(PEER));
        cluster.nodes[owner].signal("KILL");
        cluster.spare(owner);
        cluster.release();
        (owner, acting.join().unwrap())
    });
    cluster.nodes[owner].wait();
    (owner, said)
}

/// Packets go through, and the node is back.
fn mended(cluster: &mut Cluster, sites: &Sites, owner: usize) {
    until_ping(&sites.site, &inside_of(1), INSIDE);
    cluster.nodes[owner].again();
    cluster.settled();
    cluster.spread(&[0, 1, 2]);
    sites.all_answer();
}

#[test]
fn what_a_killed_node_was_at_is_ended_by_another() {
    let Some((mut cluster, sites)) = Sites::open() else { return };
    let charon = &sites.charon;

    // IKE_AUTH is answered, and the answer is lost.
    assert!(charon.swanctl(&["--terminate", "--ike", "t1"]).ok);
    let capture = Capture::start(&cluster.lab, &sites.site, "vsite", "auth");
    let (owner, said) = amidst(&mut cluster, None, Way::FromNodes, || charon.initiate("ct1"));
    assert!(said.ok, "{}", said.text);
    mended(&mut cluster, &sites, owner);
    assert_eq!(capture.stop().inits, 1);

    // CREATE_CHILD_SA of the peer.
    let capture = Capture::start(&cluster.lab, &sites.site, "vsite", "rest");
    let (before, owner) = (sites.spis_of(1), cluster.owner(PEER));
    let rekey = || charon.swanctl(&["--rekey", "--child", "ct1"]);
    amidst(&mut cluster, Some(owner), Way::FromNodes, rekey);
    sites.until_rekeyed(1, &before);
    mended(&mut cluster, &sites, owner);

    // Of ours: once the request is lost, and once its answer.
    for way in [Way::FromNodes, Way::FromPeer] {
        let (before, owner) = (sites.spis_of(1), cluster.owner(PEER));
        let culvert = cluster.node((owner + 1) % NODES).client();
        amidst(&mut cluster, Some(owner), way, move || culvert.cli(&["rekey", "--child", "c", PEER]));
        sites.until_rekeyed(1, &before);
        mended(&mut cluster, &sites, owner);
    }

    // And the IKE SA: its answer is of one that nobody but the request has named.
    for way in [Way::FromNodes, Way::FromPeer] {
        let (before, owner) = (sites.spis_of(1), cluster.owner(PEER));
        let culvert = cluster.node((owner + 1) % NODES).client();
        amidst(&mut cluster, Some(owner), way, move || culvert.cli(&["rekey", "--ike", PEER]));
        sites.until_rekeyed(1, &before);
        mended(&mut cluster, &sites, owner);
        // By the new one.
        let before = sites.spis_of(1);
        let said = cluster.node(0).cli(&["rekey", "--child", "c", PEER]);
        assert!(said.ok, "{}", said.text);
        sites.until_rekeyed(1, &before);
    }

    // The peer is somewhere else, as a NAT was restarted.
    let (before, owner) = (sites.spis_of(1), cluster.owner(PEER));
    cluster.rebind(AT, 45_001);
    until_ping(&sites.site, &inside_of(1), INSIDE);
    cluster.nodes[owner].kill();
    cluster.spare(owner);
    mended(&mut cluster, &sites, owner);
    assert_eq!(sites.spis_of(1), before);
    let remote = || cluster.node(0).status(PEER)["remoteAddress"].to_string();
    until("the peer is where it is now", remote, |remote| remote.contains("45001"));

    // Delete: done by the node, and the peer does not know.
    let owner = cluster.owner(PEER);
    let end = || charon.swanctl(&["--terminate", "--ike", "t1"]);
    let (_, said) = amidst(&mut cluster, Some(owner), Way::FromNodes, end);
    assert!(said.ok, "{}", said.text);
    let state = || cluster.node((owner + 1) % NODES).status(PEER)["state"].clone();
    until("the tunnel is down", state, |state| state != "ESTABLISHED");
    assert_eq!(sites.spis_of(1), Vec::<String>::new());
    let seen = capture.stop();
    assert_eq!((seen.doubled, seen.inits), (0, 0), "{seen:?}");
}
