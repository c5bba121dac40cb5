//! What a process on this host uses, as the kernel tells it under `/proc`.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
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
    ///
    /// # Errors
    /// If it has gone, or the kernel does not say: that is no use of none.
    pub(crate) fn usage(self) -> io::Result<Usage> {
        let usage = Usage::of(Path::new(&format!("/proc/{}/task", self.0)))?;
        usage.ok_or_else(|| {
            let text = format!(
                "process {}: expected its processor time in /proc/{0}/task/*/schedstat, and there is none (a kernel without \
                 CONFIG_SCHED_INFO?)",
                self.0
            );
            io::Error::other(text)
        })
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
    /// Of the threads whose folders are in this one; nothing if of none of them it is known. A kernel that does not count has zeros.
    fn of(tasks: &Path) -> io::Result<Option<Self>> {
        let mut usage = BTreeMap::new();
        for task in fs::read_dir(tasks)? {
            let task = task?;
            // One that has ended since it was listed has nothing to read.
            let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
            let id = task.file_name().to_string_lossy().parse();
            let nanos = text.split_whitespace().next().map(str::parse);
            if let (Ok(id), Some(Ok(nanos))) = (id, nanos) {
                usage.insert(id, nanos);
            }
        }
        Ok(usage.values().any(|nanos| *nanos > 0).then_some(Self(usage)))
    }

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
    fn a_kernel_that_does_not_tell_processor_time_is_no_process_that_uses_none() {
        let tasks = std::env::temp_dir().join(format!("culvert-tasks-{:016x}", rand::random::<u64>()));
        let thread = |id: u64| {
            fs::create_dir_all(tasks.join(id.to_string())).expect("a folder");
            tasks.join(id.to_string()).join("schedstat")
        };
        let of = || Usage::of(&tasks).expect("a folder").map(|usage| usage.0);
        thread(1);
        assert_eq!(of(), None, "no file");
        fs::write(thread(1), "0 0 0\n").expect("a file");
        fs::write(thread(2), "0 0 0\n").expect("a file");
        assert_eq!(of(), None, "zeros alone");
        fs::write(thread(2), "70 5 1\n").expect("a file");
        assert_eq!(of(), Some(BTreeMap::from([(1, 0), (2, 70)])));
        fs::remove_dir_all(&tasks).expect("it is there");
    }

    #[test]
    fn a_process_that_is_not_there_is_none() {
        assert!(Process::find(u32::MAX).is_err());
    }
}
