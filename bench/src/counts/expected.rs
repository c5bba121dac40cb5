//! The file of expected counts, one of the repository.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::report::Row;
use crate::subjects::Subject;

/// What the file holds.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Expected {
    /// What the counts were made with.
    pub(crate) made_with: BTreeMap<String, String>,
    /// Instructions of a round, by subject; of subjects that have one, less the bare AEAD.
    pub(crate) instructions: BTreeMap<String, u64>,
}

impl Expected {
    pub(crate) fn read() -> anyhow::Result<Self> {
        let path = path();
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is damaged", path.display()))
    }

    /// What was counted is expected from now on. Subjects that are no more go, those not counted this time stay.
    pub(crate) fn take_over(&mut self, rows: &[Row], made_with: BTreeMap<String, String>, all: &[Subject]) {
        self.made_with = made_with;
        self.instructions.extend(rows.iter().map(|row| (row.name.to_owned(), row.now)));
        self.instructions.retain(|name, _| all.iter().any(|subject| subject.name == name));
    }

    pub(crate) fn write(&self) -> anyhow::Result<()> {
        let path = path();
        let text = serde_json::to_string_pretty(self)? + "\n";
        std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// Beside the sources, wherever the bench is run.
fn path() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("expected.json")
}
