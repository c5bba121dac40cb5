//! What ike-scan is shown by IKEv1: the transform of who is configured, and nothing else to nobody.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    missing_docs,
    unused_crate_dependencies
)]

use interop::command::run;
use interop::daemon::{Daemon, Peer, tenant};
use interop::lab::Lab;

struct Site {
    culvertd: Daemon,
    left: String,
    _lab: Lab,
}

fn open() -> Option<Site> {
    let mut lab = Lab::open()?;
    let (left, right) = (lab.namespace("left"), lab.namespace("right"));
    lab.wire((&left, "vl", "10.99.0.1/24"), (&right, "vr", "10.99.0.2/24"));
    let culvertd = Daemon::start(&lab, &right);
    culvertd.apply(&[tenant("acme", "acme0", "10.2.0.1/32", None)]);
    Some(Site { culvertd, left, _lab: lab })
}

impl Site {
    /// What it prints, with AES-256, SHA2-256 and group 14 by pre-shared key as the one transform that it offers.
    fn scan(&self, more: &[&str]) -> String {
        let usual = ["netns", "exec", &self.left, "ike-scan", "--retry=2", "--timeout=500"];
        let transform = "--trans=(1=7,14=256,2=4,3=1,4=14)";
        run("ip", &[&usual[..], &[transform], more, &["10.99.0.2"]].concat()).text
    }

    fn configure(&self, peer: &Peer) {
        let _ = self.culvertd.cli(&["delete", "tenants/acme/peers/left"]);
        self.culvertd.peer(peer);
    }
}

#[test]
fn it_is_shown_what_is_configured() {
    let Some(site) = open() else { return };
    let silent = |text: &str| text.contains("0 returned handshake; 0 returned notify");

    // Nobody, an IKEv2 peer, and one of the other mode: no answer at all.
    assert!(silent(&site.scan(&[])), "{}", site.scan(&[]));
    site.configure(&Peer::usual());
    assert!(silent(&site.scan(&[])), "{}", site.scan(&[]));
    site.configure(&Peer::ikev1("AGGRESSIVE"));
    assert!(silent(&site.scan(&[])), "{}", site.scan(&[]));
    site.configure(&Peer::ikev1("MAIN"));
    let aggressive = ["--aggressive", "--id=left.example", "--dhgroup=14"];
    assert!(silent(&site.scan(&aggressive)), "{}", site.scan(&aggressive));

    // The transform and what of its vendor IDs we know too.
    let shown = site.scan(&["--vendor=afcad71368a1f1c96b8696fc77570100"]);
    for part in [
        "Main Mode Handshake returned",
        "Enc=AES",
        "KeyLength=256",
        "Hash=SHA2-256",
        "Auth=PSK",
        "14:modp2048",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(shown.contains("Dead Peer Detection"), "{shown}");
    assert!(!site.scan(&[]).contains("VID="), "no vendor ID that was not announced");

    // What is not configured of its algorithms is refused by word, which is shorter than the question.
    let refused =
        run("ip", &["netns", "exec", &site.left, "ike-scan", "--retry=1", "--trans=5,2,1,2", "10.99.0.2"]);
    assert!(refused.text.contains("NO-PROPOSAL-CHOSEN"), "{}", refused.text);

    site.configure(&Peer::ikev1("AGGRESSIVE"));
    for id in ["--id=left.example", "--id=nobody.example"] {
        let shown = site.scan(&["--aggressive", id, "--dhgroup=14"]);
        for part in [
            "Aggressive Mode Handshake returned",
            "Hash=SHA2-256",
            "ID(Type=ID_FQDN, Value=right.example)",
            "Hash(32 bytes)",
        ] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
    }
    assert_eq!(site.culvertd.counter("actor_panics"), 0);
}
