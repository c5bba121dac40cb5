//! strongSwan and Culvert by IKEv1: main and aggressive mode, quick mode, renewal under traffic, and what goes wrong.
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
use interop::traffic::{Flood, ping};
use interop::wait::until;

const AGGRESSIVE: &str = "i_dont_care_about_security_and_use_aggressive_mode_psk = yes";

/// Both modes, and what makes strongSwan speak them.
const MODES: [(&str, &str); 2] = [("MAIN", "aggressive = no"), ("AGGRESSIVE", "aggressive = yes")];

fn open() -> Option<Pair> {
    Pair::open_with(AGGRESSIVE)
}

/// The tunnel is up, started by strongSwan or by Culvert.
fn up(pair: &Pair, connection: &Connection, peer: &Peer) {
    pair.charon.load(std::slice::from_ref(connection));
    pair.culvertd.peer(peer);
    if !peer.start {
        let said = pair.charon.initiate("ct");
        assert!(said.ok, "{}\n{}", said.text, pair.culvertd.log());
    }
    pair.flows();
}

/// The next one starts from nothing.
fn away(pair: &Pair) {
    assert!(pair.culvertd.cli(&["delete", "tenants/acme/peers/left"]).ok);
    until("strongSwan has heard of it", || pair.charon.sas(), |sas| sas.trim().is_empty());
}

#[test]
fn either_side_starts_in_either_mode() {
    let Some(pair) = open() else { return };
    for (mode, options) in MODES {
        for start in [false, true] {
            let connection = Connection { options: options.into(), ..Connection::ikev1() };
            up(&pair, &connection, &Peer { start, ..Peer::ikev1(mode) });
            assert_eq!(ping(&pair.left, LEFT, RIGHT, 5).received, 5, "{mode} {start}");
            assert_eq!(ping(&pair.right, RIGHT, LEFT, 5).received, 5, "{mode} {start}");
            let sas = pair.charon.sas();
            assert!(sas.contains("IKEv1"), "{sas}");
            let status = pair.culvertd.status("acme/left");
            assert_eq!(status["state"], "ESTABLISHED", "{status:#}");
            away(&pair);
        }
    }
}

/// HMAC-SHA-256 cut to 96 bits is not among them: strongSwan agrees on it, but its userspace ESP has none.
const SUITES: [(&str, &str); 11] = [
    ("aes128-sha256-modp2048", "aes128-sha256"),
    ("aes256-sha512-ecp256", "aes256-sha384"),
    ("aes192-sha384-ecp384", "aes256gcm16-ecp256"),
    ("aes128-sha256-x25519", "aes192-sha512-x25519"),
    ("aes256-sha256-ecp521", "aes128gcm16-modp3072"),
    ("aes128-sha256-modp4096", "aes192gcm16-ecp521"),
    ("aes256-sha1-modp8192", "aes128-aesxcbc"),
    ("aes128-sha256-modp6144", "aes256-sha1-modp1536"),
    ("3des-sha1-modp1536", "3des-sha1"),
    ("3des-md5-modp1024", "aes128-md5-modp1024"),
    ("aes128-sha1-modp1024", "3des-sha256"),
];

fn every_suite(start: bool) {
    let Some(pair) = open() else { return };
    for (ike, esp) in SUITES {
        let proposals = (ike.to_owned(), esp.to_owned());
        let connection = Connection { proposals: proposals.clone(), ..Connection::ikev1() };
        up(&pair, &connection, &Peer { proposals, start, legacy: true, ..Peer::ikev1("MAIN") });
        let said = pair.charon.swanctl(&["--rekey", "--child", "ct"]);
        assert!(said.ok, "{ike} {esp}: {}", said.text);
        let said = pair.culvertd.cli(&["rekey", "acme/left"]);
        assert!(said.ok, "{ike} {esp}: {}", said.text);
        assert_eq!(ping(&pair.left, LEFT, RIGHT, 3).received, 3, "{ike} {esp}");
        away(&pair);
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

/// Nothing was lost, and enough was sent for that to mean something.
fn lossless(pair: &Pair, flood: Flood) {
    let pings = flood.stop();
    assert!(pings.sent > 500, "{pings:?}");
    assert_eq!(pings.sent, pings.received, "{pings:?}\n{}", pair.culvertd.log());
    assert_eq!(pair.culvertd.counter("actor_panics"), 0);
}

fn rekeys(pair: &Pair, field: &str) -> u64 {
    pair.culvertd.status("acme/left")[field].as_str().and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Phase 2 and phase 1 are renewed by either side, ten times each, under a thousand packets a second.
#[test]
fn either_side_renews_under_traffic() {
    let Some(pair) = open() else { return };
    up(&pair, &Connection::ikev1(), &Peer::ikev1("MAIN"));
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    for round in 0..10 {
        let before = rekeys(&pair, "childRekeys");
        let said = pair.charon.swanctl(&["--rekey", "--child", "ct"]);
        assert!(said.ok, "{}", said.text);
        // It is not waited for; and what is being renewed at this moment is not renewed twice.
        until("renewed by strongSwan", || rekeys(&pair, "childRekeys"), |now| *now > before);
        let said = pair.culvertd.cli(&["rekey", "acme/left"]);
        assert!(said.ok, "{}", said.text);
        if round % 3 == 2 {
            let before = rekeys(&pair, "ikeRekeys");
            let said = pair.charon.swanctl(&["--rekey", "--ike", "t"]);
            assert!(said.ok, "{}", said.text);
            until("phase 1 anew by strongSwan", || rekeys(&pair, "ikeRekeys"), |now| *now > before);
            let said = pair.culvertd.cli(&["rekey", "--ike", "acme/left"]);
            assert!(said.ok, "{}", said.text);
        }
        // For the pace: each of the pairs is used for a while.
        assert_eq!(ping(&pair.right, RIGHT, LEFT, 3).received, 3);
    }
    let status = pair.culvertd.status("acme/left");
    assert!(
        rekeys(&pair, "childRekeys") >= 20 && rekeys(&pair, "ikeRekeys") >= 6,
        "{status:#}\n{}",
        pair.culvertd.log()
    );
    lossless(&pair, flood);
}

/// The number of strongSwan's newest IKE_SA.
fn newest_ike(pair: &Pair) -> u32 {
    let sas = pair.charon.sas();
    let numbers = sas.lines().filter_map(|line| line.strip_prefix("t: #")?.split(',').next()?.parse().ok());
    numbers.max().unwrap_or(0)
}

/// Both start at the same moment, again and again. `CULVERT_COLLISIONS` says how often.
#[test]
fn both_sides_renew_at_once_under_traffic() {
    let Some(pair) = open() else { return };
    up(&pair, &Connection::ikev1(), &Peer::ikev1("MAIN"));
    let rounds = std::env::var("CULVERT_COLLISIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    for round in 0..rounds {
        // By its number: a name means every IKE_SA that it has left from the rounds before.
        let newest = newest_ike(&pair).to_string();
        let (theirs, ours): ([&str; 3], &[&str]) = match round % 2 {
            0 => (["--rekey", "--child", "ct"], &["rekey", "acme/left"]),
            _ => (["--rekey", "--ike-id", &newest], &["rekey", "--ike", "acme/left"]),
        };
        std::thread::scope(|scope| {
            scope.spawn(|| pair.charon.swanctl(&theirs));
            scope.spawn(|| pair.culvertd.cli(ours));
        });
        assert_eq!(ping(&pair.right, RIGHT, LEFT, 5).received, 5, "{round}");
    }
    lossless(&pair, flood);
}

/// Phase 1 of either side runs out every few seconds, phase 2 stays.
#[test]
fn phase_1_goes_first() {
    let Some(pair) = open() else { return };
    let options = "rekey_time = 3s\n over_time = 1s\n rand_time = 0s".to_owned();
    let mut peer = Peer::ikev1("MAIN");
    peer.ike.push("lifetime: {rekeyTime: 4s, lifeTime: 6s}".into());
    up(&pair, &Connection { options, ..Connection::ikev1() }, &peer);
    let flood = Flood::start(&pair.left, LEFT, RIGHT);
    until("phase 1 was made anew", || rekeys(&pair, "ikeRekeys"), |n| *n >= 4);
    assert_eq!(rekeys(&pair, "childRekeys"), 0);
    lossless(&pair, flood);
}

/// Phase 2 is used up by what it carries, and by time, on either side.
#[test]
fn phase_2_is_renewed_by_octets_and_by_time() {
    let Some(pair) = open() else { return };
    let life = |life: &str| Peer { child: vec![format!("lifetime: {{{life}}}")], ..Peer::ikev1("MAIN") };
    let theirs = |options: &str| {
        let child_options = format!("{}\n{options}", Connection::ikev1().child_options);
        Connection { child_options, ..Connection::ikev1() }
    };
    for (connection, peer) in [
        (theirs(""), life("rekeyBytes: 150000, lifeBytes: 1500000")),
        (theirs("rekey_time = 2s\n life_time = 20s\n rand_time = 0s"), life("rekeyTime: 2s, lifeTime: 20s")),
        (theirs("rekey_bytes = 150000\n life_bytes = 1500000\n rand_bytes = 0"), Peer::ikev1("MAIN")),
    ] {
        up(&pair, &connection, &peer);
        let flood = Flood::start(&pair.left, LEFT, RIGHT);
        until("pairs are used up", || rekeys(&pair, "childRekeys"), |n| *n >= 3);
        lossless(&pair, flood);
        away(&pair);
    }
}

/// Three pairs of subnets, of one child and of three: a pair of SAs for each.
#[test]
fn several_proxy_ids() {
    let Some(pair) = open() else { return };
    pair.lab.protect(&pair.left, "10.1.1.1/32");
    pair.lab.protect(&pair.left, "10.1.2.1/32");
    let child = |n: u8| (format!("c{n}"), format!("10.1.{n}.1/32"), "10.2.0.1/32".to_owned());
    let more_children = vec![child(1), child(2)];
    let connection = Connection { more_children: more_children.clone(), ..Connection::ikev1() };
    let turned = |(name, a, b): &(String, String, String)| (name.clone(), b.clone(), a.clone());
    let three = more_children.iter().map(turned).collect();
    let subnets = ("10.2.0.1/32".into(), "10.1.0.1/32, 10.1.1.1/32, 10.1.2.1/32".into());
    for peer in
        [Peer { more_children: three, ..Peer::ikev1("MAIN") }, Peer { subnets, ..Peer::ikev1("MAIN") }]
    {
        for start in [true, false] {
            pair.charon.load(std::slice::from_ref(&connection));
            pair.culvertd.peer(&Peer { start, ..peer.clone() });
            if !start {
                for child in ["ct", "c1", "c2"] {
                    assert!(pair.charon.initiate(child).ok);
                }
            }
            until("three pairs", || pair.culvertd.children("acme/left"), |n| *n == 3);
            for address in ["10.1.0.1", "10.1.1.1", "10.1.2.1"] {
                interop::traffic::until_ping(&pair.left, address, RIGHT);
            }
            assert_eq!(pair.culvertd.status("acme/left")["state"], "ESTABLISHED");
            away(&pair);
        }
    }
}

/// Perfect forward secrecy: none, required, and as the peer wants.
#[test]
fn perfect_forward_secrecy() {
    let Some(pair) = open() else { return };
    let ike = || Connection::ikev1().proposals.0;
    for (theirs, ours) in [
        ("aes128gcm16", "aes128gcm16-modp2048-nopfs"),
        ("aes128gcm16-modp2048", "aes128gcm16-ecp256-modp2048-nopfs"),
        ("aes128gcm16-ecp256", "aes128gcm16-modp2048-ecp256"),
    ] {
        for start in [false, true] {
            let connection = Connection { proposals: (ike(), theirs.into()), ..Connection::ikev1() };
            let peer = Peer { proposals: (ike(), ours.into()), start, ..Peer::ikev1("MAIN") };
            up(&pair, &connection, &peer);
            for _ in 0..2 {
                assert!(pair.culvertd.cli(&["rekey", "acme/left"]).ok);
                assert!(pair.charon.swanctl(&["--rekey", "--child", "ct"]).ok);
            }
            assert_eq!(ping(&pair.left, LEFT, RIGHT, 2).received, 2, "{theirs} {ours}");
            away(&pair);
        }
    }
}

/// `kill -9` of either side: the tunnel is back by itself.
#[test]
fn either_side_is_killed() {
    let Some(mut pair) = open() else { return };
    let connection = Connection { dpd: 1, ..Connection::ikev1() };
    let mut peer = Peer { start: true, ..Peer::ikev1("MAIN") };
    peer.ike.push("dpdInterval: 1s".into());
    up(&pair, &connection, &peer);
    pair.culvertd.restart();
    pair.flows();
    pair.charon.restart();
    pair.charon.load(std::slice::from_ref(&connection));
    pair.flows();
    assert_eq!(pair.culvertd.counter("actor_panics"), 0);
}
