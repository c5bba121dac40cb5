//! What stands in for Diffie-Hellman while fuzzing: a fuzzer needs two sides that come to the same secret and values
//! that are refused, not a hard problem, and real groups would take most of every run.
//!
//! There is no security in it. It is compiled only with the flag `--cfg culvert_fuzz`, which nothing but `make fuzz`
//! sets, and then instead of `dh.rs`, whose interface it has.

use zeroize::Zeroizing;

use super::CryptoError;
use super::prf::Secret;
use crate::host::Host;

/// Any odd number: public values are its multiples modulo 2^64.
const BASE: u64 = 0x9e37_79b9_7f4a_7c15;
/// Octets of a number.
const WORD: usize = 8;

/// Our half of an exchange.
#[derive(Clone, Debug)]
pub struct KeyPair {
    group: u16,
    private: u64,
    public: Vec<u8>,
}

/// Octets that are drawn for a private value and those of a public value, as the real groups have them.
const fn octets(group: u16) -> Result<(usize, usize), CryptoError> {
    Ok(match group {
        2 => (64, 128),
        5 => (64, 192),
        14 => (64, 256),
        15 => (64, 384),
        16 => (64, 512),
        17 => (80, 768),
        18 => (80, 1024),
        19 => (40, 64),
        20 => (56, 96),
        21 => (74, 132),
        31 => (32, 32),
        _ => return Err(CryptoError::Unsupported),
    })
}

fn word(octets: &[u8]) -> u64 {
    octets.first_chunk().map_or(0, |first: &[u8; WORD]| u64::from_be_bytes(*first))
}

/// A number as often as it fits into a public value.
fn encode(number: u64, len: usize) -> Vec<u8> {
    number.to_be_bytes().into_iter().cycle().take(len).collect()
}

/// Whether a public value is one. As in the real groups a wrong length is refused, and zero, and but for Curve25519 what is
/// not an element of the group.
///
/// # Errors
/// If it is none, or the group is unknown.
pub fn check_public(id: u16, peer: &[u8]) -> Result<(), CryptoError> {
    let (_, len) = octets(id)?;
    let theirs = word(peer);
    let element = id == 31 || peer == encode(theirs, len);
    if peer.len() != len || theirs == 0 || !element {
        return Err(CryptoError::BadPublicValue);
    }
    Ok(())
}

impl KeyPair {
    /// A fresh key pair of the group with this transform ID.
    pub fn generate(id: u16, host: &mut dyn Host) -> Result<Self, CryptoError> {
        let (drawn, len) = octets(id)?;
        let mut random = vec![0; drawn];
        host.random(&mut random);
        // Odd, so that no product becomes zero.
        let private = word(&random) | 1;
        Ok(Self { group: id, private, public: encode(private.wrapping_mul(BASE), len) })
    }

    /// The private value, for a node that takes over.
    pub(crate) fn private(&self) -> Result<Secret, CryptoError> {
        Ok(Zeroizing::new(self.private.to_be_bytes().to_vec()))
    }

    /// What was told by [`Self::private`], [`Self::group`] and [`Self::public`].
    pub(crate) fn from_parts(id: u16, private: &[u8], public: Vec<u8>) -> Result<Self, CryptoError> {
        octets(id)?;
        Ok(Self { group: id, private: word(private), public })
    }

    /// The group's transform ID.
    pub const fn group(&self) -> u16 {
        self.group
    }

    /// The public value as the KE payload carries it.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The shared secret with the peer's public value, which is checked.
    pub fn agree(&self, peer: &[u8]) -> Result<Secret, CryptoError> {
        check_public(self.group, peer)?;
        Ok(Zeroizing::new(encode(word(peer).wrapping_mul(self.private), 32)))
    }
}
