//! The embedded store: one file, every commit synced to disk.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition,
};

use crate::store::{Batch, Store, StoreError};

const ROWS: TableDefinition<&str, &[u8]> = TableDefinition::new("rows");
/// Page cache: the store is read once and then written row by row, so a few hot pages do.
const CACHE_BYTES: usize = 8 << 20;

/// Keeps rows in a redb file.
#[derive(Debug)]
pub struct RedbStore {
    database: Database,
}

impl RedbStore {
    /// Opens the file at `path`, or creates it, readable by the user of the process alone.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(|error| StoreError::file(path, error))?;
        let in_use = |error: DatabaseError| match error {
            DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(path.to_owned()),
            other => StoreError::file(path, other),
        };
        let backend = FileBackend::new(file).map_err(in_use)?;
        let database = Builder::new().set_cache_size(CACHE_BYTES).create_with_backend(backend);
        let database = database.map_err(in_use)?;
        let store = Self { database };
        // Makes the table, so that a read never finds it missing.
        store.commit(&Batch::default())?;
        sync_directory(path)?;
        Ok(store)
    }
}

impl Store for RedbStore {
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let read = || -> Result<_, redb::Error> {
            let table = self.database.begin_read()?.open_table(ROWS)?;
            let mut rows = Vec::new();
            for row in table.iter()? {
                let (key, value) = row?;
                rows.push((key.value().to_owned(), value.value().to_vec()));
            }
            Ok(rows)
        };
        read().map_err(|error| StoreError::Backend(error.to_string()))
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let write = || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(Durability::Immediate)?;
            {
                let mut table = transaction.open_table(ROWS)?;
                for key in &batch.delete {
                    table.remove(key.as_str())?;
                }
                for (key, value) in &batch.put {
                    table.insert(key.as_str(), value.as_slice())?;
                }
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|error| StoreError::Backend(error.to_string()))
    }
}

/// Makes the entry of `file` in its directory durable.
pub(crate) fn sync_directory(file: &Path) -> Result<(), StoreError> {
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let sync = std::fs::File::open(directory).and_then(|directory| directory.sync_all());
    sync.map_err(|error| StoreError::file(directory, error))
}
