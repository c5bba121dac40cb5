//! Tests in a network namespace of their own: the test binary runs itself again in there.
#![allow(dead_code, unreachable_pub)] // Not every test file uses everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs the test of this name again in a new network namespace and fails as it fails. True in there; false outside, where
/// nothing is left to do. Where something is [lacking](lacks) it says that it is skipped.
pub fn inside(test: &str) -> bool {
    if env::var_os(MARK).is_some() {
        run("ip link set lo up");
        return true;
    }
    if lacks() {
        return false;
    }
    let status = Command::new("unshare")
        .arg("--net")
        .arg(env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(MARK, "1")
        .status();
    assert!(status.unwrap().success(), "{test} failed in its namespace");
    false
}

/// Whether something is missing that these tests need, which is said. In CI nothing may be.
pub fn lacks() -> bool {
    let works = |program: &str, argument: &str| {
        let quiet = Command::new(program)
            .args(argument.split(' '))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        quiet.is_ok_and(|status| status.success())
    };
    let needs = [
        ("root", works("unshare", "--net true")),
        ("/dev/net/tun", File::open("/dev/net/tun").is_ok()),
        ("ip (Debian: iproute2)", works("ip", "-V")),
        ("nft (Debian: nftables)", works("nft", "-v")),
        ("ping (Debian: iputils-ping)", works("ping", "-V")),
    ];
    let missing: Vec<&str> = needs.into_iter().filter(|(_, there)| !there).map(|(what, _)| what).collect();
    if missing.is_empty() {
        return false;
    }
    assert!(env::var_os("CI").is_none(), "CI must not skip this: it needs {}", missing.join(", "));
    eprintln!("skipped: needs {}", missing.join(", "));
    true
}

/// Runs a command where the test is.
pub fn run(command: &str) {
    assert!(Command::new("sh").args(["-ec", command]).status().unwrap().success(), "{command}");
}

/// What a command says where the test is.
pub fn output(command: &str) -> String {
    let output = Command::new("sh").args(["-c", command]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Gives the loopback device addresses of IPv6 and waits until they work: the kernel routes to them a moment later.
pub fn add_v6_addresses(addresses: &[&str]) {
    for address in addresses {
        run(&format!("ip addr add {address}/128 dev lo nodad"));
    }
    let deadline = Instant::now() + Duration::from_secs(20);
    for address in addresses {
        let works = || {
            let output = Command::new("ip").args(["-6", "route", "show", "table", "local"]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).contains(&format!("local {address} dev lo"))
        };
        while !works() {
            assert!(Instant::now() < deadline, "{address} does not work");
        }
    }
}

/// Another namespace, which lives as long as this.
pub struct Neighbour(Child);

impl Neighbour {
    pub fn new() -> Self {
        let mut child = Command::new("unshare")
            .args(["--net", "sh", "-c", "echo ready; exec cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        Self(child)
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }

    pub fn run(&self, command: &str) {
        run(&self.inside(command));
    }

    pub fn output(&self, command: &str) -> String {
        output(&self.inside(command))
    }

    fn inside(&self, command: &str) -> String {
        format!("nsenter --net=/proc/{}/ns/net sh -ec '{command}'", self.0.id())
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Tells the binary that it runs in the namespace.
const MARK: &str = "CULVERT_TEST_IN_NAMESPACE";
