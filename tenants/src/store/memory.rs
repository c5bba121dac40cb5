//! A store that forgets: for tests and for trying things out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use crate::store::{Batch, Store, StoreError};

/// Keeps rows in memory.
#[derive(Debug, Default)]
pub struct MemoryStore(Mutex<BTreeMap<String, Vec<u8>>>);

impl Store for MemoryStore {
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(rows.iter().map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        batch.apply_to(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }
}
