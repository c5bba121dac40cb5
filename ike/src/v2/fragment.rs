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
pub(crate) const MAX_MESSAGE: usize = 65_535;
/// Octets of one whose sender is not authenticated yet, in fragments or whole: an IKE_AUTH with a pre-shared key has less than
/// 2 KiB, and one with a chain of certificates, whose sender is to be told that there is none here, less than this.
pub(crate) const MAX_UNAUTHENTICATED: usize = 16_384;

/// Octets of inner payloads in a fragment.
pub(crate) const fn chunk_len(suite: SkSuite) -> usize {
    // Padding to the cipher's block is at most 16 octets; sealed_len (0) counts it for an empty text.
    MAX_DATAGRAM - HEADER_LEN - 8 - suite.sealed_len(0) - 16
}

/// The requests or the responses being put together: as many as may be under way. A fragment of a message that is a window
/// or more away from another means that the other is done with.
#[derive(Debug, Default)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Reassembly(Vec<Partial>);

/// A message being put together.
#[derive(Debug, Default)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
struct Partial {
    /// Message ID.
    id: u32,
    first: Option<PayloadType>,
    parts: Vec<Option<Secret>>,
}

impl Reassembly {
    /// Takes a fragment of a message, known by its ID and the window of its direction; returns the whole once it is complete.
    /// More than `limit` octets are not kept.
    pub(crate) fn add(
        &mut self,
        (id, window): (u32, u32),
        limit: usize,
        (number, total): (u16, u16),
        first: PayloadType,
        part: Secret,
    ) -> Result<Option<(PayloadType, Secret)>, WireError> {
        if total > MAX_FRAGMENTS {
            return Err(WireError::TooMany("fragments"));
        }
        self.0.retain(|other| other.id.wrapping_sub(id).min(id.wrapping_sub(other.id)) < window);
        let at = self.0.iter().position(|partial| partial.id == id).unwrap_or_else(|| {
            self.0.push(Partial { id, ..Partial::default() });
            self.0.len() - 1
        });
        let Some(partial) = self.0.get_mut(at) else { return Ok(None) };
        // A larger total means that the peer found a smaller path and began anew (RFC 7383 section 2.6); a smaller one
        // is left over from before.
        let known = u16::try_from(partial.parts.len()).unwrap_or(u16::MAX);
        if total > known {
            *partial = Partial { id, first: None, parts: vec![None; usize::from(total)] };
        } else if total < known {
            return Err(WireError::BadField("fragment total"));
        }
        if number == 1 {
            partial.first = Some(first);
        }
        if let Some(slot) = partial.parts.get_mut(usize::from(number) - 1) {
            *slot = Some(part);
        }
        let size: usize = partial.parts.iter().flatten().map(|p| p.len()).sum();
        let complete = partial.parts.iter().all(Option::is_some);
        if size <= limit && !complete {
            return Ok(None);
        }
        let done = self.0.remove(at);
        if size > limit {
            return Err(WireError::TooMany("octets in fragments"));
        }
        let mut whole = Secret::new(Vec::with_capacity(size));
        for part in done.parts.iter().flatten() {
            whole.extend_from_slice(part);
        }
        Ok(done.first.map(|first| (first, whole)))
    }

    /// Octets that wait for the rest of their message.
    pub(crate) fn octets(&self) -> usize {
        self.0.iter().flat_map(|partial| partial.parts.iter().flatten()).map(|part| part.len()).sum()
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
        let id = (5, 1);
        assert!(r.add(id, MAX_MESSAGE, (3, 3), PayloadType::NONE, part("c")).unwrap().is_none());
        assert!(r.add(id, MAX_MESSAGE, (1, 3), PayloadType::SA, part("a")).unwrap().is_none());
        assert!(r.add(id, MAX_MESSAGE, (1, 3), PayloadType::SA, part("a")).unwrap().is_none());
        let (first, whole) = r.add(id, MAX_MESSAGE, (2, 3), PayloadType::NONE, part("b")).unwrap().unwrap();
        assert_eq!((first, whole.as_slice()), (PayloadType::SA, b"abc".as_slice()));
    }

    #[test]
    fn a_larger_total_begins_anew_and_a_smaller_one_is_late() {
        let mut r = Reassembly::default();
        let id = (5, 1);
        assert!(r.add(id, MAX_MESSAGE, (1, 2), PayloadType::SA, part("long")).unwrap().is_none());
        assert!(r.add(id, MAX_MESSAGE, (2, 3), PayloadType::NONE, part("y")).unwrap().is_none());
        assert!(r.add(id, MAX_MESSAGE, (2, 2), PayloadType::NONE, part("late")).is_err());
        assert!(r.add(id, MAX_MESSAGE, (1, 3), PayloadType::SA, part("x")).unwrap().is_none());
        let (_, whole) = r.add(id, MAX_MESSAGE, (3, 3), PayloadType::NONE, part("z")).unwrap().unwrap();
        assert_eq!(whole.as_slice(), b"xyz");
        assert!(r.add(id, MAX_MESSAGE, (1, 65), PayloadType::SA, part("x")).is_err());
    }

    #[test]
    fn what_is_more_than_the_limit_is_not_kept() {
        let mut r = Reassembly::default();
        assert!(r.add((1, 1), 8, (1, 3), PayloadType::SA, part("12345")).unwrap().is_none());
        assert_eq!(r.octets(), 5);
        assert!(r.add((1, 1), 8, (2, 3), PayloadType::NONE, part("6789")).is_err());
        assert_eq!(r.octets(), 0);
    }

    #[test]
    fn another_message_takes_the_place() {
        let mut r = Reassembly::default();
        assert!(r.add((5, 1), MAX_MESSAGE, (1, 2), PayloadType::SA, part("old")).unwrap().is_none());
        assert!(r.add((6, 1), MAX_MESSAGE, (2, 2), PayloadType::NONE, part("w")).unwrap().is_none());
        assert!(r.add((6, 1), MAX_MESSAGE, (1, 2), PayloadType::SA, part("ne")).unwrap().is_some());
    }
}
