//! The world as the core sees it from an initiator.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ike::config::{Opening, PeerConfig};
use ike::{Host, Identity, NoPeer};

/// Supplies the system's randomness and SPIs of its own.
#[derive(Default)]
pub(crate) struct ClientHost {
    used: HashSet<u32>,
    /// Who may begin a negotiation with us: in IKEv1 the node does so to renew phase 1.
    peer: Option<Arc<PeerConfig>>,
    /// Where the node is, while a connection with it is up.
    pub(crate) connected: Option<SocketAddr>,
}

impl ClientHost {
    /// That of an initiator to this peer.
    pub(crate) fn of(peer: Arc<PeerConfig>) -> Self {
        Self { peer: Some(peer), ..Self::default() }
    }

    /// An SPI is free again.
    pub(crate) fn release(&mut self, spi: u32) {
        self.used.remove(&spi);
    }
}

impl Host for ClientHost {
    fn random(&mut self, out: &mut [u8]) {
        // Nothing sensible can follow when the system has no randomness.
        #[allow(clippy::expect_used)]
        openssl::rand::rand_bytes(out).expect("the operating system provides randomness");
    }

    fn allocate_ike_spi(&mut self) -> u64 {
        let mut octets = [0; 8];
        self.random(&mut octets);
        u64::from_be_bytes(octets).max(1)
    }

    fn allocate_esp_spi(&mut self, _: SocketAddr) -> Option<u32> {
        loop {
            let mut octets = [0; 4];
            self.random(&mut octets);
            // 1 to 255 are reserved (RFC 4303 section 2.1).
            let spi = u32::from_be_bytes(octets);
            if spi > 255 && self.used.insert(spi) {
                return Some(spi);
            }
        }
    }

    fn find_peers(
        &mut self,
        id: &Identity,
        _: Option<&Identity>,
        from: SocketAddr,
        opening: Opening,
    ) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        let peers = self.peers_from(from, opening)?;
        if peers.iter().any(|peer| peer.remote_id == *id) { Ok(peers) } else { Err(NoPeer::Unknown) }
    }

    fn peers_from(&mut self, _: SocketAddr, opening: Opening) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        let peer = self.peer.iter().find(|peer| peer.opening() == opening);
        peer.map(|peer| vec![peer.clone()]).ok_or(NoPeer::Unknown)
    }

    fn connected(&self, _: &PeerConfig) -> Option<SocketAddr> {
        self.connected
    }
}
