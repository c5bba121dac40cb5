//! Three nodes behind a router that spreads packets over them (ECMP), with etcd beside it and peers in front.
//!
//! ```text
//!  site 10.97.0.N ──┐                 ┌── n1 10.98.1.2 ┐
//!                   ├── router, etcd ─┼── n2 10.98.2.2 ├ all 10.99.0.1
//!  far  10.96.0.1 ──┘    10.98.9.1    └── n3 10.98.3.2 ┘
//! ```
//!
//! `etcd.rs` has the members of etcd, `hold.rs` the messages that come to nobody; which node packets go to, and who is cut off from whom,
//! is here. `witness.rs` says how it stood when a trial failed.

mod etcd;
mod hold;
mod witness;

use serde_json::Value;

use crate::command::{must, run};
use crate::daemon::{Daemon, Peer, tenant};
use crate::lab::Lab;
use crate::wait::until;
use etcd::Members;
pub use hold::Way;

/// The address that all nodes have.
pub const ADDRESS: &str = "10.99.0.1";
/// Behind the nodes.
pub const INSIDE: &str = "10.2.0.1";
/// How many nodes there are.
pub const NODES: usize = 3;

/// From what a node is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// It hears no other node, and all hear it.
    Hearing,
    /// Nothing goes between it and the other nodes.
    Nodes,
    /// Nothing goes between it and etcd.
    Etcd,
    /// Neither.
    Both,
}

impl Cut {
    fn rules(self) -> &'static str {
        match self {
            Self::Hearing => "chain in { type filter hook input priority 0; udp dport 4510 drop; udp sport 4510 drop; }",
            Self::Nodes => {
                "chain in { type filter hook input priority 0; udp dport 4510 drop; udp sport 4510 drop; }
                 chain out { type filter hook output priority 0; udp dport 4510 drop; udp sport 4510 drop; }"
            }
            Self::Etcd => {
                "chain in { type filter hook input priority 0; ip saddr 10.98.9.1 drop; }
                 chain out { type filter hook output priority 0; ip daddr 10.98.9.1 drop; }"
            }
            Self::Both => {
                "chain in { type filter hook input priority 0; udp dport 4510 drop; udp sport 4510 drop; ip saddr 10.98.9.1 drop; }
                 chain out { type filter hook output priority 0; udp dport 4510 drop; udp sport 4510 drop; ip daddr 10.98.9.1 drop; }"
            }
        }
    }
}

/// The nodes and what is in front of them.
#[derive(Debug)]
pub struct Cluster {
    /// The nodes, by number from 0.
    pub nodes: Vec<Daemon>,
    /// The members of etcd.
    pub etcd: Members,
    /// The namespaces of the nodes.
    pub names: Vec<String>,
    /// That of the router.
    pub router: String,
    /// Dropped last.
    pub lab: Lab,
}

impl Cluster {
    /// Starts everything, with a tenant `acme` that has [`INSIDE`] at each node.
    pub fn start(mut lab: Lab) -> Self {
        let router = lab.namespace("router");
        for setting in ["net.ipv4.ip_forward=1", "net.ipv4.fib_multipath_hash_policy=1"] {
            must("ip", &["netns", "exec", &router, "sysctl", "-qw", setting]);
        }
        lab.protect(&router, "10.98.9.1/32");
        let etcd = Members::start(&lab, &router);
        let key = lab.file("vault.key");
        std::fs::write(&key, [7; 32]).unwrap_or_else(|e| panic!("{}: {e}", key.display()));
        must("chmod", &["600", &key.display().to_string()]);
        let mut names = Vec::new();
        for k in 1..=NODES {
            let node = lab.namespace(&format!("n{k}"));
            let (gateway, own) = (format!("10.98.{k}.1"), format!("10.98.{k}.2"));
            let (near, far) = (format!("rn{k}"), format!("vn{k}"));
            lab.wire((&router, &near, &format!("{gateway}/24")), (&node, &far, &format!("{own}/24")));
            must("ip", &["-n", &node, "route", "add", "default", "via", &gateway]);
            lab.protect(&node, "10.99.0.1/32");
            names.push(node);
        }
        let nodes = names.iter().zip(1..).map(|(name, k)| {
            let lines = format!(
                "[vault]\nkey_file = {key:?}\n[cluster]\nnode = \"n{k}\"\nlisten = \"10.98.{k}.2:4510\"\netcd = {etcd:?}\n\
                 [ike]\nlisten = [\"{ADDRESS}\"]\n[metrics]\nlisten = \"10.98.{k}.2:9464\"\n",
                etcd = etcd.endpoints()
            );
            Daemon::start_with(&lab, name, &lines)
        });
        let nodes = nodes.collect();
        let cluster = Self { nodes, etcd, names, router, lab };
        cluster.spread(&[0, 1, 2]);
        cluster.node(0).apply(&[tenant("acme", "culvert0", "10.2.0.1/32", None)]);
        cluster.settled();
        cluster
    }

    /// A namespace in front of the router, at `10.NET.0.254`, with so many addresses from `10.NET.0.1` on.
    pub fn site(&mut self, name: &str, net: u8, addresses: usize) -> String {
        let site = self.lab.namespace(name);
        let gateway = format!("10.{net}.0.254");
        self.lab.wire(
            (&self.router, &format!("r{name}"), &format!("{gateway}/24")),
            (&site, &format!("v{name}"), &format!("10.{net}.0.1/24")),
        );
        for n in 2..=addresses {
            must(
                "ip",
                &["-n", &site, "addr", "add", &format!("10.{net}.0.{n}/24"), "dev", &format!("v{name}")],
            );
        }
        must("ip", &["-n", &site, "route", "add", "default", "via", &gateway]);
        site
    }

    /// A node.
    pub fn node(&self, k: usize) -> &Daemon {
        &self.nodes[k]
    }

    /// Packets go to these nodes from now on.
    pub fn spread(&self, nodes: &[usize]) {
        let hops: Vec<String> = nodes.iter().map(|k| format!("10.98.{}.2", k + 1)).collect();
        let hops = hops.iter().flat_map(|hop| ["nexthop", "via", hop, "weight", "1"]);
        let route = ["-n", &self.router, "route", "replace", "10.99.0.1/32"];
        must("ip", &route.into_iter().chain(hops).collect::<Vec<_>>());
    }

    /// Packets go to all nodes but this one.
    pub fn spare(&self, node: usize) {
        let others: Vec<usize> = (0..NODES).filter(|k| *k != node).collect();
        self.spread(&others);
    }

    /// Cuts a node off.
    pub fn cut(&self, node: usize, cut: Cut) {
        let rules = format!("table inet cut {{\n{}\n}}", cut.rules());
        must("ip", &["netns", "exec", &self.names[node], "nft", &rules]);
    }

    /// Ends that.
    pub fn mend(&self, node: usize) {
        must("ip", &["netns", "exec", &self.names[node], "nft", "delete", "table", "inet", "cut"]);
    }

    /// Whether whoever is in front may send to a node, as it says itself.
    pub fn is_ready(&self, node: usize) -> bool {
        let ask = format!(
            "exec 3<>/dev/tcp/10.98.{}.2/9464 && printf 'GET /readyz HTTP/1.0\\r\\n\\r\\n' >&3 && head -1 <&3",
            node + 1
        );
        run("ip", &["netns", "exec", &self.router, "timeout", "10", "bash", "-c", &ask])
            .text
            .contains(" 200 ")
    }

    /// The slots as a node sees them.
    pub fn slots(&self, at: usize) -> Vec<Value> {
        let rows = self.node(at).json(&["get", "slots"]);
        // Below them is what came to each node.
        rows.as_array().into_iter().flatten().filter(|row| row["number"].is_u64()).cloned().collect()
    }

    /// Waits until all nodes are there, hear each other, and every slot could be taken over: a standby that does not answer is left its turn
    /// before it is struck out, and meanwhile something waits for it.
    pub fn settled(&self) {
        let look = || {
            let of = |k: usize| (self.node(k).json(&["get", "nodes"]), self.slots(k));
            (0..NODES).map(of).collect::<Vec<_>>()
        };
        until("all nodes are there, and all slots have a standby", look, |seen| {
            seen.iter().all(|(nodes, slots)| {
                let up = |node: &Value| node["away"] != true;
                let nodes =
                    nodes.as_array().is_some_and(|nodes| nodes.len() == NODES && nodes.iter().all(up));
                let waits = |slot: &Value| slot["waitingRows"].as_str().is_some_and(|rows| rows != "0");
                let well = |slot: &Value| slot["ready"] == true && !waits(slot);
                nodes && slots.len() >= NODES && slots.iter().all(well)
            })
        });
    }

    /// The node that has the connection of a peer.
    pub fn owner(&self, peer: &str) -> usize {
        let look = || self.node(0).status(peer)["node"].as_str().map(str::to_owned);
        let number =
            |name: &Option<String>| name.as_deref().and_then(|name| name.strip_prefix('n')?.parse().ok());
        let name = until("a node has the peer", look, |name| number(name).is_some());
        number(&name).map_or(0, |k: usize| k - 1)
    }

    /// How many connections each node has.
    pub fn connections(&self, at: usize) -> Vec<u64> {
        let slots = self.slots(at);
        let count =
            |slot: &Value| slot["connections"].as_str().and_then(|count| count.parse().ok()).unwrap_or(0);
        let of = |k: usize| -> u64 {
            let name = format!("n{}", k + 1);
            slots.iter().filter(|slot| slot["owner"] == name.as_str()).map(count).sum()
        };
        (0..NODES).map(of).collect()
    }

    /// A peer of strongSwan at `10.97.0.N`.
    pub fn peer(n: usize) -> Peer {
        Peer {
            name: format!("acme/s{n}"),
            identities: ("right.example".into(), format!("s{n}.example")),
            address: format!("10.97.0.{n}"),
            subnets: ("10.2.0.1/32".into(), format!("10.1.0.{n}/32")),
            ..Peer::usual()
        }
    }
}
