//! Histories of tunnels, one after the other.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use super::{Seeds, hours};
use clap::Args;
use sim::{Report, Scenario, World};

#[derive(Debug, Args)]
pub(crate) struct Tunnels {
    /// Tunnel-hours to simulate
    #[arg(long, default_value_t = 1000, value_parser = hours())]
    hours: u64,
    #[command(flatten)]
    seeds: Seeds,
}

pub(crate) fn run(arguments: &Tunnels) -> ExitCode {
    let began = Instant::now();
    let mut total = Report::default();
    let mut seed = arguments.seeds.seed;
    while total.tunnel_time < Duration::from_secs(3600 * arguments.hours) {
        let mut world = World::new(seed, scenario(seed));
        world.witness.trace = arguments.seeds.trace;
        let report = world.run();
        total.add(&report);
        if !report.violations.is_empty() {
            eprintln!("seed {seed} breaks an invariant (run it again with --seed {seed} --one):");
            for violation in &report.violations {
                eprintln!("  {violation}");
            }
            return ExitCode::FAILURE;
        }
        seed += 1;
        if arguments.seeds.one {
            break;
        }
    }
    println!(
        "{} histories, {} tunnel-hours, {} events in {:?}: every invariant held",
        seed - arguments.seeds.seed,
        total.tunnel_time.as_secs() / 3600,
        total.events,
        began.elapsed(),
    );
    println!(
        "{} probes sent, {} arrived, {} lost without excuse",
        total.sent, total.received, total.unexcused
    );
    for (what, count) in &total.counts {
        println!("{count:>10} {what}");
    }
    ExitCode::SUCCESS
}

/// Every fifth has rekeyings only, the others whatever may happen.
fn scenario(seed: u64) -> Scenario {
    let hour = Duration::from_secs(3600);
    let scenario = if seed % 5 == 4 { Scenario::rekeys(hour) } else { Scenario::storm(4 * hour) };
    scenario.varied(seed)
}
