//! Several routers of one cluster in one process.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use router::{Elsewhere, Passed, RouterConfig, RouterHandle, TenantId};

use super::{Gateway, PATIENCE};

/// The ways between routers of one cluster: slot by slot and node by node.
#[derive(Default)]
pub struct Cluster {
    owners: Mutex<HashMap<u8, RouterHandle>>,
    nodes: Mutex<HashMap<u32, RouterHandle>>,
}

impl Cluster {
    /// A router of this cluster that has `slot`.
    pub fn gateway(self: &Arc<Self>, slot: u8, shards: usize) -> Gateway {
        self.waiting_gateway(slot, shards, PATIENCE)
    }

    /// One where packets of a slot that changes hands wait for as long.
    pub fn waiting_gateway(self: &Arc<Self>, slot: u8, shards: usize, slot_wait: Duration) -> Gateway {
        let config = RouterConfig {
            listen: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
            ike_port: 0,
            natt_port: 0,
            shards,
            slot,
            elsewhere: Some(self.clone()),
            slot_wait,
            ..RouterConfig::default()
        };
        Gateway::start_config(config, 1000)
    }

    /// From now on this router has the slot.
    pub fn give(&self, slot: u8, to: &Gateway) {
        self.give_to(slot, &to.handle);
    }

    /// This router is the node of that number.
    pub fn name(&self, node: u32, gateway: &Gateway) {
        self.nodes.lock().unwrap().insert(node, gateway.handle.clone());
    }

    pub fn give_to(&self, slot: u8, to: &RouterHandle) {
        self.owners.lock().unwrap().insert(slot, to.clone());
    }
}

impl Elsewhere for Cluster {
    fn esp(&self, slot: u8, packet: &[u8], passed: Passed) -> bool {
        let owner = self.owners.lock().unwrap().get(&slot).cloned();
        owner.map(|owner| owner.passed_in(packet.to_vec(), passed)).is_some()
    }

    fn inner(&self, node: u32, tenant: TenantId, packet: &[u8]) -> bool {
        let node = self.nodes.lock().unwrap().get(&node).cloned();
        node.map(|node| node.inner_in(tenant, packet.to_vec())).is_some()
    }
}
