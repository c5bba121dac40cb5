//! The sharded ESP router: everything between the UDP sockets, the tenants' tunnels and their uplinks.
//!
//! What it is: N shard threads, each the sole owner of its SAs, and one control thread for IKE. The SPI names the
//! shard, a packet filter in the kernel hands each packet to the right one, and what arrives elsewhere is handed over
//! by bounded rings. Inner packets are switched between the tunnels of one tenant or go to the tenant's TUN device.
//!
//! What it is not: it knows nothing of IKE (datagrams pass through as octets) or of timers, and a policy only as the rules
//! it is given. It runs no async tasks; the async world holds a [`RouterHandle`] and receives [`RouterEvent`]s.
//!
//! Where to start: [`Router::start`], then [`RouterHandle`]. Inside: `shard/` is the packet path, `registry.rs` the
//! control plane behind the handle, `forwarding.rs` the route of an inner packet, `sys/` everything unsafe.

mod allowance;
mod bell;
mod came_from;
mod command;
mod config;
mod control;
mod counters;
mod datagram;
mod directory;
mod edition;
mod elsewhere;
mod entrance;
mod error;
mod events;
mod forwarding;
mod handle;
mod handle_elsewhere;
mod handle_moves;
mod handle_slots;
mod handle_spis;
mod handle_stats;
mod handoff;
mod huge_pages;
mod interval;
mod limiter;
mod liveness;
mod model;
mod options;
mod overflow;
mod pair_snapshot;
mod path_mtu;
pub mod policy;
mod port;
mod prefix;
mod published;
mod registry;
mod router;
mod shard;
mod shard_port;
mod slots;
mod spi_pool;
mod spis;
mod sys;
mod tenant;
mod tunnel;
mod turns;
mod unreachable;
mod uplink;

/// Parts of the packet path by themselves, for the crate `bench`.
#[cfg(feature = "bench")]
#[doc(hidden)]
pub mod bench {
    pub use crate::shard::memory::{MemoryShard, RouteTable, owner};
}

pub use config::{InterfaceAddress, ParseAddressError, RouterConfig, Uplink};
pub use counters::Counter;
pub use elsewhere::{Elsewhere, Passed};
pub use entrance::Entrance;
pub use error::RouterError;
pub use handle::{MAX_DUMMIES, RouterHandle};
pub use handle_stats::Told;
pub use huge_pages::HugePages;
pub use limiter::TrafficLimits;
#[cfg(feature = "fault-injection")]
pub use liveness::RouterThread;
pub use liveness::ThreadDeath;
pub use model::{
    Carried, ChildSa, IkeDatagram, Reserve, RouterEvent, SaStats, TenantId, TunnelConfig, TunnelId,
};
pub use options::{Encapsulation, OuterDf, OuterDscp, OuterEcn, TunnelOptions};
pub use pair_snapshot::{PairSnapshot, WindowSnapshot};
pub use router::Router;
pub use turns::take_turns;
pub use unreachable::{IcmpReason, Unreachable, Unsent};
pub use uplink::{
    MAX_REFUSED_SHOWN, RefusedRoute, RouteRefusal, UplinkError, UplinkFault, UplinkState, UplinkStatus,
};
