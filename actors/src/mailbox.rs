//! Sending to mailboxes, which are bounded.

use actix::dev::ToEnvelope;
use actix::prelude::*;

use crate::counters::Counters;

/// Messages a mailbox holds. A peer's actors exchange a handful per exchange; a burst of commands from the API and of
/// datagrams fits, and 100,000 idle mailboxes cost nothing.
pub(crate) const MAILBOX: usize = 256;

/// Sends a message that must not be lost: when the mailbox is full it waits, off the caller's path, and is counted.
pub(crate) fn deliver<A, M>(to: &Addr<A>, message: M, counters: &Counters)
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message<Result = ()> + Send + 'static,
{
    match to.try_send(message) {
        Ok(()) | Err(actix::prelude::SendError::Closed(_)) => {}
        Err(actix::prelude::SendError::Full(message)) => {
            counters.mailbox_full.up();
            let to = to.clone();
            // Ends when there is room or the receiver is gone.
            actix::spawn(async move {
                let _ = to.send(message).await;
            });
        }
    }
}

/// Sends a message that may be lost, such as a datagram, which its sender will repeat.
pub(crate) fn offer<M>(to: &Recipient<M>, message: M, counters: &Counters)
where
    M: Message + Send + 'static,
    M::Result: Send,
{
    if let Err(actix::prelude::SendError::Full(_)) = to.try_send(message) {
        counters.mailbox_full.up();
    }
}
