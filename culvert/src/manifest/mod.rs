//! What there shall be, as people write it down: read from files, and compared with what there is.
//!
//! `culvert apply` and `delete` read manifests, and so does the daemon when it starts with `bootstrap.file`. Sending them to a
//! node is not done here.

mod diff;
mod read;
mod wanted;

pub(crate) use diff::changes;
pub(crate) use read::{read_all, read_names};
pub(crate) use wanted::Manifest;
