//! What a process on this host uses, as the kernel tells it under `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::time::Duration;

/// A process that is watched.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Process(u32);

/// Processor time of its threads. Threads come and go, so those of two moments are compared one by one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Usage(BTreeMap<u64, u64>);

impl Process {
    /// # Errors
    /// If there is none of this number that may be looked at.
    pub(crate) fn find(pid: u32) -> io::Result<Self> {
        let this = Self(pid);
        this.resident().map(|_| this)
    }

    /// What its threads have used until now.
    pub(crate) fn usage(self) -> io::Result<Usage> {
        let mut usage = BTreeMap::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.0))? {
            let task = task?;
            // One that has ended since it was listed has nothing to read.
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let id = task.file_name().to_string_lossy().parse();
            let nanos = text.split_whitespace().next().map(str::parse);
            if let (Ok(id), Some(Ok(nanos))) = (id, nanos) {
                usage.insert(id, nanos);
            }
        }
        Ok(Usage(usage))
    }

    /// Octets of its resident set.
    pub(crate) fn resident(self) -> io::Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other(format!("process {} has no memory", self.0)))
    }
}

impl Usage {
    /// What was used since `before` by the threads that are there still.
    pub(crate) fn since(&self, before: &Self) -> Duration {
        let used = |(id, now): (&u64, &u64)| now.saturating_sub(before.0.get(id).copied().unwrap_or(0));
        Duration::from_nanos(self.0.iter().map(used).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_something() {
        let own = Process::find(std::process::id()).expect("it is there");
        assert!(own.resident().expect("it has memory") > 100_000);
        let before = own.usage().expect("it has threads");
        assert!(!before.0.is_empty());
        let after = own.usage().expect("it has threads");
        assert!(after.since(&before) < Duration::from_secs(5));
    }

    #[test]
    fn a_process_that_is_not_there_is_none() {
        assert!(Process::find(u32::MAX).is_err());
    }
}
