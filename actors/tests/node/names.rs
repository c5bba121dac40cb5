//! Peers that are configured by a host name: it is resolved when a negotiation starts, the addresses are tried in turn, and
//! whoever comes from one of them is let in.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, mpsc};

use actors::{Lookup, Node, NodeConfig};
use culvert_proto::v1;
use tenants::{Catalog, PeerName};

use crate::common::{LIMIT, branch, catalog, create_peer, node_with, until};

/// Names and their addresses, which a test changes.
#[derive(Clone, Default)]
struct Hosts(Arc<Mutex<HashMap<String, Vec<IpAddr>>>>);

impl Hosts {
    fn set(&self, name: &str, addresses: &[u8]) {
        let addresses = addresses.iter().map(|last| Ipv4Addr::new(127, 0, 0, *last).into()).collect();
        self.0.lock().unwrap().insert(name.to_owned(), addresses);
    }

    fn lookup(&self) -> Lookup {
        let hosts = self.clone();
        Lookup::new(move |name| {
            let found = hosts.0.lock().unwrap().get(name).cloned();
            found.ok_or_else(|| io::Error::other("no such host"))
        })
    }
}

fn name(n: u8) -> PeerName {
    format!("tenants/acme/peers/b{n}").parse().unwrap()
}

fn update(catalog: &Catalog, n: u8, change: impl FnOnce(&mut v1::Peer)) {
    let mut peer = create_peer(n).peer.unwrap();
    peer.name = name(n).to_string();
    change(&mut peer);
    let request = v1::UpdatePeerRequest { peer: Some(peer), ..Default::default() };
    catalog.update_peer(&request).unwrap();
}

/// We begin with branch 0, which has this name.
fn begin_with(catalog: &Catalog, host: &str) {
    begin(catalog, 0, host);
}

fn begin(catalog: &Catalog, n: u8, host: &str) {
    update(catalog, n, |peer| {
        peer.remote_addresses = vec![host.to_owned()];
        peer.start_action = v1::StartAction::Start.into();
    });
}

fn socket(last: u8, port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, last), port)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    socket
}

/// Waits for a first message and refuses it with NO_PROPOSAL_CHOSEN.
fn refuse(socket: &UdpSocket) {
    let mut message = [0; 4096];
    let (_, from) = socket.recv_from(&mut message).unwrap();
    let mut answer = message[..8].to_vec();
    // No SPI of ours; N payload, version 2.0, IKE_SA_INIT, a response with message ID 0.
    answer.extend([0; 8]);
    answer.extend([41, 0x20, 34, 0x20, 0, 0, 0, 0, 0, 0, 0, 36]);
    answer.extend([0, 0, 0, 8, 0, 0, 0, 14]);
    socket.send_to(&answer, from).unwrap();
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.unwrap()
}

async fn status(node: &Node, n: u8) -> v1::PeerStatus {
    node.control().peer_statuses(&[name(n)]).await.pop().unwrap().unwrap_or_default()
}

/// Waits until so many attempts with branch 0 have failed.
async fn failed(node: &Node, attempts: u64) {
    until("an attempt has failed", || {
        // There may be no actor yet.
        let view = node.control().peer(&name(0)).unwrap_or_default();
        let over = view.state == v1::PeerState::BackingOff || view.attempts > attempts;
        view.attempts >= attempts && over && !view.last_error.is_empty()
    })
    .await;
}

/// Does not wait until the next attempt is due.
fn hurry(node: &Node) {
    let control = node.control();
    tokio::spawn(async move { control.initiate(&name(0), None).await });
}

/// The last attempt that has a cause.
async fn cause(node: &Node, catalog: &Catalog, n: u8) -> Option<v1::AttemptCause> {
    let explained = node.control().explain(&catalog.get_peer(&name(n)).unwrap()).await;
    explained.attempts.into_iter().rev().find_map(|attempt| attempt.cause)
}

/// A name of the real system leads to a real node, and the tunnel comes up.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_leads_to_the_peer() {
    let there = catalog();
    let far = node_with(NodeConfig::default(), Arc::clone(&there));
    let (remote_ike_port, remote_natt_port) = far.ports();
    let here = catalog();
    let near =
        node_with(NodeConfig { remote_ike_port, remote_natt_port, ..Default::default() }, Arc::clone(&here));
    update(&there, 0, |peer| {
        let child = peer.children.first_mut().unwrap();
        std::mem::swap(&mut child.local_subnets, &mut child.remote_subnets);
        std::mem::swap(&mut peer.local_identity, &mut peer.remote_identity);
    });
    begin_with(&here, "localhost");
    until("up", || near.control().peer(&name(0)).is_some_and(|view| view.ike.is_some())).await;
    let shown = status(&near, 0).await;
    let [resolved] = shown.resolved_names.as_slice() else { panic!("{shown:?}") };
    assert!(resolved.addresses.contains(&"127.0.0.1".to_owned()), "{resolved:?}");
    assert!(resolved.resolve_time.is_some() && resolved.error.is_empty());
    assert_eq!(shown.remote_address.split(':').next(), Some("127.0.0.1"));
    near.shutdown().await;
    far.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_does_not_resolve_is_explained_and_tried_again() {
    let (hosts, catalog, branch) = (Hosts::default(), catalog(), socket(1, 0));
    let port = branch.local_addr().unwrap().port();
    let config = NodeConfig { remote_ike_port: port, lookup: hosts.lookup(), ..Default::default() };
    let node = node_with(config, Arc::clone(&catalog));
    begin_with(&catalog, "branch.example");
    failed(&node, 1).await;
    let explained = cause(&node, &catalog, 0).await.unwrap();
    assert_eq!(explained.kind, "address");
    assert_eq!(explained.summary, "branch.example does not resolve to an address: no such host");
    let shown = status(&node, 0).await;
    assert_eq!(shown.last_error, explained.summary);
    assert!(shown.next_attempt.is_some() && shown.resolved_names[0].error == "no such host");
    let reachable = shown.conditions.iter().find(|c| c.r#type() == v1::ConditionType::Reachable).unwrap();
    assert_eq!((reachable.status(), reachable.reason.as_str()), (v1::ConditionStatus::False, "Unresolved"));
    assert!(
        node.control().initiate(&name(0), None).await.unwrap_err().to_string().contains("does not resolve")
    );

    hosts.set("branch.example", &[1]);
    hurry(&node);
    blocking(move || branch.recv(&mut [0; 4096]).unwrap()).await;
    assert_eq!(status(&node, 0).await.resolved_names[0].addresses, ["127.0.0.1"]);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failure_the_next_address_is_tried_and_the_name_resolved_again() {
    let (hosts, catalog, first) = (Hosts::default(), catalog(), socket(2, 0));
    let port = first.local_addr().unwrap().port();
    let (second, moved) = (socket(3, port), socket(4, port));
    hosts.set("branch.example", &[2, 3]);
    let config = NodeConfig { remote_ike_port: port, lookup: hosts.lookup(), ..Default::default() };
    let node = node_with(config, Arc::clone(&catalog));
    begin_with(&catalog, "branch.example");
    blocking(move || refuse(&first)).await;
    failed(&node, 1).await;
    hurry(&node);
    let moves = hosts.clone();
    blocking(move || {
        // Meanwhile the branch gets another address.
        second.peek(&mut [0; 4096]).unwrap();
        moves.set("branch.example", &[4]);
        refuse(&second);
    })
    .await;
    failed(&node, 2).await;
    hurry(&node);
    blocking(move || moved.recv(&mut [0; 4096]).unwrap()).await;
    until("shown", || node.control().peer(&name(0)).unwrap().attempts == 3).await;
    let explained = node.control().explain(&catalog.get_peer(&name(0)).unwrap()).await;
    let remotes: Vec<SocketAddr> =
        explained.attempts.iter().map(|attempt| attempt.remote_address.parse().unwrap()).collect();
    let expected = [2, 3, 4].map(|last| SocketAddr::from(([127, 0, 0, last], port)));
    assert_eq!(remotes, expected);
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_from_an_address_of_the_name_is_let_in() {
    let (hosts, catalog) = (Hosts::default(), catalog());
    hosts.set("here.example", &[1]);
    hosts.set("elsewhere.example", &[9]);
    for (n, host) in [(0, "here.example"), (1, "elsewhere.example"), (2, "nowhere.example")] {
        update(&catalog, n, |peer| peer.remote_addresses = vec![host.to_owned()]);
    }
    let node = node_with(NodeConfig { lookup: hosts.lookup(), ..Default::default() }, catalog);
    for n in 0..3 {
        let known = async {
            while status(&node, n)
                .await
                .resolved_names
                .iter()
                .all(|r| r.resolve_time.is_none() && r.error.is_empty())
            {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LIMIT, known).await.unwrap();
    }
    branch(&node, 0).until("up", |report| report.up).await;
    for n in [1, 2] {
        branch(&node, n).until("refused", |report| !report.last_error.is_empty() && !report.up).await;
    }
    node.shutdown().await;
}

/// A resolver that does not answer holds up the peer whose name it is, and nothing else: not its own commands either.
#[tokio::test(flavor = "multi_thread")]
async fn a_resolver_that_hangs_blocks_nobody() {
    let (catalog, (release, released)) = (catalog(), mpsc::channel::<()>());
    let (called, calls) = mpsc::channel();
    let (released, called) = (Mutex::new(released), Mutex::new(called));
    let lookup = Lookup::new(move |_| {
        called.lock().unwrap().send(()).unwrap();
        let _ = released.lock().unwrap().recv();
        Err(io::Error::other("too late"))
    });
    // One thread for all actors.
    let node = node_with(NodeConfig { lookup, arbiters: 1, ..Default::default() }, Arc::clone(&catalog));
    begin_with(&catalog, "slow.example");
    begin(&catalog, 2, "SLOW.example:4500");
    let calls = blocking(move || {
        calls.recv_timeout(LIMIT).unwrap();
        calls
    })
    .await;
    branch(&node, 1).until("up", |report| report.up).await;
    let state_of = |n| node.control().peer(&name(n)).unwrap_or_default().state;
    for n in [0, 2] {
        until("it waits", || state_of(n) == v1::PeerState::Connecting).await;
    }
    assert!(calls.try_recv().is_err(), "one name is resolved once at a time, whoever asks");
    let state = || state_of(0);
    node.control().terminate(&name(0), "somebody").await.unwrap();
    assert_eq!(state(), v1::PeerState::Terminated);
    // Nor does the node wait for it when it stops.
    tokio::time::timeout(LIMIT, node.shutdown()).await.unwrap();
    drop(release);
}
