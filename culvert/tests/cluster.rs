//! Daemons that share etcd: as processes, over their APIs, with members of etcd that go and come.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "../../tls/tests/certificates.rs"]
mod certificates;
#[path = "common/cluster.rs"]
mod kit;

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use certificates::{Alternative, Identity};
use cluster::servers::{Files, Servers};
use kit::{Daemon, WAITS, culvertd, said, secret_file, spawn, until, write_config};
use serde_json::Value;

#[test]
fn nodes_share_what_is_configured_and_lose_nothing() {
    let Some(mut servers) = Servers::start(3) else { return };
    let (a, b) = (Daemon::start(&servers, "a"), Daemon::start(&servers, "b"));
    a.create_tenant("acme");
    let applied = b.apply("kind: Secret\nname: acme/psk\nvalue: correct-horse\n");
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    assert!(a.done(&["get", "secrets", "--tenant", "acme"]).contains("psk"));
    assert!(!a.done(&["get", "secrets", "--tenant", "acme", "--output", "json"]).contains("correct-horse"));

    // What was acknowledged at one is at all of them, whoever dies.
    b.create_tenant("zeta");
    let b = b.kill_and_start();
    assert!(a.done(&["get", "tenants"]).contains("zeta") && b.done(&["get", "tenants"]).contains("zeta"));

    // A member goes, and nothing happens; most of them go, and only writes are refused.
    servers.kill(0);
    a.create_tenant_soon("third");
    until("b has heard of it", || b.knows_tenant("third"));
    servers.kill(1);
    let refused = b.apply("kind: Tenant\nname: fourth\n");
    assert!(!refused.status.success());
    let refused = String::from_utf8_lossy(&refused.stderr);
    assert!(refused.contains("etcd") && refused.contains("tunnels go on"), "{refused}");
    assert!(b.knows_tenant("third"));
    servers.revive(0);
    a.delete_tenant_soon("third");
    until("b has heard of that", || !b.knows_tenant("third"));
}

/// A tenant with a secret and 1,000 peers: more than one transaction of etcd takes.
fn many(tenant: &str) -> String {
    let mut text = format!(
        "kind: Tenant\nname: {tenant}\n---\nkind: Secret\nname: {tenant}/psk\nvalue: correct-horse\n"
    );
    for number in 0..1_000 {
        let (high, low) = (16 + number / 250, number % 250);
        text += &format!(
            "---\nkind: Peer\nname: {tenant}/b{number}\nlocalIdentity: hub.{tenant}.example\nremoteIdentity: b{number}.{tenant}.example\n\
             auth: {{psk: psk}}\nstartAction: NONE\n\
             children: [{{name: lan, localSubnets: [10.0.0.0/8], remoteSubnets: [172.{high}.{low}.0/24]}}]\n"
        );
    }
    text
}

#[test]
fn a_node_that_is_killed_within_an_apply_leaves_all_of_it_or_nothing() {
    let Some(servers) = Servers::start(1) else { return };
    let (mut a, b) = (Daemon::start(&servers, "a"), Daemon::start(&servers, "b"));
    let peers = |node: &Daemon, tenant: &str| {
        let output = node.culvert(&["get", "peers", "--tenant", tenant, "--output", "json"]);
        // Of a tenant that is not there nothing is shown.
        let shown: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        shown.as_array().map_or(0, Vec::len)
    };
    // How long it takes where nobody dies.
    let begin = std::time::Instant::now();
    let applied = a.apply(&many("whole"));
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    let took = begin.elapsed();
    assert_eq!(peers(&b, "whole"), 1_000);
    for round in 1..=5_u32 {
        let tenant = format!("t{round}");
        let file = servers.file(&format!("{tenant}.yaml"));
        std::fs::write(&file, many(&tenant)).unwrap();
        let mut applying = Command::new(env!("CARGO_BIN_EXE_culvert"));
        applying.arg("--server").arg(format!("unix:{}", a.socket.display()));
        applying.args(["apply", "-f", file.to_str().unwrap()]).env_remove("CULVERT_CONTEXT");
        applying.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
        let mut applying = applying.spawn().unwrap();
        // At another moment of it each time; whichever it is, the same holds.
        std::thread::sleep(took * round / 8);
        a = a.kill_and_start();
        let acknowledged = applying.wait().unwrap().success();
        let count = peers(&b, &tenant);
        assert!(count == 0 || count == 1_000, "{round}: {count}");
        assert!(!acknowledged || count == 1_000, "{round}: it was acknowledged");
        assert_eq!(peers(&a, &tenant), count, "{round}");
    }
}

/// Peers that the nodes are to begin with, at an address where nobody answers.
const PEERS: usize = 12;

fn peers() -> String {
    let peer = |number: usize| {
        format!(
            "---\nkind: Peer\nname: acme/b{number}\nlocalIdentity: hub.example\nremoteIdentity: b{number}.example\n\
             remoteAddresses: [127.0.0.9]\nauth: {{psk: psk}}\nstartAction: START\n\
             children: [{{name: lan, localSubnets: [10.0.0.0/16], remoteSubnets: [10.{number}.0.0/16]}}]\n"
        )
    };
    let peers: String = (1..=PEERS).map(peer).collect();
    format!("kind: Tenant\nname: acme\n---\nkind: Secret\nname: acme/psk\nvalue: correct-horse\n{peers}")
}

impl Daemon {
    /// Peers that this node has begun with.
    fn begun(&self) -> Vec<String> {
        let peers = self.json(&["get", "peers"]);
        let name = self.config.file_stem().unwrap().to_str().unwrap();
        let begun = |peer: &&Value| {
            let status = &peer["status"];
            status["node"] == name && status["attempts"].as_str().is_some_and(|count| count != "0")
        };
        let name = |peer: &Value| peer["name"].as_str().unwrap().to_owned();
        peers.as_array().unwrap().iter().filter(begun).map(name).collect()
    }
}

#[test]
fn one_node_begins_with_a_peer_and_another_when_that_is_gone() {
    let Some(servers) = Servers::start(1) else { return };
    let nodes = ["a", "b", "c"].map(|name| Daemon::start(&servers, name));
    until("all three know each other", || {
        nodes.iter().all(|node| node.json(&["get", "nodes"]).as_array().is_some_and(|nodes| nodes.len() == 3))
    });
    let shown = nodes[0].json(&["get", "nodes"]);
    let slots: HashSet<u64> =
        shown.as_array().unwrap().iter().map(|node| node["slot"].as_u64().unwrap()).collect();
    assert_eq!(slots.len(), 3, "{shown}");
    let applied = nodes[1].apply(&peers());
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    until("somebody has begun with each", || {
        nodes.iter().map(|node| node.begun().len()).sum::<usize>() >= PEERS
    });
    let begun = nodes.each_ref().map(Daemon::begun);
    let all: HashSet<&String> = begun.iter().flatten().collect();
    assert_eq!((all.len(), begun.iter().flatten().count()), (PEERS, PEERS), "one each: {begun:?}");
    let elsewhere = nodes[0].json(&["get", "peers"]);
    let elsewhere =
        elsewhere.as_array().unwrap().iter().filter(|peer| peer["status"]["homeNode"].is_string());
    assert_eq!(elsewhere.count(), PEERS - begun[0].len());

    // Killed: the others learn it by its lease, and begin with its peers.
    let [a, b, c] = nodes;
    drop(a);
    until("the others begin with them", || {
        let both: HashSet<String> = b.begun().into_iter().chain(c.begun()).collect();
        both.len() == PEERS
    });
    // Where nobody of the first one's is at home now, it is learned a moment later.
    until("it is gone for both", || {
        [&b, &c].iter().all(|node| node.json(&["get", "nodes"]).as_array().unwrap().len() == 2)
    });
}

#[test]
fn etcd_is_spoken_to_by_tls_with_certificates_of_both_sides() {
    let directory = tempfile::tempdir().unwrap();
    let ca = Identity::ca("etcd");
    let member = ca.issue("member", &Alternative::Host("127.0.0.1"));
    let (own, other) = (ca.issue("culvert", &Alternative::None), Identity::ca("somebody else"));
    let file = |name: &str, content: Vec<u8>| {
        let path = directory.path().join(name);
        secret_file(&path, &content);
        path
    };
    let pem = |identity: &Identity| identity.cert.to_pem().unwrap();
    let key = |identity: &Identity| identity.key.private_key_to_pem_pkcs8().unwrap();
    let files = Files {
        ca: file("ca.crt", pem(&ca)),
        certificate: file("member.crt", pem(&member)),
        key: file("member.key", key(&member)),
    };
    let Some(servers) = Servers::start_with(1, Some(&files)) else { return };
    let config = write_config(&servers, "a", "key");
    let plain = std::fs::read_to_string(&config).unwrap();
    let (cert, key) = (file("own.crt", pem(&own)), file("own.key", key(&own)));
    let with = |ca: &Path| {
        let tls = format!("prefix = \"/tls\"\nca = {ca:?}\ncert = {cert:?}\nkey = {key:?}\n[ike]");
        std::fs::write(&config, plain.replace("[ike]", &tls)).unwrap();
    };
    with(&files.ca);
    let a = Daemon::of(&config);
    a.create_tenant("acme");
    assert!(a.done(&["get", "tenants"]).contains("acme"));
    drop(a);
    with(&file("other.crt", pem(&other)));
    // Which may be mended at etcd, so it is waited for, with the reason.
    let (mut child, mut log) = spawn(culvertd(), &config);
    let waits = said(&mut log, WAITS);
    assert!(waits["reason"].as_str().unwrap().contains("the server's certificate: "), "{waits}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_node_that_starts_before_etcd_waits_for_it() {
    let Some(mut servers) = Servers::start(1) else { return };
    // One that is killed before it has elected itself for the first time never does.
    let a = Daemon::start(&servers, "a");
    a.create_tenant("acme");
    let config = a.config.clone();
    drop(a);
    servers.kill(0);
    let a = Daemon::before_etcd(&config, || servers.revive(0));
    assert!(a.done(&["get", "tenants"]).contains("acme"));

    // Told to end while it waits it does.
    servers.kill(0);
    let (mut child, mut log) = spawn(culvertd(), &write_config(&servers, "b", "key"));
    said(&mut log, WAITS);
    let told = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(told.success() && child.wait().unwrap().success());
}

/// As a StatefulSet whose pods are made at once does.
#[test]
fn nodes_that_start_together_make_what_is_bootstrapped_once() {
    let Some(servers) = Servers::start(1) else { return };
    let manifest = servers.file("bootstrap.yaml");
    std::fs::write(&manifest, many("acme")).unwrap();
    let nodes: Vec<_> = ["a", "b", "c"]
        .map(|name| {
            let config = write_config(&servers, name, "key");
            let text = std::fs::read_to_string(&config).unwrap();
            std::fs::write(&config, format!("{text}[bootstrap]\nfile = {manifest:?}\n")).unwrap();
            std::thread::spawn(move || Daemon::of(&config))
        })
        .into_iter()
        .map(|node| node.join().unwrap())
        .collect();
    for node in &nodes {
        assert_eq!(node.json(&["get", "peers", "--tenant", "acme"]).as_array().unwrap().len(), 1_000);
    }
}

#[test]
fn a_node_with_another_key_does_not_start_and_says_why() {
    let Some(servers) = Servers::start(1) else { return };
    let _a = Daemon::start(&servers, "a");
    let config = write_config(&servers, "b", "another-key");
    let output = culvertd().arg("--config").arg(&config).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(
        error.contains("vault.key_file") && error.contains("not the key that the other nodes have"),
        "{error}"
    );
}

#[test]
fn a_node_that_was_alone_brings_its_catalog_along_once() {
    let Some(servers) = Servers::start(1) else { return };
    let shared = write_config(&servers, "a", "key");
    // As it was before: the same state directory and key, without a cluster.
    let alone = servers.file("alone.toml");
    let text = std::fs::read_to_string(&shared).unwrap();
    let (before, cluster) = text.split_once("[cluster]").unwrap();
    std::fs::write(&alone, format!("{before}{}", &cluster[cluster.find("[ike]").unwrap()..])).unwrap();
    let before = Daemon::of(&alone);
    before.create_tenant("acme");
    drop(before);
    let import = |config: &Path| {
        let output = culvertd().args(["import-state", "--config"]).arg(config).output().unwrap();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    // Another one has begun with nothing, as all do that are configured for etcd before anybody has brought anything along.
    let b = Daemon::start(&servers, "b");
    // Nor does what it shall have from the first start on get in the way of what it has.
    let (manifest, first) = (servers.file("first.yaml"), servers.file("first.toml"));
    std::fs::write(&manifest, "kind: Tenant\nname: first\n").unwrap();
    let text = std::fs::read_to_string(&shared).unwrap();
    std::fs::write(&first, format!("{text}[bootstrap]\nfile = {manifest:?}\n")).unwrap();
    for config in [&shared, &first] {
        let output = culvertd().arg("--config").arg(config).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "it would start without its tenants");
        assert!(error.contains("culvertd import-state") && error.contains("catalog.redb"), "{error}");
    }
    let (done, said, error) = import(&shared);
    assert!(done && said.contains("1 tenants and 0 peers"), "{said}{error}");
    until("the other one has it", || b.done(&["get", "tenants"]).contains("acme"));
    let (done, _, error) = import(&shared);
    assert!(!done && error.contains("already"), "{error}");
    let (done, _, error) = import(&alone);
    assert!(!done && error.contains("cluster.etcd"), "{error}");
    let a = Daemon::of(&shared);
    assert!(a.done(&["get", "tenants"]).contains("acme"));
    drop(a);
    // There is no way back that nobody means: its own catalog is that of before.
    let mark = a_state_dir(&shared).join("cluster");
    let begin_alone = || culvertd().arg("--config").arg(&alone).output().unwrap();
    let refused = begin_alone();
    let error = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && error.contains("cluster.etcd"), "{error}");
    assert!(error.contains(&mark.display().to_string()), "{error}");
    std::fs::remove_file(&mark).unwrap();
    drop(Daemon::of(&alone));
    let _a = Daemon::of(&shared);
    // And a copy of it is made as before, and is whole.
    let run = |arguments: &[&str]| {
        let output = culvertd().args(arguments).arg("--config").arg(&shared).output().unwrap();
        let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
        (output.status.success(), text(&output.stdout), text(&output.stderr))
    };
    let copy = servers.file("copy.redb");
    let copy = copy.to_str().unwrap();
    let (done, said, error) = run(&["backup", copy]);
    assert!(done && said.contains("1 tenants"), "{said}{error}");
    assert!(run(&["check-store", copy]).0);
    let (done, _, error) = run(&["check-store"]);
    assert!(!done && error.contains("in etcd"), "{error}");
    let b = b.kill_and_start();
    assert!(b.done(&["get", "tenants"]).contains("acme"));
}

fn a_state_dir(config: &Path) -> PathBuf {
    let text = std::fs::read_to_string(config).unwrap();
    let config: toml::Table = text.parse().unwrap();
    PathBuf::from(config["state_dir"].as_str().unwrap())
}

fn quickstart() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
    command.args(["quickstart", "--nodes", "3", "--for", "12s", "--rate", "50", "--output", "json"]);
    command
}

/// Exit code of what is needed and not there.
const UNAVAILABLE: i32 = 6;

#[test]
fn the_quickstart_says_what_it_needs() {
    let nowhere = tempfile::tempdir().unwrap();
    let output = quickstart().env("PATH", nowhere.path()).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(UNAVAILABLE), "{error}");
    assert!(error.contains("etcd is not installed") && error.contains("etcd-server"), "{error}");
    let output = quickstart().args(["--metrics", "127.0.0.1:0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}

/// In the quickstart one node is killed, another drained and started again, under traffic.
#[test]
fn the_quickstart_loses_nothing_but_what_a_killed_node_had() {
    // Whether it is there, and the line that says that it is not.
    let Some(_) = Servers::start(1) else { return };
    let output = quickstart().output().unwrap();
    let (said, error) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let last = said.lines().last().unwrap_or_default();
    let summary: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{said}{error}"));
    for none in ["renegotiations", "duplicate_sequence_numbers", "cross_tenant_packets"] {
        assert_eq!(summary[none], 0, "{none}: {last}");
    }
    let count = |name: &str| summary[name].as_u64().unwrap_or_else(|| panic!("{name}: {last}"));
    assert_eq!((count("nodes"), count("tunnels_established")), (3, 4));
    // None is lost by the drain where nodes run when they have to. How long one waits for a processor here nobody knows, and a packet
    // waits 200 ms for its slot.
    let drained = count("packets_lost_by_drain");
    assert!(drained * 50 <= count("packets_received"), "{last}{error}");
    let ok = drained == 0;
    assert_eq!((output.status.success(), &summary["ok"]), (ok, &Value::from(ok)), "{error}{last}");
    let known = count("packets_lost_by_kill") + count("packets_lost_at_start") + drained;
    assert_eq!(count("packets_lost"), known, "{last}");
    assert!(count("packets_received") > 0 && count("takeover_ms") > 0, "{last}");
}

#[test]
fn a_node_in_which_a_part_fails_leaves_its_slots_to_their_standbys() {
    let Some(servers) = Servers::start(1) else { return };
    let mut command = culvertd();
    command.env("CULVERT_FAULT_PART", "shard");
    let mut a = Daemon::by(command, &write_config(&servers, "a", "key"));
    let b = Daemon::start(&servers, "b");
    let shows = |row: &[&str]| {
        let slots = b.done(&["get", "slots"]);
        slots.lines().any(|line| line.split_whitespace().take(row.len()).eq(row.iter().copied()))
    };
    until("a's slot has a standby", || shows(&["1", "a", "b", "yes"]));
    assert_eq!(a.fail().code(), Some(1));
    // One that its owner has ended in order is nobody's.
    until("b goes on with it", || shows(&["1", "b"]));
}

/// Whoever starts a node can end it at any time: also while it waits for the place that the process before it had.
#[test]
fn a_node_that_is_told_to_end_while_it_starts_does() {
    let Some(servers) = Servers::start(1) else { return };
    let config = write_config(&servers, "a", "key");
    drop(Daemon::of(&config));
    let (mut child, mut log) = spawn(culvertd(), &config);
    said(&mut log, "waits for the lease of an earlier process of this node");
    let told = std::time::Instant::now();
    assert!(Command::new("kill").arg(child.id().to_string()).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    assert!(told.elapsed() < std::time::Duration::from_secs(3), "{:?}", told.elapsed());
}
