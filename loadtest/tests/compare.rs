//! The comparison with nothing but the cable and the forwarders, small: its report, and that nothing is left behind. Takes root and
//! iperf3; says so where it is skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

use std::process::{Command, Output};

use serde_json::Value;

fn compare(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadtest")).arg("compare").args(words).output().unwrap()
}

fn namespaces() -> String {
    let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn the_cable_and_the_forwarders_are_measured_and_gone() {
    let root = rustix::process::geteuid().is_root();
    if !root
        || Command::new("iperf3").arg("--version").output().is_err()
        || !std::fs::exists("/dev/net/tun").unwrap()
    {
        eprintln!("skipped: needs root, /dev/net/tun and iperf3");
        return;
    }
    let words = [
        "--only",
        "raw,forwarder,forwarder-plain",
        "--what",
        "tcp,ping",
        "--rounds",
        "1",
        "--secs",
        "1s",
        "--json",
    ];
    let output = compare(&words);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    for name in ["raw", "forwarder", "forwarder-plain"] {
        let of = &said["results"][name];
        assert!(
            of["tcp1"][0]["mbps"].as_f64().unwrap() > 0.0 && of["tcp4"][0]["mbps"].as_f64().unwrap() > 0.0,
            "{said}"
        );
        assert!(of["pingMillis"][0].as_f64().unwrap() > 0.0, "{said}");
    }
    assert!(said["ratios"]["tcp1_vs_wireguard_go"].is_null(), "{said}");
    assert!(!namespaces().contains("cvcmp-"), "{}", namespaces());

    // Ratios that lack somebody are no success for who requires them.
    let output = compare(&["--only", "raw", "--what", "ping", "--rounds", "1", "--require"]);
    assert_eq!(output.status.code(), Some(1));
}
