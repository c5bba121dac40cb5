//! Many tunnels on one node: brought up, listed, rekeyed under light traffic, torn down.
//!
//! `report.rs` is its figures.

mod report;

use std::time::{Duration, Instant};

use clap::Args;

use crate::engine::live::{Live, progress};
use crate::engine::meter::Meter;
use crate::engine::stop::Stop;
use crate::engine::times::time;
use crate::fleet::{Api, Fleet, LoadError, PATIENCE, Plan, Target, Traffic};
use crate::{Command, Output};
use report::Report;

/// Nothing here depends on chance but when in an interval a tunnel begins to send.
const SEED: u64 = 0;

/// `loadtest tunnels`
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    #[command(flatten)]
    target: Target,
    /// Tunnels
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    count: u32,
    /// Packets per second and tunnel
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Negotiations and rekeyings under way at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    concurrency: u32,
    /// How long traffic goes on after the last rekeying
    #[arg(long = "for", default_value = "5s", value_parser = time, value_name = "TIME")]
    duration: Duration,
    /// How long to wait at the end for the node to give memory back, which it does within some twenty seconds
    #[arg(long, default_value = "30s", value_parser = time, value_name = "TIME")]
    settle: Duration,
    /// How the figures are printed
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    output: Output,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// Runs the load; true if nothing was lost.
///
/// # Errors
/// [`LoadError`]; what was provisioned is then left for who looks.
pub async fn run(arguments: &Arguments) -> Result<bool, LoadError> {
    let mut stop = Stop::on_interrupt();
    let plan = Plan::new(&arguments.target, None, arguments.count)?;
    let traffic = Traffic::light(arguments.count, arguments.rate);
    let mut fleet = Fleet::new(plan.clone(), &arguments.target, traffic, SEED)?;
    let api = Api::connect(&arguments.target.server).await?;
    let mut report = Report { tunnels: arguments.count, ..Report::default() };
    let bar = progress(arguments.count, "provisioning");
    report.provisioned = timed(api.provision(&plan, None, &bar, &stop)).await?;
    let provisioned = api.status().await?;
    report.memory_before = provisioned.resident_bytes;

    let live = Live::start(progress(arguments.count, "negotiating"), &fleet.meter, Meter::settled);
    let begin = Instant::now();
    fleet.start_all(0, arguments.concurrency, &mut stop).await?;
    report.established = begin.elapsed();
    live.stop().await;
    let work = with_all_up(arguments, &plan, &api, &fleet, &mut report);
    match stop.until_wanted(work).await {
        Some(done) => done?,
        None => report.interrupted = true,
    }
    report.count(&fleet.meter);
    let torn_down = tear_down(&mut report, &api, &plan, fleet, arguments.settle);
    let torn_down = stop.unless_wanted(torn_down).await.unwrap_or(Err(LoadError::Interrupted));
    report.failure = torn_down.err().map(|error| error.to_string());
    report.print(arguments.json || arguments.output == Output::Json)?;
    Ok(report.is_clean())
}

/// What is done with the tunnels while they are up.
async fn with_all_up(
    arguments: &Arguments,
    plan: &Plan,
    api: &Api,
    fleet: &Fleet,
    report: &mut Report,
) -> Result<(), LoadError> {
    fleet.all_up()?;
    // The node's own actors hear of the last ones a moment after these. What is not there by then the list says.
    api.left_over(plan, arguments.count.into(), PATIENCE).await?;
    report.memory_up = api.status().await?.resident_bytes;
    let begin = Instant::now();
    report.listed_sas = api.list(plan).await?;
    report.listed = begin.elapsed();

    fleet.tell_all(&Command::Send(true)).await;
    let bar = progress(arguments.count, "rekeying");
    let begin = Instant::now();
    api.rekey_all(plan, arguments.concurrency, &bar).await?;
    report.rekeyed = begin.elapsed();
    tokio::time::sleep(arguments.duration).await;
    fleet.tell_all(&Command::Send(false)).await;
    fleet.settle().await;
    Ok(())
}

/// Takes everything down, and looks at the node's memory meanwhile. What was provisioned is deleted even if SAs are left.
async fn tear_down(
    report: &mut Report,
    api: &Api,
    plan: &Plan,
    fleet: Fleet,
    settle: Duration,
) -> Result<(), LoadError> {
    let rekeyed = api.status().await;
    let begin = Instant::now();
    fleet.close().await;
    let left = api.left_over(plan, 0, PATIENCE).await;
    report.torn_down = begin.elapsed();
    let down = api.status().await;
    let deleted = api.clean_up(plan).await;
    report.memory_rekeyed = rekeyed?.resident_bytes;
    match left? {
        0 => {}
        all => {
            let why = format!("SAs are left after {PATIENCE:?}");
            return Err(LoadError::Stuck { what: "torn down", done: 0, all, why });
        }
    }
    report.memory_down = down?.resident_bytes;
    deleted?;
    report.memory_after = api.status().await?.resident_bytes;
    report.memory_rest = at_rest(settle, api, report.memory_before).await?;
    Ok(())
}

/// The node's memory when it has returned to what it was `before`, or when the wait is over: freed pages go back to the
/// system bit by bit.
async fn at_rest(wait: Duration, api: &Api, before: u64) -> Result<u64, LoadError> {
    let seconds = wait.as_secs();
    let bar = progress(u32::try_from(seconds).unwrap_or(u32::MAX), "settling");
    for _ in 0..seconds {
        if api.status().await?.resident_bytes <= before {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        bar.inc(1);
    }
    Ok(api.status().await?.resident_bytes)
}

async fn timed<T>(work: impl Future<Output = Result<T, LoadError>>) -> Result<Duration, LoadError> {
    let begin = Instant::now();
    work.await?;
    Ok(begin.elapsed())
}
