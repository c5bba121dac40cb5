//! Runs histories by the thousand hours and stops at the first that breaks an invariant.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod clusters;
mod tunnels;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Deterministic simulation of IKE and ESP: one seed, one history
#[derive(Debug, Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    #[command(flatten)]
    tunnels: tunnels::Tunnels,
    #[command(subcommand)]
    of: Option<Of>,
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
