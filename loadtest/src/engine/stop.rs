//! The end of a load before its time: Ctrl-C, or another signal that asks a program to end, ends what goes on, and the report is about what there was. One more ends the closing of
//! its tunnels, which the report tells, and a third one the program.

use std::task::Poll;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};

use latest::{Follow as _, Latest as _};
use tokio::sync::watch;

/// Exit code of who was interrupted, as shells have it.
const INTERRUPTED: i32 = 130;
/// So often an end may be wanted of what goes on: of the load, and of its closing.
const ENDS: u32 = 2;

/// What asks a program to end.
#[derive(Debug)]
pub struct Signals(Vec<Signal>);

impl Signals {
    pub(crate) fn listen() -> Self {
        Self::of([SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()])
    }

    /// Listens to these from now on, so that none of them ends the process as it is. One that cannot be listened to ends the program, as it would
    /// without this.
    pub fn of(kinds: impl IntoIterator<Item = SignalKind>) -> Self {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        // Whoever starts us with nohup wants us to go on when the terminal has gone.
        let kinds = kinds.into_iter().filter(|kind| !is_ignored(&status, *kind));
        Self(kinds.filter_map(|kind| signal(kind).ok()).collect())
    }

    /// Waits for one. One that has come meanwhile counts.
    pub async fn next(&mut self) {
        std::future::poll_fn(|context| {
            // One that is over says so at once, and never comes again.
            let came = self.0.iter_mut().any(|signal| signal.poll_recv(context) == Poll::Ready(Some(())));
            if came { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }
}

/// Whether a process ignores a signal, by what the kernel says of its status.
fn is_ignored(status: &str, kind: SignalKind) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (kind.as_raw_value() - 1)) != 0
}

/// How often somebody has wanted an end.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Receiver<u32>);

impl Stop {
    /// Listens to Ctrl-C, SIGTERM and SIGHUP from now on.
    pub(crate) fn on_interrupt() -> Self {
        let (stop, stopped) = watch::channel(0);
        // From here on, and not from when the task has its turn.
        let mut signals = Signals::listen();
        tokio::spawn(async move {
            for wanted in 1.. {
                signals.next().await;
                if wanted > ENDS {
                    std::process::exit(INTERRUPTED);
                }
                stop.send_replace(wanted);
            }
        });
        Self(stopped)
    }

    /// One that nobody will want.
    #[cfg(test)]
    pub(crate) fn never() -> Self {
        Self(watch::channel(0).1)
    }

    /// One that is wanted so often as is sent.
    #[cfg(test)]
    pub(crate) fn by_hand() -> (watch::Sender<u32>, Self) {
        let (stop, stopped) = watch::channel(0);
        (stop, Self(stopped))
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.0.latest() > 0
    }

    /// Waits so long, or until an end is wanted.
    pub(crate) async fn pause(&mut self, duration: Duration) {
        self.pause_until(Instant::now() + duration).await;
    }

    pub(crate) async fn pause_until(&mut self, at: Instant) {
        // Either is an end of the wait.
        let _ = tokio::time::timeout_at(at.into(), self.wanted_beyond(0)).await;
    }

    /// Does what comes after the load to its end, unless an end of that is wanted: that of the load does not count.
    pub(crate) async fn unless_wanted<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let of_the_load = self.0.latest().min(1);
        tokio::select! {
            done = work => Some(done),
            () = self.wanted_beyond(of_the_load) => None,
        }
    }

    /// Does what is part of the load to its end, or until an end is wanted, also if it was before.
    pub(crate) async fn until_wanted<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.wanted_beyond(0) => None,
            done = work => Some(done),
        }
    }

    async fn wanted_beyond(&mut self, heeded: u32) {
        if self.0.until(|wanted| *wanted > heeded).await.is_err() {
            // Nobody listens, so nobody will want it.
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rustix::process::Signal as Number;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_in_time_or_when_it_is_wanted() {
        let (stop, mut pause) = Stop::by_hand();
        let begin = tokio::time::Instant::now();
        pause.pause(Duration::from_secs(5)).await;
        assert!(begin.elapsed() >= Duration::from_secs(4) && !pause.is_wanted());
        stop.send_replace(1);
        let begin = tokio::time::Instant::now();
        pause.pause(Duration::from_secs(3600)).await;
        assert!(begin.elapsed() < Duration::from_secs(1) && pause.is_wanted());
    }

    #[tokio::test(start_paused = true)]
    async fn without_anybody_who_listens_it_is_a_pause() {
        let begin = tokio::time::Instant::now();
        Stop::never().pause(Duration::from_secs(5)).await;
        assert!(begin.elapsed() >= Duration::from_secs(4));
        assert_eq!(Stop::never().unless_wanted(async { 7 }).await, Some(7));
    }

    #[test]
    fn a_signal_that_is_ignored_is_known() {
        let status = "Name:\tx\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(status, SignalKind::hangup()));
        assert!(!is_ignored(status, SignalKind::terminate()) && !is_ignored("", SignalKind::hangup()));
    }

    #[tokio::test]
    async fn other_signals_that_ask_for_an_end_are_as_ctrl_c() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let hangup = (Number::HUP, SignalKind::hangup());
        for (number, kind) in [(Number::TERM, SignalKind::terminate()), hangup] {
            // Whoever runs the tests with nohup has none to send.
            if is_ignored(&status, kind) {
                continue;
            }
            let mut signals = Signals::listen();
            rustix::process::kill_process(rustix::process::getpid(), number).unwrap();
            signals.next().await;
        }
    }

    #[tokio::test]
    async fn a_part_of_the_load_ends_with_it_and_does_not_begin_after_it() {
        let (stop, mut stopped) = Stop::by_hand();
        assert_eq!(stopped.until_wanted(async { 7 }).await, Some(7));
        stop.send_replace(1);
        assert_eq!(stopped.until_wanted(std::future::pending::<()>()).await, None);
        assert_eq!(stopped.until_wanted(async { 7 }).await, None);
    }

    #[tokio::test]
    async fn the_end_of_a_load_is_none_of_what_comes_after_it_but_another_one_is() {
        let (stop, mut stopped) = Stop::by_hand();
        stop.send_replace(1);
        assert_eq!(stopped.unless_wanted(tokio::task::yield_now()).await, Some(()));
        stop.send_replace(2);
        assert_eq!(stopped.unless_wanted(std::future::pending::<()>()).await, None);

        let (stop, mut stopped) = Stop::by_hand();
        let first = tokio::spawn(async move { stopped.unless_wanted(std::future::pending::<()>()).await });
        tokio::task::yield_now().await;
        stop.send_replace(1);
        assert_eq!(first.await.expect("it ends"), None, "the first, if it comes now");
    }
}
