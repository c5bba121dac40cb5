//! The AUTH payload with a pre-shared key (RFC 7296 section 2.15).

use super::CryptoError;
use super::prf::{Prf, Secret};

/// Mixed into the key so that the secret itself is not an HMAC key elsewhere; no terminator.
const KEY_PAD: &[u8] = b"Key Pad for IKEv2";

/// AUTH = prf(prf(secret, "Key Pad for IKEv2"), first message | other nonce | prf(SK_p, ID body)).
pub fn psk(
    prf: Prf,
    secret: &[u8],
    first_message: &[u8],
    other_nonce: &[u8],
    sk_p: &[u8],
    id_body: &[u8],
) -> Result<Secret, CryptoError> {
    let key = prf.prf(secret, &[KEY_PAD])?;
    let maced_id = prf.prf(sk_p, &[id_body])?;
    prf.prf(&key, &[first_message, other_nonce, &maced_id])
}

/// Compares without telling by its time where two values differ.
pub fn equal(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && openssl::memcmp::eq(a, b)
}
