//! Nodes of a cluster that are killed, paused, cut off and restarted under traffic: their tunnels go on at others, and no peer notices.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    unused_crate_dependencies
)]

#[path = "common/sites.rs"]
mod sites;

use interop::cluster::{Cluster, Cut, NODES};
use interop::traffic::Flood;
use interop::wait::until;
use sites::{SITES, Sites, inside_of};

/// Packets of a flow that may be lost when a node goes without a word. It takes half a second, which is some 120 of them; this is what a
/// busy machine may make of it.
const GAP: u32 = 800;

/// Does something to the node that has the most connections while packets flow by it, and says how many of each flow were lost.
fn meanwhile(
    cluster: &mut Cluster,
    sites: &Sites,
    what: &str,
    act: impl FnOnce(&mut Cluster, usize),
) -> Vec<u32> {
    let connections = cluster.connections(0);
    let victim = (0..NODES).max_by_key(|k| connections[*k]).unwrap();
    assert!(connections[victim] > 0, "{what}: {connections:?}");
    let before = sites.spis();
    let flows = [1, 2, 3].map(|n| Flood::start(&sites.site, &inside_of(n), interop::cluster::INSIDE));
    let far = Flood::start(&sites.far, sites::FAR, interop::cluster::INSIDE);
    sites.all_answer();
    act(cluster, victim);
    sites.all_answer();
    let counted = flows.into_iter().chain([far]).map(|flow| {
        let echoes = flow.stop();
        assert!(echoes.sent > 100, "{what}: {echoes:?}");
        (echoes.sent, echoes.sent - echoes.received)
    });
    let (sent, lost): (Vec<u32>, Vec<u32>) = counted.unzip();
    eprintln!("{what}: node {victim} of {connections:?} connections, lost of each flow {lost:?} of {sent:?}");
    assert_eq!(sites.spis(), before, "{what}: the peers have other SAs");
    lost
}

fn is_anothers(cluster: &Cluster, node: usize) {
    let other = (node + 1) % NODES;
    until(
        "others have its tunnels",
        || cluster.connections(other),
        |connections| {
            connections[node] == 0 && connections.iter().sum::<u64>() > u64::try_from(SITES).unwrap()
        },
    );
}

#[test]
fn tunnels_go_on_at_other_nodes_whatever_happens_to_theirs() {
    let Some((mut cluster, sites)) = Sites::open() else { return };
    let capture = interop::capture::Capture::start(&cluster.lab, &sites.site, "vsite", "site");

    let lost = meanwhile(&mut cluster, &sites, "killed", |cluster, node| {
        cluster.nodes[node].kill();
        cluster.spare(node);
        is_anothers(cluster, node);
        cluster.nodes[node].again();
        cluster.settled();
        cluster.spread(&[0, 1, 2]);
    });
    assert!(lost.iter().all(|lost| *lost < GAP), "{lost:?}");

    let lost = meanwhile(&mut cluster, &sites, "paused", |cluster, node| {
        cluster.nodes[node].signal("STOP");
        cluster.spare(node);
        is_anothers(cluster, node);
        cluster.nodes[node].signal("CONT");
        cluster.settled();
        cluster.spread(&[0, 1, 2]);
    });
    assert!(lost.iter().all(|lost| *lost < GAP), "{lost:?}");

    for cut in [Cut::Hearing, Cut::Nodes, Cut::Both] {
        let lost = meanwhile(&mut cluster, &sites, &format!("cut off, {cut:?}"), |cluster, node| {
            cluster.cut(node, cut);
            // Whoever is in front asks the node itself.
            if cut != Cut::Hearing {
                until("it is not ready", || cluster.is_ready(node), |ready| !ready);
            }
            cluster.spare(node);
            is_anothers(cluster, node);
            cluster.mend(node);
            cluster.settled();
            until("it is ready", || cluster.is_ready(node), |ready| *ready);
            cluster.spread(&[0, 1, 2]);
        });
        // Without etcd it learns of it by a sign of life that is not answered.
        assert!(lost.iter().all(|lost| *lost < 2 * GAP), "{lost:?}");
    }

    // Without etcd nothing changes: not for one node, and not for all of them.
    let slots = cluster.connections(0);
    let lost = meanwhile(&mut cluster, &sites, "no etcd for one", |cluster, node| {
        cluster.cut(node, Cut::Etcd);
        sites.rekeyed();
        assert!(cluster.is_ready(node));
        cluster.mend(node);
    });
    assert_eq!(lost.iter().sum::<u32>(), 0);
    cluster.settled();
    // The others know a node again once it is back in etcd.
    until("it has its tunnels", || cluster.connections(0), |now| *now == slots);
    let lost = meanwhile(&mut cluster, &sites, "two of three members of etcd gone", |cluster, _| {
        cluster.etcd.kill(0);
        cluster.etcd.kill(1);
        sites.rekeyed();
        let refused = cluster.node(0).cli(&["delete", "peer/acme/s1"]);
        assert!(!refused.ok && refused.text.contains("etcd"), "{}", refused.text);
        assert!((0..NODES).all(|k| cluster.is_ready(k)));
        cluster.etcd.revive(0);
        cluster.etcd.revive(1);
    });
    assert_eq!(lost.iter().sum::<u32>(), 0);
    cluster.settled();
    until("it has its tunnels", || cluster.connections(0), |now| *now == slots);

    let seen = capture.stop();
    assert_eq!((seen.doubled, seen.inits), (0, 0), "{seen:?}");
    assert!(seen.esp > 10_000, "{seen:?}");
}

#[test]
fn a_rolling_restart_is_noticed_by_nobody() {
    let Some((mut cluster, sites)) = Sites::open() else { return };
    let capture = interop::capture::Capture::start(&cluster.lab, &sites.site, "vsite", "site");
    let before = sites.spis();
    let flows = [1, 2, 3].map(|n| Flood::start(&sites.site, &inside_of(n), interop::cluster::INSIDE));
    let far = Flood::start(&sites.far, sites::FAR, interop::cluster::INSIDE);
    for node in 0..NODES {
        cluster.nodes[node].signal("TERM");
        until("it is not ready", || cluster.is_ready(node), |ready| !ready);
        cluster.spare(node);
        assert!(cluster.nodes[node].wait(), "{}", cluster.nodes[node].log());
        cluster.nodes[node].again();
        cluster.settled();
        cluster.spread(&[0, 1, 2]);
    }
    let lost: Vec<_> = flows.into_iter().chain([far]).map(Flood::stop).collect();
    assert!(lost.iter().all(|echoes| echoes.sent > 1_000 && echoes.sent == echoes.received), "{lost:?}");
    assert_eq!(sites.spis(), before, "the peers have other SAs");
    let seen = capture.stop();
    assert_eq!((seen.doubled, seen.inits), (0, 0), "{seen:?}");
}

#[test]
fn slots_that_are_moved_to_and_fro_are_noticed_by_nobody() {
    let Some((cluster, sites)) = Sites::open() else { return };
    let capture = interop::capture::Capture::start(&cluster.lab, &sites.site, "vsite", "site");
    let before = sites.spis();
    let flows = [1, 2, 3].map(|n| Flood::start(&sites.site, &inside_of(n), interop::cluster::INSIDE));
    let far = Flood::start(&sites.far, sites::FAR, interop::cluster::INSIDE);
    let full = |slot: &serde_json::Value| slot["connections"].as_str().is_some_and(|count| count != "0");
    for round in 0..24 {
        // Each time another of those that have tunnels, ordered at another node, to whichever comes next.
        let slots: Vec<_> = cluster.slots(round % NODES).into_iter().filter(full).collect();
        let Some(slot) = slots.get(round % slots.len().max(1)) else { panic!("no slot has a tunnel") };
        let owner: usize =
            slot["owner"].as_str().and_then(|name| name.strip_prefix('n')?.parse().ok()).unwrap();
        let (number, to) = (slot["number"].to_string(), format!("n{}", owner % NODES + 1));
        let said = cluster.node((round + 1) % NODES).cli(&["move", "slot", &number, "--to", &to]);
        assert!(said.ok, "{}", said.text);
        if round % 6 == 0 {
            sites.rekeyed();
        }
    }
    let lost: Vec<_> = flows.into_iter().chain([far]).map(Flood::stop).collect();
    assert!(lost.iter().all(|echoes| echoes.sent > 100 && echoes.sent == echoes.received), "{lost:?}");
    assert_eq!(sites.spis(), before, "the peers have other SAs");
    let seen = capture.stop();
    assert_eq!((seen.doubled, seen.inits), (0, 0), "{seen:?}");
}
