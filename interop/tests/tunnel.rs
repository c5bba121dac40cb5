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
