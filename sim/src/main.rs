//! Runs histories by the hour and stops at the first that breaks an invariant.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod clusters;
mod tunnels;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

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
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Run the history of the first seed alone
    #[arg(long)]
    one: bool,
    /// Tell every event, and what nodes log where they do
    #[arg(long, requires = "one")]
    trace: bool,
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
