//! Three members of etcd in a namespace.

use std::path::{Path, PathBuf};

use crate::command::{Running, run};
use crate::lab::Lab;
use crate::wait::until;

const COUNT: usize = 3;

/// The members, which end with this.
#[derive(Debug)]
pub struct Members {
    namespace: String,
    directory: PathBuf,
    running: Vec<Option<Running>>,
}

impl Members {
    pub(super) fn start(lab: &Lab, namespace: &str) -> Self {
        let mut members =
            Self { namespace: namespace.to_owned(), directory: lab.file("etcd"), running: Vec::new() };
        std::fs::create_dir_all(&members.directory).unwrap_or_else(|e| panic!("etcd: {e}"));
        members.running.resize_with(COUNT, || None);
        (0..COUNT).for_each(|member| members.revive(member));
        until(
            "etcd answers",
            || run("ip", &["netns", "exec", namespace, "ss", "-ltn"]).text,
            |text| (0..COUNT).all(|member| text.contains(&format!(":{}", client(member)))),
        );
        members
    }

    /// Where they listen.
    pub fn endpoints(&self) -> Vec<String> {
        (0..COUNT).map(|member| url(client(member))).collect()
    }

    /// `kill -9` of a member.
    pub fn kill(&mut self, member: usize) {
        self.running[member] = None;
    }

    /// Starts a member with what it had.
    pub fn revive(&mut self, member: usize) {
        let all: Vec<_> = (0..COUNT).map(|at| format!("m{at}={}", url(peer(at)))).collect();
        let (clients, peers) = (url(client(member)), url(peer(member)));
        let data = self.directory.join(format!("m{member}")).display().to_string();
        let name = format!("m{member}");
        let all = all.join(",");
        let etcd = ["netns", "exec", &self.namespace, "etcd", "--name", &name, "--data-dir", &data];
        let own = ["--listen-client-urls", &clients, "--advertise-client-urls", &clients];
        let others = ["--listen-peer-urls", &peers, "--initial-advertise-peer-urls", &peers];
        let cluster = ["--initial-cluster", &all, "--initial-cluster-state", "new", "--logger", "zap"];
        let arguments = [&etcd[..], &own, &others, &cluster].concat();
        let log = self.directory.join(format!("m{member}.log"));
        self.running[member] = Some(Running::start("ip", &arguments, Path::new(&log)));
    }
}

const fn client(member: usize) -> usize {
    2379 + 10 * member
}

const fn peer(member: usize) -> usize {
    2380 + 10 * member
}

fn url(port: usize) -> String {
    format!("http://10.98.9.1:{port}")
}
