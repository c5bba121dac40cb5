//! How the control plane speaks to the router.

use std::net::{IpAddr, SocketAddr};

use esp::Spi;

use crate::config::Uplink;
use crate::error::RouterError;
use crate::model::{ChildSa, IkeDatagram, SaStats, TenantId};

/// A handle to a running [`crate::Router`]. Cheap to clone, usable from any thread.
///
/// Order of calls for a tunnel: [`add_tenant`](Self::add_tenant) once, [`allocate_spi`](Self::allocate_spi),
/// [`install`](Self::install), [`activate`](Self::activate); for a rekey the same with a new SPI, then
/// [`retire`](Self::retire) and [`remove`](Self::remove) the old one. A pair receives from `install` to `remove`, and
/// sends from `activate` until another pair of its tunnel is activated, or `retire` or `remove`.
#[derive(Clone)]
pub struct RouterHandle {}

impl RouterHandle {
    /// Reserves an SPI for an inbound SA with the peer at `remote`. The same remote address always gets the same shard.
    ///
    /// `None` when all 2^20 of the shard are in use. Give it back with [`release_spi`](Self::release_spi) when no SA
    /// comes of it.
    pub fn allocate_spi(&self, _remote: IpAddr) -> Option<Spi> {
        None
    }

    /// Gives an SPI back that was never installed.
    pub fn release_spi(&self, _spi: Spi) {}

    /// Creates a tenant with its uplink.
    pub fn add_tenant(&self, _tenant: TenantId, _uplink: Uplink) -> Result<(), RouterError> {
        Err(RouterError::Stopped)
    }

    /// Removes a tenant, its uplink and all its SAs.
    pub fn remove_tenant(&self, _tenant: TenantId) {}

    /// Installs a pair of SAs. It receives from now on; to send on it, call [`activate`](Self::activate).
    pub fn install(&self, _sa: ChildSa) -> Result<(), RouterError> {
        Err(RouterError::Stopped)
    }

    /// Makes the pair the one that its tunnel sends on, instead of the one before.
    pub fn activate(&self, _spi: Spi) {}

    /// Stops sending on the pair, if its tunnel did; it still receives.
    pub fn retire(&self, _spi: Spi) {}

    /// Removes the pair: its keys are wiped and its SPI is free for reuse, as late as possible.
    /// [`crate::RouterEvent::Removed`] follows.
    pub fn remove(&self, _spi: Spi) {}

    /// Sends to `remote` from now on.
    pub fn set_remote(&self, _spi: Spi, _remote: SocketAddr) {}

    /// Sends an IKE message; from the NAT traversal port with the marker of RFC 3948. Never blocks: a message that the
    /// socket does not take is dropped and counted.
    pub fn send_ike(&self, _datagram: IkeDatagram) {}

    /// Figures of every pair. Costs a pass over all SAs of each shard.
    pub async fn stats(&self) -> Vec<SaStats> {
        Vec::new()
    }

    /// Every counter, summed over the threads.
    pub fn counters(&self) -> Vec<(&'static str, u64)> {
        Vec::new()
    }

    /// The UDP port of IKE.
    pub fn ike_port(&self) -> u16 {
        500
    }

    /// The UDP port of IKE and ESP with NAT traversal.
    pub fn natt_port(&self) -> u16 {
        4500
    }
}
