//! Proposals as users write them: `aes128gcm16-prfsha256-x25519`, `aes256-sha256-modp2048`, `aes256gcm16-ecp384-esn`.

use std::fmt;
use std::str::FromStr;

use super::table::{self, Algorithm};
use crate::wire::numbers::TransformType;
use crate::wire::sa::Transform;

/// Text that is not a usable proposal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// Nothing there.
    #[error("empty proposal; expected algorithms joined by '-', for example {0}")]
    Empty(&'static str),
    /// A word that is no algorithm.
    #[error("unknown algorithm {word:?}; expected one of {known}")]
    Unknown {
        /// The word.
        word: String,
        /// What could stand there.
        known: String,
    },
    /// A transform type the proposal needs is missing.
    #[error("{0:?} names no {1}; add for example {2}")]
    Missing(String, &'static str, &'static str),
    /// Words that exclude each other.
    #[error("{0:?}: {1}")]
    Conflict(String, &'static str),
}

/// The transforms of one configured proposal, in order of preference within each type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Transforms(Vec<Transform>);

impl Transforms {
    fn has(&self, kind: TransformType) -> bool {
        self.0.iter().any(|t| t.kind == kind)
    }

    fn parse(
        text: &str,
        allowed: fn(&Algorithm) -> bool,
        example: &'static str,
    ) -> Result<Self, ProposalError> {
        if text.trim().is_empty() {
            return Err(ProposalError::Empty(example));
        }
        let mut transforms = Vec::new();
        for word in text.trim().split('-') {
            let row = table::by_word(&word.to_ascii_lowercase()).filter(|a| allowed(a)).ok_or_else(|| {
                let known = table::ALGORITHMS.iter().filter(|a| allowed(a)).map(|a| a.word);
                ProposalError::Unknown { word: word.to_owned(), known: known.collect::<Vec<_>>().join(", ") }
            })?;
            if !transforms.contains(&row.transform) {
                transforms.push(row.transform);
            }
        }
        let this = Self(transforms);
        let (aead, plain): (Vec<Transform>, Vec<Transform>) = this
            .0
            .iter()
            .copied()
            .filter(|t| t.kind == TransformType::ENCR)
            .partition(|t| table::is_aead(t.id));
        match (aead.is_empty(), plain.is_empty()) {
            (true, true) => {
                Err(ProposalError::Missing(text.to_owned(), "encryption algorithm", "aes128gcm16"))
            }
            (false, false) => Err(ProposalError::Conflict(
                text.to_owned(),
                "AEAD and other ciphers cannot share a proposal (RFC 7296 section 3.3); write two proposals",
            )),
            _ => Ok(this),
        }
    }

    fn aead(&self) -> bool {
        self.0.iter().any(|t| t.kind == TransformType::ENCR && table::is_aead(t.id))
    }
}

impl fmt::Display for Transforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&words(&self.0))
    }
}

/// Transforms as configuration text.
pub fn words(transforms: &[Transform]) -> String {
    // "INTEG NONE" goes without saying next to an AEAD.
    let shown = transforms.iter().filter(|t| !(t.kind == TransformType::INTEG && t.id == 0));
    shown.map(table::word).collect::<Vec<_>>().join("-")
}

/// A proposal for an IKE SA: encryption, integrity (unless AEAD), PRF and key exchange group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IkeProposal(Transforms);

impl IkeProposal {
    /// The transforms, in the order of preference.
    pub fn transforms(&self) -> &[Transform] {
        &self.0.0
    }

    /// The words of the legacy algorithms in it.
    pub fn legacy(&self) -> Vec<&'static str> {
        table::legacy(self.transforms())
    }

    /// What is offered when nothing is configured.
    pub fn defaults() -> Vec<Self> {
        [
            "aes128gcm16-aes256gcm16-chacha20poly1305-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-modp2048",
            "aes128-aes256-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-modp2048",
        ]
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect()
    }
}

impl FromStr for IkeProposal {
    type Err = ProposalError;

    fn from_str(text: &str) -> Result<Self, ProposalError> {
        let mut t = Transforms::parse(text, |a| a.ike, "aes128gcm16-prfsha256-x25519")?;
        if t.aead() && !t.has(TransformType::PRF) {
            // As elsewhere in the field, `aes128gcm16-sha256-x25519` means PRF SHA-256.
            integ_to_prf(&mut t.0);
        } else if !t.has(TransformType::PRF) {
            let prfs: Vec<Transform> = t.0.iter().filter_map(prf_of_integ).collect();
            t.0.extend(prfs);
        }
        if t.aead() && t.has(TransformType::INTEG) {
            return Err(ProposalError::Conflict(text.to_owned(), "an AEAD takes no integrity algorithm"));
        }
        if !t.aead() && !t.has(TransformType::INTEG) {
            return Err(ProposalError::Missing(text.to_owned(), "integrity algorithm", "sha256"));
        }
        if !t.has(TransformType::PRF) {
            return Err(ProposalError::Missing(text.to_owned(), "PRF", "prfsha256"));
        }
        if !t.has(TransformType::KE) {
            return Err(ProposalError::Missing(text.to_owned(), "key exchange group", "x25519"));
        }
        Ok(Self(t))
    }
}

impl fmt::Display for IkeProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A proposal for a Child SA: encryption, integrity (unless AEAD), and optionally a group (PFS) and ESN.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EspProposal(Transforms);

impl EspProposal {
    /// The transforms, in the order of preference. ESN is always among them.
    pub fn transforms(&self) -> &[Transform] {
        &self.0.0
    }

    /// One of these, as [`Self::transforms`] has told them.
    pub(crate) const fn of_transforms(transforms: Vec<Transform>) -> Self {
        Self(Transforms(transforms))
    }

    /// Whether a new key exchange is wanted for each rekey (PFS).
    pub fn pfs(&self) -> bool {
        self.transforms().iter().any(|t| t.kind == TransformType::KE && t.id != 0)
    }

    /// The words of the legacy algorithms in it.
    pub fn legacy(&self) -> Vec<&'static str> {
        table::legacy(self.transforms())
    }

    /// What is offered when nothing is configured: a key exchange of its own for each rekey if the peer takes part, for
    /// there are peers that insist on it and peers that know none.
    pub fn defaults() -> Vec<Self> {
        [
            "aes128gcm16-aes256gcm16-chacha20poly1305-x25519-ecp256-ecp384-modp2048-modp3072-nopfs",
            "aes128-aes256-sha256-sha384-sha512-x25519-ecp256-ecp384-modp2048-modp3072-nopfs",
        ]
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect()
    }
}

impl FromStr for EspProposal {
    type Err = ProposalError;

    fn from_str(text: &str) -> Result<Self, ProposalError> {
        let mut t = Transforms::parse(text, |a| a.esp, "aes128gcm16")?;
        if t.aead() && t.has(TransformType::INTEG) {
            return Err(ProposalError::Conflict(text.to_owned(), "an AEAD takes no integrity algorithm"));
        }
        if !t.aead() && !t.has(TransformType::INTEG) {
            return Err(ProposalError::Missing(text.to_owned(), "integrity algorithm", "sha256"));
        }
        if !t.has(TransformType::ESN) {
            // Both are offered, 64-bit numbers first (RFC 7296 section 3.3.2: the transform is mandatory).
            t.0.extend([Transform::new(TransformType::ESN, 1), Transform::new(TransformType::ESN, 0)]);
        }
        Ok(Self(t))
    }
}

impl fmt::Display for EspProposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The PRF that is made of the same hash or cipher as an integrity algorithm.
pub(super) fn prf_of_integ(t: &Transform) -> Option<Transform> {
    let prf = match t.id {
        // AUTH_HMAC_SHA2_256_128 is 12, PRF_HMAC_SHA2_256 is 5, and so on for 384 and 512.
        12..=14 => t.id - 7,
        // AUTH_HMAC_MD5_96 and PRF_HMAC_MD5, and the same of SHA-1.
        1 | 2 => t.id,
        // AUTH_AES_XCBC_96 and PRF_AES128_XCBC; AUTH_AES_CMAC_96 and PRF_AES128_CMAC.
        5 => 4,
        8 => 8,
        _ => return None,
    };
    (t.kind == TransformType::INTEG).then(|| Transform::new(TransformType::PRF, prf))
}

fn integ_to_prf(transforms: &mut [Transform]) {
    for t in transforms {
        if let Some(prf) = prf_of_integ(t) {
            *t = prf;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposals_read_and_print() {
        for text in ["aes128gcm16-prfsha256-x25519", "aes256-sha256-prfsha256-modp2048"] {
            assert_eq!(text.parse::<IkeProposal>().unwrap().to_string(), text);
        }
        let short: IkeProposal = "aes256-sha384-ecp384".parse().unwrap();
        assert_eq!(short.to_string(), "aes256-sha384-ecp384-prfsha384");
        let aead: IkeProposal = "aes128gcm16-sha256-x25519".parse().unwrap();
        assert_eq!(aead.to_string(), "aes128gcm16-prfsha256-x25519");
        let esp: EspProposal = "aes128gcm16-x25519".parse().unwrap();
        assert!(esp.pfs());
        assert_eq!(esp.to_string(), "aes128gcm16-x25519-esn-noesn");
        assert_eq!(IkeProposal::defaults().len(), 2);
        assert_eq!(EspProposal::defaults().len(), 2);
    }

    #[test]
    fn legacy_algorithms_read_and_are_told() {
        let ike: IkeProposal = "3des-sha-modp1024".parse().unwrap();
        assert_eq!(ike.to_string(), "3des-sha1-modp1024-prfsha1");
        assert_eq!(ike.legacy(), ["3des", "sha1", "modp1024", "prfsha1"]);
        let ike: IkeProposal = "aes128-md5-modp1536-modp8192".parse().unwrap();
        assert_eq!(ike.legacy(), ["md5", "modp1536", "prfmd5"]);
        let esp: EspProposal = "3des-md5-modp6144".parse().unwrap();
        assert_eq!(esp.to_string(), "3des-md5-modp6144-esn-noesn");
        assert_eq!(esp.legacy(), ["3des", "md5"]);
        assert!("aes128-sha256_96".parse::<EspProposal>().unwrap().legacy().is_empty());
        assert!("aes128-sha256_96-modp2048".parse::<IkeProposal>().is_err());
        assert!("aes128-sha256-modp2048".parse::<IkeProposal>().unwrap().legacy().is_empty());
    }

    #[test]
    fn a_bad_proposal_names_the_word_and_what_is_missing() {
        let err = "aes128gmc16-prfsha256-x25519".parse::<IkeProposal>().unwrap_err().to_string();
        assert!(err.contains("aes128gmc16") && err.contains("aes128gcm16"), "{err}");
        assert!(matches!("aes256-modp2048".parse::<IkeProposal>(), Err(ProposalError::Missing(..))));
        let missing = "aes256-prfsha256-modp2048".parse::<IkeProposal>().unwrap_err();
        assert!(matches!(missing, ProposalError::Missing(_, "integrity algorithm", _)), "{missing}");
        let missing = "aes256-modp2048".parse::<EspProposal>().unwrap_err();
        assert!(matches!(missing, ProposalError::Missing(_, "integrity algorithm", _)), "{missing}");
        assert!(matches!("aes128gcm16-prfsha256".parse::<IkeProposal>(), Err(ProposalError::Missing(..))));
        assert!(matches!(
            "aes128gcm16-aes128-sha256".parse::<EspProposal>(),
            Err(ProposalError::Conflict(..))
        ));
        assert!(matches!("".parse::<EspProposal>(), Err(ProposalError::Empty(_))));
        assert!(matches!("aes128gcm16-prfsha256".parse::<EspProposal>(), Err(ProposalError::Unknown { .. })));
    }
}
