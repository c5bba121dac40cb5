//! The keys of IKE_SAs, for who decrypts a capture of his own traffic.

use super::Connection;
use crate::verbs::LoggedKeys;

impl Connection {
    /// The keys of every IKE_SA that the connection has now. For a key log that somebody has asked for, and nothing else.
    pub(crate) fn logged_keys(&self) -> impl Iterator<Item = LoggedKeys> {
        self.sas.iter().map(|sa| {
            let (spi_i, spi_r) = sa.spis();
            LoggedKeys::V1 { spi_i, spi_r, key: sa.cipher_key() }
        })
    }
}
