//! `[audit]`: how much of the audit log is kept.

use serde::Deserialize;
use tenants::audit::AuditLimits;

use crate::config::ConfigError;

/// Octets of a file at least: a line of the largest change has to fit, or each would be a file of its own.
const MIN_BYTES: u64 = 64 << 10;
/// Files at most: all are listed when one is begun, and at the default size these are 160 GiB.
const MAX_KEEP: usize = 10_000;

/// The audit log, in the folder `audit` of the state directory.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// Octets of a file; then another is begun.
    pub max_bytes: u64,
    /// Files that are kept, the current one included.
    pub keep: usize,
}

impl Default for AuditConfig {
    fn default() -> Self {
        let AuditLimits { max_bytes, keep } = AuditLimits::default();
        Self { max_bytes, keep }
    }
}

impl AuditConfig {
    /// As the catalog takes it.
    pub fn limits(&self) -> AuditLimits {
        AuditLimits { max_bytes: self.max_bytes, keep: self.keep }
    }

    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let Self { max_bytes, keep } = self;
        vec![("audit.max_bytes", max_bytes.to_string()), ("audit.keep", keep.to_string())]
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if self.max_bytes < MIN_BYTES {
            let reason = format!("{} is below {MIN_BYTES}", self.max_bytes);
            return Err(ConfigError::Field { field: "audit.max_bytes", reason });
        }
        if self.keep == 0 {
            let reason = "0 would keep nothing; expected 1 or more".to_owned();
            return Err(ConfigError::Field { field: "audit.keep", reason });
        }
        if self.keep > MAX_KEEP {
            let reason =
                format!("{} is more than {MAX_KEEP}; a greater audit.max_bytes keeps more", self.keep);
            return Err(ConfigError::Field { field: "audit.keep", reason });
        }
        Ok(())
    }
}
