//! Network namespaces.
#![allow(unsafe_code)]

use std::fs::{File, Metadata};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::thread;

/// Runs `work` inside a network namespace, on a thread of its own that then ends: a namespace belongs to a thread, and
/// no other must ever find itself in it. What `work` opens stays in that namespace.
///
/// `netns` is a name as in `/run/netns` or a path; without one `work` runs where we are. One that names where we are is
/// refused: it was meant to keep the tenant apart from the node, and in transport mode the tunnel's own packets would
/// meet the tenant's routes.
pub(crate) fn within<T: Send, E: From<io::Error> + Send>(
    netns: Option<&str>,
    work: impl FnOnce() -> Result<T, E> + Send,
) -> Result<T, E> {
    let Some(netns) = netns else { return work() };
    let namespace = File::open(path(netns))?;
    if is_ours(&namespace)? {
        let text = "it is the node's own, expected another one; leave netns empty to stay with the node";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text).into());
    }
    thread::scope(|scope| {
        let worker = scope.spawn(move || {
            enter(&namespace)?;
            work()
        });
        worker.join().unwrap_or_else(|_| Err(io::Error::other("thread in the namespace failed").into()))
    })
}

/// A network namespace, by the file that stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct NamespaceId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

impl From<Metadata> for NamespaceId {
    fn from(file: Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino() }
    }
}

/// The namespace of the calling thread.
pub(crate) fn current() -> io::Result<NamespaceId> {
    std::fs::metadata("/proc/thread-self/ns/net").map(NamespaceId::from)
}

/// The namespace that a name, or a path, stands for at the moment.
pub(crate) fn named(netns: &str) -> io::Result<NamespaceId> {
    std::fs::metadata(path(netns)).map(NamespaceId::from)
}

fn path(netns: &str) -> PathBuf {
    if netns.contains('/') { PathBuf::from(netns) } else { PathBuf::from("/run/netns").join(netns) }
}

fn is_ours(namespace: &File) -> io::Result<bool> {
    Ok(NamespaceId::from(namespace.metadata()?) == current()?)
}

fn enter(namespace: &File) -> io::Result<()> {
    // SAFETY: a call with integers only; it changes the calling thread alone.
    let result = unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNET) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_namespace_of_the_node_itself_is_refused() {
        let outcome = within(Some("/proc/self/ns/net"), || Ok::<_, io::Error>(()));
        assert!(outcome.unwrap_err().to_string().contains("node's own"));
        assert!(within(Some("/proc/self/ns/uts"), || Ok::<_, io::Error>(())).is_err());
        assert!(within(None, || Ok::<_, io::Error>(())).is_ok());
    }
}
