//! The secret half of an SA.

use std::fmt;

use zeroize::{Zeroize, ZeroizeOnDrop};

/// Keys of one direction. Wiped when dropped; never printed.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SaKeys {
    pub(crate) encryption: Vec<u8>,
    pub(crate) integrity: Vec<u8>,
}

impl SaKeys {
    /// `encryption` is the cipher key followed by the salt where the algorithm has one (RFC 4106 section 8.1);
    /// `integrity` is empty for an AEAD. Lengths are checked when the SA is made.
    pub fn new(encryption: Vec<u8>, integrity: Vec<u8>) -> Self {
        Self { encryption, integrity }
    }
}

impl fmt::Debug for SaKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SaKeys(..)")
    }
}
