//! The audit log: who did what over the API, one line of JSON each, in files that are only ever added to.
//!
//! An entry about a change of the catalog is written to the store with the change, in one transaction, and from there to the
//! file: whenever the process or the machine dies, whoever has been told that a change was made finds its entry. Rows leave
//! the store once the file is known to be on disk, a few at a time, so that a change costs no second wait for the disk.
//!
//! Who is given as an [`AuditSink`] learns of each entry once its line is written, and may send it elsewhere.
//!
//! `entry.rs` makes entries, `file.rs` writes them, `read.rs` lists them.

mod entry;
mod file;
mod read;
#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use culvert_proto::v1;
use prost::Message as _;

pub use entry::Deed;
pub(crate) use entry::of_change;
use file::LogFiles;
pub use file::to_line;

use crate::store::StoreError;

/// Name of the folder in the state directory.
pub const FOLDER: &str = "audit";

/// Entries in the store before their lines are made to stay on disk and their rows removed: so many changes share one wait for
/// the disk, and so many lines at most are written again after a crash.
const UNSETTLED: usize = 32;
/// The same in octets: in a cluster they lie in etcd, beside those of the other nodes.
const UNSETTLED_OCTETS: usize = 4 << 20;
/// Entries kept for when the disk takes lines again. Beyond, those of changes come back from the store at the next start, and
/// others are lost and counted.
const UNWRITTEN: usize = 1_024;
/// Entries of a catalog without a disk.
const IN_MEMORY: usize = 1_000;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditLimits {
    /// Octets of a file; then another is begun.
    pub max_bytes: u64,
    /// Files, the current one included; then the oldest goes.
    pub keep: usize,
}

impl Default for AuditLimits {
    /// 16 files of 16 MiB: at some 500 octets an entry, half a million of them.
    fn default() -> Self {
        Self { max_bytes: 16 << 20, keep: 16 }
    }
}

/// Learns of entries, in the order of their lines.
pub trait AuditSink: fmt::Debug + Send + Sync {
    /// The line of this one is written. Must not wait for anything: who changes the catalog does until this returns.
    fn written(&self, entry: &v1::AuditEntry);
}

/// The audit log of a node.
#[derive(Debug)]
pub struct AuditLog {
    next: AtomicU64,
    lost: AtomicU64,
    state: Mutex<State>,
    /// Held by who waits for the disk. Before the state, where both are.
    syncing: Mutex<()>,
}

#[derive(Debug)]
struct State {
    kept: Kept,
    /// Not in the file yet, since the disk did not take them.
    unwritten: VecDeque<v1::AuditEntry>,
    /// In the file, and in the store too.
    unsettled: Vec<u64>,
    /// Octets of these.
    unsettled_octets: usize,
    /// On disk in the file for sure: their rows may go.
    settled: Vec<u64>,
    sink: Option<Arc<dyn AuditSink>>,
}

#[derive(Debug)]
enum Kept {
    Files(LogFiles),
    Memory(VecDeque<v1::AuditEntry>),
}

impl AuditLog {
    /// Of a catalog that lives as long as the process.
    pub(crate) fn in_memory() -> Self {
        Self::with(Kept::Memory(VecDeque::new()), 1, None)
    }

    /// Opens the log in `folder`, which is created if it is missing, and writes those entries of `stored`, which are in the
    /// store, that it lacks.
    pub(crate) fn open(
        folder: &Path,
        limits: AuditLimits,
        sink: Option<Arc<dyn AuditSink>>,
        stored: Vec<v1::AuditEntry>,
    ) -> Result<Self, StoreError> {
        let files = LogFiles::open(folder, limits)?;
        let wanted: HashSet<u64> = stored.iter().map(|entry| entry.sequence).collect();
        let there = files.sequences_among(&wanted)?;
        let last = files.last()?.max(wanted.iter().copied().max().unwrap_or_default());
        let log = Self::with(Kept::Files(files), last + 1, sink);
        {
            let mut state = log.lock();
            state.unsettled.extend(&there);
            let missing = stored.into_iter().filter(|entry| !there.contains(&entry.sequence));
            state.unwritten.extend(missing);
            state.write();
            state.settle();
        }
        Ok(log)
    }

    fn with(kept: Kept, next: u64, sink: Option<Arc<dyn AuditSink>>) -> Self {
        let (unwritten, unsettled, settled) = (VecDeque::new(), Vec::new(), Vec::new());
        let state = Mutex::new(State { kept, unwritten, unsettled, unsettled_octets: 0, settled, sink });
        Self { next: AtomicU64::new(next), lost: AtomicU64::new(0), state, syncing: Mutex::default() }
    }

    /// Entries that were lost because the disk did not take them.
    pub fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// Notes something that has not changed the catalog: an order to a tunnel, or what was refused. It is on disk when this
    /// returns if it was `done`; of what was refused nobody has a promise.
    pub fn note(&self, deed: Deed, done: bool) {
        let entry = deed.into_entry(self.number());
        let mut state = self.lock();
        if !state.push(entry) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        state.write();
        if done {
            let lines = state.lines();
            drop(state);
            self.keep(lines);
        }
    }

    /// Returns when so many lines are on disk, or cannot be. The disk is waited for once for all who wait meanwhile, and nobody who adds a
    /// line waits with them.
    fn keep(&self, lines: u64) {
        let _turn = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((file, all)) = self.lock().unsynced(lines) else { return };
        match file.sync_data() {
            Ok(()) => self.lock().synced(all),
            Err(error) => tracing::error!(%error, "the audit log cannot be written"),
        }
    }

    /// The number of an entry to come.
    pub(crate) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Sequences whose rows in the store may go. They are given away: see [`Self::not_removed`].
    pub(crate) fn take_settled(&self) -> Vec<u64> {
        std::mem::take(&mut self.lock().settled)
    }

    /// The rows of these sequences are still there.
    pub(crate) fn not_removed(&self, sequences: Vec<u64>) {
        self.lock().settled.extend(sequences);
    }

    /// An entry is in the store, with the change that it is about.
    pub(crate) fn stored(&self, entry: v1::AuditEntry) {
        let mut state = self.lock();
        // What finds no room is in the store, and in the file after the next start.
        state.push(entry);
        state.write();
        if state.unsettled.len() >= UNSETTLED || state.unsettled_octets >= UNSETTLED_OCTETS {
            state.settle();
        }
    }

    /// Whether there are lines about changes that may not stay on disk.
    pub(crate) fn has_unsettled(&self) -> bool {
        !self.lock().unsettled.is_empty()
    }

    /// Makes all lines stay on disk.
    pub fn sync(&self) {
        let mut state = self.lock();
        state.write();
        state.settle();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// False if there is no room.
    fn push(&mut self, entry: v1::AuditEntry) -> bool {
        let room = self.unwritten.len() < UNWRITTEN;
        if room {
            self.unwritten.push_back(entry);
        }
        room
    }

    /// Writes what waits, as far as the disk takes it.
    fn write(&mut self) {
        while let Some(entry) = self.unwritten.pop_front() {
            match &mut self.kept {
                Kept::Memory(entries) => {
                    if entries.len() == IN_MEMORY {
                        entries.pop_front();
                    }
                    self.settled.push(entry.sequence);
                    entries.push_back(entry);
                }
                Kept::Files(files) => match files.append(&entry) {
                    Ok(rotated) => {
                        if rotated {
                            // The file before was made to stay on disk when it was closed.
                            self.all_settled();
                        }
                        if entry.objects.iter().any(|object| !object.change.is_empty()) {
                            self.unsettled.push(entry.sequence);
                            self.unsettled_octets += entry.encoded_len();
                        }
                        if let Some(sink) = &self.sink {
                            sink.written(&entry);
                        }
                    }
                    Err(error) => {
                        tracing::error!(%error, "the audit log cannot be written; it is tried again with the next entry");
                        self.unwritten.push_front(entry);
                        return;
                    }
                },
            }
        }
    }

    const fn lines(&self) -> u64 {
        match &self.kept {
            Kept::Memory(_) => 0,
            Kept::Files(files) => files.lines(),
        }
    }

    fn unsynced(&self, lines: u64) -> Option<(Arc<File>, u64)> {
        match &self.kept {
            Kept::Memory(_) => None,
            Kept::Files(files) => files.unsynced(lines),
        }
    }

    fn synced(&mut self, lines: u64) {
        if let Kept::Files(files) = &mut self.kept {
            files.synced(lines);
        }
    }

    /// Whether all lines are on disk for sure.
    fn sync(&mut self) -> bool {
        let Kept::Files(files) = &mut self.kept else { return true };
        match files.sync() {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the audit log cannot be written");
                false
            }
        }
    }

    fn settle(&mut self) {
        if self.sync() {
            self.all_settled();
        }
    }

    fn all_settled(&mut self) {
        self.settled.append(&mut self.unsettled);
        self.unsettled_octets = 0;
    }
}
