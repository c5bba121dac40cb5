//! The octets around a message.
//!
//! ```text
//! +----------+--------+-----------+----------+--------------+------------------+
//! | mark (4) | of (1) | 0 (1)     | form (2) | length (4)   | checksum (16)    |  big endian
//! +----------+--------+-----------+----------+--------------+------------------+
//! | the message, in protobuf                                                   |
//! +----------------------------------------------------------------------------+
//! ```
//!
//! The form is outside the message, so that it is looked at first. The checksum, XXH3 over all of it with zeros in its place, is no
//! protection against anybody: the connection between two nodes is authenticated. It tells what was mixed up or cut on the
//! way from what is newer, and what is merely decodable from what was meant.

use std::convert::Infallible;

use prost::Message;
use twox_hash::XxHash3_128;

use crate::error::SnapshotError;
use crate::octets::Octets;
use crate::writer::Writer;

/// A message that is a snapshot of something.
pub trait Form: Message + Default {
    /// What it is of, as errors say it.
    const OF: &'static str;
    /// The number of that: one for each kind of snapshot in Culvert.
    const KIND: u8;
    /// Which form this is. It becomes another with every change that an older node would read wrongly.
    const VERSION: u16;
}

/// The octets of a snapshot.
pub fn encode<F: Form>(form: &F) -> Octets {
    let written = write::<F, Infallible>(form.encoded_len(), |w| {
        w.all_of(form);
        Ok(())
    });
    match written {
        Ok(octets) => octets,
    }
}

/// The octets of a snapshot whose message is written by `fill`, in some `room` octets.
///
/// # Errors
/// As `fill` says.
pub fn write<F: Form, E>(room: usize, fill: impl FnOnce(&mut Writer) -> Result<(), E>) -> Result<Octets, E> {
    let mut w = Writer::with_capacity(HEADER + room);
    w.put(&MARK);
    w.put(&[F::KIND, 0]);
    w.put(&F::VERSION.to_be_bytes());
    w.put(&[0; HEADER - LENGTH_AT]);
    fill(&mut w)?;
    let len = u32::try_from(w.written().len().saturating_sub(HEADER)).unwrap_or(u32::MAX);
    w.set(LENGTH_AT, &len.to_be_bytes());
    let sum = checksum(w.written());
    w.set(CHECKSUM_AT, &sum);
    Ok(w.finish())
}

/// Reads what [`encode`] has made.
///
/// # Errors
/// Everything that is not exactly that, with what is wrong.
pub fn decode<F: Form>(octets: &[u8]) -> Result<F, SnapshotError> {
    let of = F::OF;
    let mark = octets.first_chunk::<4>().ok_or(SnapshotError::NoSnapshot)?;
    if *mark != MARK {
        return Err(SnapshotError::NoSnapshot);
    }
    let cut = |want| SnapshotError::Length { of, got: octets.len(), want };
    let (header, _) = octets.split_first_chunk::<HEADER>().ok_or(cut(HEADER))?;
    let [_, _, _, _, kind, _, v0, v1, l0, l1, l2, l3, sum @ ..] = header;
    if *kind != F::KIND {
        return Err(SnapshotError::Kind { wanted: of, got: *kind });
    }
    let version = u16::from_be_bytes([*v0, *v1]);
    if version != F::VERSION {
        return Err(SnapshotError::Version { of, got: version, reads: F::VERSION });
    }
    let want = HEADER.saturating_add(u32::from_be_bytes([*l0, *l1, *l2, *l3]) as usize);
    if octets.len() != want {
        return Err(cut(want));
    }
    let mut own = octets.to_vec();
    own.iter_mut().take(HEADER).skip(CHECKSUM_AT).for_each(|octet| *octet = 0);
    let own = Octets::from(own);
    if checksum(&own) != *sum {
        return Err(SnapshotError::Altered { of });
    }
    // The decoder shares these octets and copies none but into the message, and they are wiped when it is done.
    let message = own.shared().split_off(HEADER);
    F::decode(message).map_err(|error| SnapshotError::Undecodable { of, reason: error.to_string() })
}

/// A short word for these octets, which every version of Culvert says alike, so that two nodes can tell whether they mean the same. No secret
/// may be among them: who knows what they may be can try them all.
pub fn digest(octets: &[u8]) -> u64 {
    // Its lower half is as good as all of it.
    XxHash3_128::oneshot(octets) as u64
}

/// Of octets with zeros in its place.
fn checksum(octets: &[u8]) -> [u8; CHECKSUM] {
    XxHash3_128::oneshot(octets).to_be_bytes()
}

const MARK: [u8; 4] = *b"CVSN";
/// More than chance will ever meet.
const CHECKSUM: usize = 16;
const LENGTH_AT: usize = 8;
const CHECKSUM_AT: usize = 12;
const HEADER: usize = CHECKSUM_AT + CHECKSUM;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::Secret;

    #[derive(Clone, PartialEq, Message)]
    struct Thing {
        #[prost(uint32, tag = "1")]
        number: u32,
        #[prost(message, optional, tag = "2")]
        key: Option<Secret>,
    }

    impl Form for Thing {
        const OF: &'static str = "a thing";
        const KIND: u8 = 200;
        const VERSION: u16 = 3;
    }

    fn thing() -> Thing {
        Thing { number: 7, key: Some(Secret::new(&[0xaa; 20])) }
    }

    #[test]
    fn a_digest_is_for_ever() {
        assert_eq!(digest(b""), 0x6001_c324_468d_497f);
        assert_ne!(digest(b"a"), digest(b"b"));
    }

    #[test]
    fn what_was_encoded_is_decoded() {
        let octets = encode(&thing());
        assert_eq!(decode::<Thing>(&octets).unwrap(), thing());
    }

    #[test]
    fn each_error_says_what_is_wrong() {
        let octets = encode(&thing());
        let said = |octets: &[u8]| decode::<Thing>(octets).unwrap_err().to_string();
        assert_eq!(said(&[]), "these octets are no snapshot: they begin with another mark");
        assert_eq!(said(&octets[..9]), "the snapshot of a thing was cut: 9 octets are there, it says 28");
        let cut = &octets[..octets.len() - 1];
        assert_eq!(said(cut), "the snapshot of a thing was cut: 53 octets are there, it says 54");
        let mut other = octets.to_vec();
        other[4] = 9;
        assert_eq!(said(&other), "a snapshot of a thing was wanted, this one is of kind 9");
        let mut newer = octets.to_vec();
        newer[7] = 4;
        assert!(said(&newer).starts_with("the snapshot of a thing has form 4, and this node reads form 3: "));
        let mut altered = octets.to_vec();
        altered[40] ^= 1;
        assert_eq!(said(&altered), "the snapshot of a thing was altered: its checksum is wrong");
    }

    #[test]
    fn a_message_that_is_none_is_told_from_an_altered_one() {
        let mut octets = encode(&thing()).to_vec();
        octets[HEADER] = 0xff;
        octets[CHECKSUM_AT..HEADER].fill(0);
        let sum = checksum(&octets);
        octets[CHECKSUM_AT..HEADER].copy_from_slice(&sum);
        assert!(matches!(decode::<Thing>(&octets), Err(SnapshotError::Undecodable { .. })));
    }

    proptest! {
        #[test]
        fn whatever_is_altered_is_refused(at in any::<prop::sample::Index>(), with in 1u8..) {
            let mut octets = encode(&thing()).to_vec();
            let at = at.index(octets.len());
            // One octet is not used yet, and stands under the checksum as all others.
            octets[at] ^= with;
            prop_assert!(decode::<Thing>(&octets).is_err());
        }

        #[test]
        fn whatever_is_cut_is_refused(len in any::<prop::sample::Index>()) {
            let octets = encode(&thing());
            prop_assert!(decode::<Thing>(&octets[..len.index(octets.len())]).is_err());
        }
    }
}
