//! With the key log that culvertd writes when told to, Wireshark reads IKE and ESP off the wire.
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
use interop::command::{Running, run};
use interop::daemon::Peer;
use interop::traffic::ping;
use interop::wait::until;

#[test]
fn the_key_log_opens_ike_and_esp() {
    opens_ike_and_esp("aes128gcm16-prfsha256-x25519", "aes128gcm16", false);
}

#[test]
fn the_key_log_opens_legacy_algorithms() {
    opens_ike_and_esp("3des-sha1-modp1024", "3des-md5", true);
}

fn opens_ike_and_esp(ike: &str, esp: &str, legacy: bool) {
    let proposals = (ike.to_owned(), esp.to_owned());
    let lines = |lab: &interop::lab::Lab| format!("[debug]\nkey_log_dir = {:?}\n", lab.directory());
    let Some(pair) = Pair::open_with_both("", lines) else { return };
    let (file, log) = (pair.lab.file("wire.pcapng"), pair.lab.file("tshark"));
    let file = file.display().to_string();
    let capture = ["netns", "exec", &pair.right, "tshark", "-q", "-i", "vr", "-f", "udp", "-w", &file];
    let mut capturing = Running::start("ip", &capture, &log);
    until(
        "tshark captures",
        || std::fs::read_to_string(&log).unwrap_or_default(),
        |t| t.contains("Capturing on"),
    );
    pair.charon.load(&[Connection { proposals: proposals.clone(), ..Connection::usual() }]);
    pair.culvertd.peer(&Peer { start: true, proposals, legacy, ..Peer::usual() });
    pair.flows();
    for what in [["rekey", "acme/left"].as_slice(), &["rekey", "--ike", "acme/left"]] {
        assert!(pair.culvertd.cli(what).ok);
    }
    assert_eq!(ping(&pair.left, LEFT, RIGHT, 5).received, 5);
    let keys = pair.lab.directory().display().to_string();
    let read = |arguments: &[&str]| {
        let environment = format!("WIRESHARK_CONFIG_DIR={keys}");
        run("env", &[&[environment.as_str(), "tshark", "-r", &file], arguments].concat())
    };
    // The last answers may not be in the file yet, or half of one: then tshark fails.
    until(
        "the capture holds both directions of ten pings",
        || read(&["-o", "esp.enable_encryption_decode:TRUE", "-Y", "icmp"]).out.lines().count(),
        |lines| *lines >= 10,
    );
    capturing.signal("INT");
    capturing.wait();
    let said = read(&["-Y", "isakmp.exchangetype > 34", "-T", "fields", "-e", "isakmp.enc.decrypted"]);
    assert!(said.ok, "{}", said.text);
    let messages = said.out;
    assert!(messages.lines().count() >= 8, "{messages}");
    assert!(messages.lines().all(|line| !line.trim().is_empty()), "a message stayed closed: {messages}");
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&pair.lab.file("esp_sa").metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
}
