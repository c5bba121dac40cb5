//! The key schedule (RFC 7296 sections 2.14, 2.17 and 2.18).

use zeroize::Zeroizing;

use super::CryptoError;
use super::prf::{Prf, Secret};
use super::sk::{Integrity, SkSuite};
use crate::proposal::EspChoice;
use crate::proposal::table::{AES_CBC, AES_GCM_16, CHACHA20_POLY1305, TRIPLE_DES};

/// The seven keys of an IKE_SA.
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub struct IkeKeys {
    /// Derives further keys.
    pub d: Secret,
    /// Integrity, initiator to responder; empty with an AEAD.
    pub ai: Secret,
    /// Integrity, responder to initiator.
    pub ar: Secret,
    /// Encryption (and salt), initiator to responder.
    pub ei: Secret,
    /// Encryption (and salt), responder to initiator.
    pub er: Secret,
    /// Authenticates the initiator's identity.
    pub pi: Secret,
    /// Authenticates the responder's identity.
    pub pr: Secret,
}

impl std::fmt::Debug for IkeKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IkeKeys(..)")
    }
}

/// The public inputs of the schedule.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// Nonce of the initiator of the exchange.
    pub ni: &'a [u8],
    /// Nonce of the responder of the exchange.
    pub nr: &'a [u8],
    /// SPI of the IKE_SA's initiator.
    pub spi_i: u64,
    /// SPI of the IKE_SA's responder.
    pub spi_r: u64,
}

/// Keys of a new IKE_SA: SKEYSEED = prf(Ni | Nr, g^ir) (section 2.14).
pub fn initial(prf: Prf, suite: SkSuite, inputs: Inputs<'_>, shared: &[u8]) -> Result<IkeKeys, CryptoError> {
    let nonces = Zeroizing::new(prf.nonce_key(inputs.ni, inputs.nr));
    let seed = prf.prf(&nonces, &[shared])?;
    expand(prf, suite, inputs, &seed)
}

/// Keys of a rekeyed IKE_SA: SKEYSEED = prf(SK_d (old), g^ir (new) | Ni | Nr) with the old PRF, the keys from it with
/// the new one (section 2.18).
pub fn rekeyed(
    old: (Prf, &[u8]),
    prf: Prf,
    suite: SkSuite,
    inputs: Inputs<'_>,
    shared: &[u8],
) -> Result<IkeKeys, CryptoError> {
    let seed = old.0.prf(old.1, &[shared, inputs.ni, inputs.nr])?;
    expand(prf, suite, inputs, &seed)
}

fn expand(prf: Prf, suite: SkSuite, inputs: Inputs<'_>, skeyseed: &[u8]) -> Result<IkeKeys, CryptoError> {
    let (p, a, e) = (prf.key_len(), suite.integrity_key_len(), suite.encryption_key_len());
    let (spi_i, spi_r) = (inputs.spi_i.to_be_bytes(), inputs.spi_r.to_be_bytes());
    let all = prf.prf_plus(skeyseed, &[inputs.ni, inputs.nr, &spi_i, &spi_r], 3 * p + 2 * a + 2 * e)?;
    let mut rest = all.as_slice();
    let mut take = |n: usize| split(&mut rest, n);
    Ok(IkeKeys {
        d: take(p)?,
        ai: take(a)?,
        ar: take(a)?,
        ei: take(e)?,
        er: take(e)?,
        pi: take(p)?,
        pr: take(p)?,
    })
}

fn split(rest: &mut &[u8], n: usize) -> Result<Secret, CryptoError> {
    let (head, tail) = rest.split_at_checked(n).ok_or(CryptoError::Library)?;
    *rest = tail;
    Ok(Zeroizing::new(head.to_vec()))
}

/// The keys of one direction of a Child SA.
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub struct EspKeys {
    /// Encryption key, with the salt behind it for an AEAD.
    pub encryption: Secret,
    /// Integrity key, empty for an AEAD.
    pub integrity: Secret,
}

impl std::fmt::Debug for EspKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EspKeys(..)")
    }
}

/// Both directions of a Child SA: initiator to responder, then responder to initiator (section 2.17).
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub struct ChildKeys {
    /// From the initiator of the exchange to its responder.
    pub initiator: EspKeys,
    /// The other way.
    pub responder: EspKeys,
}

/// KEYMAT = prf+(SK_d, [g^ir |] Ni | Nr).
pub fn child(
    prf: Prf,
    sk_d: &[u8],
    choice: &EspChoice,
    shared: Option<&[u8]>,
    ni: &[u8],
    nr: &[u8],
) -> Result<ChildKeys, CryptoError> {
    let encryption = encryption_key_len(choice.encr.id, choice.encr.key_bits)?;
    let integrity = match choice.integ {
        Some(t) => Integrity::from_transform(t.id)?.key_len(),
        None => 0,
    };
    let all = prf.prf_plus(sk_d, &[shared.unwrap_or_default(), ni, nr], 2 * (encryption + integrity))?;
    let mut rest = all.as_slice();
    let mut one = || -> Result<EspKeys, CryptoError> {
        Ok(EspKeys { encryption: split(&mut rest, encryption)?, integrity: split(&mut rest, integrity)? })
    };
    Ok(ChildKeys { initiator: one()?, responder: one()? })
}

/// Octets of key, and salt for an AEAD (RFC 4106, RFC 7634, RFC 3602, RFC 2451).
pub fn encryption_key_len(id: u16, key_bits: Option<u16>) -> Result<usize, CryptoError> {
    match (id, key_bits) {
        (AES_GCM_16, Some(bits @ (128 | 192 | 256))) => Ok(usize::from(bits) / 8 + 4),
        (CHACHA20_POLY1305, None) => Ok(36),
        (AES_CBC, Some(bits @ (128 | 192 | 256))) => Ok(usize::from(bits) / 8),
        // Three keys of DES, with their parity bits.
        (TRIPLE_DES, None) => Ok(24),
        _ => Err(CryptoError::Unsupported),
    }
}
