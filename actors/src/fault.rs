//! Faults that tests put into parts that are nobody's peer.

use std::sync::atomic::{AtomicBool, Ordering};

/// A part that panics at the next thing it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Dispatcher,
    Reception,
    /// The actor of a peer, with a connection for it in its mailbox.
    Adoption,
}

/// Faults that are due.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    dispatcher: AtomicBool,
    reception: AtomicBool,
    adoption: AtomicBool,
}

impl Faults {
    const fn of(&self, fault: Fault) -> &AtomicBool {
        match fault {
            Fault::Dispatcher => &self.dispatcher,
            Fault::Reception => &self.reception,
            Fault::Adoption => &self.adoption,
        }
    }

    pub(crate) fn arm(&self, fault: Fault) {
        self.of(fault).store(true, Ordering::Release);
    }

    /// Whether it is due; it is no longer then.
    pub(crate) fn is_due(&self, fault: Fault) -> bool {
        self.of(fault).swap(false, Ordering::AcqRel)
    }

    /// Panics if that is due.
    #[allow(clippy::panic)] // What it is for: tests see what follows.
    pub(crate) fn strike(&self, fault: Fault) {
        if self.is_due(fault) {
            panic!("injected: {fault:?}");
        }
    }
}
