//! `[bootstrap]`: what the daemon has from its first start on.

use std::path::PathBuf;

use serde::Deserialize;

/// What the daemon has from its first start on.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BootstrapConfig {
    /// A manifest, or a directory of manifests, as `culvert apply -f` takes them. What of it is missing is created at each
    /// start; what is there stays as it is.
    pub file: Option<PathBuf>,
}

impl BootstrapConfig {
    /// Every field with its value as text.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let Self { file } = self;
        vec![("bootstrap.file", super::path(file.as_deref()))]
    }
}
