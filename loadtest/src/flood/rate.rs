//! So many messages a second, for so long and no longer: who cannot keep up with a rate sends fewer, and does not go on for it.

use std::time::Duration;

use crate::engine::stop::Stop;

/// Messages between two looks at the clock, at who wants an end and at what was answered: what a turn has at the highest rate, and
/// few enough that their answers fit a socket's buffer.
const SHARE: u64 = 256;
/// What is later than this is not made up for: who cannot keep up with a rate would only fall further behind.
const LATEST: Duration = Duration::from_millis(100);
/// Answers are waited for so long after the last message: a node answers in turn.
const LINGER: Duration = Duration::from_millis(100);

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

/// What has come of a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    /// How many were due, and not sent as it was too slow.
    pub(super) late: u64,
    /// How long it has sent.
    pub(super) elapsed: Duration,
}

/// Sends `rate` a second until its time is over or an end is wanted, and waits for the last answers.
pub(super) fn keep(sender: &mut impl Sender, rate: u32, duration: Duration, stop: &Stop) -> Kept {
    let late = send_all(sender, rate, duration, stop);
    let end = sender.elapsed();
    while sender.elapsed() < end + LINGER {
        sender.pause();
        sender.answers();
    }
    // Where all were sent that were due until then it has taken as long as was asked for, and not the moment more in which its end
    // was seen: or no rate would ever be quite reached.
    Kept { late, elapsed: if late == 0 { end.min(duration) } else { end } }
}

/// How many were due, and not sent as it was too slow.
fn send_all(sender: &mut impl Sender, rate: u32, duration: Duration, stop: &Stop) -> u64 {
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
    use std::collections::VecDeque;

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
        /// When the messages were sent that have no answer yet, which comes after so long.
        open: VecDeque<Duration>,
        answered_after: Duration,
        answered: u64,
        /// Wants an end at that time.
        end: Option<(Duration, watch::Sender<u32>)>,
    }

    impl Slow {
        fn of(each: Duration) -> Self {
            Self {
                each,
                now: Duration::ZERO,
                sent: 0,
                unread: 0,
                most_unread: 0,
                open: VecDeque::new(),
                answered_after: Duration::ZERO,
                answered: 0,
                end: None,
            }
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
            self.open.push_back(self.now);
            self.most_unread = self.most_unread.max(self.unread);
            if let Some((_, wanted)) = self.end.as_ref().filter(|(at, _)| self.now >= *at) {
                wanted.send_replace(1);
            }
        }

        fn answers(&mut self) {
            self.unread = 0;
            while self.open.front().is_some_and(|sent| *sent + self.answered_after <= self.now) {
                self.open.pop_front();
                self.answered += 1;
            }
        }

        fn pause(&mut self) {
            self.now += TURN;
        }
    }

    #[test]
    fn who_keeps_its_rate_sends_all() {
        let mut quick = Slow::of(Duration::ZERO);
        let time = Duration::from_secs(5);
        assert_eq!(keep(&mut quick, 20_000, time, &Stop::never()), Kept { late: 0, elapsed: time });
        assert_eq!(quick.sent, 100_000);
        // As fast as it can, all but what it takes for the last share.
        let mut busy = Slow::of(Duration::from_micros(10));
        let Kept { late, .. } = keep(&mut busy, 100_000, time, &Stop::never());
        assert!(late <= SHARE && busy.sent + late == 500_000, "{late}");
    }

    #[test]
    fn who_cannot_ends_in_time_reads_what_was_answered_and_says_how_many_were_late() {
        for (each, rate) in [(100, 100_000), (15, 100_000), (1_000, 2_000)] {
            let (each, time) = (Duration::from_micros(each), Duration::from_secs(5));
            let mut slow = Slow::of(each);
            let Kept { late, elapsed } = keep(&mut slow, rate, time, &Stop::never());
            let share = each * u32::try_from(SHARE).unwrap();
            assert!(elapsed >= time && elapsed <= time + 2 * share, "{elapsed:?}");
            assert!(slow.now <= elapsed + LINGER + TURN, "{:?}", slow.now);
            assert!(slow.most_unread <= SHARE, "{}", slow.most_unread);
            assert_eq!(slow.sent + late, 5 * u64::from(rate));
        }
    }

    #[test]
    fn answers_to_the_last_messages_are_waited_for_a_while() {
        let answered = |millis| {
            let answered_after = Duration::from_millis(millis);
            let mut sender = Slow { answered_after, ..Slow::of(Duration::ZERO) };
            keep(&mut sender, 1_000, Duration::from_secs(1), &Stop::never());
            (sender.sent, sender.answered)
        };
        assert_eq!((answered(0), answered(90)), ((1_000, 1_000), (1_000, 1_000)));
        assert!(answered(300).1 < 1_000, "but not for ever");
    }

    #[test]
    fn an_end_that_is_wanted_comes_within_a_share() {
        let (wanted, stop) = Stop::by_hand();
        let at = Duration::from_secs(1);
        let mut slow = Slow { end: Some((at, wanted)), ..Slow::of(Duration::from_millis(1)) };
        let Kept { elapsed, .. } = keep(&mut slow, 100_000, Duration::from_secs(600), &stop);
        assert!(elapsed <= at + Duration::from_millis(SHARE), "{elapsed:?}");
    }
}
