//! The world as the core sees it from an initiator.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ike::config::{Opening, PeerConfig};
use ike::{Host, Identity, NoPeer};

/// Whose SPIs are whose, of all members of a group: their datagrams come in by one socket.
#[derive(Debug, Default)]
pub(crate) struct Spis {
    ike: HashMap<u64, u32>,
    esp: HashMap<u32, u32>,
}

impl Spis {
    pub(crate) fn of_ike(&self, spi: u64) -> Option<u32> {
        self.ike.get(&spi).copied()
    }

    pub(crate) fn of_esp(&self, spi: u32) -> Option<u32> {
        self.esp.get(&spi).copied()
    }

    pub(crate) fn release_ike(&mut self, spi: u64) {
        self.ike.remove(&spi);
    }

    pub(crate) fn release_esp(&mut self, spi: u32) {
        self.esp.remove(&spi);
    }

    /// A member is gone.
    pub(crate) fn forget(&mut self, member: u32) {
        self.ike.retain(|_, owner| *owner != member);
        self.esp.retain(|_, owner| *owner != member);
    }
}

/// Supplies the system's randomness and SPIs of its own to one member.
#[derive(Default)]
pub(crate) struct ClientHost {
    member: u32,
    spis: Spis,
    /// Who may begin a negotiation with us: in IKEv1 the node does so to renew phase 1.
    peer: Option<Arc<PeerConfig>>,
    /// Where the node is, while a connection with it is up.
    pub(crate) connected: Option<SocketAddr>,
}

impl ClientHost {
    /// That of the initiator `member` to this peer.
    pub(crate) fn of(member: u32, peer: Arc<PeerConfig>) -> Self {
        Self { member, peer: Some(peer), ..Self::default() }
    }

    /// Exchanges the table of SPIs with the group's: a member has it while it works, and nobody else does meanwhile.
    pub(crate) const fn swap(&mut self, spis: &mut Spis) {
        std::mem::swap(&mut self.spis, spis);
    }

    pub(crate) const fn spis(&mut self) -> &mut Spis {
        &mut self.spis
    }
}

impl Host for ClientHost {
    fn random(&mut self, out: &mut [u8]) {
        // Nothing sensible can follow when the system has no randomness.
        #[allow(clippy::expect_used)]
        openssl::rand::rand_bytes(out).expect("the operating system provides randomness");
    }

    fn allocate_ike_spi(&mut self) -> u64 {
        loop {
            let mut octets = [0; 8];
            self.random(&mut octets);
            let spi = u64::from_be_bytes(octets).max(1);
            if !self.spis.ike.contains_key(&spi) {
                self.spis.ike.insert(spi, self.member);
                return spi;
            }
        }
    }

    fn allocate_esp_spi(&mut self, _: SocketAddr) -> Option<u32> {
        loop {
            let mut octets = [0; 4];
            self.random(&mut octets);
            // 1 to 255 are reserved (RFC 4303 section 2.1).
            let spi = u32::from_be_bytes(octets);
            if spi > 255 && !self.spis.esp.contains_key(&spi) {
                self.spis.esp.insert(spi, self.member);
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
