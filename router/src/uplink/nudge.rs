//! How others get the device thread's attention.

use std::sync::mpsc::{Receiver, Sender, channel};

use tokio::sync::oneshot;

use crate::model::TenantId;

/// A tenant's device. The number differs from that of every device the tenant had before, so that what is late about an
/// old one does not concern the new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) tenant: TenantId,
    pub(crate) number: u64,
}

/// What the thread is told.
pub(crate) enum Nudge {
    /// The wish changed, or is new.
    Changed(Key),
    /// The wish was dropped.
    Gone(Key),
    /// A shard found the device broken.
    Check(Key),
    /// Somebody wants a device that failed tried again now.
    Retry(TenantId),
    /// Answered once everything before is done.
    Settled(oneshot::Sender<()>),
    Stop,
    #[cfg(feature = "fault-injection")]
    Panic,
}

/// The sending end.
///
/// It never blocks and needs no bound of its own: a wish is announced once until it is looked at and dropped once, a shard
/// asks for few checks a second ([`super::CHECKS_PER_SECOND`]), and of the rest there is one to a caller.
#[derive(Clone)]
pub(crate) struct Nudges(Sender<Nudge>);

impl Nudges {
    pub(crate) fn new() -> (Self, Receiver<Nudge>) {
        let (sender, receiver) = channel();
        (Self(sender), receiver)
    }

    pub(crate) fn send(&self, nudge: Nudge) {
        // A thread that has ended needs no telling; that it has is reported elsewhere.
        let _ = self.0.send(nudge);
    }
}
