//! The probes, over HTTP.

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};

use actors::Health;
use culvert::telemetry::http::Served;
use culvert::telemetry::{InTheWay, Probes, http};
use tokio::sync::watch;

use crate::http::{get, said};

/// More connections than a listener has room for, in all and of one source.
const FLOOD: usize = 200;

fn served() -> (tokio::runtime::Runtime, SocketAddr) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listener = runtime.block_on(http::bind("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(http::serve(listener, Served::new(Probes::default())));
    (runtime, address)
}

#[test]
fn strangers_that_hold_connections_keep_no_probe_out() {
    let (_runtime, address) = served();
    // None of them says anything; some have said half of it.
    let flood: Vec<TcpStream> = (0..FLOOD)
        .map(|n| {
            let mut stream = TcpStream::connect(address).unwrap();
            let half = if n % 2 == 0 { &b"GET /livez HT"[..] } else { b"" };
            stream.write_all(half).unwrap();
            stream
        })
        .collect();
    for _ in 0..20 {
        assert_eq!(get(address, "/livez"), (200, "ok\n".to_owned()));
    }
    drop(flood);
}

#[test]
fn probes_say_what_is_in_the_way() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let probes = Probes::default();
    let listener = runtime.block_on(http::bind("127.0.0.1:0".parse().unwrap())).unwrap();
    let address = listener.local_addr().unwrap();
    runtime.spawn(http::serve(listener, Served::new(probes.clone())));

    assert_eq!(get(address, "/livez"), (200, "ok\n".to_owned()));
    assert_eq!(get(address, "/startupz"), (503, "the node is starting\n".to_owned()));
    assert_eq!(get(address, "/readyz").0, 503);
    assert_eq!(get(address, "/metrics").0, 503);

    let (health, of_node) = watch::channel(Health::default());
    let (store, of_store) = watch::channel(None);
    assert_eq!(get(address, "/servez"), (503, "the node is starting\n".to_owned()));
    probes.started(of_node, InTheWay::OfChanges(of_store));
    assert_eq!(get(address, "/startupz").0, 200);
    assert_eq!(get(address, "/readyz"), (200, "ok\n".to_owned()));
    store.send_replace(Some("no space left on device".to_owned()));
    let (status, why) = get(address, "/readyz");
    assert!(status == 503 && why.contains("no space left"), "{status} {why}");
    assert_eq!((get(address, "/livez").0, get(address, "/servez").0), (200, 200), "packets go on");
    health.send_modify(|health| health.failed = Some("the dispatcher panicked".to_owned()));
    assert_eq!(get(address, "/livez"), (503, "the dispatcher panicked\n".to_owned()));

    assert_eq!(get(address, "/nowhere").0, 404);
    let post = "POST /livez HTTP/1.1\r\nhost: test\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(said(address, post).0, 405);
    assert_eq!(said(address, "nonsense\r\n\r\n").0, 400);
}
