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

use std::hash::{BuildHasher as _, RandomState};
use std::net::{TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use crate::etcd::{Etcd, Settings, TlsFiles};

/// How often other ports are tried, and how often it is looked whether a member listens.
const PORT_TRIES: usize = 5;
const LOOK: std::time::Duration = std::time::Duration::from_millis(10);

/// Members of one etcd on loopback; they end with it.
pub struct Servers {
    directory: tempfile::TempDir,
    ports: Vec<(u16, u16)>,
    running: Vec<Option<Child>>,
    tls: Option<Files>,
    /// Octets that each may have.
    quota: Option<usize>,
}

/// Files for members that speak TLS and ask their clients for certificates of the same authority.
#[derive(Clone)]
pub struct Files {
    pub ca: PathBuf,
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Servers {
    /// Starts so many members. `None`, and a line that says so, where etcd is not installed.
    pub fn start(count: usize) -> Option<Self> {
        Self::start_with(count, None)
    }

    /// As [`Self::start`], with TLS.
    pub fn start_with(count: usize, tls: Option<&Files>) -> Option<Self> {
        Self::start_as(count, tls, None)
    }

    /// One that takes no writes once it has so many octets.
    pub fn start_small(octets: usize) -> Option<Self> {
        Self::start_as(1, None, Some(octets))
    }

    fn start_as(count: usize, tls: Option<&Files>, quota: Option<usize>) -> Option<Self> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
            eprintln!("skipped: etcd is not installed (Debian: apt-get install etcd-server)");
            return None;
        }
        // Other tests may take a port before etcd does.
        for _ in 0..PORT_TRIES {
            let ports = free(2 * count);
            let ports = ports.chunks(2).map(|two| (two[0], two[1])).collect();
            let directory = tempfile::tempdir().unwrap();
            let mut servers = Self { directory, ports, running: Vec::new(), tls: tls.cloned(), quota };
            servers.running.resize_with(count, || None);
            (0..count).for_each(|member| servers.revive(member));
            if (0..count).all(|member| servers.listens(member)) {
                return Some(servers);
            }
        }
        panic!("etcd does not start");
    }

    /// Waits until a member listens; false if it ends instead.
    fn listens(&mut self, member: usize) -> bool {
        let address = ("127.0.0.1", self.ports[member].0);
        loop {
            if std::net::TcpStream::connect(address).is_ok() {
                return self.is_running(member);
            }
            if !self.is_running(member) {
                return false;
            }
            std::thread::sleep(LOOK);
        }
    }

    fn is_running(&mut self, member: usize) -> bool {
        self.running[member].as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    /// Starts a member, with what it had.
    pub fn revive(&mut self, member: usize) {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let all: Vec<_> =
            self.ports.iter().enumerate().map(|(at, (_, peer))| format!("m{at}={}", url(*peer))).collect();
        let (client, peer) = self.ports[member];
        let log = std::fs::File::create(self.file(&format!("m{member}.log"))).unwrap();
        let client = format!("{scheme}://127.0.0.1:{client}");
        let mut command = Command::new("etcd");
        if let Some(Files { ca, certificate, key }) = &self.tls {
            command.arg("--cert-file").arg(certificate).arg("--key-file").arg(key);
            command.arg("--client-cert-auth").arg("--trusted-ca-file").arg(ca);
        }
        if let Some(octets) = self.quota {
            command.arg("--quota-backend-bytes").arg(octets.to_string());
        }
        let child = command
            .args(["--name", &format!("m{member}"), "--log-outputs", "stderr", "--logger", "zap"])
            .arg("--data-dir")
            .arg(self.file(&format!("m{member}")))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
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
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        self.ports.iter().map(|(client, _)| format!("{scheme}://127.0.0.1:{client}")).collect()
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

/// Ports, of TCP and UDP, of those that the system gives to nobody by itself: whoever was away finds its own as it has left it.
pub fn free(count: usize) -> Vec<u16> {
    const PORTS: std::ops::Range<u64> = 10_000..30_000;
    // Held until all are known, so that none is given out twice.
    let mut listeners: Vec<(TcpListener, UdpSocket)> = Vec::new();
    while listeners.len() < count {
        let number = RandomState::new().hash_one(()) % (PORTS.end - PORTS.start) + PORTS.start;
        let address = ("127.0.0.1", number as u16);
        listeners.extend(TcpListener::bind(address).ok().zip(UdpSocket::bind(address).ok()));
    }
    listeners.iter().map(|(listener, _)| listener.local_addr().unwrap().port()).collect()
}

impl Drop for Servers {
    fn drop(&mut self) {
        (0..self.running.len()).for_each(|member| self.kill(member));
    }
}
