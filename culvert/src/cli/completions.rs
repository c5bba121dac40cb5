//! `culvert completions`.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use crate::console::failure::Failure;

/// `culvert completions`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The shell, e.g. `source <(culvert completions bash)`
    shell: Shell,
}

pub(crate) fn run<C: CommandFactory>(arguments: &Arguments) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut C::command(), "culvert", &mut script);
    std::io::Write::write_all(&mut std::io::stdout().lock(), &script)?;
    Ok(())
}
