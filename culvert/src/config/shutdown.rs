//! `[shutdown]`: how the daemon goes down.

use std::time::Duration;

use serde::{Deserialize, Deserializer};

use crate::config::ConfigError;

/// Longest drain. Whoever stops a daemon waits for it, and nothing that has to notice takes longer than minutes.
const MAX_DRAIN: Duration = Duration::from_secs(3600);

/// How the daemon goes down.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShutdownConfig {
    /// From SIGTERM on the node says that it is not ready, and goes on with everything else for this long: for load
    /// balancers and endpoints that have to notice.
    #[serde(deserialize_with = "duration")]
    pub drain: Duration,
}

impl ShutdownConfig {
    /// Every field with its value as text.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let Self { drain } = self;
        vec![("shutdown.drain", humantime::format_duration(*drain).to_string())]
    }

    /// What the types cannot say.
    pub(crate) fn check(&self) -> Result<(), ConfigError> {
        if self.drain <= MAX_DRAIN {
            return Ok(());
        }
        let (drain, most) = (humantime::format_duration(self.drain), humantime::format_duration(MAX_DRAIN));
        Err(ConfigError::Field { field: "shutdown.drain", reason: format!("{drain} is longer than {most}") })
    }
}

/// A duration such as `30s`.
fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    humantime::parse_duration(&text).map_err(|error| {
        serde::de::Error::custom(format!("{text:?} is not a duration: {error}; expected such as 30s"))
    })
}
