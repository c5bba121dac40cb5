//! Tunnels that come and go beside some that stay: what they took returns, and those that stay notice nothing.

use std::time::{Duration, Instant};

use clap::Args;

use crate::Command;
use crate::engine::live::{Live, Rate, progress};
use crate::engine::output::Reporting;
use crate::engine::stop::Stop;
use crate::engine::summary::Summary;
use crate::engine::threshold::Check;
use crate::engine::times::time;
use crate::fleet::{Churn, LoadError, Memory, Probes, Session, Target, check_watched};

/// How long the node may take to forget SAs that were deleted.
pub(crate) const LINGER: Duration = Duration::from_secs(30);
/// What is shown.
const RATES: [Rate; 2] =
    [("tunnels/s opened", |meter| meter.child_sas.get()), ("packets/s", |meter| meter.received.get())];

/// `loadtest churn`
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Tunnels
    #[arg(long = "tunnels", alias = "count", default_value_t = 500, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    count: u32,
    /// Of them so many stay, and carry the flows; 0: all come and go, and there are no flows
    #[arg(long, default_value_t = 20, value_name = "N")]
    stable: u32,
    /// Tunnels that go in a second, and come back
    #[arg(long, default_value_t = 50.0, value_name = "N", value_parser = positive)]
    churn_rate: f64,
    /// How long one that went stays away
    #[arg(long, default_value = "500ms", value_parser = time, value_name = "TIME")]
    down: Duration,
    /// How long
    #[arg(long = "for", default_value = "30s", value_parser = time, value_name = "TIME")]
    duration: Duration,
    /// Negotiations under way at a time, when the tunnels are opened
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536), value_name = "N")]
    concurrency: u32,
    #[command(flatten)]
    probes: Probes,
    /// Fail if the node holds so much more memory than before with the same tunnels
    #[arg(long, value_name = "MIB", help_heading = "Thresholds")]
    max_growth: Option<f64>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    reporting: Reporting,
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 100_000.0 => Ok(rate),
        _ => Err(format!("{text} is no rate above 0 and up to 100000")),
    }
}

/// Runs the load; true if all thresholds are met.
///
/// # Errors
/// [`LoadError`]; what was provisioned is then left for who looks.
pub async fn run(arguments: &Arguments) -> Result<bool, LoadError> {
    let Arguments { target, count, stable, probes, reporting, .. } = arguments;
    Churn::check(*stable, *count)?;
    let mut stop = Stop::on_interrupt();
    let seed = reporting.begin()?;
    let traffic = probes.traffic(*stable, u32::MAX);
    if *stable == 0 && traffic.flows() > 0 {
        let text =
            format!("--stable 0: no tunnel stays that could carry {} flows (--flows)", traffic.flows());
        return Err(LoadError::Argument(text));
    }
    let (mut session, api) =
        Session::up(target, *count, traffic, seed, arguments.concurrency, &mut stop).await?;
    if stop.is_wanted() {
        return session.interrupted("churn", seed, &mut stop, reporting).await;
    }
    let before = api.status().await?;

    let seconds = u32::try_from(arguments.duration.as_secs()).unwrap_or(u32::MAX);
    let live = Live::of(progress(seconds, "churning"), &session.fleet.meter, None, RATES.to_vec());
    let memory = Memory::watch(&api);
    // Those of the opening, many at a time, say nothing of what one takes that comes back.
    session.fleet.meter.child_latency.begin_anew();
    let begin = Instant::now();
    session.fleet.tell_all(&Command::Send(true)).await;
    let places = session.plan.places().skip(usize::try_from(*stable).unwrap_or(usize::MAX));
    let mut churn = Churn::new(places, arguments.churn_rate, arguments.down, seed);
    let went = churn.go_on(&mut session.fleet, arguments.duration, &mut stop).await;
    session.fleet.tell_all(&Command::Send(false)).await;
    let elapsed = begin.elapsed();
    let mut series = live.stop().await;
    session.fleet.settle().await;
    let up = session.fleet.up();
    let left_over = api.left_over(&session.plan, up, LINGER).await;
    let after = api.status().await;
    let memory = memory.stop().await;

    let meter = session.fleet.meter.clone();
    let mut summary = Summary::new("churn", seed);
    let mib = |octets: u64| octets as f64 / f64::from(1 << 20);
    let resident = mib(before.resident_bytes);
    let resident_after = summary.got("status of the node", after).map(|status| mib(status.resident_bytes));
    let left_over = summary.none("SAs of nobody", left_over);
    summary.got("tunnels opened again", went);
    summary.count("tunnels", "tunnels", (*count).into());
    summary.measure("seconds", "for", Some(elapsed.as_secs_f64()), "s");
    summary.count("closed", "closed", churn.closed);
    summary.count("opened", "opened again", churn.opened);
    summary.count("failed", "failed", meter.failed.get());
    summary.measure("residentBefore", "memory before", Some(resident), "MiB");
    summary.measure("residentAfter", "memory after", resident_after, "MiB");
    if let Some(left_over) = left_over {
        summary.count("leftOver", "SAs of nobody", left_over);
    }
    check_watched(&memory, &mut summary);
    series.push(memory);
    summary.series(series);
    summary.latency("childSa", "to the Child SA", meter.child_latency.copy());
    summary.causes(&meter.causes);
    probes.tell(&mut summary, &meter, session.fleet.flow_count(), elapsed);
    summary.check(Check::at_most("failed", 0.0, Some(meter.failed.get() as f64), ""));
    summary.check(churn.floor());
    summary.check(Check::at_most("tunnels down", 0.0, Some((u64::from(*count) - up) as f64), ""));
    if let Some(limit) = arguments.max_growth {
        let growth = resident_after.map(|after| after - resident);
        summary.check(Check::at_most("--max-growth", limit, growth, "MiB"));
    }
    session.close(&mut summary, &mut stop).await;
    summary.tell(reporting)
}
