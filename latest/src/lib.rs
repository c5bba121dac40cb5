//! The value of a watch channel, without its lock.
//!
//! `borrow` of tokio's channels gives a guard that holds the channel's lock for reading. Whoever looks at the same channel again while it has
//! one, by a call that looks harmless, waits for ever if somebody sends in between: the second reader waits for the writer, and that one
//! for the first guard. So nothing but this crate takes such a guard (`disallowed-methods` in `clippy.toml`): all others get the value.
//! What is large belongs into an `Arc`.
//!
//! It is no channel of its own: make those with [`tokio::sync::watch::channel`].

#![allow(
    clippy::disallowed_methods,
    reason = "the one place that holds the lock, for as long as a clone takes"
)]

use tokio::sync::watch::error::RecvError;
use tokio::sync::watch::{Receiver, Sender};

/// What both ends of a channel can do.
pub trait Latest<T: Clone> {
    /// The value that was sent last.
    fn latest(&self) -> T;
}

impl<T: Clone> Latest<T> for Receiver<T> {
    fn latest(&self) -> T {
        self.borrow().clone()
    }
}

impl<T: Clone> Latest<T> for Sender<T> {
    fn latest(&self) -> T {
        self.borrow().clone()
    }
}

/// What a receiver can do besides.
#[allow(
    async_fn_in_trait,
    reason = "there is one type that does it, and its futures can be sent if its values can"
)]
pub trait Follow<T: Clone>: Latest<T> {
    /// The value that was sent last: `changed` waits for another one.
    fn take_latest(&mut self) -> T;

    /// Waits until the value is as it should be, and gives it.
    ///
    /// # Errors
    /// If nobody can send any more.
    async fn until(&mut self, fits: impl FnMut(&T) -> bool) -> Result<T, RecvError>;
}

impl<T: Clone> Follow<T> for Receiver<T> {
    fn take_latest(&mut self) -> T {
        self.borrow_and_update().clone()
    }

    async fn until(&mut self, fits: impl FnMut(&T) -> bool) -> Result<T, RecvError> {
        self.wait_for(fits).await.map(|value| value.clone())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn who_has_looked_is_in_nobodys_way() {
        let (sender, mut receiver) = watch::channel(1);
        let first = (receiver.latest(), sender.latest(), receiver.take_latest());
        // With a guard in hand this would wait for ever.
        sender.send_replace(2);
        assert_eq!((first, receiver.latest()), ((1, 1, 1), 2));
        let second = receiver.until(|value| *value == 2).await.unwrap();
        sender.send_replace(3);
        drop(sender);
        assert_eq!(second, 2);
        assert!(receiver.until(|value| *value == 4).await.is_err());
    }
}
