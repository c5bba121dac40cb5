//! The log of the daemon: records of `tracing`, on standard error.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::config::{LogConfig, LogFormat};

/// Goes before the configured level.
pub const LEVEL_VARIABLE: &str = "CULVERT_LOG";

/// Starts logging. Does nothing if it was started before.
pub fn start(config: &LogConfig) {
    let directives = std::env::var(LEVEL_VARIABLE).ok().filter(|level| !level.is_empty());
    let directives = directives.as_deref().unwrap_or(&config.level);
    let filter = EnvFilter::try_new(directives).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    // An error is a subscriber that is set already: that of a test, or of an embedding program.
    let _ = match config.format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
}
