//! Tunnels as fast as a responder opens them, or so many a second: how long each takes, and what it costs the responder.

use std::time::{Duration, Instant};

use clap::Args;

use crate::engine::meter::Meter;
use crate::engine::output::Reporting;
use crate::engine::process::{Process, Usage};
use crate::engine::stop::Stop;
use crate::engine::summary::Summary;
use crate::engine::threshold::{Check, REACHED};
use crate::engine::times::time;
use crate::fleet::{Foreign, LoadError, Session, Target, Traffic};

/// `loadtest handshakes`
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Tunnels to open
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), value_name = "N")]
    count: u32,
    /// Tunnels to begin in a second, whatever becomes of those before; 0: as fast as --concurrency allows
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000), value_name = "N")]
    rate: u32,
    /// Negotiations under way at a time, with --rate 0
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536), value_name = "N")]
    concurrency: u32,
    /// How long the tunnels stay before they are closed
    #[arg(long, default_value = "0s", value_parser = time, value_name = "TIME")]
    hold: Duration,
    /// The responder's process, on this host: its processor time and memory are told [repeatable]
    #[arg(long, value_name = "PID")]
    responder_pid: Vec<u32>,
    /// Fail below so many Child SAs a second
    #[arg(long, value_name = "N", help_heading = "Thresholds")]
    min_rate: Option<f64>,
    /// Fail if the 99th percentile to the Child SA is longer
    #[arg(long, value_parser = time, value_name = "TIME", help_heading = "Thresholds")]
    max_p99: Option<Duration>,
    /// Fail if more tunnels than this do not come up
    #[arg(long, default_value_t = 0, value_name = "N", help_heading = "Thresholds")]
    max_failed: u32,
    /// Fail if a handshake takes the responder longer on its processors, on average (with --responder-pid)
    #[arg(long, value_parser = time, value_name = "TIME", requires = "responder_pid", help_heading = "Thresholds")]
    max_cpu: Option<Duration>,
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    foreign: Foreign,
    #[command(flatten)]
    reporting: Reporting,
}

/// How long it took, and what came in a second.
struct Took {
    elapsed: Duration,
    /// Child SAs.
    rate: f64,
    /// Tunnels begun, with --rate.
    begun: Option<f64>,
}

/// What the responder has used.
#[derive(Debug, Default)]
struct Cost {
    cpu: Duration,
    resident: i128,
}

/// Runs the load; true if all thresholds are met.
///
/// # Errors
/// [`LoadError`]; what was provisioned is then left for who looks.
pub async fn run(arguments: &Arguments) -> Result<bool, LoadError> {
    let mut stop = Stop::on_interrupt();
    let seed = arguments.reporting.begin()?;
    let watched = arguments.responder_pid.iter().map(|pid| find(*pid)).collect::<Result<Vec<_>, _>>()?;
    let Arguments { target, foreign, count, .. } = arguments;
    let mut session =
        Session::open(target, Some(foreign), *count, Traffic::none(), None, seed, &stop).await?;

    let before = look(&watched)?;
    let begin = Instant::now();
    let series = session.negotiate(arguments.rate, arguments.concurrency, &mut stop).await?;
    let elapsed = begin.elapsed();
    let rate = session.fleet.meter.up_per_second(begin);
    let asked = (arguments.rate > 0).then(|| f64::from(arguments.rate));
    let begun = asked.map(|asked| session.fleet.meter.started_per_second(begin, asked));
    let after = look(&watched);
    let mut summary = Summary::new("handshakes", seed);
    if session.fleet.meter.settled() < u64::from(*count) {
        summary.interrupted();
    }
    stop.pause(arguments.hold).await;
    let standing = session.fleet.standing(&mut stop).await;
    summary.series(series);
    let after = summary.got("the responder's process", after).flatten();
    let cost = before.zip(after).map(|(before, after)| Cost::between(&before, &after));
    figures(&mut summary, arguments, &session.fleet.meter, &Took { elapsed, rate, begun }, standing, cost);
    if let Some(api) = &session.api
        && let Some(status) = summary.got("status of the node", api.status().await)
    {
        summary.count("responderChildSas", "Child SAs, says the node", status.child_sas);
    }
    summary.count("perSocket", "initiators on a socket", session.fleet.per_socket().into());
    if let Some(left) = session.close(&mut summary, &mut stop).await {
        summary.count("notClosed", "not closed in time", left);
    }
    summary.tell(&arguments.reporting)
}

fn figures(
    summary: &mut Summary,
    arguments: &Arguments,
    meter: &Meter,
    Took { elapsed, rate, begun }: &Took,
    standing: u64,
    cost: Option<Cost>,
) {
    let (elapsed, rate) = (*elapsed, *rate);
    let (up, failed) = (meter.child_sas.get(), meter.failed.get());
    // Each that came up has cost its time, and each that stands has its memory.
    let each = |value: f64, count: u64| (count > 0).then(|| value / count as f64);
    let cpu = cost.as_ref().and_then(|cost| each(cost.cpu.as_secs_f64() * 1e6, up));
    let resident = cost.as_ref().and_then(|cost| each(cost.resident as f64 / 1024.0, standing));
    summary.count("tunnels", "tunnels begun", meter.started.get());
    summary.count("ikeSas", "IKE_SAs", meter.ike_sas.get());
    summary.count("childSas", "Child SAs", up);
    summary.count("standing", "of them up at the end", standing);
    summary.count("failed", "failed", failed);
    summary.measure("seconds", "in", Some(elapsed.as_secs_f64()), "s");
    summary.measure("childSasPerSecond", "Child SAs a second", Some(rate), "/s");
    if let Some(begun) = *begun {
        summary.measure("begunPerSecond", "begun a second", Some(begun), "/s");
        // Slower ones are another load than the one that was asked for.
        let least = REACHED * f64::from(arguments.rate);
        summary.check(Check::at_least("tunnels begun a second", least, Some(begun), "/s"));
    }
    if cost.is_some() {
        summary.measure("responderCpuMicros", "responder's CPU each", cpu, "us");
        summary.measure("responderKibibytes", "responder's memory each", resident, "KiB");
    }
    let latency = meter.child_latency.copy();
    let p99 = (!latency.is_empty()).then(|| latency.value_at_percentile(99.0) as f64 / 1e6);
    summary.latency("ikeSa", "to the IKE_SA", meter.ike_latency.copy());
    summary.latency("childSa", "to the Child SA", latency);
    summary.causes(&meter.causes);
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    let checks = [
        // A load that was none shows nothing, however many may fail.
        Some(Check::at_least("Child SAs", 1.0, Some(up as f64), "")),
        Some(Check::at_most("--max-failed", arguments.max_failed.into(), Some(failed as f64), "")),
        Some(Check::at_most("tunnels down", 0.0, Some(up.saturating_sub(standing) as f64), "")),
        arguments.min_rate.map(|limit| Check::at_least("--min-rate", limit, Some(rate), "/s")),
        arguments.max_p99.map(|limit| Check::at_most("--max-p99", millis(limit), p99, "ms")),
        arguments.max_cpu.map(|limit| Check::at_most("--max-cpu", millis(limit) * 1e3, cpu, "us")),
    ];
    checks.into_iter().flatten().for_each(|check| summary.check(check));
}

impl Cost {
    fn between(before: &[(Usage, u64)], after: &[(Usage, u64)]) -> Self {
        let mut cost = Self::default();
        for ((usage, resident), (usage_after, resident_after)) in before.iter().zip(after) {
            cost.cpu += usage_after.since(usage);
            cost.resident += i128::from(*resident_after) - i128::from(*resident);
        }
        cost
    }
}

fn find(pid: u32) -> Result<Process, LoadError> {
    Process::find(pid).map_err(|error| LoadError::Io(format!("process {pid} (--responder-pid)"), error))
}

/// What the processes have used and hold; nothing if none is watched.
fn look(watched: &[Process]) -> Result<Option<Vec<(Usage, u64)>>, LoadError> {
    let look = |process: &Process| Ok((process.usage()?, process.resident()?));
    let looks = watched.iter().map(look).collect::<std::io::Result<Vec<_>>>();
    let looks =
        looks.map_err(|error| LoadError::Io("looking at the responder's process".to_owned(), error))?;
    Ok((!looks.is_empty()).then_some(looks))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::words;

    #[test]
    fn tunnels_that_are_gone_again_fail_the_load_and_have_no_memory() {
        let told = |standing| {
            let meter = Meter::default();
            (0..10).for_each(|_| meter.is_up(Duration::from_millis(1)));
            let cost = Cost { cpu: Duration::from_millis(1), resident: 10 << 10 };
            let mut summary = Summary::new("handshakes", 0);
            let took = Took { elapsed: Duration::from_secs(1), rate: 10.0, begun: None };
            figures(&mut summary, &words::arguments(""), &meter, &took, standing, Some(cost));
            let memory = summary.told("responderKibibytes");
            (summary.passed(), summary.told("responderCpuMicros"), memory)
        };
        assert_eq!(told(10), (true, "100 us".to_owned(), "1 KiB".to_owned()));
        assert_eq!(told(1), (false, "100 us".to_owned(), "10 KiB".to_owned()), "each took the place of one");
        assert_eq!(told(0), (false, "100 us".to_owned(), "-".to_owned()));
    }

    #[test]
    fn where_no_tunnel_came_up_none_of_them_may_fail() {
        let passes = |up: u64| {
            let meter = Meter::default();
            (0..up).for_each(|_| meter.is_up(Duration::from_millis(1)));
            meter.failed.add(10 - up);
            let mut summary = Summary::new("handshakes", 0);
            let took = Took { elapsed: Duration::from_secs(1), rate: 10.0, begun: None };
            figures(&mut summary, &words::arguments("--max-failed 10"), &meter, &took, up, None);
            summary.passed()
        };
        assert!(passes(1) && !passes(0));
    }

    #[test]
    fn tunnels_that_were_begun_more_slowly_than_was_asked_for_fail_the_load() {
        let passes = |begun| {
            let meter = Meter::default();
            meter.is_up(Duration::from_millis(1));
            let mut summary = Summary::new("handshakes", 0);
            let took = Took { elapsed: Duration::from_secs(1), rate: 10.0, begun: Some(begun) };
            figures(&mut summary, &words::arguments("--rate 1000"), &meter, &took, 1, None);
            summary.passed()
        };
        assert!(passes(1_000.0) && passes(900.0));
        assert!(!passes(899.0) && !passes(0.0));
    }
}
