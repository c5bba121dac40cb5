//! Running programs.

use std::process::{Child, Command, Output, Stdio};

/// What a program printed, and whether it succeeded.
#[derive(Clone, Debug)]
pub struct Said {
    /// Exit status was zero.
    pub ok: bool,
    /// Standard output and standard error.
    pub text: String,
    /// Standard output alone.
    pub out: String,
}

fn said(output: &Output) -> Said {
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    let both = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    Said { ok: output.status.success(), text: text(&both), out: text(&output.stdout) }
}

/// A binary of this build: beside the directory that the test itself lies in.
pub fn binary(name: &str) -> String {
    let test = std::env::current_exe().unwrap_or_else(|e| panic!("the test's own path: {e}"));
    let built = test.parent().and_then(|deps| deps.parent()).map(|dir| dir.join(name)).unwrap_or_default();
    assert!(built.exists(), "{} is missing: `cargo build -p culvert --bins` makes it", built.display());
    built.display().to_string()
}

/// Runs a program to its end.
pub fn run(program: &str, arguments: &[&str]) -> Said {
    match Command::new(program).args(arguments).stdin(Stdio::null()).output() {
        Ok(output) => said(&output),
        Err(error) => Said { ok: false, text: format!("{program}: {error}"), out: String::new() },
    }
}

/// Runs a program that must succeed.
pub fn must(program: &str, arguments: &[&str]) -> String {
    let said = run(program, arguments);
    assert!(said.ok, "{program} {}: {}", arguments.join(" "), said.text);
    said.text
}

/// A program in the background, killed when dropped.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it with its output in a file.
    pub fn start(program: &str, arguments: &[&str], log: &std::path::Path) -> Self {
        let file = std::fs::File::options().create(true).append(true).open(log);
        let file = file.unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        let copy = file.try_clone().unwrap_or_else(|e| panic!("{}: {e}", log.display()));
        let child =
            Command::new(program).args(arguments).stdin(Stdio::null()).stdout(file).stderr(copy).spawn();
        Self(child.unwrap_or_else(|e| panic!("{program}: {e}")))
    }

    /// Its process, and that of what it executes.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    /// Sends a signal by name.
    pub fn signal(&self, name: &str) {
        must("kill", &[&format!("-{name}"), &self.0.id().to_string()]);
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        matches!(self.0.try_wait(), Ok(None))
    }

    /// Waits for its end; true if it succeeded.
    pub fn wait(&mut self) -> bool {
        self.0.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}
