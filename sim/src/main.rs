//! Runs histories by the thousand tunnel-hours and stops at the first that breaks an invariant.
#![allow(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use sim::net::NatKind;
use sim::{Report, Scenario, World};

/// Deterministic simulation of IKE and ESP: one seed, one history
#[derive(Debug, Parser)]
struct Arguments {
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

fn main() -> ExitCode {
    let arguments = Arguments::parse();
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

/// Every seed has its own mixture of NAT, starting sides, modes and troubles.
fn scenario(seed: u64) -> Scenario {
    let hour = Duration::from_secs(3600);
    let mut scenario = if seed % 5 == 4 { Scenario::rekeys(hour) } else { Scenario::storm(4 * hour) };
    let kinds = usize::try_from(seed % 12).unwrap_or(0);
    scenario.nat = NatKind::all().nth(kinds);
    scenario.both_start = seed.is_multiple_of(3);
    scenario.transport = seed.is_multiple_of(2);
    scenario
}
