//! Starting and stopping.

use tokio::sync::mpsc;

use crate::config::RouterConfig;
use crate::error::RouterError;
use crate::handle::RouterHandle;
use crate::model::RouterEvent;

/// A running router: its threads and sockets. Stops when shut down or dropped.
pub struct Router {
    handle: RouterHandle,
}

impl Router {
    /// Opens the sockets and starts the threads.
    ///
    /// `events` should have room for a few thousand: IKE messages beyond it are dropped, other events are held back.
    pub fn start(_config: RouterConfig, _events: mpsc::Sender<RouterEvent>) -> Result<Self, RouterError> {
        Err(RouterError::Stopped)
    }

    /// A handle for the control plane.
    pub fn handle(&self) -> RouterHandle {
        self.handle.clone()
    }

    /// Stops the threads and waits for them. Keys are wiped.
    pub fn shutdown(self) {}
}
