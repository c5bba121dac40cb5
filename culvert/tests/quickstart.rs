//! A quickstart that somebody has had enough of leaves nothing behind.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use cluster::servers::Servers;

/// Runs it until it says this, and tells it to end then.
fn stopped_by(signal: &str, when: &str, arguments: &[&str]) {
    let temporary = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
    command.args(["quickstart", "--for", "120s"]).args(arguments).env("TMPDIR", temporary.path());
    let mut quickstart = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut said = BufReader::new(quickstart.stdout.take().unwrap()).lines().map(Result::unwrap);
    assert!(said.any(|line| line.contains(when)), "{signal}: it does not say {when:?}");
    let something = || std::fs::read_dir(temporary.path()).unwrap().count() > 0;
    assert!(something(), "{signal}: its store is there");
    let told = Command::new("kill").args(["-s", signal, &quickstart.id().to_string()]).status().unwrap();
    assert!(told.success());
    // Also what its processes have of this ends with them.
    said.for_each(drop);
    assert!(quickstart.wait().unwrap().code().is_some(), "{signal}: it ended in order");
    assert!(!something(), "{signal}: its store is gone");
}

const PROVISIONS: &str = "provisioning two tenants";

#[test]
fn of_one_node() {
    for signal in ["INT", "TERM", "HUP", "QUIT"] {
        stopped_by(signal, PROVISIONS, &[]);
    }
    // The head of the table: there is traffic.
    stopped_by("HUP", "PEER", &[]);
}

#[test]
fn of_several_nodes() {
    // Whether etcd is there, and the line that says that it is not.
    let Some(_) = Servers::start(1) else { return };
    for signal in ["HUP", "QUIT"] {
        stopped_by(signal, PROVISIONS, &["--nodes", "3"]);
    }
}
