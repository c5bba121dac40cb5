//! The keys of IKE_SAs, for who decrypts a capture of his own traffic.

use super::Connection;
use crate::crypto::prf::Secret;
use crate::proposal::IkeChoice;

/// What it takes to read the messages of one IKE_SA. Whoever has it reads all of them and can forge more.
pub struct LoggedKeys {
    /// SPI of its initiator.
    pub spi_i: u64,
    /// SPI of its responder.
    pub spi_r: u64,
    /// The algorithms.
    pub choice: IkeChoice,
    /// SK_ei and SK_er, each with the salt behind it for an AEAD.
    pub encryption: [Secret; 2],
    /// SK_ai and SK_ar, empty for an AEAD.
    pub integrity: [Secret; 2],
}

impl std::fmt::Debug for LoggedKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "LoggedKeys({:016x}, {:016x})", self.spi_i, self.spi_r)
    }
}

impl Connection {
    /// The keys of every IKE_SA that the connection has now. For a key log that somebody has asked for, and nothing else.
    pub fn logged_keys(&self) -> impl Iterator<Item = LoggedKeys> {
        self.sas.iter().map(|sa| sa.logged_keys())
    }
}
