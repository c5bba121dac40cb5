//! What stands in for the AEADs while fuzzing, with the interface of OpenSSL's. The text stays as it is, and a sum over
//! everything makes the tag: what was changed, or sealed with another key, is refused.
//!
//! There is no security in it. It is compiled only with the flag `--cfg culvert_fuzz`, which nothing but `make fuzz`
//! sets.

use openssl::symm::Cipher;

use super::CryptoError;

/// Copies `text` and writes its tag.
pub(crate) fn encrypt_aead(
    _: Cipher,
    key: &[u8],
    nonce: Option<&[u8]>,
    head: &[u8],
    text: &[u8],
    tag: &mut [u8],
) -> Result<Vec<u8>, CryptoError> {
    write_tag([key, nonce.unwrap_or_default(), head, text], tag);
    Ok(text.to_vec())
}

/// Copies `text` if its tag is right.
pub(crate) fn decrypt_aead(
    _: Cipher,
    key: &[u8],
    nonce: Option<&[u8]>,
    head: &[u8],
    text: &[u8],
    tag: &[u8],
) -> Result<Vec<u8>, CryptoError> {
    let mut expected = [0; 16];
    write_tag([key, nonce.unwrap_or_default(), head, text], &mut expected);
    if expected == tag { Ok(text.to_vec()) } else { Err(CryptoError::Integrity) }
}

/// FNV-1a, but over eight octets at a time.
fn write_tag(parts: [&[u8]; 4], tag: &mut [u8]) {
    let mut sum = 0xcbf2_9ce4_8422_2325_u64;
    let mut add = |word: u64| sum = (sum ^ word).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(29);
    for part in parts {
        let (words, rest) = part.as_chunks::<8>();
        words.iter().for_each(|word| add(u64::from_le_bytes(*word)));
        rest.iter().for_each(|octet| add(u64::from(*octet)));
        add(part.len() as u64);
    }
    for (octet, from) in tag.iter_mut().zip(sum.to_be_bytes().into_iter().cycle()) {
        *octet = from;
    }
}
