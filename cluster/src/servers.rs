//! Real members of etcd for tests.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    missing_docs,
    reason = "a kit of tests: whatever goes wrong in it is a fault of the test"
)]

use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::etcd::{Etcd, Settings, TlsFiles};

/// Members of one etcd on loopback; they end with it.
pub struct Servers {
    directory: tempfile::TempDir,
    ports: Vec<(u16, u16)>,
    running: Vec<Option<Child>>,
}

impl Servers {
    /// Starts so many members. `None`, and a line that says so, where etcd is not installed.
    pub fn start(count: usize) -> Option<Self> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: etcd is not installed (Debian: apt-get install etcd-server)");
            return None;
        }
        // Held until all are known, so that none is given out twice.
        let listeners: Vec<_> = (0..2 * count).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        let ports: Vec<_> = listeners.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
        drop(listeners);
        let ports = ports.chunks(2).map(|two| (two[0], two[1])).collect();
        let mut servers = Self { directory: tempfile::tempdir().unwrap(), ports, running: Vec::new() };
        servers.running.resize_with(count, || None);
        (0..count).for_each(|member| servers.revive(member));
        Some(servers)
    }

    /// Starts a member, with what it had.
    pub fn revive(&mut self, member: usize) {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let all: Vec<_> =
            self.ports.iter().enumerate().map(|(at, (_, peer))| format!("m{at}={}", url(*peer))).collect();
        let (client, peer) = self.ports[member];
        let log = std::fs::File::create(self.file(&format!("m{member}.log"))).unwrap();
        let child = Command::new("etcd")
            .args(["--name", &format!("m{member}"), "--log-outputs", "stderr", "--logger", "zap"])
            .arg("--data-dir")
            .arg(self.file(&format!("m{member}")))
            .args(["--listen-client-urls", &url(client), "--advertise-client-urls", &url(client)])
            .args(["--listen-peer-urls", &url(peer), "--initial-advertise-peer-urls", &url(peer)])
            .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"])
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.running[member] = Some(child);
    }

    /// Kills a member.
    pub fn kill(&mut self, member: usize) {
        if let Some(mut child) = self.running[member].take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// URLs of all members.
    pub fn endpoints(&self) -> Vec<String> {
        self.ports.iter().map(|(client, _)| format!("http://127.0.0.1:{client}")).collect()
    }

    /// A client of all members.
    pub fn client(&self) -> Etcd {
        let endpoints = self.endpoints();
        Etcd::new(&Settings { endpoints, prefix: "/culvert".to_owned(), tls: TlsFiles::default() }).unwrap()
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        (0..self.running.len()).for_each(|member| self.kill(member));
    }
}
