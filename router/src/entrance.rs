//! IKE messages on the thread that received them.

use std::fmt;

use crate::model::IkeDatagram;

/// Whoever takes IKE messages at once, in place of an event ([`crate::RouterEvent::Ike`]). Called on the control thread, with one
/// message after the other: it never blocks, and never panics.
pub trait Entrance: Send + Sync {
    /// Takes a message, or gives it back: then it goes the way of events, where it may wait.
    fn take(&self, datagram: IkeDatagram) -> Option<IkeDatagram>;
}

impl fmt::Debug for dyn Entrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Entrance")
    }
}

impl PartialEq for dyn Entrance {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::addr_eq(self, other)
    }
}

impl Eq for dyn Entrance {}
