//! The log of the daemon: records of `tracing`, on standard error.

mod json;
mod lines;
mod out;
mod panics;

use std::io::IsTerminal as _;

use tracing_subscriber::fmt::format::JsonFields;
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, fmt, reload};

pub use lines::{LineSink, Lines};
pub use out::Lost;

use crate::config::{LogConfig, LogFormat, check_level};

/// Goes before the configured level.
pub const LEVEL_VARIABLE: &str = "CULVERT_LOG";

/// A log that runs.
pub struct Log {
    /// Changes its level.
    pub level: Level,
    /// Hands on what it says of tunnels.
    pub lines: Lines,
    /// How many lines nobody read.
    pub lost: Lost,
}

/// Changes the level of a log that runs.
#[derive(Clone)]
pub struct Level {
    handle: reload::Handle<EnvFilter, Registry>,
    /// The environment has decided.
    fixed: bool,
}

impl Level {
    /// Whether the environment goes first.
    pub const fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// Sets level or directives that the configuration has accepted, unless the environment goes first.
    pub fn set(&self, directives: &str) {
        if !self.fixed {
            // An error is a subscriber that is gone, or another one: then there is no log of ours to change.
            let _ = self.handle.reload(filter(directives));
        }
    }
}

fn filter(directives: &str) -> EnvFilter {
    let filter = check_level(directives).ok().and_then(|()| EnvFilter::try_new(directives).ok());
    filter.unwrap_or_else(|| EnvFilter::new("info"))
}

/// Starts logging. Does nothing if it was started before.
pub fn start(config: &LogConfig) -> Log {
    let directives = std::env::var(LEVEL_VARIABLE).ok().filter(|level| !level.is_empty());
    let fixed = directives.is_some();
    let (filter, handle) = reload::Layer::new(filter(directives.as_deref().unwrap_or(&config.level)));
    let lost = Lost::default();
    let out = out::Out::new(std::io::stderr(), config.format, lost.clone());
    let records = fmt::layer().with_writer(out).with_ansi(std::io::stderr().is_terminal());
    let records = match config.format {
        LogFormat::Text => records.boxed(),
        LogFormat::Json => records.fmt_fields(JsonFields::new()).event_format(json::Json).boxed(),
    };
    // An error is a subscriber that is set already: that of a test, or of an embedding program.
    let lines = Lines::default();
    let _ = tracing_subscriber::registry().with(filter).with(records).with(lines.clone()).try_init();
    panics::log();
    if let Some(Err(reason)) = directives.as_deref().map(check_level) {
        tracing::warn!("{LEVEL_VARIABLE}: {reason}; info is taken");
    }
    Log { level: Level { handle, fixed }, lines, lost }
}
