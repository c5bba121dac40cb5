//! What is shown while a load runs, and kept as a series: rates by the second.

use std::sync::Arc;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::meter::Meter;

/// How often a rate is taken.
const EVERY: Duration = Duration::from_millis(500);
/// Points that a series has at most; of a longer one every other is left out, and from then on of what comes too, so that all of its
/// time has them alike.
const POINTS: usize = 2_000;

/// A bar that goes to `count`.
pub(crate) fn progress(count: u32, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{prefix:12} {bar:30} {pos}/{len} {elapsed} {msg}");
    let bar = ProgressBar::new(count.into()).with_prefix(what);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Values over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Series {
    pub(crate) name: String,
    /// Seconds since the begin, and the value.
    pub(crate) points: Vec<(f64, f64)>,
    /// Samples so far, kept or not.
    samples: u64,
    /// How often it was thinned: of 2 to the power of that many samples one is kept.
    thinned: u32,
}

impl Series {
    pub(crate) fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    pub(crate) fn push(&mut self, seconds: f64, value: f64) {
        let number = self.samples;
        self.samples += 1;
        if number.trailing_zeros() < self.thinned {
            return;
        }
        self.points.push((seconds, value));
        if self.points.len() > POINTS {
            self.thinned += 1;
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
        }
    }
}

/// A rate: its name, and what it is the rate of.
pub(crate) type Rate = (&'static str, fn(&Meter) -> u64);

/// A bar that follows a load.
pub(crate) struct Live {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Vec<Series>>,
}

impl Live {
    /// Shows `done` as the bar's position, and its rate.
    pub(crate) fn start(bar: ProgressBar, meter: &Arc<Meter>, done: fn(&Meter) -> u64) -> Self {
        Self::of(bar, meter, Some(done), vec![("/s", done)])
    }

    /// Shows rates, and `done` as the bar's position; without it the bar counts seconds.
    pub(crate) fn of(
        bar: ProgressBar,
        meter: &Arc<Meter>,
        done: Option<fn(&Meter) -> u64>,
        rates: Vec<Rate>,
    ) -> Self {
        let (stop, stopped) = oneshot::channel();
        let task = tokio::spawn(follow(bar, meter.clone(), done, rates, stopped));
        Self { stop, task }
    }

    /// Ends the bar; the rates over time.
    pub(crate) async fn stop(self) -> Vec<Series> {
        // It waits for nothing else.
        let _ = self.stop.send(());
        self.task.await.unwrap_or_default()
    }
}

async fn follow(
    bar: ProgressBar,
    meter: Arc<Meter>,
    done: Option<fn(&Meter) -> u64>,
    rates: Vec<Rate>,
    mut stopped: oneshot::Receiver<()>,
) -> Vec<Series> {
    let mut series: Vec<Series> = rates.iter().map(|(name, _)| Series::named(*name)).collect();
    let mut last: Vec<u64> = rates.iter().map(|(_, rate)| rate(&meter)).collect();
    let (begin, mut before) = (Instant::now(), Instant::now());
    loop {
        let ended = tokio::time::timeout(EVERY, &mut stopped).await.is_ok();
        let (now, mut message) = (Instant::now(), String::new());
        let elapsed = now.saturating_duration_since(before).as_secs_f64();
        // The rest of an interval says little of a rate, unless it is all there is.
        let says = !ended || series.iter().all(|series| series.points.is_empty());
        for (((name, rate), series), last) in rates.iter().zip(&mut series).zip(&mut last) {
            let value = rate(&meter);
            let per_second = value.saturating_sub(*last) as f64 / elapsed.max(1e-9);
            *last = value;
            message = format!("{message} {per_second:.0} {}", name.trim_start_matches(' '));
            if says {
                series.push(now.saturating_duration_since(begin).as_secs_f64(), per_second);
            }
        }
        before = now;
        bar.set_position(done.map_or_else(|| begin.elapsed().as_secs(), |done| done(&meter)));
        bar.set_message(message.trim().to_owned());
        if ended {
            bar.finish();
            return series;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_series_stays_bounded_and_keeps_its_ends() {
        let mut series = Series::named("x");
        for n in 0..100_000_u32 {
            series.push(f64::from(n), 1.0);
        }
        assert!(series.points.len() <= POINTS);
        assert!(series.points[0].0 < 1.0 && series.points.last().is_some_and(|(at, _)| *at > 98_000.0));
    }

    #[test]
    fn the_points_of_a_long_series_are_as_far_apart_at_its_begin_as_at_its_end() {
        let mut series = Series::named("x");
        for n in 0..86_400_u32 {
            series.push(f64::from(n), 1.0);
        }
        let gaps = series.points.windows(2).map(|pair| pair[1].0 - pair[0].0);
        assert!(gaps.clone().all(|gap| gap == 64.0), "{:?}", gaps.collect::<Vec<_>>());
        assert!(series.points.len() > POINTS / 2);
    }

    #[tokio::test(start_paused = true)]
    async fn rates_are_kept_by_time() {
        let meter = Arc::new(Meter::default());
        let live = Live::start(ProgressBar::hidden(), &meter, Meter::settled);
        for _ in 0..10 {
            tokio::time::sleep(EVERY).await;
            meter.has_failed("x");
        }
        let series = live.stop().await;
        assert_eq!(series.len(), 1);
        assert!(series[0].points.len() >= 9);
    }
}
