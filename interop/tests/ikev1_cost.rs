//! Handshakes of IKEv1 over and over, each side responder in turn: none fails, none leaves anything behind, and what they cost
//! either responder is told. `CULVERT_HANDSHAKES=500 cargo nextest run -p interop --all-features -E 'binary(ikev1_cost)'
//! --no-capture` is a measurement.
#![allow(clippy::print_stderr)] // Figures, for who looks.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

mod common;

use common::Pair;
use interop::charon::Connection;
use interop::command::must;
use interop::daemon::Peer;
use interop::wait::until;

/// Milliseconds of CPU, its own and the kernel's for it, of the process of this name in a namespace; the unit of `/proc` is 10 ms.
fn cpu(namespace: &str, name: &str) -> u64 {
    let pids = must("ip", &["netns", "pids", namespace]);
    let of = |pid: &str| {
        let comm = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after = stat.rsplit(") ").next().unwrap_or_default().to_owned();
        let fields: Vec<u64> = after.split(' ').map(|field| field.parse().unwrap_or(0)).collect();
        (comm.trim() == name).then(|| 10 * (fields[11] + fields[12]))
    };
    pids.split_whitespace().find_map(of).unwrap_or_else(|| panic!("no {name} in {namespace}"))
}

#[test]
fn handshakes_of_main_mode_over_and_over() {
    let count: u64 = std::env::var("CULVERT_HANDSHAKES").ok().and_then(|n| n.parse().ok()).unwrap_or(10);
    for suite in ["aes128-sha256-x25519", "aes128-sha256-modp2048"] {
        let Some(pair) = Pair::open() else { return };
        let proposals = (suite.to_owned(), "aes128gcm16".to_owned());
        let connection = Connection { proposals: proposals.clone(), ..Connection::ikev1() };
        pair.charon.load(&[connection]);
        pair.culvertd.peer(&Peer { proposals, ..Peer::ikev1("MAIN") });
        let begin = cpu(&pair.right, "culvertd");
        for _ in 0..count {
            let said = pair.charon.initiate("ct");
            assert!(said.ok, "{}", said.text);
            assert!(pair.charon.swanctl(&["--terminate", "--ike", "t"]).ok);
        }
        let culvert = cpu(&pair.right, "culvertd") - begin;
        until("nothing is left", || pair.culvertd.children("acme/left"), |left| *left == 0);
        let begin = cpu(&pair.left, "charon");
        for _ in 0..count {
            assert!(pair.culvertd.cli(&["initiate", "acme/left"]).ok, "{}", pair.culvertd.log());
            assert!(pair.culvertd.cli(&["terminate", "acme/left"]).ok);
        }
        let strongswan = cpu(&pair.left, "charon") - begin;
        until("nothing is left", || pair.charon.sas(), |sas| sas.trim().is_empty());
        eprintln!(
            "{suite}: {count} handshakes and deletes cost Culvert as responder {culvert} ms of CPU, strongSwan {strongswan} ms"
        );
    }
}
