//! The SPIs that the router gives out.

use std::net::IpAddr;

use esp::Spi;

use crate::counters::Counter;
use crate::handle::RouterHandle;

impl RouterHandle {
    /// Reserves an SPI of this slot for an inbound SA with the peer at `remote`. The same remote address always gets the same
    /// shard.
    ///
    /// `None` when the slot is not open, or all 2^20 of it on the shard are in use. Give it back with [`release_spi`](Self::release_spi) when no SA
    /// comes of it.
    pub fn allocate_spi(&self, slot: u8, remote: IpAddr) -> Option<Spi> {
        let spi = self.registry().spis.allocate(slot, remote);
        if spi.is_none() {
            self.count(Counter::SpiExhausted);
        }
        spi
    }

    /// As [`allocate_spi`](Self::allocate_spi), for one of several pairs of a tunnel (RFC 9611): on the shard that has the fewest of
    /// `beside`, the inbound SPIs of the others, or of the slot and on the shard of `replaces`.
    pub fn allocate_own_spi(
        &self,
        slot: u8,
        remote: IpAddr,
        beside: &[Spi],
        replaces: Option<Spi>,
    ) -> Option<Spi> {
        let spi = match replaces {
            Some(old) => self.registry().spis.allocate_like(old),
            None => self.registry().spis.allocate_beside(slot, remote, beside),
        };
        if spi.is_none() {
            self.count(Counter::SpiExhausted);
        }
        spi
    }

    /// Reserves this very SPI of a slot that is ours or will be, for a connection of another node that goes on here. False if it is in
    /// use.
    pub fn reserve_spi(&self, spi: Spi) -> bool {
        self.registry().spis.take(spi)
    }

    /// Gives an SPI back that was never installed.
    pub fn release_spi(&self, spi: Spi) {
        self.registry().release_spi(spi);
    }
}
