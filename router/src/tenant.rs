//! What the control plane and the shards share of a tenant. Everything a packet may reach hangs below its tenant.

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use esp::Spi;

use crate::forwarding::Forwarding;
use crate::model::{TenantId, TunnelId};

/// A tenant.
pub(crate) struct Tenant {
    pub(crate) id: TenantId,
    /// Which tunnel a destination belongs to.
    pub(crate) forwarding: Forwarding,
    /// One queue of the TUN device per shard; empty for a hub.
    queues: Vec<File>,
}

impl Tenant {
    pub(crate) fn new(id: TenantId, queues: Vec<File>) -> Self {
        Self { id, forwarding: Forwarding::default(), queues }
    }

    /// The shard's queue of the TUN device, if the tenant has one.
    pub(crate) fn queue(&self, shard: usize) -> Option<&File> {
        self.queues.get(shard)
    }

    /// Whether the tenant has a TUN device.
    pub(crate) fn has_device(&self) -> bool {
        !self.queues.is_empty()
    }

    /// Writes a packet to the device. `None` when the tenant has none.
    pub(crate) fn write(&self, shard: usize, packet: &[u8]) -> Option<io::Result<usize>> {
        self.queue(shard).map(|mut queue| queue.write(packet))
    }
}

/// A tunnel: which of its pairs it sends on.
pub(crate) struct Tunnel {
    pub(crate) id: TunnelId,
    /// Inbound SPI of that pair; 0 when there is none. The SPI says where the pair is, so this is the whole route.
    current: AtomicU32,
}

impl Tunnel {
    pub(crate) fn new(id: TunnelId) -> Arc<Self> {
        Arc::new(Self { id, current: AtomicU32::new(0) })
    }

    /// The pair to send on.
    pub(crate) fn current(&self) -> Option<Spi> {
        match self.current.load(Ordering::Acquire) {
            0 => None,
            spi => Some(Spi(spi)),
        }
    }

    /// Sends on this pair from now on.
    pub(crate) fn activate(&self, spi: Spi) {
        self.current.store(spi.0, Ordering::Release);
    }

    /// Stops sending on this pair, if the tunnel still does.
    pub(crate) fn retire(&self, spi: Spi) {
        // A failure means that another pair has taken over, which is as good.
        let _ = self.current.compare_exchange(spi.0, 0, Ordering::AcqRel, Ordering::Relaxed);
    }
}
