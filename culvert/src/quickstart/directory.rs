//! Where a quickstart keeps what it needs while it runs.

use std::path::{Path, PathBuf};

/// A directory; a temporary one is removed in the end.
pub(crate) struct Directory {
    path: PathBuf,
    temporary: bool,
}

impl Directory {
    /// One that stays.
    pub(crate) const fn kept(path: PathBuf) -> Self {
        Self { path, temporary: false }
    }

    /// One of its own below that of the system, which is made by whoever writes there first.
    pub(crate) fn temporary() -> Self {
        let name = format!("culvert-quickstart-{}-{:08x}", std::process::id(), rand::random::<u32>());
        Self { path: std::env::temp_dir().join(name), temporary: true }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.temporary {
            // Nothing depends on it; the system clears its temporary files as well.
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}
