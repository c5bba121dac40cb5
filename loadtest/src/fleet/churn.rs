//! Tunnels that come and go.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;

use super::{Fleet, LoadError, Place};
use crate::Command;
use crate::engine::due::due;
use crate::engine::stop::Stop;
use crate::engine::threshold::Check;

/// How often it is looked whether one that may come back is gone.
const LOOK: Duration = Duration::from_millis(20);

/// Who comes and goes, in which order.
pub(crate) struct Churn {
    rate: f64,
    down: Duration,
    up: VecDeque<Place>,
    gone: VecDeque<(Instant, Place)>,
    /// How long it has gone on, without what it takes until all are back.
    pub(crate) took: Duration,
    /// Tunnels that were closed, and those that were opened again.
    pub(crate) closed: u64,
    pub(crate) opened: u64,
}

impl Churn {
    /// # Errors
    /// If of `count` tunnels none is left to come and go beside those that stay.
    pub(crate) fn check(stable: u32, count: u32) -> Result<(), LoadError> {
        if stable < count {
            return Ok(());
        }
        let text = format!("--stable {stable}: of {count} tunnels (--tunnels) none would come and go");
        Err(LoadError::Argument(text))
    }

    /// `rate` tunnels of `places` a second, each down for `down`.
    pub(crate) fn new(places: impl Iterator<Item = Place>, rate: f64, down: Duration, seed: u64) -> Self {
        let mut up: Vec<_> = places.collect();
        up.shuffle(&mut StdRng::seed_from_u64(seed));
        Self { rate, down, up: up.into(), gone: VecDeque::new(), took: Duration::ZERO, closed: 0, opened: 0 }
    }

    /// Goes on for so long, or until an end is wanted, then opens whatever is down, and waits until it is known of each
    /// whether it came up: unless an end of that is wanted as well.
    pub(crate) async fn go_on(
        &mut self,
        fleet: &mut Fleet,
        duration: Duration,
        stop: &mut Stop,
    ) -> Result<(), LoadError> {
        let begin = Instant::now();
        let mut number = 0u32;
        while begin.elapsed() < duration && !stop.is_wanted() {
            number += 1;
            let due = due(begin, f64::from(number), self.rate);
            self.wait(fleet, due.min(begin + duration), stop).await?;
            if let Some(place) = self.up.pop_front() {
                fleet.tell(place, Command::Close).await;
                self.gone.push_back((Instant::now(), place));
                self.closed += 1;
            }
        }
        // What is closed late at its end was asked for within it.
        self.took = begin.elapsed().min(duration);
        let all_back = async {
            while !self.gone.is_empty() {
                tokio::time::sleep(LOOK).await;
                self.come_back(fleet).await?;
            }
            fleet.settled().await;
            Ok(())
        };
        stop.unless_wanted(all_back).await.unwrap_or(Err(LoadError::Interrupted))
    }

    /// As many must have gone as were to: with few tunnels that stay away for long there is none to close most of the time.
    pub(crate) fn floor(&self) -> Check {
        Check::nearly("closed of those asked", self.rate * self.took.as_secs_f64(), self.closed)
    }

    /// Waits until then, or until an end is wanted, and opens meanwhile whose time is over: with few that go they would else be away
    /// until the next goes.
    async fn wait(&mut self, fleet: &mut Fleet, until: Instant, stop: &mut Stop) -> Result<(), LoadError> {
        loop {
            self.come_back(fleet).await?;
            let next = self.next_back(Instant::now()).map_or(until, |back| back.min(until));
            stop.pause_until(next).await;
            if next == until || stop.is_wanted() {
                return self.come_back(fleet).await;
            }
        }
    }

    /// When to look whether one can come back: when its time is over, and then again and again until it is gone.
    fn next_back(&self, now: Instant) -> Option<Instant> {
        self.gone.front().map(|(since, _)| {
            let back = *since + self.down;
            if back > now { back } else { now + LOOK }
        })
    }

    /// Opens those again whose time is over.
    async fn come_back(&mut self, fleet: &mut Fleet) -> Result<(), LoadError> {
        while let Some((since, place)) = self.gone.front().copied() {
            // Its initiator goes once the responder has answered the delete, or does not in time.
            if since.elapsed() < self.down || !fleet.is_gone(place) {
                break;
            }
            self.gone.pop_front();
            fleet.start(place, None, None).await?;
            self.up.push_back(place);
            self.opened += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::words;
    use crate::fleet::{Plan, Target, Traffic};

    #[tokio::test]
    async fn who_is_gone_comes_back_in_its_time_and_not_when_the_next_one_goes() {
        let target: Target = words::arguments("");
        let plan = Plan::new(&target, None, 2).unwrap();
        let place = plan.place(0);
        let mut fleet = Fleet::new(plan, &target, Traffic::none(), 0).unwrap();
        let meter = fleet.meter.clone();
        let mut churn = Churn::new(std::iter::empty(), 0.001, Duration::from_millis(5), 0);
        churn.gone.push_back((Instant::now(), place));
        let (next, mut stop) = (Instant::now() + Duration::from_secs(1_000), Stop::never());
        tokio::select! {
            _ = churn.wait(&mut fleet, next, &mut stop) => panic!("the next one goes much later"),
            () = async { while meter.started.get() == 0 { tokio::task::yield_now().await } } => {}
        }
    }

    #[test]
    fn one_that_may_come_back_is_looked_for_until_it_is_gone() {
        let mut churn = Churn::new(std::iter::empty(), 1.0, Duration::from_secs(5), 0);
        let since = Instant::now();
        assert_eq!(churn.next_back(since), None);
        let target: Target = words::arguments("");
        churn.gone.push_back((since, Plan::new(&target, None, 2).unwrap().place(0)));
        let after = |seconds| since + Duration::from_secs(seconds);
        assert_eq!(churn.next_back(after(1)), Some(after(5)));
        assert_eq!(churn.next_back(after(7)), Some(after(7) + LOOK));
    }

    #[test]
    fn a_churn_in_which_hardly_anybody_went_is_no_success() {
        let passes = |rate, seconds, closed| {
            let churn = Churn::new(std::iter::empty(), rate, Duration::ZERO, 0);
            Churn { took: Duration::from_secs(seconds), closed, ..churn }.floor().passed()
        };
        assert!(passes(100.0, 10, 1_000) && passes(100.0, 10, 899));
        assert!(!passes(100.0, 10, 898) && !passes(100.0, 10, 0));
        assert!(passes(0.05, 10, 0), "the first was about to go");
    }
}
