//! The host of a simulated node: seeded randomness, SPIs that are never used twice, and its configured peers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use ike::config::{Opening, PeerConfig};
use ike::{Host, Identity, NoPeer};

use crate::random::Random;

/// What the cores ask of a node.
#[derive(Debug)]
pub struct SimHost {
    random: Random,
    next_esp: u32,
    /// SPIs given out and not given back, to find leaks.
    pub held: Vec<u32>,
    pub(super) configs: Vec<Arc<PeerConfig>>,
    /// Where the connections of peers come from that are up, by name.
    connected: BTreeMap<Arc<str>, SocketAddr>,
}

impl SimHost {
    pub(super) fn new(node: usize, random: Random) -> Self {
        // Ranges of nodes do not meet, so that a mix-up is noticed.
        let next_esp = 0x0100_0000 * (u32::try_from(node).unwrap_or(0) % 200 + 1);
        Self { random, next_esp, held: Vec::new(), configs: Vec::new(), connected: BTreeMap::new() }
    }

    pub(super) fn note_connected(&mut self, peer: &Arc<str>, from: Option<SocketAddr>) {
        match from {
            Some(from) => self.connected.insert(peer.clone(), from),
            None => self.connected.remove(peer),
        };
    }

    /// The node starts anew.
    pub(super) fn forget(&mut self) {
        self.held.clear();
        self.connected.clear();
    }

    pub(super) fn release(&mut self, spi: u32) {
        self.held.retain(|held| *held != spi);
    }
}

impl Host for SimHost {
    fn random(&mut self, out: &mut [u8]) {
        self.random.fill(out);
    }

    fn allocate_ike_spi(&mut self) -> u64 {
        let mut octets = [0; 8];
        self.random.fill(&mut octets);
        u64::from_be_bytes(octets) | 1
    }

    fn allocate_esp_spi(&mut self, _: SocketAddr) -> Option<u32> {
        self.next_esp += 1;
        self.held.push(self.next_esp);
        Some(self.next_esp)
    }

    fn find_peers(
        &mut self,
        id_i: &Identity,
        id_r: Option<&Identity>,
        remote: SocketAddr,
        opening: Opening,
    ) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        let fits = |c: &Arc<PeerConfig>| c.remote_id == *id_i && id_r.is_none_or(|id| c.local_id == *id);
        let found: Vec<_> = self.peers_from(remote, opening)?.into_iter().filter(fits).collect();
        if found.is_empty() { Err(NoPeer::Unknown) } else { Ok(found) }
    }

    fn peers_from(&mut self, _: SocketAddr, opening: Opening) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        let found: Vec<_> = self.configs.iter().filter(|c| c.opening() == opening).cloned().collect();
        if found.is_empty() { Err(NoPeer::Unknown) } else { Ok(found) }
    }

    fn connected(&self, peer: &PeerConfig) -> Option<SocketAddr> {
        self.connected.get(&peer.name).copied()
    }
}
