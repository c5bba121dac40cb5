//! How far along the daemon is: what its health, its probes and its end agree on.

use std::time::Duration;

use tokio::sync::watch;

/// How far along the daemon is. It only goes on, never back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// It serves.
    Serving,
    /// It is to end, and goes on serving those who have not noticed yet. It is not ready any more.
    Draining,
    /// It ends: the API finishes what is under way, the peers are told, the tunnels go.
    Ending,
}

/// Moves the daemon on.
#[derive(Debug)]
pub struct Phases(watch::Sender<Phase>);

impl Phases {
    /// A daemon that serves.
    pub fn new() -> Self {
        Self(watch::Sender::new(Phase::Serving))
    }

    /// The phase, now and later.
    pub fn watch(&self) -> watch::Receiver<Phase> {
        self.0.subscribe()
    }

    /// Goes on to `phase`, if it is not there or further.
    pub fn go_on(&self, phase: Phase) {
        self.0.send_if_modified(|now| {
            let further = *now < phase;
            if further {
                *now = phase;
            }
            further
        });
    }

    /// Drains for as long as `drain` says, unless `cut` comes first, and then ends.
    pub async fn end(&self, drain: Duration, cut: impl Future<Output = &'static str>) {
        if !drain.is_zero() {
            self.go_on(Phase::Draining);
            tracing::info!(drain = %humantime::format_duration(drain), "not ready any more, still serving");
            tokio::select! {
                () = tokio::time::sleep(drain) => {}
                why = cut => tracing::info!(why, "the drain is cut short"),
            }
        }
        self.go_on(Phase::Ending);
    }
}

impl Default for Phases {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use latest::{Follow as _, Latest as _};

    use super::*;

    #[tokio::test]
    async fn a_drain_ends_by_itself_or_is_cut() {
        let phases = Phases::new();
        let mut watch = phases.watch();
        let (drain, begun) = (Duration::from_millis(2), std::time::Instant::now());
        let seen = async {
            watch.until(|phase| *phase == Phase::Draining).await.unwrap();
            watch.until(|phase| *phase == Phase::Ending).await.unwrap();
        };
        tokio::join!(phases.end(drain, std::future::pending()), seen);
        assert!(begun.elapsed() >= drain);
        let phases = Phases::new();
        // Would it wait, the test would not end.
        phases.end(Duration::MAX, async { "SIGTERM" }).await;
        assert_eq!(phases.watch().latest(), Phase::Ending);
    }

    #[tokio::test]
    async fn without_a_drain_it_ends_at_once_and_never_goes_back() {
        let phases = Phases::new();
        phases.end(Duration::ZERO, std::future::pending()).await;
        phases.go_on(Phase::Draining);
        assert_eq!(phases.watch().latest(), Phase::Ending);
    }
}
