//! Messages of IKE that the router lets nobody have, for as long as something is held.

use super::{ADDRESS, Cluster};
use crate::command::{must, run};
use crate::wait::until;

/// Which messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Those of the nodes.
    FromNodes,
    /// Those of the peer.
    FromPeer,
}

impl Cluster {
    /// From now on no message of IKE comes by the router, between the nodes and a peer at this address. ESP does.
    pub fn hold(&self, peer: &str, way: Way) {
        let (from, to) = match way {
            Way::FromNodes => (ADDRESS, peer),
            Way::FromPeer => (peer, ADDRESS),
        };
        // Four octets of zero come before IKE on this port (RFC 3948, section 2.2).
        let rule = format!("ip saddr {from} ip daddr {to} udp dport 4500 @th,64,32 0 counter drop");
        let rules = format!(
            "table inet hold {{\nchain pass {{\ntype filter hook forward priority 0;\n{rule}\n}}\n}}"
        );
        must("ip", &["netns", "exec", &self.router, "nft", &rules]);
    }

    /// Waits until something is held.
    pub fn until_held(&self) {
        let look =
            || run("ip", &["netns", "exec", &self.router, "nft", "list", "table", "inet", "hold"]).text;
        until("a message is held", look, |text| text.contains("packets") && !text.contains("packets 0 "));
    }

    /// Ends that.
    pub fn release(&self) {
        must("ip", &["netns", "exec", &self.router, "nft", "delete", "table", "inet", "hold"]);
    }

    /// A peer at this address seems to come from another port from now on, as behind a NAT that was restarted.
    pub fn rebind(&self, peer: &str, port: u16) {
        let out = format!("ip saddr {peer} udp sport 4500 udp sport set {port}");
        let back = format!("ip daddr {peer} udp dport {port} udp dport set 4500");
        let rules = format!(
            "table ip rebind {{\nchain pass {{\ntype filter hook prerouting priority -150;\n{out}\n{back}\n}}\n}}"
        );
        must("ip", &["netns", "exec", &self.router, "nft", &rules]);
    }
}
