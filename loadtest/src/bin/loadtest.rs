//! Loads for a running concentrator.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use loadtest::tunnels;

/// Loads for a running Culvert node, made of real initiators
#[derive(Debug, Parser)]
#[command(version)]
struct Cli {
    #[command(subcommand)]
    load: Load,
}

#[derive(Debug, Subcommand)]
enum Load {
    /// Many tunnels: brought up, listed, rekeyed under light traffic, torn down
    Tunnels(tunnels::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let Load::Tunnels(arguments) = Cli::parse().load;
    match tunnels::run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "there is no log")]
            {
                eprintln!("loadtest: {error}");
            }
            ExitCode::from(2)
        }
    }
}
