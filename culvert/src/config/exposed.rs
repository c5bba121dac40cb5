//! Files with secrets that more can read than should.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// What the mode of a file with a secret should not have: as of `vault.key_file`, which the group may read where somebody else
/// keeps the file.
const EXPOSED: u32 = 0o027;

/// What to say of a file with a secret that others can read or change; nothing if it is as it should be, or not there.
pub(crate) fn exposed(path: &Path) -> Option<String> {
    let mode = std::fs::metadata(path).ok()?.permissions().mode() & 0o777;
    (mode & EXPOSED != 0).then(|| {
        format!(
            "{}: mode {mode:o} lets more than its owner and its group at it; chmod 440 it",
            path.display()
        )
    })
}
