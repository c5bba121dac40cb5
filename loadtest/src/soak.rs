//! Everything at a time, for long: traffic, rekeyings, tunnels that come and go. Memory must not grow, and every packet that is
//! lost must have been counted by somebody.

use std::time::{Duration, Instant};

use clap::Args;

use crate::Command;
use crate::churn::{LINGER, positive};
use crate::engine::live::{Live, Rate, progress};
use crate::engine::output::Reporting;
use crate::engine::stop::Stop;
use crate::engine::summary::Summary;
use crate::engine::threshold::Check;
use crate::engine::times::time;
use crate::fleet::{
    Accounts, Churn, LoadError, Memory, Probes, Rekeys, Session, Target, Which, check_watched, growth,
};

/// How long one that went stays away.
const DOWN: Duration = Duration::from_secs(1);
/// So long a run says something of memory whether or not it was asked: in a shorter one what the node keeps for some minutes looks
/// like growth.
const LONG: Duration = Duration::from_secs(600);
/// KiB a minute that a long run is allowed where nothing else is asked for: where the kernel gives huge pages to everybody, what has
/// gone from them is filled again by and by, up to a MiB a minute; and a leak of a few octets a packet or some kilobytes a tunnel is above it.
const SLOPE: f64 = 4096.0;
/// What is shown.
const RATES: [Rate; 3] = [
    ("packets/s", |meter| meter.received.get()),
    ("rekeyings/s", |meter| meter.child_rekeys.get() + meter.ike_rekeys.get()),
    ("tunnels/s opened", |meter| meter.child_sas.get()),
];

/// `loadtest soak`
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Tunnels
    #[arg(long = "tunnels", alias = "count", default_value_t = 200, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    count: u32,
    /// Of them so many stay; they carry the flows and are rekeyed
    #[arg(long, default_value_t = 100, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    stable: u32,
    /// Tunnels that go in a second, and come back
    #[arg(long, default_value_t = 2.0, value_name = "N", value_parser = positive)]
    churn_rate: f64,
    /// Rekeyings ordered in a second, of Child SAs and IKE_SAs
    #[arg(long, default_value_t = 5.0, value_name = "N", value_parser = positive)]
    rekey_rate: f64,
    /// How long
    #[arg(long = "for", default_value = "1h", value_parser = time, value_name = "TIME")]
    duration: Duration,
    /// Negotiations under way at a time, when the tunnels are opened
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536), value_name = "N")]
    concurrency: u32,
    #[command(flatten)]
    probes: Probes,
    /// Fail if the node's memory grows faster, after the first fifth of the time [default: 4096 for 10 minutes or more, none below]
    #[arg(long, value_name = "KIB/MIN", help_heading = "Thresholds")]
    max_slope: Option<f64>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    reporting: Reporting,
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
    let (mut session, api) =
        Session::up(target, *count, traffic, seed, arguments.concurrency, &mut stop).await?;
    if stop.is_wanted() {
        return session.interrupted("soak", seed, &mut stop, reporting).await;
    }

    let before = Accounts::take(&api).await?;
    let seconds = u32::try_from(arguments.duration.as_secs()).unwrap_or(u32::MAX);
    let live = Live::of(progress(seconds, "soaking"), &session.fleet.meter, None, RATES.to_vec());
    let memory = Memory::watch(&api);
    // Those of the opening, many at a time, say nothing of what one takes that comes back.
    session.fleet.meter.child_latency.begin_anew();
    let meter = session.fleet.meter.clone();
    let rekeyed = || meter.child_rekeys.get() + meter.ike_rekeys.get();
    let rekeyed_before = rekeyed();
    let begin = Instant::now();
    session.fleet.tell_all(&Command::Send(true)).await;
    let stay = usize::try_from(*stable).unwrap_or(usize::MAX);
    let rekeys = Rekeys::order(
        &api,
        session.plan.places().take(stay).collect(),
        Which::Both,
        arguments.rekey_rate,
        seed,
    );
    let mut churn = Churn::new(session.plan.places().skip(stay), arguments.churn_rate, DOWN, seed);
    let went = churn.go_on(&mut session.fleet, arguments.duration, &mut stop).await;
    let rekeys = rekeys.stop().await;
    session.fleet.tell_all(&Command::Send(false)).await;
    // What was rekeyed in this time: the node may go on.
    let elapsed = begin.elapsed();
    let rekeyed = rekeyed() - rekeyed_before;
    let mut series = live.stop().await;
    let memory = memory.stop().await;
    session.fleet.settle().await;
    let after = Accounts::take(&api).await;
    let up = session.fleet.up();
    let left_over = api.left_over(&session.plan, up, LINGER).await;

    let meter = session.fleet.meter.clone();
    let mut summary = Summary::new("soak", seed);
    summary.count("tunnels", "tunnels", (*count).into());
    summary.measure("seconds", "for", Some(elapsed.as_secs_f64()), "s");
    summary.count("churned", "closed and opened again", churn.opened);
    summary.count("failed", "failed to open", meter.failed.get());
    summary.count("rekeys", "rekeyings", rekeyed);
    summary.causes(&meter.causes);
    rekeys.tell(&mut summary);
    let slope = growth(&memory);
    summary.measure("slopeKibibytesPerMinute", "memory grows by", slope, "KiB/min");
    check_watched(&memory, &mut summary);
    series.push(memory);
    summary.series(series);
    summary.latency("childSa", "to the Child SA", meter.child_latency.copy());
    probes.tell(&mut summary, &meter, session.fleet.flow_count(), elapsed);
    if let Some(after) = summary.got("counters of the node", after) {
        after.tell(&before, &mut summary);
        after.check(&before, &meter, &mut summary);
    }
    summary.got("tunnels opened again", went);
    summary.check(Check::at_most("failed to open", 0.0, Some(meter.failed.get() as f64), ""));
    summary.check(churn.floor());
    summary.check(Check::at_most("failed rekeyings", 0.0, Some(rekeys.failed() as f64), ""));
    let ordered = arguments.rekey_rate * churn.took.as_secs_f64();
    summary.check(Check::nearly("rekeyings of those asked", ordered, rekeys.ordered()));
    summary.none("SAs of nobody", left_over);
    summary.check(Check::at_most("tunnels down", 0.0, Some((u64::from(*count) - up) as f64), ""));
    if let Some(limit) = slope_limit(arguments.max_slope, elapsed) {
        summary.check(Check::at_most("--max-slope", limit, slope, "KiB/min"));
    }
    session.close(&mut summary, &mut stop).await;
    summary.tell(reporting)
}

/// How fast the node's memory may grow in a run that took so long.
fn slope_limit(asked: Option<f64>, elapsed: Duration) -> Option<f64> {
    asked.or_else(|| (elapsed >= LONG).then_some(SLOPE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_a_limit_of_memory_whether_or_not_it_is_asked_for() {
        let (short, long) = (Duration::from_secs(599), Duration::from_secs(600));
        assert_eq!((slope_limit(None, short), slope_limit(None, long)), (None, Some(SLOPE)));
        assert_eq!((slope_limit(Some(7.0), short), slope_limit(Some(7.0), long)), (Some(7.0), Some(7.0)));
    }
}
