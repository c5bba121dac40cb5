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

const SUITES: [(&str, &str); 11] = [
    ("aes128gcm16-prfsha256-x25519", "aes128gcm16"),
    ("aes256gcm16-prfsha384-ecp384", "aes256gcm16"),
    ("chacha20poly1305-prfsha256-x25519", "chacha20poly1305"),
    ("aes128-sha256-modp2048", "aes128-sha256"),
    ("aes256-sha512-ecp256", "aes256-sha384"),
    ("aes128gcm16-prfsha512-x25519", "aes192-sha512-x25519"),
    ("aes192-sha384-ecp384", "aes128gcm16-ecp256"),
    ("aes256gcm16-prfsha512-ecp521", "aes256gcm16-modp3072"),
    ("aes128-sha256-modp4096", "chacha20poly1305-ecp521"),
    // strongSwan writes aescmac and aesxcbc as Culvert does, for integrity and PRF alike.
    ("aes128-aesxcbc-modp2048", "aes128-aesxcbc"),
    ("aes256-aescmac-x25519", "aes256-aescmac-x25519"),
];

/// What old peers have, and the largest groups.
const LEGACY: [(&str, &str); 4] = [
    ("3des-sha1-modp1536", "3des-sha1"),
    ("3des-md5-modp1024", "aes128-md5-modp1024"),
    ("aes256-sha1-modp8192", "3des-sha256"),
    ("aes128-sha256-modp6144", "3des-md5-modp1536"),
];

/// Each suite makes a tunnel, is used to rekey it from either side, and carries packets.
fn every_suite(culvert_starts: bool) {
    let Some(pair) = Pair::open() else { return };
    let suites = SUITES.iter().map(|suite| (suite, false)).chain(LEGACY.iter().map(|suite| (suite, true)));
    for (&(ike, esp), legacy) in suites {
        let proposals = (ike.to_owned(), esp.to_owned());
        pair.charon.load(&[Connection { proposals: proposals.clone(), ..Connection::usual() }]);
        pair.culvertd.peer(&Peer { proposals, start: culvert_starts, legacy, ..Peer::usual() });
        if culvert_starts {
            pair.flows();
        } else {
            pair.initiate();
        }
        rekey_from_either_side(&pair, ike, esp);
        assert_eq!(ping(&pair.left, LEFT, RIGHT, 3).received, 3, "{ike} {esp}");
        // The next suite starts from nothing.
        assert!(pair.culvertd.cli(&["delete", "tenants/acme/peers/left"]).ok);
        until("strongSwan has heard of it", || pair.charon.sas(), |sas| sas.trim().is_empty());
    }
}

fn rekey_from_either_side(pair: &Pair, ike: &str, esp: &str) {
    for command in [["--rekey", "--child", "ct"], ["--rekey", "--ike", "t"]] {
        let said = pair.charon.swanctl(&command);
        assert!(said.ok, "{ike} {esp}: {}", said.text);
    }
    for command in [["rekey", "acme/left"].as_slice(), &["rekey", "--ike", "acme/left"]] {
        let said = pair.culvertd.cli(command);
        assert!(said.ok, "{ike} {esp}: {}", said.text);
    }
}

#[test]
fn every_suite_started_by_strongswan() {
    every_suite(false);
}

#[test]
fn every_suite_started_by_culvert() {
    every_suite(true);
}

/// A tunnel of what strongSwan and Culvert propose, begun by Culvert or not.
fn up_with(theirs: (&str, &str), ours: (&str, &str), culvert_starts: bool) -> Option<Pair> {
    let owned = |(ike, esp): (&str, &str)| (ike.to_owned(), esp.to_owned());
    let pair = Pair::open()?;
    pair.charon.load(&[Connection { proposals: owned(theirs), ..Connection::usual() }]);
    pair.culvertd.peer(&Peer { proposals: owned(ours), start: culvert_starts, ..Peer::usual() });
    if culvert_starts {
        pair.flows();
    } else {
        pair.initiate();
    }
    Some(pair)
}

/// The initiator guesses a group that the responder does not take: INVALID_KE_PAYLOAD, and once more.
#[test]
fn a_wrong_guess_of_the_group_is_put_right() {
    let several = ("aes128-sha256-modp2048-x25519", "aes128gcm16-modp2048-x25519");
    let one = ("aes128-sha256-x25519", "aes128gcm16-x25519");
    for (theirs, ours, start) in [(several, one, false), (one, several, true)] {
        let Some(pair) = up_with(theirs, ours, start) else { return };
        assert!(pair.charon.log().contains("INVAL_KE"), "{}", pair.charon.log());
        rekey_from_either_side(&pair, ours.0, ours.1);
        assert_eq!(ping(&pair.left, LEFT, RIGHT, 3).received, 3);
        pair.settled();
    }
}

/// Both have everything, in opposite orders. strongSwan offers all of it with each rekeying, and makes the keys of the new IKE_SA with the PRF
/// of the old one: were another chosen, nothing on the new one would open.
#[test]
fn a_rekeying_changes_no_algorithms() {
    let theirs = ("aes256-aes128-sha512-sha256-modp2048-x25519", "aes128gcm16-modp2048-x25519");
    let ours = ("aes128-aes256-sha256-sha512-x25519-modp2048", "aes128gcm16-x25519-modp2048");
    for start in [false, true] {
        let Some(pair) = up_with(theirs, ours, start) else { return };
        let chosen = || pair.culvertd.status("acme/left")["ikeProposal"].clone();
        let first = chosen();
        assert!(first.is_string(), "{:#}", pair.culvertd.status("acme/left"));
        for _ in 0..2 {
            rekey_from_either_side(&pair, theirs.0, theirs.1);
            assert_eq!(chosen(), first);
        }
        assert_eq!(ping(&pair.left, LEFT, RIGHT, 3).received, 3);
        pair.settled();
    }
}

/// Two negotiations cross; one tunnel is what is left.
#[test]
fn both_start_at_once() {
    let Some(pair) = Pair::open() else { return };
    pair.charon.load(&[Connection::usual()]);
    for _ in 0..4 {
        std::thread::scope(|scope| {
            scope.spawn(|| pair.charon.initiate("ct"));
            scope.spawn(|| pair.culvertd.peer(&Peer { start: true, ..Peer::usual() }));
        });
        pair.flows();
        pair.settled();
        assert_eq!(ping(&pair.left, LEFT, RIGHT, 3).received, 3);
        assert!(pair.culvertd.cli(&["delete", "tenants/acme/peers/left"]).ok);
        until("strongSwan has heard of it", || pair.charon.sas(), |sas| sas.trim().is_empty());
    }
}

/// `CULVERT_BULK_MB` says how much; both sides count it.
#[test]
fn bulk_data_goes_both_ways() {
    let Some(pair) = Pair::up() else { return };
    let megabytes = std::env::var("CULVERT_BULK_MB").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    for reverse in [false, true] {
        let rate = iperf(&pair.lab, (&pair.right, RIGHT), (&pair.left, LEFT), megabytes, reverse);
        eprintln!("{megabytes} MB, reverse {reverse}: {rate:.0} Mbit/s");
    }
    let status = pair.culvertd.status("acme/left");
    for direction in ["bytesIn", "bytesOut"] {
        let bytes = status[direction].as_str().and_then(|s| s.parse().ok()).or(status[direction].as_u64());
        assert!(bytes.unwrap_or(0) > u64::from(megabytes) * 1_000_000, "{direction}: {status:#}");
    }
    let (taken, given) = pair.charon.octets();
    assert!(taken.min(given) > u64::from(megabytes) * 1_000_000, "{}", pair.charon.sas());
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
