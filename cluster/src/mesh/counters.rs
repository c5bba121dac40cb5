//! What is counted.

use std::sync::atomic::{AtomicU64, Ordering};

/// Declares the counters, and the figures that are read of them.
macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of a mesh.
        #[derive(Debug, Default)]
        pub struct Counters {
            $($(#[$doc])* pub(super) $name: AtomicU64,)*
        }

        /// What has been counted since the start.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct Figures {
            /// Nodes that there is a connection with now.
            pub connected: u64,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl Figures {
            /// What is counted, by name: all but the packets that went well.
            pub fn counts(&self) -> Vec<(&'static str, u64)> {
                let all = [$((concat!("mesh_", stringify!($name)), self.$name),)*];
                let plain = ["mesh_packets_sent", "mesh_packets_sent_octets", "mesh_packets_received", "mesh_packets_received_octets"];
                all.into_iter().filter(|(name, _)| !plain.contains(name)).collect()
            }
        }

        impl Counters {
            pub(super) fn figures(&self, connected: u64) -> Figures {
                Figures { connected, $($name: self.$name.load(Ordering::Relaxed),)* }
            }
        }
    };
}

counters! {
    /// Connections that were made, by either side.
    connections,
    /// Connections that came to nothing because a name was not proved.
    refused_identities,
    /// Connections turned away because as many were at their beginning, or as many nodes known, as may be.
    refused_for_room,
    /// Questions that were sent.
    asked,
    /// Octets of their bodies.
    asked_octets,
    /// Questions that were not sent because as many waited for an answer as may.
    asks_full,
    /// Questions that were answered here.
    answered,
    /// Octets of their bodies.
    answered_octets,
    /// Packets handed over for other nodes.
    packets_sent,
    /// Octets of them.
    packets_sent_octets,
    /// Packets received from other nodes.
    packets_received,
    /// Octets of them.
    packets_received_octets,
    /// Packets dropped because there was no connection with the node.
    packets_without_connection,
    /// Packets dropped because as many waited as may.
    packets_queue_full,
    /// Packets dropped because they were larger than any IP packet.
    packets_too_large,
    /// Packets dropped because QUIC did not take them.
    packets_unsendable,
    /// Packets in parts dropped because a part did not come in time, or too many waited for theirs.
    packets_incomplete,
    /// Datagrams dropped because they came faster than they were taken.
    datagrams_unread,
    /// Datagrams dropped because they were none of ours.
    datagrams_malformed,
    /// Streams refused because nobody takes them, or as many wait as may.
    streams_refused,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, count: usize) {
        counter.fetch_add(u64::try_from(count).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
