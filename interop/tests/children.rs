//! Several Child SAs of one peer, and selectors that are narrowed.
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
use interop::traffic::{ping, until_ping};
use interop::wait::until;

const SECOND: &str = "10.1.1.1";

/// Two children on both sides, to the same address of ours.
fn two_children(culvert_starts: bool) -> Option<Pair> {
    let pair = Pair::open()?;
    pair.lab.protect(&pair.left, "10.1.1.1/32");
    let (ours, theirs) = ("10.2.0.1/32".to_owned(), "10.1.1.1/32".to_owned());
    let more_children = vec![("second".to_owned(), theirs.clone(), ours.clone())];
    pair.charon.load(&[Connection { more_children, ..Connection::usual() }]);
    let more_children = vec![("second".to_owned(), ours, theirs)];
    pair.culvertd.peer(&Peer { more_children, start: culvert_starts, ..Peer::usual() });
    if !culvert_starts {
        pair.initiate();
        let said = pair.charon.initiate("second");
        assert!(said.ok, "{}\n{}", said.text, pair.culvertd.log());
    }
    for address in [LEFT, SECOND] {
        until_ping(&pair.left, address, RIGHT);
    }
    Some(pair)
}

fn two_are_rekeyed(pair: &Pair) {
    for child in ["ct", "second"] {
        let said = pair.charon.swanctl(&["--rekey", "--child", child]);
        assert!(said.ok, "{}", said.text);
    }
    for command in [["rekey", "acme/left"].as_slice(), &["rekey", "--ike", "acme/left"]] {
        let said = pair.culvertd.cli(command);
        assert!(said.ok, "{}", said.text);
    }
    let there = || (pair.charon.installed(), pair.culvertd.children("acme/left"));
    until("two Child SAs on both sides", there, |n| *n == (2, 2));
    for address in [LEFT, SECOND] {
        assert_eq!(ping(&pair.left, address, RIGHT, 3).received, 3);
    }
    // One goes, the other stays.
    assert!(pair.charon.swanctl(&["--terminate", "--child", "ct"]).ok);
    until_ping(&pair.left, SECOND, RIGHT);
}

#[test]
fn strongswan_starts_two_children() {
    let Some(pair) = two_children(false) else { return };
    two_are_rekeyed(&pair);
}

#[test]
fn culvert_starts_two_children() {
    let Some(pair) = two_children(true) else { return };
    two_are_rekeyed(&pair);
}

/// Each side asks for more than the other has.
#[test]
fn selectors_are_narrowed() {
    for culvert_starts in [false, true] {
        let Some(pair) = Pair::open() else { return };
        let (narrow, wide) = (Connection::usual().selectors, "10.0.0.0/12".to_owned());
        let selectors = if culvert_starts { narrow.clone() } else { (narrow.0.clone(), wide.clone()) };
        pair.charon.load(&[Connection { selectors, ..Connection::usual() }]);
        let subnets = if culvert_starts { (narrow.1.clone(), wide) } else { Peer::usual().subnets };
        pair.culvertd.peer(&Peer { subnets, start: culvert_starts, ..Peer::usual() });
        if culvert_starts {
            pair.flows();
        } else {
            pair.initiate();
        }
        let sas = pair.charon.sas();
        assert!(sas.contains("remote 10.2.0.1/32"), "{sas}");
        let child = pair.culvertd.status("acme/left")["children"][0].clone();
        let selectors = (child["localSelectors"].to_string(), child["remoteSelectors"].to_string());
        assert!(selectors.0.contains("10.2.0.1") && !selectors.0.contains("10.0.0.0"), "{child:#}");
        assert!(selectors.1.contains("10.1.0.1") && !selectors.1.contains("10.0.0.0"), "{child:#}");
        assert!(pair.culvertd.cli(&["rekey", "acme/left"]).ok);
        assert!(pair.charon.swanctl(&["--rekey", "--child", "ct"]).ok);
        assert_eq!(ping(&pair.left, LEFT, RIGHT, 3).received, 3);
    }
}
