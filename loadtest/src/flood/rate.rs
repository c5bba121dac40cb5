//! So many messages a second, for so long and no longer: who cannot keep up with a rate sends fewer, and does not go on for it.

use std::time::Duration;

use crate::engine::stop::Stop;

/// Messages between two looks at the clock, at who wants an end and at what was answered: what a turn has at the highest rate, and
/// few enough that their answers fit a socket's buffer.
const SHARE: u64 = 256;
/// What is later than this is not made up for: who cannot keep up with a rate would only fall further behind.
const LATEST: Duration = Duration::from_millis(100);

/// Who sends, and the clock that it is done by.
pub(super) trait Sender {
    /// Since the begin.
    fn elapsed(&self) -> Duration;
    /// Sends one message, or counts why not.
    fn send(&mut self);
    /// Counts what has been answered.
    fn answers(&mut self);
    /// Waits for the next turn.
    fn pause(&mut self);
}

/// Sends `rate` a second until its time is over or an end is wanted; how many were due, and not sent as it was too slow.
pub(super) fn keep(sender: &mut impl Sender, rate: u32, duration: Duration, stop: &Stop) -> u64 {
    let room = (LATEST.as_secs_f64() * f64::from(rate)).max(1.0) as u64;
    let (mut passed, mut late) = (0, 0);
    loop {
        let elapsed = sender.elapsed().min(duration);
        let due = (elapsed.as_secs_f64() * f64::from(rate)) as u64;
        let waiting = due.saturating_sub(passed);
        let too_late = waiting.saturating_sub(room);
        let share = (waiting - too_late).min(SHARE);
        (0..share).for_each(|_| sender.send());
        sender.answers();
        passed += too_late + share;
        late += too_late;
        if elapsed == duration {
            return late + due.saturating_sub(passed);
        }
        if stop.is_wanted() {
            return late;
        }
        if share < SHARE {
            sender.pause();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    const TURN: Duration = Duration::from_millis(2);

    /// Each message takes it so long.
    struct Slow {
        each: Duration,
        now: Duration,
        sent: u64,
        unread: u64,
        most_unread: u64,
        /// Wants an end at that time.
        end: Option<(Duration, watch::Sender<u32>)>,
    }

    impl Slow {
        fn of(each: Duration) -> Self {
            Self { each, now: Duration::ZERO, sent: 0, unread: 0, most_unread: 0, end: None }
        }
    }

    impl Sender for Slow {
        fn elapsed(&self) -> Duration {
            self.now
        }

        fn send(&mut self) {
            self.now += self.each;
            self.sent += 1;
            self.unread += 1;
            self.most_unread = self.most_unread.max(self.unread);
            if let Some((_, wanted)) = self.end.as_ref().filter(|(at, _)| self.now >= *at) {
                wanted.send_replace(1);
            }
        }

        fn answers(&mut self) {
            self.unread = 0;
        }

        fn pause(&mut self) {
            self.now += TURN;
        }
    }

    #[test]
    fn who_keeps_its_rate_sends_all() {
        let mut quick = Slow::of(Duration::ZERO);
        assert_eq!(keep(&mut quick, 20_000, Duration::from_secs(5), &Stop::never()), 0);
        assert_eq!(quick.sent, 100_000);
        // As fast as it can, all but what it takes for the last share.
        let mut busy = Slow::of(Duration::from_micros(10));
        let late = keep(&mut busy, 100_000, Duration::from_secs(5), &Stop::never());
        assert!(late <= SHARE && busy.sent + late == 500_000, "{late}");
    }

    #[test]
    fn who_cannot_ends_in_time_reads_what_was_answered_and_says_how_many_were_late() {
        for (each, rate) in [(100, 100_000), (15, 100_000), (1_000, 2_000)] {
            let (each, time) = (Duration::from_micros(each), Duration::from_secs(5));
            let mut slow = Slow::of(each);
            let late = keep(&mut slow, rate, time, &Stop::never());
            let share = each * u32::try_from(SHARE).unwrap();
            assert!(slow.now <= time + 2 * share, "{:?}", slow.now);
            assert!(slow.most_unread <= SHARE, "{}", slow.most_unread);
            assert_eq!(slow.sent + late, 5 * u64::from(rate));
        }
    }

    #[test]
    fn an_end_that_is_wanted_comes_within_a_share() {
        let (wanted, stop) = Stop::by_hand();
        let at = Duration::from_secs(1);
        let mut slow = Slow { end: Some((at, wanted)), ..Slow::of(Duration::from_millis(1)) };
        keep(&mut slow, 100_000, Duration::from_secs(600), &stop);
        assert!(slow.now <= at + Duration::from_millis(SHARE), "{:?}", slow.now);
    }
}
