//! The end of a load before its time: Ctrl-C ends what goes on, and the report is about what there was. A second one ends the
//! program.

use std::time::{Duration, Instant};

use latest::{Follow as _, Latest as _};
use tokio::sync::watch;

/// Exit code of who was interrupted, as shells have it.
const INTERRUPTED: i32 = 130;

/// Whether somebody wants an end.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<bool>);

impl Stop {
    /// Listens to Ctrl-C from now on.
    pub(crate) fn on_interrupt() -> Self {
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(async move {
            // Without a handler Ctrl-C ends the program, as before.
            if tokio::signal::ctrl_c().await.is_ok() {
                stop.send_replace(true);
                if tokio::signal::ctrl_c().await.is_ok() {
                    std::process::exit(INTERRUPTED);
                }
            }
        });
        Self(stopped)
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.0.latest()
    }

    /// Waits so long, or until an end is wanted.
    pub(crate) async fn pause(&mut self, duration: Duration) {
        self.pause_until(Instant::now() + duration).await;
    }

    pub(crate) async fn pause_until(&mut self, at: Instant) {
        let wanted = async {
            if self.0.until(|wanted| *wanted).await.is_err() {
                // Nobody listens, so nobody will want it.
                std::future::pending::<()>().await;
            }
        };
        // Either is an end of the wait.
        let _ = tokio::time::timeout_at(at.into(), wanted).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_in_time_or_when_it_is_wanted() {
        let (stop, stopped) = watch::channel(false);
        let mut pause = Stop(stopped);
        let begin = tokio::time::Instant::now();
        pause.pause(Duration::from_secs(5)).await;
        assert!(begin.elapsed() >= Duration::from_secs(4) && !pause.is_wanted());
        stop.send_replace(true);
        let begin = tokio::time::Instant::now();
        pause.pause(Duration::from_secs(3600)).await;
        assert!(begin.elapsed() < Duration::from_secs(1) && pause.is_wanted());
    }

    #[tokio::test(start_paused = true)]
    async fn without_anybody_who_listens_it_is_a_pause() {
        let (stop, stopped) = watch::channel(false);
        drop(stop);
        let begin = tokio::time::Instant::now();
        Stop(stopped).pause(Duration::from_secs(5)).await;
        assert!(begin.elapsed() >= Duration::from_secs(4));
    }
}
