//! How long a slot goes without a standby that has refused it: all of it is told each time, and etcd is written to. And how long another one is
//! preferred to one that has it and fails again and again.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::UNFIT;
use super::record::Process;

/// From one try to find a standby for a slot that is larger than one keeps to the next, and twice as long each time.
const FIRST_TOO_LARGE: Duration = Duration::from_secs(10);
/// At most. Whoever was not refused for so long begins with the first again.
const LONGEST_TOO_LARGE: Duration = Duration::from_secs(600);
/// The same at most of one process that did not take all of it: it may be of another version, and then stays so. One that was only slow has
/// a slot again soon.
const LONGEST: Duration = Duration::from_secs(20);
/// How long others are preferred to one that failed again and again. Where it is this node that loses what it sends, they all do, and the slot is
/// told as a whole to one after the other no more often than that.
const UNSTEADY: Duration = Duration::from_secs(60);

/// Who rests, of one slot.
#[derive(Default)]
pub(super) struct Rests {
    /// By process; without one: all of them.
    of: BTreeMap<Option<Process>, Rest>,
    /// Who had it and failed again and again, and until when that counts.
    unsteady: BTreeMap<Process, Instant>,
}

#[derive(Clone, Copy)]
struct Rest {
    pause: Duration,
    until: Instant,
}

impl Rests {
    /// A process has refused the slot, or all would: how long it is not asked again, and whether it is the first time for long.
    pub(super) fn refused(&mut self, of: Option<Process>) -> (Duration, bool) {
        let (first, longest) =
            if of.is_some() { (UNFIT, LONGEST) } else { (FIRST_TOO_LARGE, LONGEST_TOO_LARGE) };
        let now = Instant::now();
        // Processes that were started anew are others.
        self.of.retain(|_, rest| now < rest.until + LONGEST_TOO_LARGE);
        let before = self.of.get(&of).filter(|rest| now < rest.until + longest).map(|rest| rest.pause);
        let pause = before.map_or(first, |pause| (pause * 2).min(longest));
        self.of.insert(of, Rest { pause, until: now + pause });
        (pause, before.is_none())
    }

    /// A process was the standby, and failed again and again.
    pub(super) fn is_unsteady(&mut self, process: Process) {
        let now = Instant::now();
        self.unsteady.retain(|_, until| now < *until);
        self.unsteady.insert(process, now + UNSTEADY);
    }

    /// Whether a process has not failed again and again of late.
    pub(super) fn is_steady(&self, process: &Process) -> bool {
        self.unsteady.get(process).is_none_or(|until| *until <= Instant::now())
    }

    /// A process has taken all of the slot.
    pub(super) fn taken(&mut self, process: &Process) {
        self.of.remove(&Some(process.clone()));
    }

    /// Whether a process is not asked now.
    pub(super) fn has(&self, process: &Process) -> bool {
        let now = Instant::now();
        let mut resting = self.of.iter().filter(|(_, rest)| now < rest.until);
        resting.any(|(of, _)| of.as_ref().is_none_or(|of| of == process))
    }
}
