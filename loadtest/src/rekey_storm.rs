//! Rekeyings of many tunnels at a time: they must not cost a packet, and no tenant may wait for the others.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clap::Args;

use crate::engine::live::{Live, Rate, progress};
use crate::engine::output::Reporting;
use crate::engine::stop::Stop;
use crate::engine::summary::Summary;
use crate::engine::threshold::{Check, REACHED};
use crate::engine::times::time;
use crate::fleet::{Fleet, LoadError, Probes, Rekeys, Session, Target, Which};
use crate::{Command, Report};

/// Flows that sample what rekeyings cost, where no number is asked for.
const FLOWS: u32 = 100;
/// What is shown.
const RATES: [Rate; 2] = [
    ("rekeyings/s", |meter| meter.child_rekeys.get() + meter.ike_rekeys.get()),
    ("packets/s", |meter| meter.received.get()),
];

/// `loadtest rekey-storm`
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Tunnels
    #[arg(long = "tunnels", alias = "count", default_value_t = 1000, value_name = "N", value_parser = clap::value_parser!(u32).range(2..=1_000_000))]
    count: u32,
    /// Lifetime of the Child SAs, after which the node rekeys them by itself
    #[arg(long, default_value = "10s", value_parser = time, value_name = "TIME")]
    life: Duration,
    /// Order so many rekeyings a second instead, over the API
    #[arg(long, value_name = "N", conflicts_with = "life", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rekey_rate: Option<u32>,
    /// What is ordered to be rekeyed
    #[arg(long, value_enum, default_value_t = Which::Child, requires = "rekey_rate")]
    which: Which,
    /// How long
    #[arg(long = "for", default_value = "30s", value_parser = time, value_name = "TIME")]
    duration: Duration,
    /// Negotiations under way at a time, when the tunnels are opened
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536), value_name = "N")]
    concurrency: u32,
    #[command(flatten)]
    probes: Probes,
    /// Fail below so many rekeyings a second
    #[arg(long, value_name = "N", help_heading = "Thresholds")]
    min_rate: Option<f64>,
    /// Fail if the tenants' rekeyings are less even: 1 is the same for each, 1/N is all of one of N (Jain's index)
    #[arg(long, default_value_t = 0.9, value_name = "INDEX", help_heading = "Thresholds")]
    min_fairness: f64,
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
    let Arguments { target, count, probes, reporting, .. } = arguments;
    let mut stop = Stop::on_interrupt();
    let seed = reporting.begin()?;
    let traffic = probes.traffic(*count, FLOWS);
    let life = arguments.rekey_rate.is_none().then_some(arguments.life);
    let mut session = Session::open(target, None, *count, traffic, life, seed, &stop).await?;
    session.negotiate(0, arguments.concurrency, &mut stop).await?;
    if stop.is_wanted() {
        return session.interrupted("rekey-storm", seed, &mut stop, reporting).await;
    }
    session.fleet.all_up()?;

    let seconds = u32::try_from(arguments.duration.as_secs()).unwrap_or(u32::MAX);
    let live = Live::of(progress(seconds, "rekeying"), &session.fleet.meter, None, RATES.to_vec());
    // What was rekeyed while tunnels were opened is no part of it either.
    let (begin, before) = (Instant::now(), Rekeyed::of(&session.fleet));
    session.fleet.tell_all(&Command::Send(true)).await;
    let orders = arguments.rekey_rate.zip(session.api.as_ref()).map(|(rate, api)| {
        Rekeys::order(api, session.plan.places().collect(), arguments.which, rate.into(), seed)
    });
    stop.pause(arguments.duration).await;
    // Before those under way are waited for, which is no part of the measured time.
    let served = Served::between(&before, Rekeyed::of(&session.fleet), begin.elapsed());
    let ordered = match orders {
        Some(orders) => Some(orders.stop().await),
        None => None,
    };
    let series = live.stop().await;
    session.fleet.tell_all(&Command::Send(false)).await;
    // Flows go on while orders are waited for, and their rates are of that time as well.
    let sent_for = begin.elapsed();
    session.fleet.settle().await;

    let down = session.fleet.reports().filter(|(_, report)| !report.up).count();
    let meter = session.fleet.meter.clone();
    let mut summary = Summary::new("rekey-storm", seed);
    summary.measure("seconds", "for", Some(served.elapsed.as_secs_f64()), "s");
    summary.count("tunnels", "tunnels", (*count).into());
    summary.count("childRekeys", "Child SAs rekeyed", served.child);
    summary.count("ikeRekeys", "IKE_SAs rekeyed", served.ike);
    summary.measure("rekeysPerSecond", "rekeyings a second", Some(served.rate()), "/s");
    if let Some(ordered) = &ordered {
        ordered.tell(&mut summary);
        summary.check(Check::at_most("failed rekeyings", 0.0, Some(ordered.failed() as f64), ""));
    }
    summary.check(served.floor(arguments.life, arguments.rekey_rate));
    fairness(&mut summary, &served.reports, arguments.min_fairness);
    summary.causes(&meter.causes);
    summary.series(series);
    probes.tell(&mut summary, &meter, session.fleet.flow_count(), sent_for);
    summary.check(Check::at_most("tunnels down", 0.0, Some(down as f64), ""));
    if let Some(limit) = arguments.min_rate {
        summary.check(Check::at_least("--min-rate", limit, Some(served.rate()), "/s"));
    }
    session.close(&mut summary, &mut stop).await;
    summary.tell(reporting)
}

/// What has been rekeyed up to one moment.
#[derive(Clone, Debug, Default)]
struct Rekeyed {
    child: u64,
    ike: u64,
    /// By tunnel: its tenant, and what it has seen.
    reports: Vec<(u32, Report)>,
}

impl Rekeyed {
    fn of(fleet: &Fleet) -> Self {
        let (child, ike) = (fleet.meter.child_rekeys.get(), fleet.meter.ike_rekeys.get());
        let reports = fleet.reports().map(|(place, report)| (place.tenant(), report)).collect();
        Self { child, ike, reports }
    }
}

/// What was rekeyed in the measured time: a node goes on by itself, while what is on the way arrives.
struct Served {
    elapsed: Duration,
    child: u64,
    ike: u64,
    /// By tunnel, as above, of this time alone.
    reports: Vec<(u32, Report)>,
}

impl Served {
    /// All tunnels are up before it begins, so that each has a report in both, in the same order.
    fn between(before: &Rekeyed, after: Rekeyed, elapsed: Duration) -> Self {
        let mut reports = after.reports;
        for ((_, report), (_, earlier)) in reports.iter_mut().zip(&before.reports) {
            report.child_rekeys = report.child_rekeys.saturating_sub(earlier.child_rekeys);
            report.ike_rekeys = report.ike_rekeys.saturating_sub(earlier.ike_rekeys);
        }
        let child = after.child.saturating_sub(before.child);
        let ike = after.ike.saturating_sub(before.ike);
        Self { elapsed, child, ike, reports }
    }

    /// A second, of both.
    fn rate(&self) -> f64 {
        (self.child + self.ike) as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }
}

impl Served {
    /// What there must have been: each tunnel is rekeyed when its life is over, but for the last, which may be under way; or as many
    /// as were ordered, nearly.
    fn floor(&self, life: Duration, ordered: Option<u32>) -> Check {
        if let Some(rate) = ordered {
            return Check::at_least(
                "rekeyings of those ordered",
                REACHED * f64::from(rate),
                Some(self.rate()),
                "/s",
            );
        }
        let lives = (self.elapsed.as_secs_f64() / life.as_secs_f64().max(1e-9)).floor();
        let least = self.reports.iter().map(|(_, report)| report.child_rekeys).min();
        let least = least.map(|least| least as f64);
        Check::at_least("rekeyings of each tunnel", (lives - 1.0).max(0.0), least, "")
    }
}

/// How evenly the tenants were served, by the rekeyings of a tunnel.
fn fairness(summary: &mut Summary, reports: &[(u32, Report)], limit: f64) {
    let mut tenants: BTreeMap<u32, (u64, u64)> = BTreeMap::new();
    for (tenant, report) in reports {
        let (rekeys, tunnels) = tenants.entry(*tenant).or_default();
        *rekeys += report.child_rekeys + report.ike_rekeys;
        *tunnels += 1;
    }
    let each: Vec<f64> = tenants.values().map(|(rekeys, tunnels)| *rekeys as f64 / *tunnels as f64).collect();
    let least = each.iter().copied().fold(f64::INFINITY, f64::min);
    let most = each.iter().copied().fold(0.0, f64::max);
    let index = jain(&each);
    summary.count("tenants", "tenants", each.len() as u64);
    summary.measure("fairness", "fairness among them", index, "");
    summary.figure(
        "rekeysPerTunnelAndTenant",
        "rekeyings of a tunnel",
        vec![least, most],
        format!("{least:.2} to {most:.2} by tenant"),
    );
    summary.check(Check::at_least("--min-fairness", limit, index, ""));
}

/// Jain's index of fairness; nothing if nobody had anything.
fn jain(values: &[f64]) -> Option<f64> {
    let sum: f64 = values.iter().sum();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    (squares > 0.0).then(|| sum * sum / (squares * values.len() as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_everything_is_unfair() {
        assert_eq!(jain(&[3.0; 7]), Some(1.0));
        assert_eq!(jain(&[4.0, 0.0, 0.0, 0.0]), Some(0.25));
        assert_eq!(jain(&[0.0, 0.0]), None);
        assert_eq!(jain(&[]), None);
    }

    #[test]
    fn rekeyings_that_were_due_and_did_not_come_fail_the_load() {
        let passes = |seconds, each: [u64; 2], ordered| {
            let reports = each.map(|n| (0, Report { child_rekeys: n, ..Report::default() })).to_vec();
            let elapsed = Duration::from_secs(seconds);
            let served = Served { elapsed, child: each.iter().sum(), ike: 0, reports };
            served.floor(Duration::from_secs(10), ordered).passed()
        };
        assert!(passes(35, [3, 2], None), "one of them is about to be");
        assert!(!passes(35, [5, 1], None), "one was left out");
        assert!(!passes(35, [0, 0], None));
        assert!(passes(15, [0, 0], None), "none was due twice");
        assert!(passes(10, [48, 42], Some(10)) && !passes(10, [48, 41], Some(10)));
    }

    #[test]
    fn what_was_rekeyed_before_the_begin_is_no_part_of_what_was_asked_for() {
        let rekeyed = |each: [[u64; 2]; 2]| {
            let report = |[child_rekeys, ike_rekeys]: [u64; 2]| {
                (0, Report { child_rekeys, ike_rekeys, ..Report::default() })
            };
            let sum = |at: usize| each.iter().map(|rekeys| rekeys[at]).sum();
            Rekeyed { child: sum(0), ike: sum(1), reports: each.map(report).to_vec() }
        };
        let before = rekeyed([[4, 1], [2, 0]]);
        let served = Served::between(&before, rekeyed([[6, 1], [5, 7]]), Duration::from_secs(2));
        assert_eq!((served.child, served.ike, served.rate()), (5, 7, 6.0));
        let each: Vec<_> = served.reports.iter().map(|(_, r)| (r.child_rekeys, r.ike_rekeys)).collect();
        assert_eq!(each, [(2, 0), (3, 7)]);
        let idle = Served::between(&before, before.clone(), Duration::from_secs(20));
        assert!(!idle.floor(Duration::from_secs(5), None).passed(), "nothing since the begin");
    }

    #[test]
    fn a_tenant_that_waits_is_seen() {
        let reports: Vec<_> = (0..100)
            .map(|n| (n % 4, Report { child_rekeys: if n % 4 == 0 { 0 } else { 5 }, ..Report::default() }))
            .collect();
        let mut summary = Summary::new("rekey-storm", 0);
        fairness(&mut summary, &reports, 0.9);
        assert!(!summary.passed());
    }
}
