//! Who has had enough of a quickstart before it is over.

use loadtest::Signals;
use tokio::signal::unix::SignalKind;

use crate::console::Failure;

/// The signals by which a program is told to end: a key, a terminal or a connection that goes, and whoever stops it by name. From when this is
/// made on none of them ends the process as it is: what was begun is put away first.
pub(crate) struct Enough(Signals);

impl Enough {
    pub(crate) fn new() -> Self {
        let (interrupt, terminate) = (SignalKind::interrupt(), SignalKind::terminate());
        Self(Signals::of([interrupt, terminate, SignalKind::hangup(), SignalKind::quit()]))
    }

    /// Waits for one of them. One that has come meanwhile counts.
    pub(crate) async fn comes(&mut self) {
        self.0.next().await;
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
