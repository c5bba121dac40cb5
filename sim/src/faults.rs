//! What befalls a world: disturbances of the network, restarts, commands.

use std::time::Duration;

use crate::net::Conditions;
use crate::random::Random;

/// A disturbance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disturbance {
    /// The network turns bad.
    BadNetwork(Conditions),
    /// Nothing gets to or from a node.
    CutOff(usize),
    /// A node is killed and started again.
    Restart(usize),
    /// The NATs forget all mappings.
    NatReboot,
}

/// A command on some tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Rekey the Child SAs.
    RekeyChild,
    /// Rekey the IKE_SA.
    RekeyIke,
    /// Delete the Child SAs.
    DeleteChild,
    /// Close the connection.
    Close,
}

/// The payload of UDP on the narrowest path of IPv6 (RFC 8200 section 5): what IKE must do with.
const NARROW: usize = 1_280 - 40 - 8;

/// Draws the next disturbance for a world of `nodes` nodes.
pub fn disturbance(chance: &mut Random, nodes: usize, nats: bool) -> Disturbance {
    let node = usize::try_from(chance.below(u64::try_from(nodes).unwrap_or(1))).unwrap_or(0);
    match chance.below(10) {
        0..=3 => {
            let mut bad = Conditions::BAD;
            bad.loss = 20 + chance.below(600);
            bad.corruption = chance.below(100);
            bad.duplication = chance.below(300);
            if chance.chance(1, 2) {
                bad.mtu = NARROW;
            }
            Disturbance::BadNetwork(bad)
        }
        4..=6 => Disturbance::CutOff(node),
        7..=8 => Disturbance::Restart(node),
        _ if nats => Disturbance::NatReboot,
        _ => Disturbance::CutOff(node),
    }
}

/// Draws a command.
pub fn order(chance: &mut Random, deletes: bool) -> Order {
    match chance.below(if deletes { 20 } else { 16 }) {
        0..=9 => Order::RekeyChild,
        10..=15 => Order::RekeyIke,
        16..=18 => Order::DeleteChild,
        _ => Order::Close,
    }
}

/// An interval that is `mean` on average.
pub fn interval(chance: &mut Random, mean: Duration) -> Duration {
    chance.time_up_to(mean * 2)
}
