//! What a program writes until it ends, which it has a time for: one that hangs does not hold the run.

use std::io::{self, Read};
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::lab::LabError;

/// Between two looks whether it has ended: short at first, as most programs are done at once.
const FIRST: Duration = Duration::from_millis(1);
const LAST: Duration = Duration::from_millis(50);

/// Why there is no output.
#[derive(Debug)]
pub(super) enum Unfinished {
    /// It was not done in time.
    Late,
    /// Somebody has interrupted.
    Stopped(LabError),
    /// It could not be started, or not be read from.
    Io(io::Error),
}

impl From<io::Error> for Unfinished {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Runs it to its end, or kills it when its time is over or `check` fails.
pub(super) fn of(
    mut command: Command,
    limit: Duration,
    check: impl Fn() -> Result<(), LabError>,
) -> Result<Output, Unfinished> {
    let begin = Instant::now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let (out, errors) = (child.stdout.take(), child.stderr.take());
    thread::scope(|scope| {
        // A pipe that nobody reads fills, and the program would wait.
        let (out, errors) = (scope.spawn(|| all_of(out)), scope.spawn(|| all_of(errors)));
        let mut pause = FIRST;
        let ended = loop {
            match child.try_wait() {
                Ok(Some(status)) => break Ok(status),
                Ok(None) => {}
                Err(error) => break Err(error.into()),
            }
            if let Err(error) = check() {
                break Err(Unfinished::Stopped(error));
            }
            if begin.elapsed() > limit {
                break Err(Unfinished::Late);
            }
            thread::sleep(pause);
            pause = (pause * 2).min(LAST);
        };
        if ended.is_err() {
            // Who reads ends with it. It has gone already if these fail.
            let _ = child.kill();
            let _ = child.wait();
        }
        let read = |reader: thread::ScopedJoinHandle<'_, io::Result<Vec<u8>>>| {
            reader.join().unwrap_or_else(|_| Err(io::Error::other("a reader panicked")))
        };
        let (stdout, stderr) = (read(out), read(errors));
        Ok(Output { status: ended?, stdout: stdout?, stderr: stderr? })
    })
}

fn all_of(pipe: Option<impl Read>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    pipe.map_or(Ok(0), |mut pipe| pipe.read_to_end(&mut all))?;
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(text: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", text]);
        command
    }

    #[test]
    fn what_a_program_writes_is_had_however_much_it_is() {
        let hour = Duration::from_secs(3600);
        let output = of(shell("head -c 300000 /dev/zero; echo no >&2; exit 4"), hour, || Ok(())).unwrap();
        assert_eq!((output.stdout.len(), output.stderr), (300_000, b"no\n".to_vec()));
        assert_eq!(output.status.code(), Some(4));
    }

    #[test]
    fn a_program_that_hangs_is_ended_when_its_time_is_over_or_somebody_interrupts() {
        let hangs = || shell("exec tail -f /dev/null");
        assert!(matches!(of(hangs(), Duration::ZERO, || Ok(())), Err(Unfinished::Late)));
        let hour = Duration::from_secs(3600);
        let stopped = of(hangs(), hour, || Err(LabError::Interrupted));
        assert!(matches!(stopped, Err(Unfinished::Stopped(LabError::Interrupted))));
        let missing = of(Command::new("/no/such/program"), hour, || Ok(()));
        assert!(matches!(missing, Err(Unfinished::Io(error)) if error.kind() == io::ErrorKind::NotFound));
    }
}
