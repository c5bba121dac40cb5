//! Rows to write and to remove.

use std::collections::BTreeMap;

/// Rows to write and to remove, all of them or none. Of what is said about a row twice, the last holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    rows: BTreeMap<String, Option<Vec<u8>>>,
    after: Option<u64>,
}

impl Batch {
    /// Writes a row.
    pub fn put(&mut self, key: impl Into<String>, value: Vec<u8>) {
        self.rows.insert(key.into(), Some(value));
    }

    /// Removes a row.
    pub fn delete(&mut self, key: impl Into<String>) {
        self.rows.insert(key.into(), None);
    }

    /// Makes it the change after `revision` of the catalog, and so revision `revision + 1`: a store that has other writers takes it
    /// only while `revision` is the last.
    pub fn follow_on(&mut self, revision: u64) {
        self.after = Some(revision);
    }

    /// The revision that it was made from; `None` for what is no change of the catalog and fits any.
    pub fn after(&self) -> Option<u64> {
        self.after
    }

    /// Keys with their values; `None` for a row to remove.
    pub fn rows(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.rows.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    /// Does to rows what it says.
    pub fn apply_to(&self, rows: &mut BTreeMap<String, Vec<u8>>) {
        for (key, value) in &self.rows {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
    }
}
