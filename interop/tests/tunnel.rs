//! strongSwan and Culvert: who starts, with which algorithms, and what goes through.
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
use interop::charon::Connection;
use interop::daemon::Peer;
use interop::traffic::{iperf, ping};
use interop::wait::until;

#[test]
fn strongswan_starts() {
    let Some(pair) = Pair::up() else { return };
    assert_eq!(ping(&pair.left, LEFT, RIGHT, 5).received, 5);
    let status = pair.culvertd.status("acme/left");
    assert_eq!(status["state"], "ESTABLISHED", "{status:#}");
    assert!(
        pair.charon.sas().contains("AES_GCM_16-128/PRF_HMAC_SHA2_256/CURVE_25519"),
        "{}",
        pair.charon.sas()
    );
}

#[test]
fn culvert_starts() {
    let Some(pair) = Pair::open() else { return };
    pair.charon.load(&[Connection::usual()]);
    pair.culvertd.peer(&Peer { start: true, ..Peer::usual() });
    pair.flows();
    pair.settled();
    assert_eq!(ping(&pair.right, RIGHT, LEFT, 5).received, 5);
}

#[test]
fn every_suite_in_both_roles() {
    let Some(pair) = Pair::open() else { return };
    let suites = [
        ("aes256gcm16-prfsha384-ecp384", "aes256gcm16"),
        ("chacha20poly1305-prfsha256-x25519", "chacha20poly1305"),
        ("aes128-sha256-modp2048", "aes128-sha256"),
        ("aes256-sha512-ecp256", "aes256-sha384"),
        ("aes128gcm16-prfsha512-x25519", "aes192-sha512-x25519"),
        ("aes192-sha384-ecp384", "aes128gcm16-ecp256"),
        ("aes256gcm16-prfsha512-ecp521", "aes256gcm16-modp3072"),
        ("aes128-sha256-modp4096", "chacha20poly1305-ecp521"),
    ];
    for (number, (ike, esp)) in suites.into_iter().enumerate() {
        let start = number % 2 == 0;
        let proposals = (ike.to_owned(), esp.to_owned());
        pair.charon.load(&[Connection { proposals: proposals.clone(), ..Connection::usual() }]);
        pair.culvertd.peer(&Peer { proposals, start, ..Peer::usual() });
        if start {
            pair.flows();
        } else {
            pair.initiate();
        }
        for command in [["--rekey", "--child", "ct"], ["--rekey", "--ike", "t"]] {
            let said = pair.charon.swanctl(&command);
            assert!(said.ok, "{ike} {esp}: {}", said.text);
        }
        for command in [vec!["rekey", "acme/left"], vec!["rekey", "--ike", "acme/left"]] {
            let said = pair.culvertd.cli(&command);
            assert!(said.ok, "{ike} {esp}: {}", said.text);
        }
        assert_eq!(ping(&pair.left, LEFT, RIGHT, 3).received, 3, "{ike} {esp}");
        pair.settled();
        // The next suite starts from nothing.
        assert!(pair.culvertd.cli(&["delete", "tenants/acme/peers/left"]).ok);
        until("strongSwan has heard of it", || pair.charon.installed(), |n| *n == 0);
    }
}

#[test]
fn bulk_data_goes_both_ways() {
    let Some(pair) = Pair::up() else { return };
    for reverse in [false, true] {
        let rate = iperf(&pair.lab, (&pair.right, RIGHT), (&pair.left, LEFT), 100, reverse);
        eprintln!("100 MB, reverse {reverse}: {rate:.0} Mbit/s");
    }
    let status = pair.culvertd.status("acme/left");
    for direction in ["bytesIn", "bytesOut"] {
        let bytes = status[direction].as_str().and_then(|s| s.parse().ok()).or(status[direction].as_u64());
        assert!(bytes.unwrap_or(0) > 100_000_000, "{direction}: {status:#}");
    }
}

/// So many selectors that IKE_AUTH takes several datagrams each way, as certificates would.
#[test]
fn large_messages_go_in_fragments() {
    let Some(pair) = Pair::open() else { return };
    let nets = |side: u8| {
        let nets = (0..60).map(|n| format!("10.{side}.{n}.0/25"));
        nets.collect::<Vec<_>>().join(",")
    };
    // strongSwan wants an address of its own in each.
    for n in 1..60 {
        pair.lab.protect(&pair.left, &format!("10.1.{n}.1/32"));
    }
    let (ours, theirs) = (nets(1), nets(2));
    pair.charon.load(&[Connection { selectors: (ours.clone(), theirs.clone()), ..Connection::usual() }]);
    pair.culvertd.peer(&Peer { subnets: (theirs, ours), ..Peer::usual() });
    pair.initiate();
    let log = pair.charon.log();
    assert!(log.contains("splitting IKE message"), "{log}");
    assert!(log.contains("received fragment #2 of"), "{log}");
    // And the other way round: Culvert rekeys with all its selectors.
    assert!(pair.culvertd.cli(&["rekey", "acme/left"]).ok);
    assert_eq!(ping(&pair.left, LEFT, RIGHT, 3).received, 3);
}
