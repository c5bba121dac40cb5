//! A connection on its way to another node, whichever version it speaks.

use std::sync::Arc;
use std::time::Instant;

use ::snapshot::Writer;
use prost::Message as _;

use super::{Connection, Version};
use crate::config::PeerConfig;
use crate::snapshot::{self, NotNow, RestoreError, Resume, Snapshot};
use crate::{v1, v2};

impl Connection {
    /// Everything that another node needs to go on with it, but for its configuration. It has to be drained before.
    ///
    /// # Errors
    /// Whether it is too early or too late for one.
    pub fn snapshot(&self, now: Instant) -> Result<Snapshot, NotNow> {
        let mut w = Writer::default();
        self.write_snapshot(&mut w, now)?;
        // What was written is what is read: a test asks for that in every state.
        Ok(Snapshot::decode(&*w.finish()).unwrap_or_default())
    }

    /// Writes the fields of a [`Snapshot`] without making one.
    ///
    /// # Errors
    /// Whether it is too early or too late for one. What has been written is then of no use.
    pub fn write_snapshot(&self, w: &mut Writer, now: Instant) -> Result<(), NotNow> {
        let Some(config) = self.config() else {
            return Err(if self.is_finished() { NotNow::Finished } else { NotNow::HalfOpen });
        };
        w.bytes(1, config.name.as_bytes());
        let version = match &self.0 {
            Version::V2(_) => w.begin(2),
            Version::V1(_) => w.begin(3),
        };
        match &self.0 {
            Version::V2(conn) => conn.write(w, now)?,
            Version::V1(conn) => conn.write(w, now)?,
        }
        w.end(version);
        Ok(())
    }

    /// Goes on with a connection of which this is a snapshot. `config` is the peer's as it is configured now, `now` the time
    /// by the clock here.
    ///
    /// The Child SAs are the router's to restore; [`Self::child_sas`] and [`Self::local_spis`] say what belongs to it. No event tells of
    /// what was there before.
    ///
    /// # Errors
    /// With what is wrong, if it is no snapshot of a connection with this peer.
    pub fn restore(
        snapshot: &Snapshot,
        now: Instant,
        resume: Resume,
        config: Arc<PeerConfig>,
    ) -> Result<Self, RestoreError> {
        if snapshot.peer() != &*config.name {
            let (snapshot, config) = (snapshot.peer().to_owned(), config.name.to_string());
            return Err(RestoreError::Peer { snapshot, config });
        }
        Ok(Self(match snapshot.version()? {
            snapshot::Version::V2(form) => {
                Version::V2(Box::new(v2::Connection::restore(form, now, resume, config)?))
            }
            snapshot::Version::V1(form) => {
                Version::V1(Box::new(v1::Connection::restore(form, now, resume, config)?))
            }
        }))
    }
}
