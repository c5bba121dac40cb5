//! Wakes a thread of the router that may sleep: one system call for all that comes before it looks.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::Waker;

/// Rung by those who have put something where the thread will look. Clones are the same.
#[derive(Debug, Clone)]
pub(crate) struct Bell {
    /// The thread was woken and has not looked since.
    rung: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Bell {
    pub(crate) fn new(waker: Arc<Waker>) -> Self {
        Self { rung: Arc::default(), waker }
    }

    /// To be called after something was put there.
    pub(crate) fn ring(&self) {
        if !self.rung.swap(true, Ordering::SeqCst)
            && let Err(error) = self.waker.wake()
        {
            // The eventfd cannot be written: only a closed one, whose thread has ended.
            tracing::debug!(%error, "cannot wake a thread");
        }
    }

    /// To be called by the thread before it looks: from now on it is woken again.
    pub(crate) fn heard(&self) {
        self.rung.store(false, Ordering::SeqCst);
    }
}
