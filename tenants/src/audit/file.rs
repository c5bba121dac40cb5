//! The files of the audit log: `audit.jsonl` is added to, `audit-NUMBER.jsonl` are those before, named by the greatest number of an entry in
//! them. Lines are mostly in the order of their numbers. That of a change comes late where another was faster, and much later where the disk
//! took none for a while, so a file may have lower numbers than one before it.

use std::cmp::Reverse;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use culvert_proto::{message_descriptor, v1};
use prost::Message as _;
use prost_reflect::DynamicMessage;

use crate::audit::AuditLimits;
use crate::store::StoreError;

/// The file that is added to.
const CURRENT: &str = "audit.jsonl";

#[derive(Debug)]
pub(crate) struct LogFiles {
    folder: PathBuf,
    limits: AuditLimits,
    file: Arc<File>,
    size: u64,
    /// The greatest number of an entry in the file.
    greatest: u64,
    /// Lines that were added since the start, and those of them that are on disk for sure.
    lines: u64,
    on_disk: u64,
}

impl LogFiles {
    pub(crate) fn open(folder: &Path, limits: AuditLimits) -> Result<Self, StoreError> {
        let created = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
        created.map_err(|error| StoreError::file(folder, error))?;
        let path = folder.join(CURRENT);
        let (file, size) = begin(&path)?;
        let greatest = entries(&path, None)?.iter().map(|entry| entry.sequence).max().unwrap_or_default();
        let (folder, file) = (folder.to_owned(), Arc::new(file));
        Ok(Self { folder, limits, file, size, greatest, lines: 0, on_disk: 0 })
    }

    /// Adds a line. True if a new file was begun for it, the one before being on disk for sure.
    pub(crate) fn append(&mut self, entry: &v1::AuditEntry) -> Result<bool, StoreError> {
        let path = self.folder.join(CURRENT);
        let fail = |error: std::io::Error| StoreError::file(&path, error);
        let mut line = to_line(entry).map_err(|reason| StoreError::file(&path, reason))?;
        line.push('\n');
        let rotate = self.size > 0 && self.size + line.len() as u64 > self.limits.max_bytes;
        if rotate {
            self.rotate()?;
        }
        if let Err(error) = (&*self.file).write_all(line.as_bytes()) {
            // What there is of the line goes, or the next one would be added to it.
            let _ = self.file.set_len(self.size);
            return Err(fail(error));
        }
        self.size += line.len() as u64;
        self.greatest = self.greatest.max(entry.sequence);
        self.lines += 1;
        Ok(rotate)
    }

    /// Returns when all lines are on disk.
    pub(crate) fn sync(&mut self) -> Result<(), StoreError> {
        self.file.sync_data().map_err(|error| StoreError::file(self.folder.join(CURRENT), error))?;
        self.on_disk = self.lines;
        Ok(())
    }

    /// Lines so far.
    pub(crate) const fn lines(&self) -> u64 {
        self.lines
    }

    /// The file that is to be synced so that the first `lines` of all lines are on disk, and how many will be then; `None` if they are.
    pub(crate) fn unsynced(&self, lines: u64) -> Option<(Arc<File>, u64)> {
        (self.on_disk < lines).then(|| (Arc::clone(&self.file), self.lines))
    }

    /// So many lines are on disk: their file was synced.
    pub(crate) fn synced(&mut self, lines: u64) {
        self.on_disk = self.on_disk.max(lines);
    }

    fn rotate(&mut self) -> Result<(), StoreError> {
        self.sync()?;
        let current = self.folder.join(CURRENT);
        let old = self.folder.join(format!("audit-{:020}.jsonl", self.greatest));
        match fs::rename(&current, &old) {
            // The last rotation came this far, and then there was no room for a new file, or no descriptor.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            renamed => renamed.map_err(|error| StoreError::file(&current, error))?,
        }
        let (file, size) = begin(&current)?;
        (self.file, self.size, self.greatest) = (Arc::new(file), size, 0);
        if let Ok(folder) = File::open(&self.folder) {
            // The names; the lines are safe without.
            let _ = folder.sync_all();
        }
        let older = self.older()?;
        let surplus = (older.len() + 1).saturating_sub(self.limits.keep.max(1));
        for (_, path) in older.iter().take(surplus) {
            fs::remove_file(path).map_err(|error| StoreError::file(path, error))?;
        }
        Ok(())
    }

    /// The files before the current one with their greatest numbers, the lowest first.
    fn older(&self) -> Result<Vec<(u64, PathBuf)>, StoreError> {
        let fail = |error: std::io::Error| StoreError::file(&self.folder, error);
        let mut older = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fail)? {
            let path = entry.map_err(fail)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number = name.strip_prefix("audit-").and_then(|name| name.strip_suffix(".jsonl"));
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                older.push((number, path));
            }
        }
        older.sort();
        Ok(older)
    }

    /// All files with their greatest numbers, the greatest first.
    pub(crate) fn greatest_first(&self) -> Result<Vec<(u64, PathBuf)>, StoreError> {
        let mut all = self.older()?;
        all.push((self.greatest, self.folder.join(CURRENT)));
        all.sort_by_key(|(greatest, _)| Reverse(*greatest));
        Ok(all)
    }

    /// The greatest number of an entry.
    pub(crate) fn last(&self) -> Result<u64, StoreError> {
        Ok(self.greatest_first()?.first().map_or(0, |(greatest, _)| *greatest))
    }

    /// Which of these entries are there. They are among the last ones about changes, but after those there may be many that are not, so
    /// it is searched until all are found, or what is older than all of them.
    pub(crate) fn sequences_among(&self, wanted: &HashSet<u64>) -> Result<HashSet<u64>, StoreError> {
        let mut found = HashSet::new();
        let Some(lowest) = wanted.iter().min() else { return Ok(found) };
        for (_, path) in self.greatest_first()?.iter().take_while(|(greatest, _)| greatest >= lowest) {
            let there = entries(path, None)?.into_iter().map(|entry| entry.sequence);
            found.extend(there.filter(|number| wanted.contains(number)));
            if found.len() == wanted.len() {
                break;
            }
        }
        Ok(found)
    }
}

/// Opens a file to add to. What follows its last whole line is of a write that was cut off, and goes.
fn begin(path: &Path) -> Result<(File, u64), StoreError> {
    let fail = |error: std::io::Error| StoreError::file(path, error);
    let mut file =
        OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(fail)?;
    let size = file.metadata().map_err(fail)?.len();
    let whole = whole_lines(&mut file, size).map_err(fail)?;
    if whole < size {
        tracing::warn!(path = %path.display(), octets = size - whole, "the last line of the audit log was cut off");
        file.set_len(whole).map_err(fail)?;
    }
    Ok((file, whole))
}

/// Octets up to the end of the last whole line.
fn whole_lines(file: &mut File, size: u64) -> std::io::Result<u64> {
    const STEP: u64 = 64 << 10;
    let mut end = size;
    while end > 0 {
        let start = end.saturating_sub(STEP);
        file.seek(SeekFrom::Start(start))?;
        let mut part = Vec::new();
        (&*file).take(end - start).read_to_end(&mut part)?;
        if let Some(at) = part.iter().rposition(|octet| *octet == b'\n') {
            return Ok(start + at as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// The entries of a file, in its order; with a `mark` those alone that have this text somewhere. A line that is none is left out, and told.
pub(crate) fn entries(path: &Path, mark: Option<&str>) -> Result<Vec<v1::AuditEntry>, StoreError> {
    let file = match File::open(path) {
        Ok(file) => file,
        // Removed since it was listed.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(StoreError::file(path, error)),
    };
    let mut entries = Vec::new();
    for line in BufReader::new(file).lines() {
        let line = line.map_err(|error| StoreError::file(path, error))?;
        // To look for it takes a hundredth of what it takes to read an entry.
        if mark.is_some_and(|mark| !line.contains(mark)) {
            continue;
        }
        match of_line(&line) {
            Some(entry) => entries.push(entry),
            None => tracing::warn!(path = %path.display(), "a line of the audit log is no entry"),
        }
    }
    Ok(entries)
}

/// In JSON, as the API has it: a line of the file.
///
/// # Errors
/// None, of messages that are of this build.
pub fn to_line(entry: &v1::AuditEntry) -> Result<String, String> {
    let descriptor = message_descriptor("AuditEntry").ok_or("no descriptor")?;
    let message = DynamicMessage::decode(descriptor, entry.encode_to_vec().as_slice());
    serde_json::to_string(&message.map_err(|error| error.to_string())?).map_err(|error| error.to_string())
}

fn of_line(line: &str) -> Option<v1::AuditEntry> {
    let descriptor = message_descriptor("AuditEntry")?;
    let mut json = serde_json::Deserializer::from_str(line);
    let message = DynamicMessage::deserialize(descriptor, &mut json).ok()?;
    message.transcode_to().ok()
}
