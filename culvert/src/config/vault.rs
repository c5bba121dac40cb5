//! `[vault]`: the key of the secrets at rest.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use tenants::store::KEY_FILE;

/// The key of the secrets at rest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VaultConfig {
    /// The file with the key, 32 octets, such as one of a mounted Kubernetes Secret. It is never written. Without it the
    /// daemon makes a key of its own in the state directory.
    pub key_file: Option<PathBuf>,
}

impl VaultConfig {
    /// Every field with its value as text.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let Self { key_file } = self;
        vec![("vault.key_file", super::path(key_file.as_deref()))]
    }

    /// The file with the key, wherever it is.
    pub fn key_path(&self, state_dir: &Path) -> PathBuf {
        self.key_file.clone().unwrap_or_else(|| state_dir.join(KEY_FILE))
    }
}
