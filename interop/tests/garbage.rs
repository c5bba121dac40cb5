//! Rubbish at both ports while a tunnel is up: nothing breaks, and everything is counted.
#![allow(clippy::print_stderr)] // Figures, for who looks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use common::{LEFT, Pair, RIGHT};
use interop::command::{Running, must};
use interop::rubbish::read_samples;
use interop::traffic::Flood;
use interop::wait::until;

const RUBBISH: &str = env!("CARGO_BIN_EXE_rubbish");

/// What becomes of a datagram that the sockets gave: each is counted as one of these, or belongs to the tunnel.
const RECEIVED: [&str; 4] = ["ike_received", "esp_received", "nat_keepalive", "drop_runt"];
const REFUSED: [&str; 19] = [
    "nat_keepalive",
    "drop_runt",
    "drop_unknown_spi",
    "esp_truncated",
    "esp_misaligned",
    "esp_bad_sequence",
    "esp_replay_duplicate",
    "esp_replay_too_old",
    "esp_icv_mismatch",
    "ike_malformed",
    "ike_unknown_spi",
    "ike_wrong_version",
    "ike_dropped",
    "ike_init_no_peer",
    "ike_init_refused",
    "ike_init_cookie",
    "ike_half_open_limit",
    "ike_answered_again",
    "drop_ike_overload",
];

/// Copies of everything that made the tunnel and went through it come back truncated, flipped, mixed, and as they were,
/// together with noise, from an address that is not the peer's. `CULVERT_GARBAGE_SECONDS` says how long.
#[test]
fn rubbish_at_both_ports_is_counted_and_harms_nothing() {
    let Some(mut pair) = Pair::configured() else { return };
    let third = pair.lab.namespace("third");
    pair.lab.wire((&third, "vt", "10.98.0.1/24"), (&pair.right, "vx", "10.98.0.2/24"));
    let file = pair.lab.file("samples").display().to_string();
    let samples = || read_samples(&std::fs::read_to_string(&file).unwrap_or_default());
    let tap = Running::start(
        "ip",
        &["netns", "exec", &pair.right, RUBBISH, "tap", &file],
        &pair.lab.file("tap.log"),
    );
    until("the tap is open", || std::path::Path::new(&file).exists(), |there| *there);
    // One of each exchange, and ESP.
    pair.initiate();
    for command in [["--rekey", "--child", "ct"], ["--rekey", "--ike", "t"]] {
        assert!(pair.charon.swanctl(&command).ok);
    }
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    until("datagrams are kept", || samples().len(), |n| *n > 150);
    drop(tap);

    let counter = |name: &&str| pair.culvertd.counter(name);
    let sum = |names: &[&str]| names.iter().map(counter).sum::<u64>();
    let (received, refused) = (sum(&RECEIVED), sum(&REFUSED));
    let remote = pair.culvertd.status("acme/left")["remoteAddress"].clone();
    let seconds = std::env::var("CULVERT_GARBAGE_SECONDS").unwrap_or_else(|_| "8".to_owned());
    let sent = must("ip", &["netns", "exec", &third, RUBBISH, "send", &file, "10.98.0.2", &seconds, "7"]);
    let sent: u64 = sent.trim().parse().unwrap();
    assert!(sent > 1000, "{sent}");

    // The tunnel is where it was, and can be rekeyed from both sides.
    assert_eq!(pair.culvertd.status("acme/left")["remoteAddress"], remote);
    for command in [["--rekey", "--child", "ct"], ["--rekey", "--ike", "t"]] {
        assert!(pair.charon.swanctl(&command).ok);
    }
    assert!(pair.culvertd.cli(&["rekey", "acme/left"]).ok);
    pair.settled();
    let pings = flood.stop();
    // A socket full of rubbish has no room for a ping now and then.
    assert!(pings.received >= pings.sent / 100 * 99, "{pings:?}");
    let (received, refused) = (sum(&RECEIVED) - received, sum(&REFUSED) - refused);
    let (rx_full, panics) = (receive_buffer_full(&pair.right), counter(&"actor_panics"));
    eprintln!(
        "{sent} sent, {rx_full} found no room in the socket, {received} received, {refused} refused; {pings:?}"
    );
    let counters = pair.culvertd.json(&["get", "node"])["counters"].clone();
    // All that the kernel gave was counted on arrival, and again for what became of it; a few of the copies are taken
    // for what they were.
    assert!(received >= sent - rx_full, "{counters:#}");
    assert!(refused >= (sent - rx_full) / 100 * 95, "{counters:#}");
    assert_eq!(panics, 0);
    assert!(pair.culvertd.alive());
}

/// Datagrams that the kernel dropped in a namespace because a socket's receive buffer was full.
fn receive_buffer_full(namespace: &str) -> u64 {
    let text = must("ip", &["netns", "exec", namespace, "cat", "/proc/net/snmp"]);
    let mut lines = text.lines().filter(|line| line.starts_with("Udp:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut pairs = names.split_whitespace().zip(values.split_whitespace());
    pairs.find(|(name, _)| *name == "RcvbufErrors").and_then(|(_, n)| n.parse().ok()).unwrap_or(0)
}
