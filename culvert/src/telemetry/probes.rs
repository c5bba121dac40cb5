//! Whether the node has started, lives, is ready for work, and serves packets: the first three are what the health service of gRPC says, for
//! whoever asks over HTTP.

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
    in_the_way: InTheWay,
}

/// What else may be in the way of a node that lives: why, as long as it is.
#[derive(Clone, Debug)]
pub enum InTheWay {
    /// Of changes alone, such as a store that takes none. Packets and negotiations go on.
    OfChanges(watch::Receiver<Option<String>>),
    /// Of all, such as that nobody is reached whom packets are for.
    OfAll(watch::Receiver<Option<String>>),
}

impl InTheWay {
    /// Why, now and from now on.
    pub fn why(&self) -> &watch::Receiver<Option<String>> {
        let (Self::OfChanges(why) | Self::OfAll(why)) = self;
        why
    }

    /// What of it is in the way of packets.
    fn of_packets(&self) -> Option<String> {
        match self {
            Self::OfChanges(_) => None,
            Self::OfAll(why) => why.latest(),
        }
    }
}

impl Probes {
    /// The node runs, and from here on this says how it is: its health, and what else is in the way of work, if anything is.
    pub fn started(&self, health: watch::Receiver<Health>, in_the_way: InTheWay) {
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

    /// Whether new work may be sent here: the node is up and lives, nothing else is in the way, and it is not going down.
    ///
    /// # Errors
    /// What is in the way.
    pub fn ready(&self) -> Result<(), String> {
        self.startup()?;
        if self.0.leaving.load(Ordering::Acquire) {
            return Err("the node is going down".to_owned());
        }
        self.live()?;
        self.0.node.get().and_then(|node| node.in_the_way.why().latest()).map_or(Ok(()), Err)
    }

    /// Whether packets that land here go on, which is all that whoever is in front may ask: so they do while the node goes down, until
    /// it is gone, and while its store takes no changes.
    ///
    /// # Errors
    /// What is in the way.
    pub fn serves(&self) -> Result<(), String> {
        self.startup()?;
        self.live()?;
        self.0.node.get().and_then(|node| node.in_the_way.of_packets()).map_or(Ok(()), Err)
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
        assert!(probes.serves().is_err());
        probes.started(of_node, InTheWay::OfChanges(of_store));
        assert!(probes.live().is_ok() && probes.startup().is_ok() && probes.ready().is_ok());

        store.send_replace(Some("no space left".to_owned()));
        assert!(probes.live().is_ok(), "no restart mends a full disk");
        assert!(probes.ready().unwrap_err().contains("no space left") && probes.serves().is_ok());
        store.send_replace(None);
        assert!(probes.ready().is_ok());

        health.send_modify(|health| health.stalled = vec!["arbiter 0".to_owned()]);
        assert!(probes.live().unwrap_err().contains("arbiter 0") && probes.serves().is_err());
        health.send_modify(|health| health.stalled.clear());
        assert!(probes.live().is_ok() && probes.ready().is_ok());

        probes.leave();
        assert!(probes.startup().is_ok() && probes.ready().unwrap_err().contains("going down"));
        assert!(probes.serves().is_ok(), "or whoever is in front would drop what still comes");
        health.send_modify(|health| health.failed = Some("the dispatcher panicked".to_owned()));
        assert_eq!(probes.live().unwrap_err(), "the dispatcher panicked");
        assert!(probes.serves().is_err());
    }

    #[test]
    fn a_node_that_reaches_nobody_serves_no_packets() {
        let probes = Probes::default();
        let (_health, of_node) = watch::channel(Health::default());
        let (astray, why) = watch::channel(None);
        probes.started(of_node, InTheWay::OfAll(why));
        assert!(probes.serves().is_ok());
        astray.send_replace(Some("cut off".to_owned()));
        assert_eq!((probes.serves(), probes.ready()), (Err("cut off".to_owned()), Err("cut off".to_owned())));
    }
}
