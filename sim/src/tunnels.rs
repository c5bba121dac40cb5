//! Histories of tunnels, one after the other.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use sim::{Report, Scenario, World};

#[derive(Debug, Args)]
pub(crate) struct Tunnels {
    /// Tunnel-hours to simulate
    #[arg(long, default_value_t = 1000)]
    hours: u64,
    /// First seed; each history has the next
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run the history of the first seed alone
    #[arg(long)]
    one: bool,
    /// Tell every event
    #[arg(long, requires = "one")]
    trace: bool,
}

pub(crate) fn run(arguments: &Tunnels) -> ExitCode {
    let began = Instant::now();
    let mut total = Report::default();
    let mut seed = arguments.seed;
    while total.tunnel_time < Duration::from_secs(3600 * arguments.hours) {
        let mut world = World::new(seed, scenario(seed));
        world.witness.trace = arguments.trace;
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
        if arguments.one {
            break;
        }
    }
    println!(
        "{} histories, {} tunnel-hours, {} events in {:?}: every invariant held",
        seed - arguments.seed,
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
