//! A copy of the store in a file of its own.

use std::path::Path;

use crate::store::redb::sync_directory;
use crate::store::{Batch, RedbStore, Report, Store as _, StoreError, check};

/// Writes rows, as [`crate::Catalog::backup`] gives them, to a store at `path`, durably. What is there is replaced once
/// the new file is whole, which it is read back for: what is in it.
pub fn write_backup(path: &Path, rows: Vec<(String, Vec<u8>)>) -> Result<Report, StoreError> {
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
    let written = fill(draft, rows).and_then(|()| whole(draft, path));
    if written.is_err() {
        // Half a copy is none.
        let _ = std::fs::remove_file(draft);
    }
    let report = written?;
    std::fs::rename(draft, path).map_err(|error| StoreError::file(path, error))?;
    sync_directory(path)?;
    Ok(report)
}

/// What is in the draft, if nothing is wrong with it.
fn whole(draft: &Path, path: &Path) -> Result<Report, StoreError> {
    let report = check(draft, None)?;
    match report.faults.first() {
        Some(fault) => Err(StoreError::file(path, format!("the copy is not whole: {fault}"))),
        None => Ok(report),
    }
}

fn fill(path: &Path, rows: Vec<(String, Vec<u8>)>) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    for (key, value) in rows {
        batch.put(key, value);
    }
    RedbStore::open(path)?.commit(&batch)
}
