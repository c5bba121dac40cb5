//! All peers that negotiate anew within a minute: the network in front was away.

use super::costs::{HANDSHAKE, HANDSHAKE_CPU, OCTETS_PER_SECOND, PEER, TOGETHER};

/// What it costs.
pub(super) struct Storm {
    /// Handshakes of a node in a second.
    pub(super) handshakes: f64,
    /// Share of a processor, of each node.
    pub(super) processor: f64,
    /// Octets in a second that each node tells its standbys.
    pub(super) checkpoints: f64,
    /// Writes of etcd in a second at most, and their octets.
    pub(super) writes: f64,
    pub(super) octets: f64,
    /// Seconds after the last handshake until all know who has which peer.
    pub(super) told_after: f64,
}

/// In a cell of so many nodes with so many tunnels each, within so many seconds.
pub(super) fn storm(nodes: f64, tunnels: f64, seconds: f64) -> Storm {
    let handshakes = tunnels / seconds;
    let (mut at, mut writes, mut octets) = (0.0, 0.0_f64, 0.0_f64);
    let (mut second, mut in_second) = (0.0, (0.0_f64, 0.0_f64));
    let told_after = loop {
        // What a node writes at this moment, and when it may again.
        let size = handshakes * f64::min(at, seconds) * PEER;
        if at - second >= 1.0 {
            (writes, octets) = (writes.max(in_second.0), octets.max(in_second.1));
            (second, in_second) = (at, (0.0, 0.0));
        }
        in_second = (in_second.0 + 1.0, in_second.1 + size);
        if at >= seconds {
            break at - seconds;
        }
        at += f64::max(TOGETHER, size / OCTETS_PER_SECOND);
    };
    Storm {
        handshakes,
        processor: handshakes * HANDSHAKE_CPU,
        checkpoints: handshakes * HANDSHAKE,
        writes: writes * nodes,
        octets: octets * nodes,
        told_after,
    }
}
