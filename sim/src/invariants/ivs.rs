//! No key and IV twice, over all nodes that have a key one after the other: it would break the AEADs.

use std::collections::HashMap;

use ike::{Connection, LoggedKeys};

use super::{Witness, fingerprint};

/// SPIs, next payload, version, exchange, flags, Message ID and length.
const HEADER: usize = 28;
/// SK: the payload's own header, then the IV.
const SK: u8 = 46;
/// SKF: the same, and number and total of the fragment.
const SKF: u8 = 53;
/// The sender is the initiator of the IKE_SA.
const FROM_INITIATOR: u8 = 0x08;

/// What was used.
#[derive(Debug, Default)]
pub(super) struct Ivs {
    /// By key, the last number of ESP. An owner counts up, and the next one begins beyond.
    esp: HashMap<u64, u64>,
    /// By key and IV, the message: the very same may be sent again.
    ike: HashMap<(u64, u64), u64>,
}

impl Witness {
    /// A packet was sealed with a key and a number, of which the IV is made.
    pub(crate) fn sealed(&mut self, tunnel: usize, key: u64, sequence: u64) {
        let last = self.ivs.esp.entry(key).or_default();
        let before = std::mem::replace(last, sequence.max(*last));
        if sequence <= before {
            self.violation(format!("tunnel {tunnel}: number {sequence} of ESP after {before} with one key"));
        }
    }

    /// A message of IKE leaves. Those of IKEv1 and of CBC have IVs that nobody counts.
    pub(crate) fn ike_sent(&mut self, tunnel: usize, conn: &Connection, message: &[u8]) {
        let Some((key, iv)) = key_and_iv(conn, message) else { return };
        let said = fingerprint(message);
        if self.ivs.ike.insert((key, iv), said).is_some_and(|before| before != said) {
            self.violation(format!("tunnel {tunnel}: IV {iv} of IKE is used for two messages with one key"));
        }
    }
}

fn key_and_iv(conn: &Connection, message: &[u8]) -> Option<(u64, u64)> {
    let at = match *message.get(16)? {
        SK => HEADER + 4,
        SKF => HEADER + 8,
        _ => return None,
    };
    let iv = u64::from_be_bytes(*message.get(at..)?.first_chunk()?);
    let word = |at: usize| Some(u64::from_be_bytes(*message.get(at..)?.first_chunk()?));
    let spis = (word(0)?, word(8)?);
    let from_initiator = message.get(19)? & FROM_INITIATOR != 0;
    let keys = conn.logged_keys().into_iter().find(|keys| keys.spis() == spis)?;
    match keys {
        LoggedKeys::V2 { encryption: [i, r], integrity: [plain, _], .. } if plain.is_empty() => {
            Some((fingerprint(if from_initiator { &i } else { &r }), iv))
        }
        _ => None,
    }
}
