//! Diffie-Hellman groups: MODP (RFC 2409, RFC 3526), ECP (RFC 5903) and Curve25519 (RFC 8031).

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::derive::Deriver;
use openssl::ec::{EcGroup, EcPoint, PointConversionForm};
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey};
use zeroize::Zeroizing;

use super::CryptoError;
use super::prf::Secret;
use crate::host::{Host, random_array};

/// Our half of an exchange: private value, zeroized when dropped, and public value.
pub struct KeyPair {
    group: u16,
    private: Private,
    public: Vec<u8>,
}

/// The private value, zeroized when dropped.
enum Private {
    /// As the library keeps it: making it anew from its octets would cost another multiplication.
    Key(PKey<openssl::pkey::Private>),
    Octets(Zeroizing<Vec<u8>>),
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").field("group", &self.group).finish_non_exhaustive()
    }
}

enum Group {
    X25519,
    /// Curve and octets of a coordinate.
    Ecp(Nid, i32),
    /// Prime, its octets, and those of an exponent: the size by the higher of the two estimates of RFC 3526 section 8, 320 bits for
    /// group 14, and no less than 256 bits. More costs time, in proportion, and adds nothing.
    Modp(BigNum, i32, usize),
}

/// Octets of an exponent, at least: no group has less.
const LEAST_EXPONENT: usize = 32;

fn group(id: u16) -> Result<Group, CryptoError> {
    Ok(match id {
        2 => Group::Modp(BigNum::get_rfc2409_prime_1024()?, 128, 32),
        5 => Group::Modp(BigNum::get_rfc3526_prime_1536()?, 192, 32),
        14 => Group::Modp(BigNum::get_rfc3526_prime_2048()?, 256, 40),
        15 => Group::Modp(BigNum::get_rfc3526_prime_3072()?, 384, 53),
        16 => Group::Modp(BigNum::get_rfc3526_prime_4096()?, 512, 60),
        17 => Group::Modp(BigNum::get_rfc3526_prime_6144()?, 768, 68),
        18 => Group::Modp(BigNum::get_rfc3526_prime_8192()?, 1024, 78),
        19 => Group::Ecp(Nid::X9_62_PRIME256V1, 32),
        20 => Group::Ecp(Nid::SECP384R1, 48),
        21 => Group::Ecp(Nid::SECP521R1, 66),
        31 => Group::X25519,
        _ => return Err(CryptoError::Unsupported),
    })
}

/// Checks a peer's public value as far as that costs no exponentiation: its length, its range, that the point is on the
/// curve, and that it is none of the points that lead nowhere. A key pair is made for what passes only, for anybody can
/// send zeros.
///
/// # Errors
/// [`CryptoError::BadPublicValue`] if it cannot be one of the group, [`CryptoError::Unsupported`] for an unknown group.
pub fn check_public(id: u16, peer: &[u8]) -> Result<(), CryptoError> {
    match group(id)? {
        Group::X25519 => {
            let mut masked: [u8; 32] = peer.try_into().map_err(|_| CryptoError::BadPublicValue)?;
            // The highest bit does not count (RFC 7748 section 5).
            masked[31] &= 0x7f;
            if LOW_ORDER_X25519.contains(&masked) { Err(CryptoError::BadPublicValue) } else { Ok(()) }
        }
        Group::Ecp(nid, octets) => {
            let (curve, mut ctx) = (EcGroup::from_curve_name(nid)?, BigNumContext::new()?);
            point_on(&curve, octets, peer, &mut ctx).map(drop)
        }
        Group::Modp(prime, octets, _) => number_in(&prime, octets, peer).map(drop),
    }
}

/// The u-coordinates of all points of low order on Curve25519 and its twist, in every encoding: each secret agreed on with
/// one of them is zero (RFC 7748 section 6.1).
const LOW_ORDER_X25519: [[u8; 32]; 7] = [
    [0; 32],
    with_ends([0; 32], 1, 0),
    [
        0xe0, 0xeb, 0x7a, 0x7c, 0x3b, 0x41, 0xb8, 0xae, 0x16, 0x56, 0xe3, 0xfa, 0xf1, 0x9f, 0xc4, 0x6a, 0xda,
        0x09, 0x8d, 0xeb, 0x9c, 0x32, 0xb1, 0xfd, 0x86, 0x62, 0x05, 0x16, 0x5f, 0x49, 0xb8, 0x00,
    ],
    [
        0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b, 0x04,
        0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0x57,
    ],
    // p - 1, p and p + 1, with p = 2^255 - 19.
    with_ends([0xff; 32], 0xec, 0x7f),
    with_ends([0xff; 32], 0xed, 0x7f),
    with_ends([0xff; 32], 0xee, 0x7f),
];

const fn with_ends(mut octets: [u8; 32], first: u8, last: u8) -> [u8; 32] {
    octets[0] = first;
    octets[31] = last;
    octets
}

/// The point that a KE payload carries, which `from_bytes` holds against the curve (RFC 5903 section 8).
fn point_on(
    curve: &EcGroup,
    octets: i32,
    peer: &[u8],
    ctx: &mut BigNumContext,
) -> Result<EcPoint, CryptoError> {
    if usize::try_from(octets).map(|size| 2 * size) != Ok(peer.len()) {
        return Err(CryptoError::BadPublicValue);
    }
    let encoded = [&[4], peer].concat();
    EcPoint::from_bytes(curve, &encoded, ctx).map_err(|_| CryptoError::BadPublicValue)
}

/// The number that a KE payload carries: not 0, 1 or p - 1, which have an order of one or two.
fn number_in(prime: &BigNumRef, octets: i32, peer: &[u8]) -> Result<BigNum, CryptoError> {
    if i32::try_from(peer.len()) != Ok(octets) {
        return Err(CryptoError::BadPublicValue);
    }
    let theirs = BigNum::from_slice(peer)?;
    let mut limit = prime.to_owned()?;
    limit.sub_word(1)?;
    if theirs <= BigNum::from_u32(1)? || theirs >= limit {
        return Err(CryptoError::BadPublicValue);
    }
    Ok(theirs)
}

impl KeyPair {
    /// A fresh key pair of the group with this transform ID.
    pub fn generate(id: u16, host: &mut dyn Host) -> Result<Self, CryptoError> {
        let (private, public) = match group(id)? {
            Group::X25519 => {
                let private = Zeroizing::new(random_array::<32>(host));
                let key = PKey::private_key_from_raw_bytes(&*private, Id::X25519)?;
                let public = key.raw_public_key()?;
                (Private::Key(key), public)
            }
            Group::Ecp(nid, octets) => {
                let curve = EcGroup::from_curve_name(nid)?;
                let mut ctx = BigNumContext::new_secure()?;
                let mut order = BigNum::new()?;
                curve.order(&mut order, &mut ctx)?;
                let scalar = scalar_below(&order, octets, host, &mut ctx)?;
                let mut point = EcPoint::new(&curve)?;
                point.mul_generator2(&curve, &scalar, &mut ctx)?;
                let private = Zeroizing::new(scalar.to_vec_padded(octets)?);
                (Private::Octets(private), point_to_bytes(&curve, &point, &mut ctx)?)
            }
            Group::Modp(prime, octets, exponent) => {
                let mut private = Zeroizing::new(vec![0; exponent]);
                host.random(&mut private);
                let two = BigNum::from_u32(2)?;
                let public = mod_exp(&two, &private, &prime)?;
                (Private::Octets(private), public.to_vec_padded(octets)?)
            }
        };
        Ok(Self { group: id, private, public })
    }

    /// The private value, for a node that takes over.
    pub(crate) fn private(&self) -> Result<Secret, CryptoError> {
        Ok(match &self.private {
            Private::Key(key) => Zeroizing::new(key.raw_private_key()?),
            Private::Octets(octets) => octets.clone(),
        })
    }

    /// What was told by [`Self::private`], [`Self::group`] and [`Self::public`].
    pub(crate) fn from_parts(id: u16, private: &[u8], public: Vec<u8>) -> Result<Self, CryptoError> {
        let octets = || Private::Octets(Zeroizing::new(private.to_vec()));
        let private = match group(id)? {
            Group::X25519 => Private::Key(PKey::private_key_from_raw_bytes(private, Id::X25519)?),
            Group::Ecp(_, len) if i32::try_from(private.len()) == Ok(len) => octets(),
            // A node of another version may have chosen more.
            Group::Modp(_, len, _)
                if private.len() >= LEAST_EXPONENT
                    && i32::try_from(private.len()).is_ok_and(|private| private <= len) =>
            {
                octets()
            }
            Group::Ecp(..) | Group::Modp(..) => return Err(CryptoError::Malformed),
        };
        Ok(Self { group: id, private, public })
    }

    /// The group's transform ID.
    pub const fn group(&self) -> u16 {
        self.group
    }

    /// The public value as the KE payload carries it.
    pub fn public(&self) -> &[u8] {
        &self.public
    }

    /// The shared secret with the peer's public value, checked as its group demands.
    pub fn agree(&self, peer: &[u8]) -> Result<Secret, CryptoError> {
        let bad = |_| CryptoError::BadPublicValue;
        match (group(self.group)?, &self.private) {
            (Group::X25519, Private::Key(ours)) => {
                let theirs = PKey::public_key_from_raw_bytes(peer, Id::X25519).map_err(bad)?;
                let mut deriver = Deriver::new(ours)?;
                deriver.set_peer(&theirs).map_err(bad)?;
                // OpenSSL refuses the all-zero result of a low-order point (RFC 7748 section 6.1).
                let secret = Zeroizing::new(deriver.derive_to_vec().map_err(bad)?);
                if secret.iter().all(|&b| b == 0) {
                    return Err(CryptoError::BadPublicValue);
                }
                Ok(secret)
            }
            (Group::Ecp(nid, octets), Private::Octets(private)) => {
                let curve = EcGroup::from_curve_name(nid)?;
                let mut ctx = BigNumContext::new_secure()?;
                let theirs = point_on(&curve, octets, peer, &mut ctx)?;
                let scalar = secret_number(private)?;
                let mut shared = EcPoint::new(&curve)?;
                shared.mul2(&curve, &theirs, &scalar, &mut ctx)?;
                let (mut x, mut y) = (BigNum::new_secure()?, BigNum::new_secure()?);
                shared.affine_coordinates(&curve, &mut x, &mut y, &mut ctx).map_err(bad)?;
                Ok(Zeroizing::new(x.to_vec_padded(octets)?))
            }
            (Group::Modp(prime, octets, _), Private::Octets(private)) => {
                let theirs = number_in(&prime, octets, peer)?;
                Ok(Zeroizing::new(mod_exp(&theirs, private, &prime)?.to_vec_padded(octets)?))
            }
            // A key pair is made with the private value of its group.
            _ => Err(CryptoError::Library),
        }
    }
}

fn secret_number(octets: &[u8]) -> Result<BigNum, CryptoError> {
    let mut number = BigNum::new_secure()?;
    number.copy_from_slice(octets)?;
    number.set_const_time();
    Ok(number)
}

fn mod_exp(base: &BigNumRef, exponent: &[u8], prime: &BigNumRef) -> Result<BigNum, CryptoError> {
    let exponent = secret_number(exponent)?;
    let mut out = BigNum::new_secure()?;
    out.mod_exp(base, &exponent, prime, &mut *BigNumContext::new_secure()?)?;
    Ok(out)
}

/// A scalar from 1 to order - 1. Eight octets more than the order has make the bias of the reduction negligible.
fn scalar_below(
    order: &BigNumRef,
    octets: i32,
    host: &mut dyn Host,
    ctx: &mut BigNumContext,
) -> Result<BigNum, CryptoError> {
    let mut wide = Zeroizing::new(vec![0; usize::try_from(octets).unwrap_or(0) + 8]);
    host.random(&mut wide);
    let mut limit = order.to_owned()?;
    limit.sub_word(1)?;
    let mut scalar = BigNum::new_secure()?;
    scalar.nnmod(&*secret_number(&wide)?, &limit, ctx)?;
    scalar.add_word(1)?;
    scalar.set_const_time();
    Ok(scalar)
}

fn point_to_bytes(curve: &EcGroup, point: &EcPoint, ctx: &mut BigNumContext) -> Result<Vec<u8>, CryptoError> {
    let mut bytes = point.to_bytes(curve, PointConversionForm::UNCOMPRESSED, ctx)?;
    // The KE payload has no 0x04 prefix (RFC 5903 section 7).
    bytes.drain(..1);
    Ok(bytes)
}

#[cfg(test)]
mod vectors;
