//! Sending to mailboxes, which are bounded.

use actix::dev::ToEnvelope;
use actix::prelude::*;

use crate::counters::Counters;

/// Messages a mailbox holds. A peer's actors exchange a handful per exchange; a burst of commands from the API and of
/// datagrams fits, and 100,000 idle mailboxes cost nothing.
pub(crate) const MAILBOX: usize = 256;

/// Where a message can be put: downwards the address of an actor that the sender has started, elsewhere a recipient.
pub(crate) trait Mailbox<M: Message<Result = ()> + Send + 'static>: Clone + 'static {
    /// Puts the message there if there is room.
    fn try_put(&self, message: M) -> Result<(), SendError<M>>;
    /// Puts it there once there is room.
    fn put(self, message: M) -> impl Future<Output = ()> + 'static;
}

impl<A, M> Mailbox<M> for Addr<A>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result = ()> + Send + 'static,
{
    fn try_put(&self, message: M) -> Result<(), SendError<M>> {
        self.try_send(message)
    }

    async fn put(self, message: M) {
        // An error is the receiver's end.
        let _ = self.send(message).await;
    }
}

impl<M: Message<Result = ()> + Send + 'static> Mailbox<M> for Recipient<M> {
    fn try_put(&self, message: M) -> Result<(), SendError<M>> {
        self.try_send(message)
    }

    async fn put(self, message: M) {
        // An error is the receiver's end.
        let _ = self.send(message).await;
    }
}

/// Sends a message that must not be lost: when the mailbox is full it waits, off the caller's path, and is counted.
pub(crate) fn deliver<M>(to: &impl Mailbox<M>, message: M, counters: &Counters)
where
    M: Message<Result = ()> + Send + 'static,
{
    match to.try_put(message) {
        Ok(()) | Err(SendError::Closed(_)) => {}
        Err(SendError::Full(message)) => {
            counters.mailbox_full.up();
            // Ends when there is room or the receiver is gone.
            actix::spawn(to.clone().put(message));
        }
    }
}

/// Sends a message that must not be lost, and waits while there is no room for it. For whoever has a thread of tokio to wait on.
pub(crate) async fn put<M>(to: &Recipient<M>, message: M)
where
    M: Message<Result = ()> + Send + 'static,
{
    if let Err(SendError::Full(message)) = to.try_send(message) {
        // An error is the receiver's end.
        let _ = to.send(message).await;
    }
}

/// Sends a message that may be lost, such as a datagram, which its sender will repeat.
pub(crate) fn offer<M>(to: &Recipient<M>, message: M, counters: &Counters)
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    if let Err(SendError::Full(_)) = to.try_send(message) {
        counters.mailbox_full.up();
    }
}
