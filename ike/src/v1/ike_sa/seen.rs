//! What was seen on an IKE_SA, so that nothing is taken twice.

use std::collections::VecDeque;

/// Message IDs of both sides, and nonces of the peer, that are remembered, so that none is taken twice, and nothing that we have said
/// ourselves for the peer's: the keys are the same in both directions. A tunnel that renews a pair every minute comes by half of them in a
/// day and a half; then a new IKE_SA is made, whose numbers begin anew.
const MAX_SEEN: usize = 8_192;

/// Message IDs of questions whether somebody is alive, and of their answers, that are remembered. They are most of what an IKE_SA
/// sees that nothing else happens on, and have a guard of their own once they are forgotten: questions are numbered.
const MAX_SIGNS: usize = 1_024;

/// What a message is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    /// Dead peer detection, and nothing else (RFC 3706).
    Liveness,
    /// All that does something, and must not do so twice.
    Rest,
}

/// Message IDs of both sides, and nonces of the peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// In order, as are the nonces.
    pub(super) ids: Vec<u32>,
    pub(super) nonces: Vec<u64>,
    /// IDs of dead peer detection, the oldest first.
    pub(super) signs: VecDeque<u32>,
    /// There were more of them.
    pub(super) forgot: bool,
    /// The highest number that the peer has asked by.
    pub(super) asked: Option<u32>,
}

impl Seen {
    /// No more than there may be.
    pub(super) fn bounded(mut self) -> Self {
        self.ids.sort_unstable();
        self.nonces.sort_unstable();
        self.ids.truncate(MAX_SEEN);
        self.nonces.truncate(MAX_SEEN);
        self.signs.truncate(MAX_SIGNS);
        self
    }

    /// Whether this Message ID is known to have been used, by the peer or by us.
    pub(crate) fn has(&self, id: u32) -> bool {
        self.ids.binary_search(&id).is_ok() || self.signs.contains(&id)
    }

    /// Notes a Message ID. False if it was there, or there are too many of what is not forgotten.
    pub(crate) fn note(&mut self, id: u32, of: Of) -> bool {
        if self.signs.contains(&id) {
            return false;
        }
        match (self.ids.binary_search(&id), of) {
            (Ok(_), _) => false,
            (Err(_), Of::Liveness) => {
                if self.signs.len() >= MAX_SIGNS {
                    self.signs.pop_front();
                    self.forgot = true;
                }
                self.signs.push_back(id);
                true
            }
            (Err(_), Of::Rest) if self.ids.len() >= MAX_SEEN => false,
            (Err(at), Of::Rest) => {
                self.ids.insert(at, id);
                true
            }
        }
    }

    /// Notes a nonce of the peer, as [`Self::note`] what does something.
    pub(crate) fn note_nonce(&mut self, nonce: &[u8]) -> bool {
        use sha2::Digest as _;
        let digest = sha2::Sha256::digest(nonce);
        let known = digest.first_chunk().copied().map_or(0, u64::from_be_bytes);
        match self.nonces.binary_search(&known) {
            Err(at) if self.nonces.len() < MAX_SEEN => {
                self.nonces.insert(at, known);
                true
            }
            _ => false,
        }
    }

    /// Whether a question with this number is asked now: no ID of such was forgotten, or nothing as high was asked before. `ours` if
    /// we have asked by that number.
    pub(super) fn asks_now(&mut self, number: u32, ours: bool) -> bool {
        let now = !self.forgot || (!ours && self.asked.is_none_or(|highest| number > highest));
        if now {
            self.asked = self.asked.max(Some(number));
        }
        now
    }

    /// Whether an ID of liveness may be one that was there before.
    pub(crate) const fn forgot(&self) -> bool {
        self.forgot
    }

    /// It is time for another IKE_SA.
    pub(super) const fn is_half_full(&self) -> bool {
        self.ids.len() >= MAX_SEEN / 2
    }

    /// Nothing more that does something can be taken.
    pub(crate) const fn is_full(&self) -> bool {
        self.ids.len() >= MAX_SEEN || self.nonces.len() >= MAX_SEEN
    }
}
