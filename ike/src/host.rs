//! What the pure core asks of the program around it: randomness, SPIs, and who a peer is.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Opening, PeerConfig};
use crate::credentials::KeyHash;
use crate::identity::Identity;

/// Supplied by the caller with every call that may need it, so that the core itself stays deterministic.
pub trait Host {
    /// Fills `out` with random octets fit for keys.
    fn random(&mut self, out: &mut [u8]);

    /// A new IKE SPI, not zero and not in use.
    fn allocate_ike_spi(&mut self) -> u64;

    /// A new inbound ESP SPI for a Child SA with the peer at `remote`, or `None` when the table is full. It is given
    /// back with [`crate::Event::ReleaseSpi`] or [`crate::Event::RemoveChild`].
    fn allocate_esp_spi(&mut self, remote: SocketAddr) -> Option<u32>;

    /// A new inbound ESP SPI for a pair that is there for one resource (RFC 9611): the resource of `replaces`, if that is given, or
    /// one that has as few as possible of `beside`, the inbound SPIs of the pairs with the same selectors.
    fn allocate_resource_spi(
        &mut self,
        remote: SocketAddr,
        _beside: &[u32],
        _replaces: Option<u32>,
    ) -> Option<u32> {
        self.allocate_esp_spi(remote)
    }

    /// The peers that call themselves `id_i`, are asked for as `id_r` (if the initiator says), may send from `remote` and open
    /// as this one has.
    /// Where there are several, which are few, its key tells which one it is.
    ///
    /// # Errors
    /// Whether there is none, or one is there but cannot be served at this moment.
    fn find_peers(
        &mut self,
        id_i: &Identity,
        id_r: Option<&Identity>,
        remote: SocketAddr,
        opening: Opening,
    ) -> Result<Vec<Arc<PeerConfig>>, NoPeer>;

    /// The peers that may send from `remote` and open as this one has, the most specific address first: who says nothing of
    /// itself before it is authenticated is one of them. A few at most; nobody for a host that
    /// answers no IKEv1.
    ///
    /// # Errors
    /// As [`Self::find_peers`].
    fn peers_from(&mut self, _: SocketAddr, _: Opening) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        Err(NoPeer::Unknown)
    }

    /// The authorities whose certificates peers show that may come from there, a few at most; none where nobody shows one.
    fn authorities(&mut self, _: SocketAddr) -> Vec<KeyHash> {
        Vec::new()
    }

    /// Where a connection of this peer comes from that is up, if there is one. Whether we say INITIAL_CONTACT, and whether
    /// another gateway of the peer is let in, is decided by it at the moment it is asked.
    fn connected(&self, _: &PeerConfig) -> Option<SocketAddr> {
        None
    }
}

/// Why no peer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoPeer {
    /// Nobody of this identity is configured.
    Unknown,
    /// It is configured but not ready, for example while its supervisor is started again. The request is dropped, and
    /// the peer will repeat it.
    NotYet,
}

/// `N` random octets.
pub(crate) fn random_array<const N: usize>(host: &mut dyn Host) -> [u8; N] {
    let mut out = [0; N];
    host.random(&mut out);
    out
}
