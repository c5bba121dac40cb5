//! Signatures by ECDSA as AUTH had them before RFC 7427 (RFC 4754): methods that stand for a curve with the hash of its length, and hold the two
//! numbers of a signature one behind the other.

use openssl::bn::BigNum;
use openssl::ecdsa::EcdsaSig;

use super::CryptoError;
use super::signature::{Hash, Scheme};
use crate::wire::numbers::AuthMethod;

/// What a method stands for.
pub(crate) const fn scheme_of(method: AuthMethod) -> Option<Scheme> {
    match method {
        AuthMethod::ECDSA_SHA256_P256 => Some(Scheme::Ecdsa(Hash::Sha256)),
        AuthMethod::ECDSA_SHA384_P384 => Some(Scheme::Ecdsa(Hash::Sha384)),
        AuthMethod::ECDSA_SHA512_P521 => Some(Scheme::Ecdsa(Hash::Sha512)),
        _ => None,
    }
}

/// The method for a key that signs by this first of all: then it is of the curve that belongs to the hash.
pub(crate) const fn method_of(first: Scheme) -> Option<AuthMethod> {
    match first {
        Scheme::Ecdsa(Hash::Sha256) => Some(AuthMethod::ECDSA_SHA256_P256),
        Scheme::Ecdsa(Hash::Sha384) => Some(AuthMethod::ECDSA_SHA384_P384),
        Scheme::Ecdsa(Hash::Sha512) => Some(AuthMethod::ECDSA_SHA512_P521),
        Scheme::Ed25519 | Scheme::RsaPss(_) | Scheme::RsaPkcs1(_) => None,
    }
}

/// Octets of each of the two numbers (RFC 4754 section 7).
const fn number_len(method: AuthMethod) -> usize {
    match method {
        AuthMethod::ECDSA_SHA256_P256 => 32,
        AuthMethod::ECDSA_SHA384_P384 => 48,
        _ => 66,
    }
}

/// A signature in DER, as libraries make it, in the form of the method.
///
/// # Errors
/// [`CryptoError::Library`] if it is none, or of a longer curve.
pub(crate) fn written(method: AuthMethod, der: &[u8]) -> Result<Vec<u8>, CryptoError> {
    let (signature, len) = (EcdsaSig::from_der(der)?, i32::try_from(number_len(method)).unwrap_or(i32::MAX));
    Ok([signature.r().to_vec_padded(len)?, signature.s().to_vec_padded(len)?].concat())
}

/// A signature in the form of the method in DER. `None` for one of another length: its curve is another one.
pub(crate) fn read(method: AuthMethod, value: &[u8]) -> Option<Vec<u8>> {
    let len = number_len(method);
    let (r, s) = value.split_at_checked(len).filter(|(_, s)| s.len() == len)?;
    let number = |octets| BigNum::from_slice(octets).ok();
    EcdsaSig::from_private_components(number(r)?, number(s)?).ok()?.to_der().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// RFC 4754 section 8.1: r and s of the example for P-256.
    const EXAMPLE: &str = "cb28e0999b9c7715fd0a80d8e47a77079716cbbf917dd72e97566ea1c066957c\
                           86fa3bb4e26cad5bf90b7f81899256ce7594bb1ea0c89212748bff3b3d5b0315";

    fn example() -> Vec<u8> {
        let digits = EXAMPLE.as_bytes().chunks(2);
        digits.map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn numbers_stand_one_behind_the_other() {
        let method = AuthMethod::ECDSA_SHA256_P256;
        let der = read(method, &example()).unwrap();
        // The numbers have their highest bit set or not: 33 octets or 32.
        assert_eq!((der[0], der.len()), (0x30, 2 + 2 + 33 + 2 + 33));
        assert_eq!(written(method, &der).unwrap(), example());
    }

    #[test]
    fn a_short_number_is_filled_and_another_length_is_not_taken() {
        for (method, len) in [
            (AuthMethod::ECDSA_SHA256_P256, 64),
            (AuthMethod::ECDSA_SHA384_P384, 96),
            (AuthMethod::ECDSA_SHA512_P521, 132),
        ] {
            let mut value = vec![0; len];
            (value[len / 2 - 1], value[len - 1]) = (7, 9);
            assert_eq!(written(method, &read(method, &value).unwrap()).unwrap(), value);
            for other in [0, len - 1, len + 1] {
                assert_eq!(read(method, &vec![1; other]), None, "{other}");
            }
            assert_eq!(scheme_of(method).and_then(method_of), Some(method));
        }
        // Of a longer curve.
        let long = read(AuthMethod::ECDSA_SHA384_P384, &[1; 96]).unwrap();
        assert!(written(AuthMethod::ECDSA_SHA256_P256, &long).is_err());
        assert!(written(AuthMethod::ECDSA_SHA256_P256, b"no").is_err());
    }
}
