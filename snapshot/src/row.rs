//! What a node tells its standby, piece by piece.

use std::fmt;
use std::time::Instant;

use crate::octets::Octets;

/// Something that a slot has, or has no more: the newest of a class and number is what counts.
#[derive(Clone)]
pub struct Row {
    /// What kind of thing it is. For whoever makes and reads rows.
    pub class: u8,
    /// Which one of its class.
    pub id: u64,
    /// Everything that is to be known of it; `None` when it is gone.
    pub octets: Option<Octets>,
    /// When it was so, by the clock here: times in it count from then.
    pub at: Instant,
}

impl fmt::Debug for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let len = self.octets.as_ref().map(|octets| octets.len());
        write!(f, "Row({}/{:x}, {len:?} octets)", self.class, self.id)
    }
}

/// What has become of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The standby knows.
    Known,
    /// Nobody is to know: there is no standby that could take over.
    Free,
    /// The slot is not ours any more: whatever depends on these rows must not be done.
    Lost,
}

/// Told of what has become of rows.
pub type Done = Box<dyn FnOnce(Kept) + Send>;

/// How a slot begins to be a node's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handover {
    /// Its owner has gone without a word: what it has done since its last words is not known.
    Sudden,
    /// It was handed over as it is.
    Exact,
}
