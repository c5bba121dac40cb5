//! Histories of clusters, as many at a time as there are processors.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{Seeds, hours};
use clap::{Args, ValueEnum as _};
use indicatif::{ProgressBar, ProgressStyle};
use sim::Report;
use sim::cluster::{Fault, History, Scenario};

#[derive(Debug, Args)]
pub(crate) struct Clusters {
    /// Cluster-hours to simulate
    #[arg(long, default_value_t = 100, value_parser = hours())]
    hours: u64,
    #[command(flatten)]
    seeds: Seeds,
    /// Do something wrong on purpose, to see that it is noticed
    #[arg(long, value_enum, default_value_t)]
    fault: Fault,
}

pub(crate) fn run(arguments: &Clusters) -> ExitCode {
    if arguments.seeds.trace {
        tracing_subscriber::fmt()
            .with_writer(io::stderr)
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .init();
    }
    let began = Instant::now();
    match all(arguments) {
        Ok((histories, total)) => {
            println!(
                "{histories} histories, {} cluster-hours, {} events in {:.1?}: every invariant held",
                total.tunnel_time.as_secs() / 3600,
                total.events,
                began.elapsed(),
            );
            for (what, count) in &total.counts {
                println!("{count:>10} {what}");
            }
            ExitCode::SUCCESS
        }
        Err((seed, violations)) => {
            eprintln!(
                "seed {seed} breaks an invariant (run it again with cluster --seed {seed}{} --one --trace):",
                of(arguments.fault)
            );
            for violation in &violations {
                eprintln!("  {violation}");
            }
            ExitCode::FAILURE
        }
    }
}

/// The fault as an argument.
fn of(fault: Fault) -> String {
    let value = fault.to_possible_value().filter(|_| fault != Fault::None);
    value.map(|value| format!(" --fault {}", value.get_name())).unwrap_or_default()
}

/// How many histories there were and what came of them, or the seed that broke something, and what.
fn all(arguments: &Clusters) -> Result<(u64, Report), (u64, Vec<String>)> {
    let (next, total, broken) =
        (AtomicU64::new(arguments.seeds.seed), Mutex::new((0, Report::default())), Mutex::new(None));
    let wanted = Duration::from_secs(3600 * arguments.hours);
    let bar = ProgressBar::new(arguments.hours);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} cluster-hours, {eta} left") {
        bar.set_style(style);
    }
    let work = || {
        while lock(&broken).is_none() {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if arguments.seeds.one && seed > arguments.seeds.seed {
                return;
            }
            let history =
                History { seed, scenario: Scenario::of(seed, arguments.fault), trace: arguments.seeds.trace };
            // One that panics would take its seed with it.
            let (report, violations) = match catch_unwind(AssertUnwindSafe(|| history.run())) {
                Ok(Ok(report)) => (report.clone(), report.violations),
                Ok(Err(error)) => (Report::default(), vec![error.to_string()]),
                Err(_) => (Report::default(), vec!["it panicked, see above".to_owned()]),
            };
            if !violations.is_empty() {
                let mut broken = lock(&broken);
                // The same one, whichever comes to its end first.
                if broken.as_ref().is_none_or(|(other, _)| seed < *other) {
                    *broken = Some((seed, violations));
                }
                return;
            }
            let mut total = lock(&total);
            let (histories, total) = &mut *total;
            *histories += 1;
            total.add(&report);
            bar.set_position(total.tunnel_time.as_secs() / 3600);
            if total.tunnel_time >= wanted {
                return;
            }
        }
    };
    let threads =
        if arguments.seeds.one { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work))));
    bar.finish_and_clear();
    match broken.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(broken) => Err(broken),
        None => Ok(total.into_inner().unwrap_or_else(PoisonError::into_inner)),
    }
}

/// A thread that panics leaves a whole history or none.
fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
