//! What a database file is kept on: octets that can be read and written at an offset.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use redb::StorageBackend;

use crate::store::StoreError;

/// Octets at offsets.
pub(crate) trait Octets: std::fmt::Debug + Send + Sync + 'static {
    /// How many there are.
    fn len(&self) -> io::Result<u64>;
    /// Fills `out` from `offset` on.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
    /// Cuts, or adds zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes what was written durable.
    fn sync(&self) -> io::Result<()>;
    /// Writes from `offset` on.
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()>;
}

/// Octets that a database can be opened on again: a failed write makes the library refuse all that follow.
#[derive(Clone, Debug)]
pub(crate) struct Medium(pub(crate) Arc<dyn Octets>);

impl StorageBackend for Medium {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write(offset, data)
    }
}

/// A file that is locked as long as this is there, whether or not a database is open on it.
#[derive(Debug)]
pub(crate) struct Disk(File);

impl Disk {
    /// Opens the file at `path`, or creates it, readable by the user of the process alone.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path);
        let file = file.map_err(|error| StoreError::file(path, error))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(StoreError::file(path, error)),
        }
    }
}

impl Octets for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_all_at(data, offset)
    }
}

/// A copy of a file in memory, on which a database can be opened, and repaired, without changing the file.
#[derive(Debug, Default)]
pub(crate) struct Image(Mutex<Vec<u8>>);

impl Image {
    pub(crate) fn new(octets: Vec<u8>) -> Self {
        Self(Mutex::new(octets))
    }

    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The places of an image that an offset and a length mean.
fn places(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(io::Error::other)?;
    let end = start.checked_add(length).ok_or_else(|| io::Error::other("beyond what memory can hold"))?;
    Ok(start..end)
}

impl Octets for Image {
    fn len(&self) -> io::Result<u64> {
        Ok(self.with(|octets| octets.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let places = places(offset, out.len())?;
        self.with(|octets| match octets.get(places) {
            Some(found) => {
                out.copy_from_slice(found);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let end = places(len, 0)?.end;
        self.with(|octets| octets.resize(end, 0));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let places = places(offset, data.len())?;
        self.with(|octets| {
            if octets.len() < places.end {
                octets.resize(places.end, 0);
            }
            if let Some(found) = octets.get_mut(places) {
                found.copy_from_slice(data);
            }
        });
        Ok(())
    }
}
