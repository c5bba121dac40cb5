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

    /// What was counted is expected from now on. Subjects that are no more go, those not counted this time stay: if they were counted with
    /// other tools none is taken over, as the file says of all counts what they were made with.
    pub(crate) fn take_over(
        &mut self,
        rows: &[Row],
        made_with: BTreeMap<String, String>,
        all: &[Subject],
    ) -> anyhow::Result<()> {
        let counted = |name: &str| rows.iter().any(|row| row.name == name);
        let stay =
            |subject: &&Subject| self.instructions.contains_key(subject.name) && !counted(subject.name);
        if self.made_with != made_with
            && let Some(subject) = all.iter().find(stay)
        {
            anyhow::bail!(
                "nothing is taken over: what is kept of others, as {}, was counted with other tools; `bench counts --accept` without \
                 a filter counts all",
                subject.name
            );
        }
        self.made_with = made_with;
        self.instructions.extend(rows.iter().map(|row| (row.name.to_owned(), row.now)));
        self.instructions.retain(|name, _| all.iter().any(|subject| subject.name == name));
        Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subjects::Kind;

    fn subject(name: &'static str) -> Subject {
        Subject { name, kind: Kind::Own, over: None, rounds: 1, prepare: |_| Box::new(|| {}) }
    }

    fn row(name: &'static str, now: u64) -> Row {
        Row { name, kind: Kind::Own, all: now, now, before: None }
    }

    #[test]
    fn some_counts_of_other_tools_are_not_mixed_with_those_that_stay() {
        let tools = |version: &str| BTreeMap::from([("rustc".to_owned(), version.to_owned())]);
        let all = [subject("one"), subject("two")];
        let counts = |kept: &Expected| kept.instructions.clone().into_values().collect::<Vec<_>>();
        let mut kept = Expected::default();
        kept.take_over(&[row("one", 1), row("two", 2)], tools("1"), &all).unwrap();
        let refused = kept.take_over(&[row("one", 10)], tools("2"), &all).unwrap_err().to_string();
        assert!(refused.contains("as two"), "{refused}");
        assert_eq!((counts(&kept), &kept.made_with), (vec![1, 2], &tools("1")));
        kept.take_over(&[row("one", 10)], tools("1"), &all).unwrap();
        assert_eq!(counts(&kept), [10, 2]);
        kept.take_over(&[row("one", 11), row("two", 12)], tools("2"), &all).unwrap();
        assert_eq!((counts(&kept), &kept.made_with), (vec![11, 12], &tools("2")));
        kept.take_over(&[row("one", 13)], tools("3"), &all[..1]).unwrap();
        assert_eq!(counts(&kept), [13], "one that is no more does not stay");
    }
}
