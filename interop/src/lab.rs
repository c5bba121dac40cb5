//! Network namespaces and the wires between them, removed when dropped.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::command::{must, run};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// What the tests need beside root.
const PROGRAMS: [&str; 9] = [
    "/usr/lib/ipsec/charon",
    "/usr/sbin/swanctl",
    "/usr/sbin/nft",
    "/usr/bin/iperf3",
    "/usr/bin/tshark",
    "/usr/bin/dumpcap",
    "/usr/bin/etcd",
    "/usr/bin/ike-scan",
    "/dev/net/tun",
];

/// A set of namespaces for one test.
#[derive(Debug)]
pub struct Lab {
    prefix: String,
    namespaces: Vec<String>,
    directory: tempfile::TempDir,
}

impl Lab {
    /// Makes a lab, or says what is missing. In CI nothing may be.
    pub fn open() -> Option<Self> {
        if lacks(missing()) {
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("cv{}x{number}", std::process::id() % 100_000);
        let directory = tempfile::tempdir().unwrap_or_else(|e| panic!("temporary directory: {e}"));
        Some(Self { prefix, namespaces: Vec::new(), directory })
    }

    /// Where files of the test go.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// A file of the test.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Makes a namespace; returns its full name.
    pub fn namespace(&mut self, name: &str) -> String {
        let full = format!("{}-{name}", self.prefix);
        must("ip", &["netns", "add", &full]);
        self.namespaces.push(full.clone());
        must("ip", &["-n", &full, "link", "set", "lo", "up"]);
        for setting in ["net.ipv4.conf.all.rp_filter=0", "net.ipv4.conf.default.rp_filter=0"] {
            must("ip", &["netns", "exec", &full, "sysctl", "-qw", setting]);
        }
        full
    }

    /// Joins two namespaces; each end is `(namespace, device, address/prefix)`.
    pub fn wire(&self, a: (&str, &str, &str), b: (&str, &str, &str)) {
        must("ip", &["link", "add", a.1, "netns", a.0, "type", "veth", "peer", "name", b.1, "netns", b.0]);
        for (namespace, device, address) in [a, b] {
            must("ip", &["-n", namespace, "addr", "add", address, "dev", device]);
            must("ip", &["-n", namespace, "link", "set", device, "up"]);
        }
    }

    /// Adds a protected address to a namespace.
    pub fn protect(&self, namespace: &str, address: &str) {
        must("ip", &["-n", namespace, "addr", "add", address, "dev", "lo"]);
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.directory.disable_cleanup(true);
            eprintln!("logs and configuration are kept in {}", self.directory.path().display());
        }
        for namespace in &self.namespaces {
            // Whatever still runs inside goes with it.
            let pids = run("ip", &["netns", "pids", namespace]).text;
            for pid in pids.split_whitespace() {
                run("kill", &["-9", pid]);
            }
            run("ip", &["netns", "del", namespace]);
        }
    }
}

/// Whether anything is missing, which is said. In CI nothing may be.
pub(crate) fn lacks(missing: Vec<String>) -> bool {
    if missing.is_empty() {
        return false;
    }
    assert!(std::env::var_os("CI").is_none(), "CI must not skip this: {}", missing.join(", "));
    eprintln!("skipped: needs {}", missing.join(", "));
    true
}

fn missing() -> Vec<String> {
    let mut missing = Vec::new();
    if run("id", &["-u"]).text.trim() != "0" {
        missing.push("root".to_owned());
    }
    if !run("ip", &["netns", "list"]).ok {
        missing.push("iproute2 and network namespaces".to_owned());
    }
    missing.extend(PROGRAMS.iter().filter(|p| !Path::new(p).exists()).map(|p| (*p).to_owned()));
    missing
}
