//! What the control plane asks of uplinks.

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::nudge::Nudge;
use super::status::UplinkStatus;
use crate::config::Uplink;
use crate::error::RouterError;
use crate::handle::RouterHandle;
use crate::model::TenantId;
use crate::sys::netlink::Netlink;

impl RouterHandle {
    /// Creates a tenant. It switches between its tunnels at once.
    ///
    /// Never waits: a TUN device is made by a thread of its own, and [`crate::RouterEvent::Uplink`] tells when it is there or
    /// why it is not. Until then what is for it is dropped and counted. One that cannot be made, or goes, is tried again at
    /// growing intervals; nothing of a failure is left behind.
    pub fn add_tenant(&self, tenant: TenantId, uplink: Uplink) -> Result<(), RouterError> {
        self.registry().add_tenant(tenant, uplink)
    }

    /// Removes a tenant, its uplink and all its SAs. Does nothing when it is not there. The device goes soon after, and
    /// before one that is made later.
    pub fn remove_tenant(&self, tenant: TenantId) {
        let pairs = self.registry().remove_tenant(tenant);
        self.remove_struck_out(&pairs);
    }

    /// How a tenant's uplink stands; `None` when the tenant is not there.
    pub fn uplink(&self, tenant: TenantId) -> Option<Arc<UplinkStatus>> {
        self.registry().uplink(tenant)
    }

    /// Tries now to make a device that could not be made, instead of when its time has come.
    pub fn retry_uplink(&self, tenant: TenantId) {
        self.shared().nudges.send(Nudge::Retry(tenant));
    }

    /// Returns when everything that was wanted of TUN devices until now is done, or has failed.
    pub async fn uplinks_settled(&self) {
        let (reply, settled) = oneshot::channel();
        self.shared().nudges.send(Nudge::Settled(reply));
        // A thread that has stopped has nothing left to do.
        let _ = settled.await;
    }

    /// The tenant's device that what the node sends to an address goes into, instead of out. The peer there cannot come up:
    /// its subnets, or another tenant's, hold its own address, and no other route of the system is closer.
    pub fn swallower(&self, remote: IpAddr) -> Option<String> {
        let remote = remote.to_canonical();
        let device = self.shared().book.leads(self.shared().namespace?, remote)?;
        // Somebody may have made a route for just this address, so only the system knows.
        let goes_there = Netlink::open()
            .and_then(|mut netlink| Ok(netlink.device_towards(remote)? == netlink.index_of(&device)?));
        goes_there.unwrap_or(false).then_some(device)
    }
}
