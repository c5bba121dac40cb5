//! Who is heard and who is silent, as far as it can be said without a network.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Between heartbeats.
pub const BEAT: Duration = Duration::from_millis(100);
/// Without anything for as long a node is silent: three heartbeats may be lost.
pub const SILENT: Duration = Duration::from_millis(400);
/// A process that is woken as late has not run, or not been given a processor: what others have sent meanwhile is still to be read.
const LATE: Duration = BEAT;

/// How it stands with a node that has been connected with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Nothing came for [`SILENT`], or it says that it does not hear us.
    pub silent: bool,
    /// Since when it is so.
    pub since: Instant,
    /// Its process: one that was started again is another.
    pub instance: Vec<u8>,
}

/// All of them, by name.
pub type Standings = BTreeMap<String, Standing>;

/// When a node was heard last, in microseconds of [`Hearing`]'s time.
#[derive(Debug, Default)]
pub(super) struct Heard(AtomicU64);

/// Pauses that are kept: whoever was not heard through as many is silent without them.
const PAUSES: usize = 64;

/// Tells time to those who hear.
#[derive(Debug)]
pub(super) struct Hearing {
    start: Instant,
    /// The last times in which the process did not run, in microseconds: from when it was to be woken to when it was.
    pauses: Mutex<VecDeque<(u64, u64)>>,
}

impl Hearing {
    pub(super) fn new(now: Instant) -> Self {
        Self { start: now, pauses: Mutex::default() }
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    fn pauses(&self) -> MutexGuard<'_, VecDeque<(u64, u64)>> {
        self.pauses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something came.
    pub(super) fn hear(&self, heard: &Heard, now: Instant) {
        heard.0.fetch_max(self.micros(now), Ordering::Relaxed);
    }

    /// We are woken, and have wanted to be at `due`.
    pub(super) fn woken(&self, due: Instant, now: Instant) {
        if now > due + LATE {
            let mut pauses = self.pauses();
            if pauses.len() == PAUSES {
                pauses.pop_front();
            }
            pauses.push_back((self.micros(due), self.micros(now)));
        }
    }

    /// How long nothing came while we have been there to hear it.
    pub(super) fn silence(&self, heard: &Heard, now: Instant) -> Duration {
        Duration::from_micros(self.micros(now).saturating_sub(self.from(heard)))
    }

    /// When the node is silent if nothing comes until then.
    pub(super) fn silent_at(&self, heard: &Heard) -> Instant {
        self.start + Duration::from_micros(self.from(heard)) + SILENT
    }

    /// Since when nothing came, had we been there all the time. After a pause a node is given its time anew, as what it has sent meanwhile is still
    /// to be read, but only once: pauses that come again and again are no reason not to find anybody silent any more.
    fn from(&self, heard: &Heard) -> u64 {
        let heard = heard.0.load(Ordering::Relaxed);
        let pauses = self.pauses();
        let Some((_, awake)) = pauses.back().copied().filter(|(_, awake)| *awake > heard) else {
            return heard;
        };
        let since = pauses.iter().filter(|(_, to)| *to > heard);
        let paused: u64 = since.map(|(from, to)| to.saturating_sub(*from.max(&heard))).sum();
        let anew = u64::try_from(SILENT.as_micros()).unwrap_or(u64::MAX);
        awake.min(heard + paused + anew)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_what_passes_while_we_listen() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let (hearing, heard) = (Hearing::new(start), Heard::default());
        hearing.hear(&heard, at(1_000));
        assert_eq!(hearing.silence(&heard, at(1_300)), Duration::from_millis(300));
        assert_eq!(hearing.silent_at(&heard), at(1_400));
        hearing.hear(&heard, at(900));
        assert_eq!(hearing.silent_at(&heard), at(1_400), "what is read late takes nothing back");
        // A wake-up that is a little late is none.
        hearing.woken(at(1_350), at(1_449));
        assert_eq!(hearing.silent_at(&heard), at(1_400));
        // We were stopped for ten seconds: the other is given its time anew.
        hearing.woken(at(1_400), at(11_400));
        assert_eq!(hearing.silence(&heard, at(11_500)), Duration::from_millis(100));
        assert_eq!(hearing.silent_at(&heard), at(11_800));
    }

    #[test]
    fn who_is_late_again_and_again_finds_others_silent_all_the_same() {
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        // Throttled now and then, or late each time.
        for (every, late) in [(360, 110), (210, 110), (201, 101), (2_100, 2_000)] {
            let (hearing, heard) = (Hearing::new(start), Heard::default());
            let mut now = 0;
            let ran = every - late;
            while hearing.silence(&heard, at(now)) < SILENT {
                assert!(now / every * ran <= 2 * 400 + ran, "{every} {late}: not silent after {now} ms");
                now += every;
                hearing.woken(at(now - late), at(now));
            }
            assert!(now / every * ran >= 400, "{every} {late}: silent after {now} ms");
        }
        // What was read before the pause was noticed counts from when it was read.
        let (hearing, heard) = (Hearing::new(start), Heard::default());
        hearing.hear(&heard, at(9_990));
        hearing.woken(at(100), at(10_000));
        assert_eq!(hearing.silent_at(&heard), at(10_400));
    }
}
