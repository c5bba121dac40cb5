//! The daemon as a process, up to where it says that it is ready.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};

use serde_json::Value;

/// What it logs, line by line.
pub(crate) type Log = Lines<BufReader<ChildStderr>>;

/// Starts `command`, a daemon whose log is in JSON: the process, what it says from then on, and the record that says that it is
/// ready.
pub(crate) fn launch(mut command: Command, config: &Path) -> (Child, Log, Value) {
    command.arg("--config").arg(config).env_remove("CULVERT_LOG").stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
    let ready = loop {
        let line = log.next().expect("the daemon ended").unwrap();
        let record: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        if record["message"] == "culvertd is ready" {
            break record;
        }
    };
    (child, log, ready)
}

/// The daemon of this build.
pub(crate) fn culvertd() -> Command {
    Command::new(env!("CARGO_BIN_EXE_culvertd"))
}
