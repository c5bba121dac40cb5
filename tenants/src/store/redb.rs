//! The embedded store: one file, every commit synced to disk.
//!
//! After an error of the disk the library refuses every later write. So the database is opened again then, which takes
//! it back to its last commit; a number that each commit writes tells whether the failed one is in it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redb::{
    Builder, Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition, TableError,
};

use crate::store::contain::contained;
use crate::store::disk::{Disk, Medium};
use crate::store::{Batch, Store, StoreError};

const ROWS: TableDefinition<&str, &[u8]> = TableDefinition::new("rows");
/// What the store keeps about itself.
const OWN: TableDefinition<&str, u64> = TableDefinition::new("store");
/// In [`OWN`]: number of the last commit.
const COMMITS: &str = "commits";
/// Page cache: the store is read once and then written row by row, so a few hot pages do.
const CACHE_BYTES: usize = 8 << 20;

/// Keeps rows in a redb file.
#[derive(Debug)]
pub struct RedbStore {
    path: PathBuf,
    medium: Medium,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// `None` after a failure, until it could be opened again.
    database: Option<Database>,
    /// Number of the last commit known to be on disk.
    commits: u64,
    /// Takes back a commit that is on disk although it was said to have failed. Goes with the next one.
    undo: Batch,
    /// Takes back a commit of which it is not known yet whether it is on disk.
    doubt: Option<Batch>,
}

impl RedbStore {
    /// Opens the file at `path`, or creates it, readable by the user of the process alone. Every page of it is checked.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let store = Self::on(path, Medium(Arc::new(Disk::open(path)?)))?;
        sync_directory(path)?;
        Ok(store)
    }

    /// On any medium; `path` is what errors name.
    pub(crate) fn on(path: &Path, medium: Medium) -> Result<Self, StoreError> {
        let state = State { database: None, commits: 0, undo: Batch::default(), doubt: None };
        let store = Self { path: path.to_owned(), medium, state: Mutex::new(state) };
        let (database, commits) = store.reopen()?;
        {
            let mut state = store.lock();
            (state.database, state.commits) = (Some(database), commits);
        }
        // Makes the tables, so that a read never finds one missing.
        store.commit(&Batch::default())?;
        Ok(store)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The database, and the number of its last commit.
    fn reopen(&self) -> Result<(Database, u64), StoreError> {
        let opened = contained(|| -> Result<_, redb::Error> {
            let mut builder = Builder::new();
            builder.set_cache_size(CACHE_BYTES).set_check_integrity_on_open(true);
            let database = builder.create_with_backend(self.medium.clone())?;
            let commits = match database.begin_read()?.open_table(OWN) {
                Ok(table) => table.get(COMMITS)?.map_or(0, |number| number.value()),
                Err(TableError::TableDoesNotExist(_)) => 0,
                Err(error) => return Err(error.into()),
            };
            Ok((database, commits))
        });
        self.told(opened)
    }

    /// The database in use, opened again if it failed before.
    fn settle<'a>(&self, state: &'a mut State) -> Result<&'a Database, StoreError> {
        let database = match state.database.take() {
            Some(database) => database,
            None => {
                let (database, commits) = self.reopen()?;
                match state.doubt.take() {
                    _ if commits == state.commits => {}
                    Some(undo) if commits == state.commits + 1 => {
                        (state.commits, state.undo) = (commits, undo)
                    }
                    doubt => {
                        state.doubt = doubt;
                        let reason =
                            format!("commit {} is gone; {commits} is the last there is", state.commits);
                        return Err(StoreError::damaged(&self.path, reason));
                    }
                }
                database
            }
        };
        Ok(state.database.insert(database))
    }

    /// One row.
    pub(crate) fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.look(|rows| Ok(rows.get(key)?.map(|value| value.value().to_vec())))
    }

    /// Whether there is a row whose key begins with this.
    pub(crate) fn has_some(&self, prefix: &str) -> Result<bool, StoreError> {
        self.look(|rows| {
            let first = rows.range(prefix..)?.next().transpose()?;
            Ok(first.is_some_and(|(key, _)| key.value().starts_with(prefix)))
        })
    }

    /// Looks at rows as they are on disk, which is to be asked of a store that was only just opened.
    fn look<T>(
        &self,
        what: impl FnOnce(redb::ReadOnlyTable<&'static str, &'static [u8]>) -> Result<T, redb::Error>,
    ) -> Result<T, StoreError> {
        let mut state = self.lock();
        let database = self.settle(&mut state)?;
        self.told(contained(|| what(database.begin_read()?.open_table(ROWS)?)))
    }

    /// Gives the database up after a failure.
    fn give_up(state: &mut State) {
        let database = state.database.take();
        // What it could not write it cannot write now either.
        let _ = contained(move || drop(database));
    }

    /// An outcome of the library in our words.
    fn told<T>(&self, outcome: Result<Result<T, redb::Error>, String>) -> Result<T, StoreError> {
        match outcome {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(redb::Error::DatabaseAlreadyOpen)) => Err(StoreError::InUse(self.path.clone())),
            Ok(Err(redb::Error::Io(error))) if is_of_the_disk(&error) => {
                Err(StoreError::Disk { path: self.path.clone(), reason: error.to_string() })
            }
            Ok(Err(error)) => Err(StoreError::damaged(&self.path, error)),
            Err(panic) => Err(StoreError::damaged(&self.path, panic)),
        }
    }
}

/// Whether the disk refused, rather than held what is no database.
fn is_of_the_disk(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidData, UnexpectedEof};
    !matches!(error.kind(), InvalidData | UnexpectedEof)
}

impl Store for RedbStore {
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut state = self.lock();
        let database = self.settle(&mut state)?;
        let read = contained(|| -> Result<_, redb::Error> {
            let table = database.begin_read()?.open_table(ROWS)?;
            let mut rows = std::collections::BTreeMap::new();
            for row in table.iter()? {
                let (key, value) = row?;
                rows.insert(key.value().to_owned(), value.value().to_vec());
            }
            Ok(rows)
        });
        let read = self.told(read);
        if read.is_err() {
            Self::give_up(&mut state);
        }
        let mut rows = read?;
        state.undo.apply_to(&mut rows);
        Ok(rows.into_iter().collect())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut state = self.lock();
        self.settle(&mut state)?;
        let number = state.commits + 1;
        let mut before = Batch::default();
        let written = match &state.database {
            Some(database) => contained(|| write(database, number, &state.undo, batch, &mut before)),
            None => Err("it is not open".to_owned()),
        };
        let written = self.told(written);
        if let Err(failure) = written {
            Self::give_up(&mut state);
            state.doubt = Some(before);
            // If this fails as well, the next write finds out.
            let settled = self.settle(&mut state).is_ok();
            if !(settled && state.commits == number) {
                return Err(failure);
            }
        }
        // It is on disk, be it that only the word of it was lost.
        (state.commits, state.undo) = (number, Batch::default());
        Ok(())
    }
}

/// One commit. What the rows of `batch` were is noted in `before`.
fn write(
    database: &Database,
    number: u64,
    undo: &Batch,
    batch: &Batch,
    before: &mut Batch,
) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    // With one phase a damaged page of the last commit could not be told from a crash within it, and that commit would be
    // taken back without a word.
    transaction.set_two_phase_commit(true);
    {
        let mut table = transaction.open_table(ROWS)?;
        for (key, value) in undo.rows() {
            put(&mut table, key, value)?;
        }
        for (key, value) in batch.rows() {
            match put(&mut table, key, value)? {
                Some(old) => before.put(key, old),
                None => before.delete(key),
            }
        }
        transaction.open_table(OWN)?.insert(COMMITS, number)?;
    }
    transaction.commit()?;
    Ok(())
}

/// Writes or removes a row; what it was.
fn put(
    table: &mut redb::Table<'_, &'static str, &'static [u8]>,
    key: &str,
    value: Option<&[u8]>,
) -> Result<Option<Vec<u8>>, redb::Error> {
    let old = match value {
        Some(value) => table.insert(key, value)?,
        None => table.remove(key)?,
    };
    Ok(old.map(|old| old.value().to_vec()))
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
