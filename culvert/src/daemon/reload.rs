//! SIGHUP: the configuration is read again. What can change while tunnels are up does; the rest is told.

use std::path::PathBuf;

use crate::config::Config;
use crate::logging::{LEVEL_VARIABLE, Level};

/// The one field that takes effect at once.
const LEVEL: &str = "log.level";

/// What the daemon runs with, and where that came from.
pub struct Reload {
    file: Option<PathBuf>,
    running: Config,
    level: Level,
}

impl Reload {
    /// For a daemon that runs with `config`, read from `file`.
    pub fn new(file: Option<PathBuf>, config: Config, level: Level) -> Self {
        Self { file, running: config, level }
    }

    /// Reads the configuration again. A file that cannot be used changes nothing.
    pub fn now(&mut self) {
        let new = match Config::load(self.file.as_deref()) {
            Ok(new) => new,
            Err(error) => {
                tracing::warn!(%error, "SIGHUP: the configuration cannot be used; nothing was changed");
                return;
            }
        };
        let differing = self.running.differences(&new);
        let changed = self.running.log.level != new.log.level && !self.level.is_fixed();
        // Told before it may be told no longer.
        for (field, old, new) in differing.iter().filter(|(field, _, _)| *field == LEVEL) {
            if changed {
                tracing::info!(field, old, new, "SIGHUP: changes at once");
            } else {
                tracing::warn!(field, old, new, "SIGHUP: has no effect, as {LEVEL_VARIABLE} goes before it");
            }
        }
        for (field, old, new) in differing.iter().filter(|(field, _, _)| *field != LEVEL) {
            tracing::warn!(field, old, new, "SIGHUP: differs, and needs a restart");
        }
        if changed {
            self.level.set(&new.log.level);
            self.running.log.level = new.log.level;
        }
        tracing::info!(
            changed = if changed { LEVEL } else { "nothing" },
            "SIGHUP: the configuration was read again"
        );
    }
}
