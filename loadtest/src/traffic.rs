//! Flows through tunnels: how much arrives, in which order, and how long it takes.

use std::time::{Duration, Instant};

use clap::Args;

use crate::Command;
use crate::engine::live::{Live, progress};
use crate::engine::output::Reporting;
use crate::engine::stop::Stop;
use crate::engine::summary::Summary;
use crate::engine::threshold::Check;
use crate::engine::times::time;
use crate::fleet::{Accounts, Foreign, LoadError, Probes, RATES, Session, Target};

/// `loadtest traffic`
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Tunnels
    #[arg(long = "tunnels", alias = "count", default_value_t = 10, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    count: u32,
    /// How long probes are sent
    #[arg(long = "for", default_value = "10s", value_parser = time, value_name = "TIME")]
    duration: Duration,
    /// Negotiations under way at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536), value_name = "N")]
    concurrency: u32,
    #[command(flatten)]
    probes: Probes,
    /// Fail if fewer packets a second arrive
    #[arg(long, value_name = "N", help_heading = "Thresholds")]
    min_rate: Option<f64>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    foreign: Foreign,
    #[command(flatten)]
    reporting: Reporting,
}

/// Runs the load; true if all thresholds are met.
///
/// # Errors
/// [`LoadError`]; what was provisioned is then left for who looks.
pub async fn run(arguments: &Arguments) -> Result<bool, LoadError> {
    let Arguments { target, foreign, count, probes, reporting, .. } = arguments;
    let mut stop = Stop::on_interrupt();
    let seed = reporting.begin()?;
    let traffic = probes.traffic(*count, u32::MAX);
    let mut session = Session::open(target, Some(foreign), *count, traffic, None, seed, &stop).await?;
    session.negotiate(0, arguments.concurrency, &mut stop).await?;
    if stop.is_wanted() {
        return session.interrupted("traffic", seed, &mut stop, reporting).await;
    }
    session.fleet.all_up()?;

    let before = accounts(&session).await?;
    let seconds = u32::try_from(arguments.duration.as_secs()).unwrap_or(u32::MAX);
    let live = Live::of(progress(seconds, "sending"), &session.fleet.meter, None, RATES.to_vec());
    let begin = Instant::now();
    session.fleet.tell_all(&Command::Send(true)).await;
    stop.pause(arguments.duration).await;
    session.fleet.tell_all(&Command::Send(false)).await;
    let elapsed = begin.elapsed();
    let series = live.stop().await;
    session.fleet.settle().await;

    let after = accounts(&session).await;
    let up = session.fleet.up();
    let meter = session.fleet.meter.clone();
    let mut summary = Summary::new("traffic", seed);
    summary.count("tunnels", "tunnels", (*count).into());
    summary.count("flows", "flows", session.fleet.flow_count().into());
    summary.measure("seconds", "for", Some(elapsed.as_secs_f64()), "s");
    summary.causes(&meter.causes);
    summary.series(series);
    probes.tell(&mut summary, &meter, session.fleet.flow_count(), elapsed);
    if let Some((before, after)) = before.zip(summary.got("counters of the node", after).flatten()) {
        after.tell(&before, &mut summary);
    }
    summary.check(Check::at_most("tunnels down", 0.0, Some((u64::from(*count) - up) as f64), ""));
    if let Some(limit) = arguments.min_rate {
        let rate = meter.received.get() as f64 / elapsed.as_secs_f64().max(1e-9);
        summary.check(Check::at_least("--min-rate", limit, Some(rate), "/s"));
    }
    session.close(&mut summary, &mut stop).await;
    summary.tell(reporting)
}

/// What the node has counted, if it is one of ours.
async fn accounts(session: &Session) -> Result<Option<Accounts>, LoadError> {
    match &session.api {
        Some(api) => Ok(Some(Accounts::take(api).await?)),
        None => Ok(None),
    }
}
