//! Rows to write and to remove.

use std::collections::BTreeMap;

/// Rows to write and to remove, all of them or none. Of what is said about a row twice, the last holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch(BTreeMap<String, Option<Vec<u8>>>);

impl Batch {
    /// Writes a row.
    pub fn put(&mut self, key: impl Into<String>, value: Vec<u8>) {
        self.0.insert(key.into(), Some(value));
    }

    /// Removes a row.
    pub fn delete(&mut self, key: impl Into<String>) {
        self.0.insert(key.into(), None);
    }

    /// Keys with their values; `None` for a row to remove.
    pub fn rows(&self) -> impl Iterator<Item = (&str, Option<&[u8]>)> {
        self.0.iter().map(|(key, value)| (key.as_str(), value.as_deref()))
    }

    /// Does to rows what it says.
    pub fn apply_to(&self, rows: &mut BTreeMap<String, Vec<u8>>) {
        for (key, value) in &self.0 {
            match value {
                Some(value) => rows.insert(key.clone(), value.clone()),
                None => rows.remove(key),
            };
        }
    }
}
