//! Runs histories by the hour and stops at the first that breaks an invariant.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod clusters;
mod tunnels;

use std::process::ExitCode;

use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, value_parser};

/// Deterministic simulation of IKE and ESP: one seed, one history
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    tunnels: tunnels::Tunnels,
    #[command(subcommand)]
    of: Option<Of>,
}

/// Which histories
#[derive(Debug, Args)]
struct Seeds {
    /// First seed; each history has the next
    #[arg(long, default_value_t = 1, value_parser = value_parser!(u64).range(..=LAST_SEED))]
    seed: u64,
    /// Run the history of the first seed alone
    #[arg(long)]
    one: bool,
    /// Tell every event, and what nodes log where they do
    #[arg(long, requires = "one")]
    trace: bool,
}

/// The last first seed: whatever is simulated has room behind it.
const LAST_SEED: u64 = u64::MAX >> 1;
/// Hours that may be asked for: years of a machine, and far from where their seconds are no number any more.
const MOST_HOURS: u64 = 1_000_000_000;

/// A number of hours, one at least: none would show nothing.
fn hours() -> RangedU64ValueParser<u64> {
    value_parser!(u64).range(1..=MOST_HOURS)
}

#[derive(Debug, Subcommand)]
enum Of {
    /// Histories of clusters: nodes that are killed, stopped, cut off, drained, and slots that move
    Cluster(clusters::Clusters),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.of {
        Some(Of::Cluster(of)) => clusters::run(&of),
        None => tunnels::run(&arguments.tunnels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_lead_nowhere_are_refused() {
        let taken = |words: &str| Arguments::try_parse_from(words.split(' ')).is_ok();
        for of in ["sim", "sim cluster"] {
            assert!(taken(of) && taken(&format!("{of} --hours 1000000000 --seed 9223372036854775807")));
            for wrong in [
                "--hours 0",
                "--hours 5124095576030432",
                "--seed 18446744073709551615",
                "--trace",
                "--hours -1",
            ] {
                assert!(!taken(&format!("{of} {wrong}")), "{of} {wrong}");
            }
        }
    }
}
