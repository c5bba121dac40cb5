//! Tunnels of our tenants at other nodes.

use esp::ip;

use crate::command::Command;
use crate::counters::Counter;
use crate::elsewhere::PassedIn;
use crate::handle::RouterHandle;
use crate::model::{TenantId, TunnelId};
use crate::spi_pool::shard_of;

impl RouterHandle {
    /// Says that a declared tunnel is up at another node, or at none. While it has no pair here, what is for it, and what waits
    /// for it, goes there by [`crate::Elsewhere::inner`]; the policy, hop limits and the tenant's quotas are looked at here. A
    /// pair that is here wins.
    pub fn set_elsewhere(&self, tenant: TenantId, tunnel: TunnelId, node: Option<u32>) {
        let waits = {
            let registry = self.registry();
            let Some((tenant, shared)) = registry.tunnel(tenant, tunnel) else { return };
            shared.set_elsewhere(node).then(|| tenant.clone())
        };
        if let Some(node) = node
            && let Some(tenant) = waits
        {
            self.tell_all(|| Command::PassHeld(tenant.clone(), tunnel, node));
        }
    }

    /// A packet of the tenant that another node passes on, since a tunnel that it is for is up here. It goes the way of one that
    /// came through a tunnel of the tenant, without a hop, and leaves by a tunnel of this node or not at all. While a slot changes
    /// hands it waits like ESP ([`expect_slot`](Self::expect_slot)), and is passed on once more for some seconds after one went, hop by hop. Needs
    /// [`crate::RouterConfig::elsewhere`]. Never blocks.
    pub fn inner_in(&self, tenant: TenantId, packet: Vec<u8>) {
        let Some(tenant) = self.shared().tenants.get(tenant) else {
            return self.count(Counter::UnknownTenant);
        };
        let Some(info) = ip::parse(&packet) else { return self.count(Counter::BadInner) };
        // Of all packets to a destination the same, whatever pair there is: what waits for one waits there, before what comes later.
        let shard = shard_of(info.destination, self.shards());
        let sent =
            self.shared().passed.get(shard).map(|shard| shard.try_send(PassedIn::Inner(tenant, packet)));
        if sent != Some(true) {
            self.count(Counter::PassedInFull);
        }
    }
}
