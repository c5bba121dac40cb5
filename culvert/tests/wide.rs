//! A cluster by any of its nodes: what is asked at one is shown and done of all.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "common/cluster.rs"]
mod kit;

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cluster::servers::Servers;
use latest::{Follow as _, Latest as _};

use ike::config::{Auth, ChildConfig, Life, Mode, PeerConfig, Psk, Retransmit, Uniqueness};
use ike::wire::TrafficSelector;
use kit::{Daemon, until};
use loadtest::{Flow, Initiator, InitiatorConfig, Report};
use serde_json::Value;

/// Nodes that all hear each other, and each of whose slots somebody could go on with.
fn nodes<const N: usize>(servers: &Servers, names: [&str; N]) -> [Daemon; N] {
    let nodes = names.map(|name| Daemon::start(servers, name));
    until("each slot has a standby that is ready", || {
        nodes.iter().all(|node| {
            let slots = node.json(&["get", "slots"]);
            let ready = |slot: &&Value| slot["ready"] == true;
            slots.as_array().unwrap().iter().filter(ready).count() == N
        })
    });
    nodes
}

/// The nodes by the slots that they answer for.
fn owners(node: &Daemon) -> Vec<(String, u64)> {
    let slots = node.json(&["get", "slots"]);
    let slots = slots.as_array().unwrap().iter().filter(|slot| slot["number"].is_u64());
    slots.map(|slot| (slot["owner"].as_str().unwrap().to_owned(), slot["number"].as_u64().unwrap())).collect()
}

/// The exit code and what was said of it.
fn refused(node: &Daemon, arguments: &[&str]) -> (Option<i32>, String) {
    let output = node.culvert(arguments);
    (output.status.code(), String::from_utf8(output.stderr).unwrap())
}

#[test]
fn slots_are_shown_moved_and_drained_by_any_node() {
    let Some(servers) = Servers::start(1) else { return };
    let [a, b, c] = nodes(&servers, ["a", "b", "c"]);
    let slot = |name: &str| owners(&a).into_iter().find(|(owner, _)| owner == name).unwrap().1.to_string();
    let (of_a, of_b, of_c) = (slot("a"), slot("b"), slot("c"));
    for (arguments, said) in [
        (["move", "slot", &of_c, "--to", "c"], "at c already"),
        (["move", "slot", &of_c, "--to", "x"], "expected one of a, b, c"),
        (["move", "slot", "64", "--to", "c"], "expected slots/1 to slots/63"),
    ] {
        let (code, error) = refused(&a, &arguments);
        assert!(code == Some(4) && error.contains(said), "{arguments:?}: {code:?} {error}");
    }
    assert_eq!(refused(&a, &["move", "slot", "63", "--to", "c"]).0, Some(5), "it is nobody's");
    assert_eq!(refused(&a, &["drain", "x"]).0, Some(4));
    assert!(a.apply(&peers()).status.success());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    device(&runtime, &c, 1);

    // A slot in which nothing is may be given up some while after it has come: between the two there is only what has to be.
    let moved = a.json(&["move", "slot", &of_b, "--to", "c"]);
    assert_eq!((&moved["from"], &moved["to"]), (&"b".into(), &"c".into()), "{moved}");
    until("the others know", || {
        [&a, &b].iter().all(|node| owners(node).contains(&("c".to_owned(), of_b.parse().unwrap())))
    });
    let drained = b.json(&["drain", "c"]);
    let moved = |number: &str| {
        let name = format!("slots/{number}");
        drained["moved"].as_array().unwrap().iter().find(|slot| slot["name"] == name.as_str()).cloned()
    };
    assert_eq!(moved(&of_c).unwrap()["connections"], "1", "{drained}");
    assert!(moved(&of_b).is_some(), "what has just come may have something in it: {drained}");
    let audit = a.done(&["get", "audit"]);
    assert!(audit.contains("MoveSlot") && audit.contains(&format!("slots/{of_b}")), "{audit}");
    assert!(!c.done(&["get", "audit"]).contains("MoveSlot"), "it is noted where it was ordered");
    until("no node has slots or peers with it", || {
        let nodes = a.json(&["get", "nodes"]);
        let c = nodes.as_array().unwrap().iter().find(|node| node["name"] == "c").unwrap();
        c["drained"] == true && c["slots"].is_null()
    });
    assert!(owners(&a).iter().all(|(owner, _)| owner != "c"));
    assert!(a.done(&["get", "nodes"]).contains("DRAINED"));
    // There is nothing in that which a has always had, and it goes nowhere.
    let moved = a.json(&["drain", "a"])["moved"].clone();
    let moved: Vec<&Value> = moved.as_array().into_iter().flatten().collect();
    assert!(moved.iter().all(|slot| slot["name"] != format!("slots/{of_a}").as_str()), "{moved:?}");
}

/// Peers that wait for their devices.
fn peers() -> String {
    let peer = |number: u8| {
        format!(
            "---\nkind: Peer\nname: acme/b{number}\nlocalIdentity: hub.example\nremoteIdentity: b{number}.example\n\
             auth: {{psk: psk}}\nstartAction: NONE\n\
             children: [{{name: lan, localSubnets: [10.0.0.0/8], remoteSubnets: [10.{number}.0.0/16]}}]\n"
        )
    };
    let peers: String = (1..=2).map(peer).collect();
    format!("kind: Tenant\nname: acme\n---\nkind: Secret\nname: acme/psk\nvalue: correct-horse\n{peers}")
}

/// Gives a node these peers, of which another one knows then.
fn configure(a: &Daemon, b: &Daemon, peers: &str) {
    let applied = a.apply(peers);
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    assert!(b.done(&["get", "peers"]).contains("acme/peers/b2"));
}

/// Lets some time go by, so that nobody takes what begins next for something that began at once with what was before.
fn later() {
    let before = Instant::now();
    until("it is later", || before.elapsed() > Duration::from_millis(200));
}

/// The device of a peer, which has a tunnel to a node for as long as its runtime is there.
fn device(runtime: &tokio::runtime::Runtime, node: &Daemon, number: u8) {
    assert!(device_at(runtime, node, number, Ipv4Addr::LOCALHOST).up);
}

/// The same, from another address: how it was when it was up, or has ended without that.
fn device_at(runtime: &tokio::runtime::Runtime, node: &Daemon, number: u8, source: Ipv4Addr) -> Report {
    let net = |first: [u8; 4], last: [u8; 4]| {
        TrafficSelector::range(Ipv4Addr::from(first).into(), Ipv4Addr::from(last).into())
    };
    let child = ChildConfig {
        name: "lan".into(),
        local: vec![net([10, number, 0, 0], [10, number, 255, 255])],
        remote: vec![net([10, 0, 0, 0], [10, 255, 255, 255])],
        proposals: ike::EspProposal::defaults().into(),
        mode: Mode::Tunnel,
        life: Life::default(),
        resources: 1,
    };
    let peer = PeerConfig {
        name: format!("b{number}").into(),
        local_id: format!("b{number}.example").parse().unwrap(),
        remote_id: "hub.example".parse().unwrap(),
        auth: Auth::Psk(Psk::new(b"correct-horse".to_vec().into())),
        ike_proposals: ike::IkeProposal::defaults().into(),
        children: vec![Arc::new(child)],
        dpd_interval: Duration::ZERO,
        force_encapsulation: true,
        uniqueness: Uniqueness::Replace,
        retransmit: Retransmit::DEFAULT,
        version: ike::config::Version::default(),
    };
    let port = |name: &str| u16::try_from(node.ready[name].as_u64().unwrap()).unwrap();
    let config = InitiatorConfig {
        peer: Arc::new(peer),
        server: IpAddr::V4(Ipv4Addr::LOCALHOST),
        ike_port: port("ike_port"),
        natt_port: port("natt_port"),
        source: Some(source.into()),
        inner: Ipv4Addr::new(10, number, 0, 1),
        flow: Flow { tenant: 1, from: number.into(), to: number.into() },
        destination: Ipv4Addr::new(10, 99, 0, 1),
        rate: 1,
        packet_len: 100,
    };
    runtime.block_on(async {
        let (initiator, mut report) = Initiator::start(config).unwrap();
        let (commands, receiver) = tokio::sync::mpsc::channel(1);
        tokio::spawn(async move {
            let _commands = commands;
            initiator.run(receiver).await
        });
        report.until(|report| report.up).await.unwrap_or_else(|_| report.latest())
    })
}

/// Which node is shown to have which peer, and in which state.
fn shown(node: &Daemon) -> Vec<(String, String)> {
    let peers = node.json(&["get", "peers"]);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let status = |peer: &Value| (text(&peer["status"]["node"]), text(&peer["status"]["state"]));
    peers.as_array().unwrap().iter().map(status).collect()
}

#[test]
fn tunnels_of_all_nodes_are_shown_and_ordered_by_any() {
    let Some(servers) = Servers::start(1) else { return };
    let [a, b] = nodes(&servers, ["a", "b"]);
    configure(&a, &b, &peers());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    device(&runtime, &a, 1);
    device(&runtime, &b, 2);
    let up = |node: &str| (node.to_owned(), "ESTABLISHED".to_owned());
    for node in [&a, &b] {
        assert_eq!(shown(node), [up("a"), up("b")]);
        let sas = node.json(&["get", "sas"]);
        let of: Vec<&str> = sas.as_array().unwrap().iter().map(|sa| sa["node"].as_str().unwrap()).collect();
        assert_eq!(of, ["a", "a", "b", "b"], "an IKE_SA and a Child SA each: {sas}");
        assert!(node.done(&["get", "peers"]).lines().next().unwrap().contains("NODE"));
        for peer in ["acme/b1", "acme/b2"] {
            let told = node.json(&["explain", peer]);
            assert_eq!(told["status"]["state"], "ESTABLISHED", "{told}");
            assert!(!told["attempts"].as_array().unwrap().is_empty(), "{told}");
        }
    }

    // An order at one is carried out at the other, and whoever watches at either sees it.
    let mut watching = Command::new(env!("CARGO_BIN_EXE_culvert"));
    watching.arg("--server").arg(format!("unix:{}", a.socket.display()));
    watching.args(["watch", "acme/b2", "--count", "1", "--output", "json"]).stdout(Stdio::piped());
    let mut watching = watching.spawn().unwrap();
    until("a rekeying at b is seen at a", || {
        assert_eq!(a.json(&["rekey", "acme/b2"])["node"], "b");
        watching.try_wait().unwrap().is_some()
    });
    let line = BufReader::new(watching.stdout.take().unwrap()).lines().next().unwrap().unwrap();
    let event: Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&event["node"], &event["peer"]), (&"b".into(), &"tenants/acme/peers/b2".into()), "{event}");
    assert!(a.done(&["get", "audit"]).contains("RekeyPeer"));
    assert!(!b.done(&["get", "audit"]).contains("RekeyPeer"), "it is noted where it was ordered");

    // The node that has it is named where it is shown, and so is who took it down.
    assert_eq!(b.json(&["terminate", "acme/b1"])["node"], "a");
    let (node, state) = shown(&b).swap_remove(0);
    assert!(state != "ESTABLISHED", "{node} {state}");
    let why = b.done(&["explain", "acme/b1"]);
    assert!(why.contains("a command of user"), "{why}");

    drop(b);
    until("who is away is named, and the rest is shown", || {
        let output = a.culvert(&["get", "sas"]);
        assert!(output.status.success());
        String::from_utf8_lossy(&output.stderr).contains("b is away")
    });
}

/// The nodes of all IKE_SAs, in the order of their names.
fn ike_sas(node: &Daemon) -> Vec<String> {
    let sas = node.json(&["get", "sas"]);
    let sas = sas.as_array().unwrap().iter().filter(|sa| sa["ike"].is_object());
    let mut nodes: Vec<String> = sas.map(|sa| sa["node"].as_str().unwrap().to_owned()).collect();
    nodes.sort_unstable();
    nodes
}

#[test]
fn of_two_gateways_of_a_peer_at_two_nodes_the_first_is_kept() {
    let Some(servers) = Servers::start(1) else { return };
    let [a, b] = nodes(&servers, ["a", "b"]);
    let kept = peers().replace("startAction: NONE", "startAction: NONE\nike: {uniqueness: KEEP}");
    configure(&a, &b, &kept);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // Whichever of the two nodes decides, by its name.
    for (number, first, second) in [(1, &a, &b), (2, &b, &a)] {
        assert!(device_at(&runtime, first, number, Ipv4Addr::new(127, 0, 0, 21)).up);
        later();
        // Which may be closed before anybody has seen it up: it was let in all the same.
        let second = device_at(&runtime, second, number, Ipv4Addr::new(127, 0, 0, 22));
        assert!(second.established > 0, "{second:?}");
        until("the second has been closed", || ike_sas(&a).len() == usize::from(number));
    }
    until("the first of each is what there is", || {
        let from = |peer: &str| a.json(&["explain", peer])["status"]["remoteAddress"].to_string();
        ike_sas(&b) == ["a", "b"]
            && ["acme/b1", "acme/b2"].iter().all(|peer| from(peer).contains("127.0.0.21"))
    });
}

#[test]
fn of_two_connections_of_a_peer_with_two_nodes_one_stays() {
    let Some(servers) = Servers::start(1) else { return };
    let [a, b] = nodes(&servers, ["a", "b"]);
    configure(&a, &b, &peers());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    // One after the other: the newer one.
    device(&runtime, &a, 1);
    later();
    device(&runtime, &b, 1);
    // At once: whichever, but not neither.
    std::thread::scope(|scope| {
        scope.spawn(|| device_at(&runtime, &a, 2, Ipv4Addr::LOCALHOST));
        scope.spawn(|| device_at(&runtime, &b, 2, Ipv4Addr::LOCALHOST));
    });
    until("each peer has one", || ike_sas(&a).len() == 2);
    assert_eq!(shown(&a).iter().filter(|(_, state)| state == "ESTABLISHED").count(), 2);
    // What is ordered is done by whoever has it.
    for peer in ["acme/b1", "acme/b2"] {
        a.done(&["rekey", peer]);
    }
    assert_eq!(ike_sas(&b).len(), 2);
}

/// Its node is lost, and the peer has begun anew before another one goes on with what it had: that one is the older, wherever it comes up.
#[test]
fn a_connection_that_is_taken_over_late_replaces_no_newer_one() {
    let Some(servers) = Servers::start(1) else { return };
    let [a, b, c] = nodes(&servers, ["a", "b", "c"]);
    configure(&a, &b, &peers());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    device(&runtime, &a, 1);
    device(&runtime, &a, 2);
    later();
    drop(a);
    // One of the two has what the first had.
    device(&runtime, &b, 1);
    device(&runtime, &c, 2);
    until("somebody answers for its slots", || owners(&b).iter().all(|(owner, _)| owner != "a"));
    until("each peer has one, where it has begun anew", || ike_sas(&b) == ["b", "c"]);
    for (peer, node) in [("acme/b1", "b"), ("acme/b2", "c")] {
        assert_eq!(b.json(&["rekey", peer])["node"], node);
    }
}
