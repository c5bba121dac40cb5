//! Who waits for whom when there are fewer processors than threads that have something to do.
//!
//! A message of IKE is a small piece of work for several threads. Where each is run as soon as it is woken, it interrupts the one before it
//! or a shard, does one piece and sleeps again: changing from one to the other is then a seventh of what a tunnel costs. A message may wait
//! some milliseconds, a packet may not.

use crate::sys::scheduling::wait_for_turn;

/// Has the calling thread interrupt no other when it is woken and every processor is busy: it finds more to do at once then. With a
/// processor that is free it runs as soon as ever. So do the threads that it starts from then on. For threads of the control plane.
pub fn take_turns() {
    if let Err(error) = wait_for_turn() {
        // A filter of system calls is in the way, and all works without.
        tracing::debug!(%error, "cannot have threads of IKE wait for their turn");
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::sys::scheduling::waits;

    #[test]
    fn a_thread_waits_that_is_told_to_with_those_that_it_starts() {
        let told = thread::spawn(|| {
            take_turns();
            // A filter of system calls may be in the way.
            (wait_for_turn().is_ok(), waits(), thread::spawn(waits).join().unwrap())
        });
        let (allowed, waits, inherited) = told.join().unwrap();
        assert_eq!((waits, inherited), (allowed, allowed));
    }
}
