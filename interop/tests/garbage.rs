//! Rubbish at both ports while a tunnel is up: nothing breaks, and everything is counted.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use common::{LEFT, Pair, RIGHT};
use interop::command::must;
use interop::traffic::Flood;

/// Sends truncated, bit-flipped and made-up datagrams with a few lines of Python, as the namespace needs a process of
/// its own. Seconds from `CULVERT_GARBAGE_SECONDS`.
const SENDER: &str = r"
import random, socket, struct, sys, time
random.seed(int(sys.argv[3]))
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
end = time.monotonic() + float(sys.argv[2])
def header(next, exchange, flags, length):
    return struct.pack('!QQBBBBII', random.getrandbits(64), random.choice([0, random.getrandbits(64)]), next, 0x20, exchange, flags, random.randrange(3), length)
n = 0
while time.monotonic() < end:
    for _ in range(200):
        kind = random.randrange(5)
        body = bytes(random.getrandbits(8) for _ in range(random.randrange(300)))
        if kind == 0: data = body
        elif kind == 1: data = header(random.randrange(60), random.choice([34, 35, 36, 37, 99]), random.choice([0x08, 0x20, 0x00, 0x28]), 28 + len(body)) + body
        elif kind == 2: data = header(33, 34, 0x08, 28 + len(body)) + body[:random.randrange(len(body) + 1)]
        elif kind == 3: data = struct.pack('!II', 0x04000000 | random.getrandbits(24), random.getrandbits(32)) + body
        else: data = b'\0\0\0\0' + header(46, 35, 0x08, 28 + len(body)) + body
        if data and random.random() < 0.5:
            b = bytearray(data); b[random.randrange(len(b))] ^= 1 << random.randrange(8); data = bytes(b)
        s.sendto(data, (sys.argv[1], random.choice([500, 4500])))
        n += 1
    time.sleep(0.01)
print(n)
";

#[test]
fn rubbish_at_both_ports_is_counted_and_harms_nothing() {
    let Some(mut pair) = Pair::up() else { return };
    let seconds = std::env::var("CULVERT_GARBAGE_SECONDS").unwrap_or_else(|_| "8".to_owned());
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    let sent =
        must("ip", &["netns", "exec", &pair.left, "python3", "-c", SENDER, "10.99.0.2", &seconds, "7"]);
    let sent: u64 = sent.trim().parse().unwrap();
    assert!(pair.culvertd.alive());
    // The tunnel can still be rekeyed, from both sides.
    for command in [["--rekey", "--child", "ct"], ["--rekey", "--ike", "t"]] {
        assert!(pair.charon.swanctl(&command).ok);
    }
    assert!(pair.culvertd.cli(&["rekey", "acme/left"]).ok);
    pair.settled();
    let pings = flood.stop();
    assert_eq!(pings.sent, pings.received);
    assert_eq!(pair.culvertd.counter("actor_panics"), 0);
    let counters = pair.culvertd.json(&["get", "node"])["counters"].clone();
    let names = [
        "ike_malformed",
        "ike_unknown_spi",
        "ike_wrong_version",
        "ike_init_refused",
        "ike_init_cookie",
        "ike_dropped",
        "unknown_spi",
        "esp_unknown_spi",
        "truncated",
        "too_short",
        "wrong_slot",
    ];
    let counted: u64 = names.iter().map(|n| pair.culvertd.counter(n)).sum();
    assert!(counted > sent / 2, "{counted} of {sent}: {counters:#}");
}
