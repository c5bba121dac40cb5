//! The world as the pure core sees it: randomness of the system, SPIs of the router, peers of the catalog.

use std::net::SocketAddr;
use std::sync::Arc;

use actix::prelude::*;
use esp::Spi;
use ike::config::{Opening, PeerConfig};
use ike::credentials::KeyHash;
use ike::{Host, Identity, NoPeer};
use tenants::Peer;

use crate::datagram::Deliver;
use crate::env::ConnEnv;
use crate::held::Held;
use crate::randomness::random;

/// Implements [`Host`] for the time of one call.
pub(crate) struct CoreHost<'a> {
    pub(crate) env: &'a ConnEnv,
    /// Who gets the datagrams of an IKE SPI allocated here.
    pub(crate) owner: &'a Recipient<Deliver>,
    /// In which its SPIs are.
    pub(crate) slot: u8,
    /// The thread's number, which goes into the SPI.
    pub(crate) arbiter: u64,
    /// What is allocated belongs to this connection.
    pub(crate) held: &'a mut Held,
}

/// Bits of the slot and of the arbiter on top of an IKE SPI; the other 52 are random.
const SLOT_SHIFT: u32 = 58;
const ARBITER_SHIFT: u32 = 52;

/// The slot of an IKE SPI.
pub const fn slot_of(spi: u64) -> u8 {
    (spi >> SLOT_SHIFT) as u8
}

impl CoreHost<'_> {
    /// Those of them that can be served at this moment.
    fn ready(&self, peers: &[Arc<Peer>]) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        let ready = |peer: &Arc<Peer>| self.env.registry.peers.get(&peer.name)?.config.clone();
        let ready: Vec<_> = peers.iter().filter_map(ready).collect();
        if ready.is_empty() { Err(NoPeer::NotYet) } else { Ok(ready) }
    }
}

impl Host for CoreHost<'_> {
    fn random(&mut self, out: &mut [u8]) {
        random(out);
    }

    fn allocate_ike_spi(&mut self) -> u64 {
        loop {
            let mut octets = [0; 8];
            random(&mut octets);
            let low = u64::from_be_bytes(octets) & ((1 << ARBITER_SHIFT) - 1);
            let slot = u64::from(self.slot) << SLOT_SHIFT;
            let spi = slot | ((self.arbiter & 0x3f) << ARBITER_SHIFT) | low;
            // The slot is never zero, so the SPI is not.
            if self.held.reserve_ike(&self.env.registry.ike, spi, self.owner) {
                return spi;
            }
        }
    }

    fn allocate_esp_spi(&mut self, remote: SocketAddr) -> Option<u32> {
        let spi = self.env.router.allocate_spi(self.slot, remote.ip())?;
        self.held.hold_esp(&self.env.router, spi);
        Some(spi.0)
    }

    fn allocate_resource_spi(
        &mut self,
        remote: SocketAddr,
        beside: &[u32],
        replaces: Option<u32>,
    ) -> Option<u32> {
        let beside: Vec<Spi> = beside.iter().copied().map(Spi).collect();
        let spi = self.env.router.allocate_own_spi(self.slot, remote.ip(), &beside, replaces.map(Spi))?;
        self.held.hold_esp(&self.env.router, spi);
        Some(spi.0)
    }

    fn find_peers(
        &mut self,
        id_i: &Identity,
        id_r: Option<&Identity>,
        remote: SocketAddr,
        opening: Opening,
    ) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        match self.env.catalog.find_peers(opening, id_r, id_i, remote.ip()) {
            Ok(peers) => self.ready(&peers),
            Err(error) => {
                tracing::debug!(%remote, %error, "no peer for who has said who it is");
                Err(NoPeer::Unknown)
            }
        }
    }

    fn peers_from(&mut self, remote: SocketAddr, opening: Opening) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        let peers = self.env.catalog.peers_from(remote.ip(), opening);
        if peers.is_empty() { Err(NoPeer::Unknown) } else { self.ready(&peers) }
    }

    fn authorities(&mut self, remote: SocketAddr) -> Vec<KeyHash> {
        self.env.catalog.authorities_from(remote.ip())
    }

    fn connected(&self, peer: &PeerConfig) -> Option<SocketAddr> {
        let view = self.env.board.get(&peer.name.parse().ok()?)?;
        view.ike.as_ref().map(|ike| ike.remote)
    }
}
