//! What a connection of a test asks for: randomness, SPIs, and who its peer is.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ike::config::{Opening, PeerConfig};
use ike::credentials::KeyHash;
use ike::{Host, Identity, NoPeer};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::tap;

/// Supplies seeded randomness.
#[derive(Clone)]
pub struct TestHost {
    pub rng: ChaCha20Rng,
    pub next_esp: u32,
    pub next_ike: u64,
    pub peer: Arc<PeerConfig>,
    /// Others with the same identity, of other tenants.
    pub others: Vec<Arc<PeerConfig>>,
    pub free_spis: bool,
    pub peer_not_ready: bool,
    /// Another connection of the peer that is up.
    pub connected: Option<SocketAddr>,
    /// ESP SPIs that were given out and not given back.
    pub held: BTreeSet<u32>,
    /// What was drawn, for [`tap::Tap`].
    pub draws: tap::Draws,
}

impl TestHost {
    pub fn new(seed: u64, peer: Arc<PeerConfig>) -> Self {
        Self {
            rng: ChaCha20Rng::seed_from_u64(seed),
            next_esp: 0x1000 * u32::try_from(seed).unwrap(),
            next_ike: 0x1000 * seed,
            peer,
            others: Vec::new(),
            free_spis: true,
            peer_not_ready: false,
            connected: None,
            held: BTreeSet::new(),
            draws: Vec::new(),
        }
    }

    /// Draws other octets from now on.
    pub fn random_from(&mut self, seed: u64) {
        self.rng = ChaCha20Rng::seed_from_u64(seed);
    }

    /// Gives out other SPIs from now on: those of ESP beyond those of the other side, or not.
    pub fn skip_spis(&mut self, seed: u64) {
        self.next_esp += u32::try_from(seed).unwrap() * 0x1100;
        self.next_ike += seed * 0x1100;
    }
}

impl Host for TestHost {
    fn random(&mut self, out: &mut [u8]) {
        self.rng.fill_bytes(out);
        if out.len() >= 32 {
            self.draws.push(out.to_vec());
        }
    }

    fn allocate_ike_spi(&mut self) -> u64 {
        self.next_ike += 1;
        self.next_ike
    }

    fn allocate_esp_spi(&mut self, _: SocketAddr) -> Option<u32> {
        self.next_esp += 1;
        let spi = self.free_spis.then_some(self.next_esp)?;
        self.held.insert(spi);
        Some(spi)
    }

    fn find_peers(
        &mut self,
        id_i: &Identity,
        id_r: Option<&Identity>,
        remote: SocketAddr,
        opening: Opening,
    ) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        let own = |c: &PeerConfig| c.name == self.peer.name && c.local_id == self.peer.local_id;
        let fits =
            |c: &Arc<PeerConfig>| c.remote_id == *id_i && (!own(c) || id_r.is_none_or(|r| *r == c.local_id));
        let all = self.all(remote, opening)?;
        let found: Vec<_> = all.into_iter().filter(fits).collect();
        if found.is_empty() { Err(NoPeer::Unknown) } else { Ok(found) }
    }

    fn peers_from(&mut self, remote: SocketAddr, opening: Opening) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        self.all(remote, opening)
    }

    fn authorities(&mut self, _: SocketAddr) -> Vec<KeyHash> {
        let all = std::iter::once(&self.peer).chain(&self.others);
        all.filter_map(|peer| peer.auth.certificates()).flat_map(|with| with.authorities().to_vec()).collect()
    }

    fn connected(&self, _: &PeerConfig) -> Option<SocketAddr> {
        self.connected
    }
}

impl TestHost {
    fn all(&self, _: SocketAddr, opening: Opening) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        if self.peer_not_ready {
            return Err(NoPeer::NotYet);
        }
        let all = std::iter::once(&self.peer).chain(&self.others);
        let found: Vec<_> = all.filter(|c| c.opening() == opening).cloned().collect();
        if found.is_empty() { Err(NoPeer::Unknown) } else { Ok(found) }
    }
}
