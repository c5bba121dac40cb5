//! What goes with every command.

use std::time::Duration;

use clap::Args;

use crate::console::output::Output;

/// What goes with every command.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// The node to talk to
    #[arg(
        long,
        global = true,
        env = "CULVERT_SERVER",
        default_value = "http://127.0.0.1:50051",
        value_name = "URL"
    )]
    pub(crate) server: String,
    /// How to print
    #[arg(long, short, global = true, value_enum, default_value_t)]
    pub(crate) output: Output,
    /// How long to wait for an answer
    #[arg(long, global = true, default_value = "60s", value_parser = humantime::parse_duration, value_name = "TIME")]
    pub(crate) timeout: Duration,
}
