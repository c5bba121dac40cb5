//! What of the proposals there is in IKEv1, which has numbers of its own and fewer of them ("IPsec registry", RFC 2407,
//! RFC 2409), and what is proposed to its peers when nothing is configured.

use super::table::{self, AES_CBC, AES_GCM_16, ALGORITHMS, Algorithm, SHA256_96, TRIPLE_DES};
use super::text::{EspProposal, IkeProposal, prf_of_integ};
use crate::wire::numbers::TransformType;
use crate::wire::sa::Transform;

/// Combinations of encryption, hash and group that an offer of phase 1 has room for: each is a transform of some 36 octets
/// (RFC 2408 section 3.6), and more of them make a first message of several IP fragments, which many firewalls drop.
pub const MAX_COMBINATIONS: usize = 64;

/// Groups that both phases know. RFC 8031 has given Curve25519 a number in IKEv2 alone; those who have it in IKEv1 as well
/// take the same.
const fn is_group(id: u16) -> bool {
    matches!(id, 2 | 5 | 14..=21 | 31)
}

/// Whether phase 1 has it (RFC 2409 appendix A, RFC 4868).
const fn in_phase_1(t: &Transform) -> bool {
    match t.kind {
        TransformType::ENCR => matches!(t.id, AES_CBC | TRIPLE_DES),
        TransformType::INTEG => matches!(t.id, 1 | 2 | 12..=14),
        TransformType::PRF => matches!(t.id, 1 | 2 | 5..=7),
        TransformType::KE => is_group(t.id),
        _ => false,
    }
}

/// Whether phase 2 has it for ESP (RFC 2407 sections 4.4.4 and 4.5, RFC 4304, RFC 4106).
const fn in_phase_2(t: &Transform) -> bool {
    match t.kind {
        TransformType::ENCR => matches!(t.id, AES_CBC | AES_GCM_16 | TRIPLE_DES),
        TransformType::INTEG => matches!(t.id, 1 | 2 | 5 | 12..=14 | SHA256_96),
        TransformType::KE => t.id == 0 || is_group(t.id),
        TransformType::ESN => true,
        _ => false,
    }
}

/// The first transform that is not there, told with those of its kind that are.
fn missing(
    transforms: &[Transform],
    is_there: fn(&Transform) -> bool,
    allowed: fn(&Algorithm) -> bool,
) -> Option<String> {
    let t = transforms.iter().find(|t| !is_there(t))?;
    let like =
        |a: &&Algorithm| a.transform.kind == t.kind && allowed(a) && is_there(&a.transform) && !a.legacy;
    let first = |a: &&Algorithm| table::by_transform(&a.transform).is_some_and(|row| row.word == a.word);
    let known: Vec<&str> = ALGORITHMS.iter().filter(like).filter(first).map(|a| a.word).collect();
    Some(format!("IKEv1 has no {} here; expected one of {}", table::word(t), known.join(", ")))
}

impl IkeProposal {
    /// Why IKEv1 cannot say it, if it cannot.
    pub fn fault_in_v1(&self) -> Option<String> {
        if let Some(fault) = missing(self.transforms(), in_phase_1, |a| a.ike) {
            return Some(fault);
        }
        let of = |kind| self.transforms().iter().filter(move |t| t.kind == kind);
        let prfs: Vec<Transform> = of(TransformType::INTEG).filter_map(prf_of_integ).collect();
        // One number stands for both (RFC 2409 section 4): the hash, whose HMAC is the PRF.
        let odd = of(TransformType::PRF).find(|prf| !prfs.contains(prf));
        let unused = prfs.iter().find(|prf| !of(TransformType::PRF).any(|other| other == *prf));
        odd.or(unused).map(|prf| {
            format!(
                "in IKEv1 the PRF is HMAC with the hash that is used for integrity, which does not fit {}; leave the PRFs out",
                table::word(prf)
            )
        })
    }

    /// How many combinations of an offer of IKEv1 it takes.
    pub fn combinations_in_v1(&self) -> usize {
        let count = |kind| self.transforms().iter().filter(|t| t.kind == kind).count();
        [TransformType::ENCR, TransformType::PRF, TransformType::KE].map(count).iter().product()
    }

    /// What is offered in IKEv1 when nothing is configured.
    pub fn defaults_in_v1() -> Vec<Self> {
        ["aes256-aes128-sha256-sha384-sha512-ecp256-ecp384-modp2048-modp3072"]
            .iter()
            .filter_map(|text| text.parse().ok())
            .collect()
    }
}

impl EspProposal {
    /// Why IKEv1 cannot say it, if it cannot.
    pub fn fault_in_v1(&self) -> Option<String> {
        missing(self.transforms(), in_phase_2, |a| a.esp)
    }

    /// What is offered in IKEv1 when nothing is configured.
    pub fn defaults_in_v1() -> Vec<Self> {
        [
            "aes256gcm16-aes128gcm16-ecp256-ecp384-modp2048-modp3072-nopfs",
            "aes256-aes128-sha256-sha384-sha512-ecp256-ecp384-modp2048-modp3072-nopfs",
        ]
        .iter()
        .filter_map(|text| text.parse().ok())
        .collect()
    }

    /// Whether it allows this word of [`ALGORITHMS`].
    pub fn has(&self, word: &str) -> bool {
        table::by_word(word).is_some_and(|row| self.transforms().contains(&row.transform))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ike(text: &str) -> IkeProposal {
        text.parse().unwrap()
    }

    fn esp(text: &str) -> EspProposal {
        text.parse().unwrap()
    }

    #[test]
    fn the_defaults_can_be_said_and_have_nothing_legacy() {
        let (ikes, esps) = (IkeProposal::defaults_in_v1(), EspProposal::defaults_in_v1());
        assert_eq!((ikes.len(), esps.len()), (1, 2));
        for p in &ikes {
            assert_eq!((p.fault_in_v1(), p.legacy().len()), (None, 0), "{p}");
        }
        for p in &esps {
            assert_eq!((p.fault_in_v1(), p.legacy().len()), (None, 0), "{p}");
        }
        let combinations: usize = ikes.iter().map(IkeProposal::combinations_in_v1).sum();
        assert_eq!(combinations, 24);
        // Those of IKEv2 cannot all.
        assert!(IkeProposal::defaults().iter().any(|p| p.fault_in_v1().is_some()));
        assert!(EspProposal::defaults().iter().any(|p| p.fault_in_v1().is_some()));
    }

    #[test]
    fn what_is_not_there_is_named_with_what_is() {
        for (text, word, known) in [
            ("aes128gcm16-prfsha256-modp2048", "aes128gcm16", "aes128, aes192, aes256"),
            ("aes128-aesxcbc-modp2048", "aesxcbc", "sha256, sha384, sha512"),
            ("aes128-sha256-prfaescmac-modp2048", "prfaescmac", "prfsha256, prfsha384, prfsha512"),
        ] {
            let fault = ike(text).fault_in_v1().unwrap();
            assert!(fault.contains(&format!("no {word} ")) && fault.contains(known), "{fault}");
        }
        for (text, word) in [("chacha20poly1305", "chacha20poly1305"), ("aes128-aescmac", "aescmac")] {
            let fault = esp(text).fault_in_v1().unwrap();
            assert!(fault.contains(&format!("no {word} ")), "{fault}");
        }
    }

    #[test]
    fn the_prf_goes_with_the_hash() {
        for text in [
            "3des-md5-modp1024",
            "aes128-sha-modp1536",
            "aes128-sha256-x25519",
            "aes256-sha512-prfsha512-ecp521-modp8192",
        ] {
            assert_eq!(ike(text).fault_in_v1(), None, "{text}");
        }
        for text in ["aes128-sha256-prfsha384-modp2048", "aes128-sha256-sha384-prfsha256-modp2048"] {
            assert!(ike(text).fault_in_v1().unwrap().contains("prfsha384"), "{text}");
        }
        for text in [
            "3des-md5",
            "aes256-aesxcbc-modp1536-nopfs",
            "aes128-sha256_96-esn",
            "aes192gcm16-modp8192",
            "aes128gcm16-x25519",
        ] {
            assert_eq!(esp(text).fault_in_v1(), None, "{text}");
        }
        assert!(esp("aes128-sha256_96").has("sha256_96") && !esp("aes128-sha256").has("sha256_96"));
    }
}
