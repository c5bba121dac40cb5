//! Which tunnels were up when the daemon was stopped. Stopping it deletes them, and the peers that had begun them may not know
//! that they have to begin again: the next start calls back those that have an address.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use tenants::PeerName;

/// In the state directory.
const FILE: &str = "tunnels-up";

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Notes the peers that were up.
///
/// # Errors
/// What the disk says.
pub fn save(state_dir: &Path, up: &[PeerName]) -> io::Result<()> {
    let lines: String = up.iter().map(|name| format!("{name}\n")).collect();
    std::fs::write(path(state_dir), lines)
}

/// The peers that were noted last; once. What cannot be read is as good as nothing: peers are then not called back, as after a
/// crash.
pub fn take(state_dir: &Path) -> HashSet<PeerName> {
    let path = path(state_dir);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return HashSet::new(),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "tunnels that were up before are not called back");
            return HashSet::new();
        }
    };
    if let Err(error) = std::fs::remove_file(&path) {
        tracing::warn!(file = %path.display(), %error, "cannot remove it; its peers will be called back again");
    }
    // Names of peers that are gone by now do no harm.
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_up_is_called_back_once() {
        let directory = tempfile::tempdir().unwrap();
        assert!(take(directory.path()).is_empty());
        let up: Vec<PeerName> =
            vec!["tenants/a/peers/b".parse().unwrap(), "tenants/c/peers/d".parse().unwrap()];
        save(directory.path(), &up).unwrap();
        assert_eq!(take(directory.path()), up.into_iter().collect());
        assert!(take(directory.path()).is_empty());
        std::fs::write(path(directory.path()), b"rubbish\ntenants/a/peers/b\n").unwrap();
        assert_eq!(take(directory.path()).len(), 1);
    }
}
