//! The world as the core sees it from an initiator.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;

use ike::config::PeerConfig;
use ike::{Host, Identity, NoPeer};

/// Supplies the system's randomness and SPIs of its own.
#[derive(Default)]
pub(crate) struct ClientHost {
    used: HashSet<u32>,
}

impl ClientHost {
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
        _: &Identity,
        _: Option<&Identity>,
        _: SocketAddr,
        _: ike::config::Opening,
    ) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        Err(NoPeer::Unknown)
    }
}
