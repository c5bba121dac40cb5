//! Who has had enough of a quickstart before it is over.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::console::Failure;

/// The signals by which a program is told to end: a key, a terminal or a connection that goes, and whoever stops it by name. From when this is
/// made on none of them ends the process as it is: what was begun is put away first.
pub(crate) struct Enough {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
    quit: Signal,
}

impl Enough {
    pub(crate) fn new() -> Result<Self, Failure> {
        let caught = |kind| signal(kind).map_err(|error| Failure::failed(error.to_string()));
        Ok(Self {
            interrupt: caught(SignalKind::interrupt())?,
            terminate: caught(SignalKind::terminate())?,
            hangup: caught(SignalKind::hangup())?,
            quit: caught(SignalKind::quit())?,
        })
    }

    /// Waits for one of them. One that has come meanwhile counts.
    pub(crate) async fn comes(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hangup.recv() => {}
            _ = self.quit.recv() => {}
        }
    }

    /// What is done, unless one of them comes before that.
    pub(crate) async fn unless<T>(
        &mut self,
        done: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        tokio::select! {
            done = done => done,
            () = self.comes() => Err(Failure::failed("told to stop before the end")),
        }
    }
}
