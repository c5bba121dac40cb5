//! Whatever arrives is accounted for: received is the sum of what has become of it.

use std::net::{Ipv4Addr, UdpSocket};

use actors::{IKE_OUTCOMES, Node};

use crate::common::{LIMIT, branch, branch_with, catalog, node, until};

fn counter(node: &Node, name: &str) -> u64 {
    node.control().node_status().counters.get(name).copied().unwrap_or_default()
}

/// What a real branch begins with.
async fn first_message(node: &Node) -> Vec<u8> {
    let listener = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.set_read_timeout(Some(LIMIT)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let branch = branch_with(node, 0, |config| config.ike_port = port);
    let received = tokio::task::spawn_blocking(move || {
        let mut buffer = [0; 4096];
        listener.recv(&mut buffer).map(|len| buffer[..len].to_vec())
    });
    let message = received.await.unwrap().unwrap();
    branch.vanish().await;
    message
}

/// The same with another initiator SPI.
fn with_spi(message: &[u8], spi: u64) -> Vec<u8> {
    let mut other = message.to_vec();
    other[..8].copy_from_slice(&spi.to_be_bytes());
    other
}

/// A header and nothing right behind it.
fn sealed(spis: (u64, u64), exchange: u8) -> Vec<u8> {
    let mut message = [spis.0.to_be_bytes(), spis.1.to_be_bytes()].concat();
    message.extend([46, 0x20, exchange, 0x08, 0, 0, 0, 1, 0, 0, 0, 92]);
    message.extend([0, 0, 0, 64]);
    message.resize(92, 0xa5);
    message
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_received_is_the_sum_of_what_has_become_of_it() {
    let node = node(catalog());
    let init = first_message(&node).await;
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, node.ports().0)).unwrap();
    socket.set_read_timeout(Some(LIMIT)).unwrap();
    let send = |message: &[u8]| assert_eq!(socket.send(message).unwrap(), message.len());

    // Half-open, and what reaches it then: a copy, a changed first message, IKE_AUTH with a wrong integrity code.
    send(&init);
    let mut answer = [0; 4096];
    assert!(socket.recv(&mut answer).unwrap() > 28);
    let spis = [0, 8].map(|at| u64::from_be_bytes(answer[at..at + 8].try_into().unwrap()));
    let mut changed = init.clone();
    *changed.last_mut().unwrap() ^= 1;
    send(&init);
    send(&changed);
    send(&sealed((spis[0], spis[1]), 35));
    until("a wrong integrity code is counted", || counter(&node, "ike_dropped") > 0).await;
    assert!(node.control().node_status().half_open >= 1);

    // For nobody, and no IKE at all.
    send(&sealed((1, 2), 35));
    send(&[7; 40]);
    send(&[7; 3]);
    let mut version = init.clone();
    version[17] = 0x30;
    send(&version);
    let mut long = with_spi(&init, 77);
    long.resize(9000, 0);
    long[24..28].copy_from_slice(&9000u32.to_be_bytes());
    send(&long);

    // A public value of zeros, a cut payload, and more than pass without a cookie.
    let key = init.windows(4).position(|w| w == [0, 31, 0, 0]).unwrap() + 4;
    let mut zeros = with_spi(&init, 78);
    zeros[key..key + 32].fill(0);
    send(&zeros);
    let mut cut = with_spi(&init, 79);
    cut[30..32].copy_from_slice(&3u16.to_be_bytes());
    send(&cut);
    for spi in 1000..1600 {
        send(&with_spi(&init, spi));
    }
    // And a negotiation that succeeds.
    let mut good = branch(&node, 1);
    good.until("up", |r| r.up).await;

    let outcomes = || IKE_OUTCOMES.iter().map(|name| counter(&node, name)).sum::<u64>();
    until("everything is accounted for", || {
        let received = counter(&node, "ike_received");
        received > 600 && received == outcomes()
    })
    .await;
    for name in
        ["ike_malformed", "ike_unknown_spi", "ike_wrong_version", "ike_init_too_long", "ike_init_cookie"]
    {
        assert!(counter(&node, name) > 0, "{name}");
    }
    for name in ["ike_dropped", "ike_taken", "ike_init_accepted", "ike_init_refused"] {
        assert!(counter(&node, name) > 0, "{name}");
    }
    node.shutdown().await;
}
