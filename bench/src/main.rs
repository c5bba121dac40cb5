//! What the packet path and a handshake cost.
//!
//! `counts` counts instructions under callgrind and holds them against those that are kept in the repository: exact, so that a
//! busy machine does not matter. `pipeline` and `sas` measure time, as ratios within one run. `docs/src/performance.md` has the
//! figures, and what they say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "all inputs are its own: whatever goes wrong is a fault of the bench"
)]

mod counts;
mod pipeline;
mod subjects;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

// As `culvertd` has it: where an allocation counts, it is to count the same.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// What the packet path and a handshake cost.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Count instructions with callgrind and compare them with what is kept.
    Counts(counts::Options),
    /// Time the way of a packet through a shard, against the bare AEAD.
    Pipeline(pipeline::Options),
    /// Install and remove many pairs of SAs: time and memory.
    Sas(pipeline::SasOptions),
    /// Run one subject: what callgrind looks at.
    #[command(hide = true)]
    Run {
        /// Its name.
        subject: String,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Counts(options) => counts::run(&options),
        Command::Pipeline(options) => pipeline::run(&options),
        Command::Sas(options) => pipeline::sas(&options),
        Command::Run { subject } => subjects::run(&subject).map(|()| true),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            complain(&error);
            ExitCode::from(2)
        }
    }
}

#[allow(clippy::print_stderr, reason = "a command line tool")]
fn complain(error: &anyhow::Error) {
    eprintln!("bench: {error:#}");
}
