//! Who is heard and who is silent, as far as it can be said without a network.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
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

/// Tells time to those who hear.
#[derive(Debug)]
pub(super) struct Hearing {
    start: Instant,
    /// When the process began to run after it had not for a while.
    awake: AtomicU64,
}

impl Hearing {
    pub(super) fn new(now: Instant) -> Self {
        Self { start: now, awake: AtomicU64::new(0) }
    }

    fn micros(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_micros()).unwrap_or(u64::MAX)
    }

    /// Something came.
    pub(super) fn hear(&self, heard: &Heard, now: Instant) {
        heard.0.fetch_max(self.micros(now), Ordering::Relaxed);
    }

    /// We are woken, and have wanted to be at `due`.
    pub(super) fn woken(&self, due: Instant, now: Instant) {
        if now > due + LATE {
            self.awake.store(self.micros(now), Ordering::Relaxed);
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

    fn from(&self, heard: &Heard) -> u64 {
        heard.0.load(Ordering::Relaxed).max(self.awake.load(Ordering::Relaxed))
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
}
