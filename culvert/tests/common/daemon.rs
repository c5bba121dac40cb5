//! The daemon as a process, up to where it says that it is ready.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead as _, BufReader, Lines};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// What it logs, line by line.
pub(crate) type Log = Lines<BufReader<ChildStderr>>;

/// Starts `command`, a daemon whose log is in JSON: the process, what it says from then on, and the record that says that it is
/// ready.
pub(crate) fn launch(command: Command, config: &Path) -> (Child, Log, Value) {
    let (child, mut log) = spawn(command, config);
    let ready = said(&mut log, "culvertd is ready");
    (child, log, ready)
}

/// Starts `command`, a daemon whose log is in JSON.
pub(crate) fn spawn(mut command: Command, config: &Path) -> (Child, Log) {
    command.arg("--config").arg(config).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let log = BufReader::new(child.stderr.take().unwrap()).lines();
    (child, log)
}

/// The next record of this message.
pub(crate) fn said(log: &mut Log, message: &str) -> Value {
    loop {
        let line = log.next().expect("the daemon ended").unwrap();
        let record: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        if record["message"] == message {
            return record;
        }
    }
}

/// Asks until it is so.
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !holds() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{what}");
    }
}

/// The daemon of this build, which logs what its configuration says.
pub(crate) fn culvertd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvertd"));
    command.env_remove("CULVERT_LOG");
    command
}
