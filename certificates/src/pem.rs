//! What is wrong with text that somebody has given for certificates, keys and revocation lists.

use openssl::x509::{X509, X509Crl};

/// Why a text is not what it was given for. No part of the text is in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PemFault {
    /// No private key.
    #[error("it has no private key; expected a block `PRIVATE KEY` of PEM (PKCS#8)")]
    NoKey,
    /// One with a passphrase.
    #[error(
        "its private key is encrypted, or damaged; expected a block `PRIVATE KEY` of PEM (PKCS#8) without a passphrase"
    )]
    Encrypted,
    /// RSA of few bits, or a kind that signs nothing here.
    #[error(
        "its private key is {0}; expected RSA of 2048 bits or more, ECDSA by P-256, P-384 or P-521, or Ed25519"
    )]
    Key(String),
    /// No certificate.
    #[error("it has no certificate; expected blocks `CERTIFICATE` of PEM")]
    NoCertificate,
    /// Blocks of PEM that cannot be read.
    #[error("a certificate or revocation list in it is damaged")]
    Damaged,
    /// The key is of none of the certificates.
    #[error("its private key belongs to none of its certificates")]
    AnotherKey,
    /// More than can be sent or looked at.
    #[error("it has {0} certificates; at most {MAX_CERTIFICATES}")]
    TooMany(usize),
    /// More than are looked at for each certificate.
    #[error("it has {0} revocation lists; at most {MAX_LISTS}")]
    TooManyLists(usize),
    /// A certificate that is not for this.
    #[error("the key usage of its certificate is not digitalSignature")]
    Usage,
}

/// Certificates in one text. Of ours all are sent in one message, and of authorities all are named in one.
pub(crate) const MAX_CERTIFICATES: usize = 8;

/// Revocation lists in one text: one of each authority, and of one before it.
const MAX_LISTS: usize = 2 * MAX_CERTIFICATES;

/// The certificates, in their order.
pub(crate) fn certificates(pem: &[u8]) -> Result<Vec<X509>, PemFault> {
    let all = blocks(pem, "CERTIFICATE").into_iter().chain(blocks(pem, "X509 CERTIFICATE"));
    let all = all.map(X509::from_pem).collect::<Result<Vec<_>, _>>();
    match all.map_err(|_| PemFault::Damaged)? {
        none if none.is_empty() => Err(PemFault::NoCertificate),
        many if many.len() > MAX_CERTIFICATES => Err(PemFault::TooMany(many.len())),
        some => Ok(some),
    }
}

/// The revocation lists.
pub(crate) fn lists(pem: &[u8]) -> Result<Vec<X509Crl>, PemFault> {
    let lists = blocks(pem, "X509 CRL");
    if lists.len() > MAX_LISTS {
        // What one that is left out has revoked would be taken.
        return Err(PemFault::TooManyLists(lists.len()));
    }
    lists.into_iter().map(X509Crl::from_pem).collect::<Result<_, _>>().map_err(|_| PemFault::Damaged)
}

/// The blocks of this kind. OpenSSL's own readers take a text that ends in the middle of one for one that ends before it.
pub(crate) fn blocks<'a>(pem: &'a [u8], kind: &str) -> Vec<&'a [u8]> {
    let (begin, end) = (format!("-----BEGIN {kind}-----"), format!("-----END {kind}-----"));
    let find = |text: &[u8], what: &str| text.windows(what.len()).position(|part| part == what.as_bytes());
    let (mut blocks, mut rest) = (Vec::new(), pem);
    while let Some(block) = find(rest, &begin).and_then(|at| rest.get(at..)) {
        let length = find(block, &end).map_or(block.len(), |at| at + end.len());
        let (block, behind) = block.split_at_checked(length).unwrap_or((block, &[]));
        blocks.push(block);
        rest = behind;
    }
    blocks
}
