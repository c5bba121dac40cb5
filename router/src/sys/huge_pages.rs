//! Whether the system may back the memory of this process with huge pages.
#![allow(unsafe_code)]

use std::io;

use libc::{c_int, c_ulong};

/// Lets the system do so from now on, or not. What is backed by them stays.
pub(crate) fn allow(allowed: bool) -> io::Result<()> {
    told(libc::PR_SET_THP_DISABLE, c_ulong::from(!allowed)).map(drop)
}

/// Whether it may.
#[cfg(test)]
pub(crate) fn allowed() -> io::Result<bool> {
    told(libc::PR_GET_THP_DISABLE, 0).map(|disabled| disabled == 0)
}

fn told(what: c_int, value: c_ulong) -> io::Result<c_int> {
    const UNUSED: c_ulong = 0;
    // SAFETY: both take numbers alone, and neither reads nor writes memory of ours.
    let answer = unsafe { libc::prctl(what, value, UNUSED, UNUSED, UNUSED) };
    if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(answer) }
}
