//! A copy of the store in a file of its own.

use std::path::Path;

use crate::store::redb::sync_directory;
use crate::store::{Batch, RedbStore, Store as _, StoreError};

/// Writes rows, as [`crate::Catalog::backup`] gives them, to a store at `path`, durably. What is there is replaced once
/// the new file is whole.
pub fn write_backup(path: &Path, rows: Vec<(String, Vec<u8>)>) -> Result<(), StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let draft = Path::new(&name);
    // One that was left behind is nobody's: whoever wrote it would have renamed it.
    match std::fs::remove_file(draft) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(StoreError::file(draft, error));
        }
        _ => {}
    }
    let written = fill(draft, rows);
    if written.is_err() {
        // Half a copy is none.
        let _ = std::fs::remove_file(draft);
    }
    written?;
    std::fs::rename(draft, path).map_err(|error| StoreError::file(path, error))?;
    sync_directory(path)
}

fn fill(path: &Path, rows: Vec<(String, Vec<u8>)>) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    for (key, value) in rows {
        batch.put(key, value);
    }
    RedbStore::open(path)?.commit(&batch)
}
