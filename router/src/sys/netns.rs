//! Network namespaces.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread;

/// Runs `work` inside a network namespace, on a thread of its own that then ends: a namespace belongs to a thread, and
/// no other must ever find itself in it. What `work` opens stays in that namespace.
///
/// `netns` is a name as in `/run/netns` or a path; without one `work` runs where we are.
pub(crate) fn within<T: Send, E: From<io::Error> + Send>(
    netns: Option<&str>,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    let Some(netns) = netns else { return work() };
    let namespace = File::open(path(netns))?;
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            enter(&namespace)?;
            work()
        });
        worker.join().unwrap_or_else(|_| Err(io::Error::other("thread in the namespace failed").into()))
    })
}

fn path(netns: &str) -> PathBuf {
    if netns.contains('/') { PathBuf::from(netns) } else { PathBuf::from("/run/netns").join(netns) }
}

fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: a call with integers only; it changes the calling thread alone.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
