//! The node's resident memory over time.

use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::Api;
use crate::engine::live::Series;
use crate::engine::slope::slope;
use crate::engine::summary::Summary;
use crate::engine::threshold::Check;

/// How often it is asked for.
const EVERY: Duration = Duration::from_secs(1);
/// The first part of the time does not count for the slope: caches and pools fill.
const WARM_UP: f64 = 0.2;

/// Samples that go on until they are stopped.
pub(crate) struct Memory {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Series>,
}

impl Memory {
    pub(crate) fn watch(api: &Api) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let api = api.clone();
        let task = tokio::spawn(async move {
            let (begin, mut series) = (Instant::now(), Series::named("resident memory of the node, MiB"));
            loop {
                // A sample that fails is left out: the load itself says what is wrong with the node.
                if let Ok(status) = api.status().await {
                    let mib = status.resident_bytes as f64 / f64::from(1 << 20);
                    series.push(begin.elapsed().as_secs_f64(), mib);
                }
                if tokio::time::timeout(EVERY, &mut stopped).await.is_ok() {
                    return series;
                }
            }
        });
        Self { stop, task }
    }

    pub(crate) async fn stop(self) -> Series {
        // It waits for nothing else.
        let _ = self.stop.send(());
        self.task.await.unwrap_or_default()
    }
}

/// A watch that has seen nothing is no sign that nothing grows.
pub(crate) fn check_watched(series: &Series, summary: &mut Summary) {
    summary.check(Check::at_least("samples of memory", 1.0, Some(series.points.len() as f64), ""));
}

/// KiB that are more after a minute, once it has warmed up.
pub(crate) fn growth(series: &Series) -> Option<f64> {
    let end = series.points.last()?.0;
    let warm: Vec<_> = series.points.iter().copied().filter(|(at, _)| *at >= end * WARM_UP).collect();
    slope(&warm).map(|mib_per_second| mib_per_second * 1024.0 * 60.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watch_that_has_seen_nothing_fails_the_load() {
        let passes = |series: &Series| {
            let mut summary = Summary::new("soak", 0);
            check_watched(series, &mut summary);
            summary.passed()
        };
        let mut series = Series::named("x");
        assert!(!passes(&series));
        series.push(1.0, 40.0);
        assert!(passes(&series));
    }

    #[test]
    fn what_grows_only_at_first_does_not_grow() {
        let mut series = Series::named("x");
        for second in 0..100_u32 {
            series.push(f64::from(second), 40.0 + f64::from(second.min(15)));
        }
        assert!(growth(&series).is_some_and(|kib| kib.abs() < 1e-6));
        for second in 100..200_u32 {
            series.push(f64::from(second), 55.0 + f64::from(second - 100));
        }
        assert!(growth(&series).is_some_and(|kib| kib > 10_000.0));
        assert_eq!(growth(&Series::named("empty")), None);
    }

    #[test]
    fn a_leak_in_most_of_a_day_is_told_whatever_its_last_hours_were() {
        let samples: Vec<_> = (0..86_400_u32)
            .map(|second| (f64::from(second), 40.0 + 0.001 * f64::from(second.min(72_000))))
            .collect();
        let mut series = Series::named("x");
        samples.iter().for_each(|(at, mib)| series.push(*at, *mib));
        let warm: Vec<_> = samples.iter().copied().filter(|(at, _)| *at >= 86_399.0 * WARM_UP).collect();
        let all = slope(&warm).expect("many samples") * 1024.0 * 60.0;
        let told = growth(&series).expect("many points");
        assert!(all > 40.0 && (told / all - 1.0).abs() < 0.02, "{told} of {all} KiB/min");
    }
}
