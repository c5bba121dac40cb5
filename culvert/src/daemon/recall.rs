//! Which tunnels were up when the daemon was stopped. Stopping it deletes them, and the peers that had begun them may not know
//! that they have to begin again: the next start that comes to something calls back those that have an address.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use tenants::PeerName;

/// In the state directory.
const FILE: &str = "tunnels-up";
/// What becomes of it once it is whole.
const DRAFT: &str = "tunnels-up.new";

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Notes the peers that were up. What was noted before stays if that fails.
///
/// # Errors
/// What the disk says.
pub fn save(state_dir: &Path, up: &[PeerName]) -> io::Result<()> {
    let lines: String = up.iter().map(|name| format!("{name}\n")).collect();
    let draft = state_dir.join(DRAFT);
    let mut file = File::create(&draft)?;
    file.write_all(lines.as_bytes())?;
    file.sync_all()?;
    fs::rename(&draft, path(state_dir))
}

/// The peers that were noted last. What cannot be read is as good as nothing: peers are then not called back, as after a crash.
pub fn read(state_dir: &Path) -> HashSet<PeerName> {
    let path = path(state_dir);
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return HashSet::new(),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "tunnels that were up before are not called back");
            return HashSet::new();
        }
    };
    // Names of peers that are gone by now do no harm.
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// They are being called back, or noted anew when the daemon is stopped.
pub fn forget(state_dir: &Path) {
    let path = path(state_dir);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(file = %path.display(), %error, "cannot remove it; its peers will be called back again");
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_up_is_noted_until_it_is_called_back() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        assert!(read(directory).is_empty());
        let up: Vec<PeerName> =
            vec!["tenants/a/peers/b".parse().unwrap(), "tenants/c/peers/d".parse().unwrap()];
        save(directory, &up).unwrap();
        // A start that comes to nothing reads it too.
        for _ in 0..2 {
            assert_eq!(read(directory), up.iter().cloned().collect());
        }
        forget(directory);
        assert!(read(directory).is_empty());
        forget(directory);
        fs::write(path(directory), b"rubbish\ntenants/a/peers/b\n").unwrap();
        assert_eq!(read(directory).len(), 1);
    }

    #[test]
    fn a_disk_that_takes_nothing_leaves_what_was_noted() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let up: Vec<PeerName> = vec!["tenants/a/peers/b".parse().unwrap()];
        save(directory, &up).unwrap();
        // Nothing can be written where a directory is.
        fs::create_dir(directory.join(DRAFT)).unwrap();
        assert!(save(directory, &[]).is_err());
        assert_eq!(read(directory).len(), 1);
    }
}
