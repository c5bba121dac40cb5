//! Fragments of large messages (RFC 7383): how long they may be, and putting them together again. Each fragment is
//! authenticated by itself before it is kept.

use crate::crypto::prf::Secret;
use crate::crypto::sk::SkSuite;
use crate::wire::WireError;
use crate::wire::header::HEADER_LEN;
use crate::wire::numbers::PayloadType;

/// The largest message sent whole: an IPv6 datagram of 1280 octets, which every path carries, less 40 for IPv6, 8 for
/// UDP and 4 for the non-ESP marker (RFC 7383 section 2.5.1).
pub(crate) const MAX_DATAGRAM: usize = 1_228;
/// Fragments of one message: certificates chains in the field need under 20.
const MAX_FRAGMENTS: u16 = 64;
/// Octets of a reassembled message, as without fragments.
const MAX_MESSAGE: usize = 65_535;

/// Octets of inner payloads in a fragment.
pub(crate) const fn chunk_len(suite: SkSuite) -> usize {
    // Padding to the cipher's block is at most 16 octets; sealed_len (0) counts it for an empty text.
    MAX_DATAGRAM - HEADER_LEN - 8 - suite.sealed_len(0) - 16
}

/// The request or the response being put together. One at a time is enough: the window is one, and a fragment of
/// another message means that the one before is done with.
#[derive(Debug, Default)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Reassembly {
    /// Message ID.
    id: u32,
    first: Option<PayloadType>,
    parts: Vec<Option<Secret>>,
}

impl Reassembly {
    /// Takes a fragment; returns the whole once it is complete.
    pub(crate) fn add(
        &mut self,
        id: u32,
        number: u16,
        total: u16,
        first: PayloadType,
        part: Secret,
    ) -> Result<Option<(PayloadType, Secret)>, WireError> {
        if total > MAX_FRAGMENTS {
            return Err(WireError::TooMany("fragments"));
        }
        // A larger total means that the peer found a smaller path and began anew (RFC 7383 section 2.6); a smaller one
        // is left over from before.
        let known = u16::try_from(self.parts.len()).unwrap_or(u16::MAX);
        if self.id != id || total > known {
            *self = Self { id, first: None, parts: vec![None; usize::from(total)] };
        } else if total < known {
            return Err(WireError::BadField("fragment total"));
        }
        if number == 1 {
            self.first = Some(first);
        }
        if let Some(slot) = self.parts.get_mut(usize::from(number) - 1) {
            *slot = Some(part);
        }
        let size: usize = self.parts.iter().flatten().map(|p| p.len()).sum();
        if size > MAX_MESSAGE {
            *self = Self::default();
            return Err(WireError::TooMany("octets in fragments"));
        }
        if self.parts.iter().any(Option::is_none) {
            return Ok(None);
        }
        let done = std::mem::take(self);
        let mut whole = Secret::new(Vec::with_capacity(size));
        for part in done.parts.iter().flatten() {
            whole.extend_from_slice(part);
        }
        Ok(done.first.map(|first| (first, whole)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(text: &str) -> Secret {
        Secret::new(text.as_bytes().to_vec())
    }

    #[test]
    fn fragments_come_in_any_order_and_more_than_once() {
        let mut r = Reassembly::default();
        let id = 5;
        assert!(r.add(id, 3, 3, PayloadType::NONE, part("c")).unwrap().is_none());
        assert!(r.add(id, 1, 3, PayloadType::SA, part("a")).unwrap().is_none());
        assert!(r.add(id, 1, 3, PayloadType::SA, part("a")).unwrap().is_none());
        let (first, whole) = r.add(id, 2, 3, PayloadType::NONE, part("b")).unwrap().unwrap();
        assert_eq!((first, whole.as_slice()), (PayloadType::SA, b"abc".as_slice()));
    }

    #[test]
    fn a_larger_total_begins_anew_and_a_smaller_one_is_late() {
        let mut r = Reassembly::default();
        let id = 5;
        assert!(r.add(id, 1, 2, PayloadType::SA, part("long")).unwrap().is_none());
        assert!(r.add(id, 2, 3, PayloadType::NONE, part("y")).unwrap().is_none());
        assert!(r.add(id, 2, 2, PayloadType::NONE, part("late")).is_err());
        assert!(r.add(id, 1, 3, PayloadType::SA, part("x")).unwrap().is_none());
        let (_, whole) = r.add(id, 3, 3, PayloadType::NONE, part("z")).unwrap().unwrap();
        assert_eq!(whole.as_slice(), b"xyz");
        assert!(r.add(id, 1, 65, PayloadType::SA, part("x")).is_err());
    }

    #[test]
    fn another_message_takes_the_place() {
        let mut r = Reassembly::default();
        assert!(r.add(5, 1, 2, PayloadType::SA, part("old")).unwrap().is_none());
        assert!(r.add(6, 2, 2, PayloadType::NONE, part("w")).unwrap().is_none());
        assert!(r.add(6, 1, 2, PayloadType::SA, part("ne")).unwrap().is_some());
    }
}
