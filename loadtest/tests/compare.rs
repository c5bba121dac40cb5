//! The comparison with nothing but the cable and the forwarders, small: its report, and that nothing is left behind. Takes root and
//! iperf3; says so where it is skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

fn command(words: &[&str]) -> Command {
    // Somebody else's comparison on this machine is waited for.
    let _ = Command::new("flock").args(["/run/cvcmp.lock", "true"]).status();
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadtest"));
    command.arg("compare").args(words);
    command
}

fn compare(words: &[&str]) -> Output {
    command(words).output().unwrap()
}

/// Processes in both namespaces.
fn inside() -> Vec<String> {
    let pids = |side| Command::new("ip").args(["netns", "pids", side]).output().unwrap().stdout;
    let all = String::from_utf8([pids("cvcmp-l"), pids("cvcmp-r")].concat()).unwrap();
    all.lines().map(str::to_owned).collect()
}

fn is_called(pid: &str, name: &str) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|comm| comm.trim() == name)
}

/// A comparison in which so many processes of a name run.
fn under_way(words: &[&str], name: &str, count: usize) -> Child {
    let mut child = command(words).stdout(Stdio::piped()).spawn().unwrap();
    while inside().iter().filter(|pid| is_called(pid, name)).count() < count {
        assert_eq!(child.try_wait().unwrap(), None, "it goes on");
    }
    child
}

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

fn last_line(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
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

    // Who does not start is told, and what the others have come to is not lost.
    let folder = std::env::temp_dir().join(format!("culvert-broken-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    for name in ["culvertd", "culvert"] {
        let file = folder.join(name);
        std::fs::write(&file, "#!/bin/sh\nexit 1\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let daemon = folder.join("culvertd").display().to_string();
    let output = compare(&[
        "--only",
        "raw,culvert",
        "--what",
        "ping",
        "--rounds",
        "1",
        "--json",
        "--culvertd",
        &daemon,
    ]);
    std::fs::remove_dir_all(&folder).unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let said: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert!(said["results"]["raw"]["pingMillis"][0].as_f64().unwrap() > 0.0, "{said}");
    assert!(said["results"]["culvert"]["pingMillis"].as_array().unwrap().is_empty(), "{said}");
    assert!(said["warnings"][0].as_str().unwrap().starts_with("round 1: culvert: culvertd"), "{said}");
    assert!(!namespaces().contains("cvcmp-"), "{}", namespaces());

    // Whoever ends it by a signal has what was measured until then, and nothing is left.
    for number in [Signal::INT, Signal::TERM] {
        let child = under_way(&["--only", "raw", "--what", "ping", "--rounds", "99", "--json"], "ping", 1);
        signal(&child, number);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said = last_line(&output);
        assert!(said["warnings"][0].as_str().unwrap().starts_with("interrupted in round"), "{said}");
        assert!(!namespaces().contains("cvcmp-"), "{}", namespaces());
    }

    // What a killed one has left ends with it, and is in nobody's way. Two forwarders, and both ends of iperf3.
    let words = ["--only", "forwarder", "--what", "tcp", "--rounds", "1", "--secs", "60s"];
    let mut child = under_way(&words, "iperf3", 2);
    let refused =
        Command::new(env!("CARGO_BIN_EXE_loadtest")).args(["compare", "--only", "raw"]).output().unwrap();
    assert!(String::from_utf8_lossy(&refused.stderr).contains("another comparison"), "{refused:?}");
    let left = inside();
    child.kill().unwrap();
    child.wait().unwrap();
    let output = compare(&["--only", "raw", "--what", "ping", "--rounds", "1", "--json"]);
    assert!(output.status.success(), "{output:?}");
    // One that has ended has no program, even while nobody has asked for its exit code.
    let alive = |pid: &&String| std::fs::read_link(format!("/proc/{pid}/exe")).is_ok();
    assert_eq!(left.iter().find(alive), None, "{left:?}");
    assert!(!namespaces().contains("cvcmp-"), "{}", namespaces());
}
