//! The command line: a client of the gRPC API.
//!
//! Every command is a module with its arguments and a `run`. What they share: [`reference`] (how objects are named),
//! [`manifest`](crate::manifest) (YAML), and what [`console`](crate::console) has.

mod apply;
mod completions;
mod control;
mod create;
mod delete;
mod describe;
mod explain;
mod export;
mod get;
mod get_access;
mod get_cluster;
mod import;
mod login;
mod moving;
mod reference;
mod watch;

use std::process::ExitCode;

use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

use crate::console::{Failure, Global};

/// Drives a Culvert node: tenants, peers, secrets and their tunnels.
#[derive(Debug, Parser)]
#[command(
    name = "culvert",
    version,
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 invalid argument, 5 conflict, 6 unavailable, 7 in part, 8 denied"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Create and change what the files say
    Apply(apply::Arguments),
    /// Show tenants, peers, secrets, tokens, SAs, the audit log, the node, or the nodes and slots of its cluster
    Get(get::Arguments),
    /// Make a token
    Create(create::Arguments),
    /// Show everything about one object
    Describe(describe::Arguments),
    /// Delete objects
    Delete(delete::Arguments),
    /// Follow what happens to tunnels
    Watch(watch::Arguments),
    /// Say why a tunnel is not up, and what to change
    Explain(explain::Arguments),
    /// Print what to type on the remote device
    Export(export::Arguments),
    /// Make manifests of a device's configuration
    Import(import::Arguments),
    /// Negotiate a tunnel now
    Initiate(control::Initiate),
    /// Take a tunnel down
    Terminate(control::Terminate),
    /// Send packets that carry nothing, as noise or to test the way there
    Dummies(control::Dummies),
    /// Rekey a tunnel now
    Rekey(control::Rekey),
    /// Move all tunnels of a node to the other nodes of its cluster
    Drain(moving::Drain),
    /// Move a slot of tunnels to another node of the cluster
    Move(moving::Move),
    /// Run a concentrator with two tenants and four branches on loopback, and show it
    Quickstart(crate::quickstart::Arguments),
    /// Try credentials for a node, and keep them as a context
    Login(login::Login),
    /// Forget the credentials for a node
    Logout(login::Logout),
    /// Show and choose contexts
    Context(login::Choose),
    /// Say who one is for the node
    Whoami,
    /// Print a completion script for a shell
    Completions(completions::Arguments),
}

/// Runs the command line of the process.
pub fn main() -> ExitCode {
    let matches = Cli::command().get_matches();
    // What it says of arguments that do not fit is as of `Cli::parse`.
    let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    cli.global.weigh(&matches);
    // One thread: a client waits most of the time.
    let mut builder = match cli.command {
        Command::Quickstart(_) => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.enable_all().build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(run(cli)),
        Err(error) => Err(Failure::failed(format!("starting: {error}"))),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

async fn run(cli: Cli) -> Result<(), Failure> {
    let global = &cli.global;
    match cli.command {
        Command::Apply(arguments) => apply::run(global, arguments).await,
        Command::Get(arguments) => get::run(global, arguments).await,
        Command::Create(arguments) => create::run(global, arguments).await,
        Command::Login(arguments) => login::login(global, arguments).await,
        Command::Logout(arguments) => login::logout(arguments),
        Command::Context(arguments) => login::context(global, arguments),
        Command::Whoami => login::whoami(global).await,
        Command::Describe(arguments) => describe::run(global, arguments).await,
        Command::Delete(arguments) => delete::run(global, arguments).await,
        Command::Watch(arguments) => watch::run(global, arguments).await,
        Command::Explain(arguments) => explain::run(global, arguments).await,
        Command::Export(arguments) => export::run(global, arguments).await,
        Command::Import(arguments) => import::run(global, arguments).await,
        Command::Initiate(arguments) => control::initiate(global, arguments).await,
        Command::Terminate(arguments) => control::terminate(global, arguments).await,
        Command::Dummies(arguments) => control::dummies(global, arguments).await,
        Command::Rekey(arguments) => control::rekey(global, arguments).await,
        Command::Drain(arguments) => moving::drain(global, arguments).await,
        Command::Move(arguments) => moving::move_it(global, arguments).await,
        Command::Quickstart(arguments) => crate::quickstart::run(global, arguments).await,
        Command::Completions(arguments) => completions::run::<Cli>(&arguments),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
