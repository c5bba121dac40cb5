//! Two gateways that call themselves the same: which of them has the tunnel.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

use std::time::Duration;

use interop::charon::{Charon, Connection};
use interop::daemon::{Daemon, Peer, tenant};
use interop::lab::Lab;
use interop::traffic::{ping, until_ping};
use interop::wait::{until, within};

const LEFT: &str = "10.1.0.1";
const RIGHT: &str = "10.2.0.1";
/// As in `recovery.rs`: a dead peer is given up after 41 s.
const GIVEN_UP: Duration = Duration::from_secs(80);

#[test]
fn the_newer_replaces_the_older_or_the_older_is_kept() {
    let Some(mut lab) = Lab::open() else { return };
    let right = lab.namespace("right");
    let mut culvertd = Daemon::start(&lab, &right);
    culvertd.apply(&[tenant("acme", "culvert0", "10.2.0.1/32", None)]);
    // From anywhere.
    let peer = Peer { address: String::new(), ..Peer::usual() };
    culvertd.peer(&peer);
    let mut sites: Vec<(Charon, String)> = [1, 2]
        .map(|n| {
            let left = lab.namespace(&format!("left{n}"));
            let (ours, theirs) = (format!("10.99.{n}.1"), format!("10.99.{n}.2"));
            lab.wire(
                (&left, &format!("vl{n}"), &format!("{ours}/24")),
                (&right, &format!("vr{n}"), &format!("{theirs}/24")),
            );
            lab.protect(&left, "10.1.0.1/32");
            let charon = Charon::start(&lab, &left);
            charon.load(&[Connection { addresses: (ours, theirs), ..Connection::usual() }]);
            (charon, left)
        })
        .into();
    let remote = |culvertd: &Daemon| culvertd.status("acme/left")["remoteAddress"].to_string();

    // REPLACE, the default.
    for (charon, left) in &sites {
        assert!(charon.initiate("ct").ok, "{}", culvertd.log());
        until_ping(left, LEFT, RIGHT);
    }
    assert!(remote(&culvertd).contains("10.99.2.1"), "{}", remote(&culvertd));
    let told = || culvertd.cli(&["explain", "acme/left"]).text;
    let words =
        ["cause: uniqueness", "from 10.99.1.1", "from 10.99.2.1", "so far 1 ", "KEEP", "its own identity"];
    until("who has replaced whom is told", told, |text| words.iter().all(|word| text.contains(word)));
    // INITIAL_CONTACT means that the peer has nothing else, so the first one is told nothing.
    sites[0].0.swanctl(&["--terminate", "--ike", "t", "--force"]);

    // KEEP, for those that come from now on.
    culvertd.peer(&Peer { ike: vec!["uniqueness: KEEP".into()], ..peer });
    let said = sites[0].0.initiate("ct");
    assert!(!said.ok && said.text.contains("AUTHENTICATION_FAILED"), "{}", said.text);
    assert_eq!(culvertd.counter("ike_duplicate_refused"), 1);
    let words = ["uniqueness", "is connected from 10.99.2.1", "refused from 10.99.1.1"];
    until("who was refused is told", told, |text| words.iter().all(|word| text.contains(word)));
    assert_eq!(ping(&sites[1].1, LEFT, RIGHT, 5).received, 5, "{}", culvertd.log());
    // The same gateway may start again.
    sites[1].0.swanctl(&["--terminate", "--ike", "t", "--force"]);
    assert!(sites[1].0.initiate("ct").ok, "{}", culvertd.log());
    until_ping(&sites[1].1, LEFT, RIGHT);

    // It dies without a word. The other is refused at first, which makes culvertd look; then it is let in.
    sites[1].0.kill();
    let sites = &sites;
    within(GIVEN_UP, "the other is let in", || sites[0].0.initiate("ct").ok, |ok| *ok);
    until_ping(&sites[0].1, LEFT, RIGHT);
    assert!(culvertd.counter("ike_duplicate_refused") > 1);
    assert!(culvertd.alive());
}
