//! Whether the node has started, lives, and is ready for work: what the health service of gRPC says, for whoever asks over
//! HTTP.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use actors::Health;
use latest::Latest as _;
use tokio::sync::watch;

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Probes(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Set once the node runs.
    node: OnceLock<Watched>,
    leaving: AtomicBool,
}

#[derive(Debug)]
struct Watched {
    health: watch::Receiver<Health>,
    in_the_way: watch::Receiver<Option<String>>,
}

impl Probes {
    /// The node runs, and from here on this says how it is: its health, and what else is in the way of work, if anything is.
    pub fn started(&self, health: watch::Receiver<Health>, in_the_way: watch::Receiver<Option<String>>) {
        // The first stays: a process has one node.
        let _ = self.0.node.set(Watched { health, in_the_way });
    }

    /// The node goes down: it is not ready any more, whatever else is well.
    pub fn leave(&self) {
        self.0.leaving.store(true, Ordering::Release);
    }

    /// Whether the node is up.
    ///
    /// # Errors
    /// What it waits for.
    pub fn startup(&self) -> Result<(), String> {
        self.0.node.get().map(|_| ()).ok_or_else(|| "the node is starting".to_owned())
    }

    /// Whether everything runs that must. What does not is mended by a restart. One that starts lives.
    ///
    /// # Errors
    /// What failed, or stands still.
    pub fn live(&self) -> Result<(), String> {
        let Some(node) = self.0.node.get() else { return Ok(()) };
        let health = node.health.latest();
        match (&health.failed, health.stalled.as_slice()) {
            (Some(failed), _) => Err(failed.clone()),
            (None, []) => Ok(()),
            (None, stalled) => Err(format!("threads do not answer: {}", stalled.join(", "))),
        }
    }

    /// Whether work may be sent here: the node is up and lives, nothing else is in the way, and it is not going down.
    ///
    /// # Errors
    /// What is in the way.
    pub fn ready(&self) -> Result<(), String> {
        self.startup()?;
        if self.0.leaving.load(Ordering::Acquire) {
            return Err("the node is going down".to_owned());
        }
        self.live()?;
        self.0.node.get().and_then(|node| node.in_the_way.latest()).map_or(Ok(()), Err)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_starts_lives_and_leaves() {
        let probes = Probes::default();
        let (health, of_node) = watch::channel(Health::default());
        let (store, of_store) = watch::channel(None);
        assert!(probes.live().is_ok() && probes.startup().is_err() && probes.ready().is_err());
        probes.started(of_node, of_store);
        assert!(probes.live().is_ok() && probes.startup().is_ok() && probes.ready().is_ok());

        store.send_replace(Some("no space left".to_owned()));
        assert!(probes.live().is_ok(), "no restart mends a full disk");
        assert!(probes.ready().unwrap_err().contains("no space left"));
        store.send_replace(None);
        assert!(probes.ready().is_ok());

        health.send_modify(|health| health.stalled = vec!["arbiter 0".to_owned()]);
        assert!(probes.live().unwrap_err().contains("arbiter 0"));
        health.send_modify(|health| health.stalled.clear());
        assert!(probes.live().is_ok() && probes.ready().is_ok());
        health.send_modify(|health| health.failed = Some("the dispatcher panicked".to_owned()));
        assert_eq!(probes.live().unwrap_err(), "the dispatcher panicked");

        probes.leave();
        assert!(probes.startup().is_ok() && probes.ready().unwrap_err().contains("going down"));
    }
}
