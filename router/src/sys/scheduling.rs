//! When a thread that is woken has a processor.
#![allow(unsafe_code)]

use std::io;

use libc::{SCHED_BATCH, sched_param, sched_setscheduler};

/// Has the calling thread wait for its turn when it is woken and every processor is busy, in place of interrupting who runs, and all threads
/// that it starts from then on. Needs no privilege (sched(7)).
pub(crate) fn wait_for_turn() -> io::Result<()> {
    let parameters = sched_param { sched_priority: 0 };
    // SAFETY: `parameters` outlives the call, which reads it alone.
    match unsafe { sched_setscheduler(THIS_THREAD, SCHED_BATCH, &raw const parameters) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the calling thread does so.
#[cfg(test)]
pub(crate) fn waits() -> bool {
    // SAFETY: takes a number alone.
    let policy = unsafe { libc::sched_getscheduler(THIS_THREAD) };
    policy == SCHED_BATCH
}

const THIS_THREAD: libc::pid_t = 0;
