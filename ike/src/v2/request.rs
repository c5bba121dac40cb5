//! What a request of ours is for, with the values its answer will need. Consumed when the answer comes.

use std::sync::Arc;

use crate::config::ChildConfig;
use crate::crypto::dh::KeyPair;
use crate::wire::payload::Notify;

/// A pending request.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) enum Request {
    /// IKE_AUTH; its values are in the connection's phase.
    Auth,
    /// CREATE_CHILD_SA for a new Child SA or the rekeying of one.
    Child(Box<ChildOffer>),
    /// CREATE_CHILD_SA that rekeys the IKE_SA.
    RekeyIke(Box<IkeOffer>),
    /// INFORMATIONAL that deletes Child SAs, by inbound SPI.
    DeleteChild(u32),
    /// INFORMATIONAL that deletes the IKE_SA.
    DeleteIke,
    /// Empty INFORMATIONAL.
    Liveness,
}

/// What has been tried so far for one task.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    /// Put off after TEMPORARY_FAILURE or a refusal.
    pub(crate) put_off: u32,
    /// Answers of TEMPORARY_FAILURE in a row.
    pub(crate) busy: u32,
    /// Answers of INVALID_KE_PAYLOAD in a row.
    pub(crate) groups: u32,
    /// The group the peer asked for.
    pub(crate) group: Option<u16>,
}

/// Why a task is put off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PutOff {
    /// The peer asks for patience (TEMPORARY_FAILURE).
    Busy,
    /// It is refused, by the peer or by something on this side. That may go on as long as it likes: what is there stays
    /// until its own lifetime ends.
    Refused,
}

impl Tries {
    /// The same task at once, with the group the peer wants.
    pub(crate) const fn with_group(self, group: u16) -> Self {
        Self { groups: self.groups + 1, group: Some(group), ..self }
    }
}

/// The group that an INVALID_KE_PAYLOAD asks for (RFC 7296 section 1.3), 0 for a Child SA without a key exchange. `None` where it says none.
pub(crate) fn wanted_group(notify: &Notify) -> Option<u16> {
    notify.data.as_slice().try_into().ok().map(u16::from_be_bytes)
}

/// Our half of a CREATE_CHILD_SA exchange for a Child SA.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct ChildOffer {
    pub(crate) config: Arc<ChildConfig>,
    pub(crate) spi_in: u32,
    pub(crate) nonce: Vec<u8>,
    pub(crate) dh: Option<KeyPair>,
    /// The pair being rekeyed.
    pub(crate) replaces: Option<u32>,
    pub(crate) tries: Tries,
    /// The peer rekeyed the same Child SA meanwhile.
    pub(crate) collision: Option<Collision<u32>>,
    /// The peer deleted the pair being rekeyed meanwhile.
    pub(crate) old_gone: bool,
    /// SPIs the peer deleted that we do not know: perhaps that of its answer, still under way.
    pub(crate) deleted_unknown: Vec<u32>,
}

/// Our half of the exchange that rekeys the IKE_SA.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct IkeOffer {
    pub(crate) spi: u64,
    pub(crate) nonce: Vec<u8>,
    pub(crate) dh: KeyPair,
    pub(crate) tries: Tries,
    pub(crate) collision: Option<Collision<u64>>,
}

/// The peer's exchange that crosses ours.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Collision<Spi> {
    /// The lower of its two nonces.
    pub(crate) lowest: Vec<u8>,
    /// Our SPI of the SA it made.
    pub(crate) passive: Spi,
}

impl<Spi> Collision<Spi> {
    pub(crate) fn new(ni: &[u8], nr: &[u8], passive: Spi) -> Self {
        Self { lowest: ni.min(nr).to_vec(), passive }
    }

    /// Whether our exchange, with these nonces, holds the lowest of the four and so is the redundant one
    /// (RFC 7296 section 2.8.1). Slices compare octet by octet, a prefix being lower, as the RFC wants.
    pub(crate) fn ours_is_redundant(&self, ni: &[u8], nr: &[u8]) -> bool {
        ni.min(nr) < self.lowest.as_slice()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exchange_with_the_lowest_of_four_nonces_loses() {
        let theirs = Collision::new(&[5; 16], &[3; 16], 1u32);
        assert!(theirs.ours_is_redundant(&[9; 16], &[2; 16]));
        assert!(theirs.ours_is_redundant(&[2; 16], &[9; 16]));
        assert!(!theirs.ours_is_redundant(&[4; 16], &[9; 16]));
        assert!(theirs.ours_is_redundant(&[3; 15], &[9; 16]), "a prefix is lower");
    }
}
