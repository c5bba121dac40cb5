//! The sharded ESP router: everything between the UDP sockets, the tenants' tunnels and their uplinks.
//!
//! What it is: N shard threads, each the sole owner of its SAs, and one control thread for IKE. The SPI names the
//! shard, a packet filter in the kernel hands each packet to the right one, and what arrives elsewhere is handed over
//! by bounded rings. Inner packets are switched between the tunnels of one tenant or go to the tenant's TUN device.
//!
//! What it is not: it knows nothing of IKE (datagrams pass through as octets), of policy or of timers. It runs no async
//! tasks; the async world holds a [`RouterHandle`] and receives [`RouterEvent`]s.
//!
//! Where to start: [`Router::start`], then [`RouterHandle`]. Inside: `shard/` is the packet path, `registry.rs` the
//! control plane behind the handle, `forwarding.rs` the route of an inner packet, `sys/` everything unsafe.

mod config;
mod counters;
mod error;
mod handle;
mod model;
mod router;

pub use config::{InterfaceAddress, ParseAddressError, RouterConfig, Uplink};
pub use counters::Counter;
pub use error::RouterError;
pub use handle::RouterHandle;
pub use model::{ChildSa, IkeDatagram, RouterEvent, SaStats, TenantId, TunnelId};
pub use router::Router;
