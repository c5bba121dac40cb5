//! Programs of a comparison that run beside it, until they are there and until they are no longer wanted.

use std::fs;
use std::path::PathBuf;
use std::process::Child;
use std::time::{Duration, Instant};

use super::lab::{LabError, end_of};

/// How long something may take to come up.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// A program that runs, and ends with this value.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pub(crate) log: PathBuf,
}

impl Running {
    pub(super) const fn of(child: Child, log: PathBuf) -> Self {
        Self { child, log }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    fn end_of_log(&self) -> String {
        end_of(&fs::read_to_string(&self.log).unwrap_or_default())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has gone already if these fail.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is there that these programs make.
pub(super) fn wait(
    what: &str,
    programs: &mut [Running],
    mut there: impl FnMut() -> bool,
    check: impl Fn() -> Result<(), LabError>,
) -> Result<(), LabError> {
    let begin = Instant::now();
    while !there() {
        check()?;
        for program in &mut *programs {
            // Whoever has ended will not come up.
            if let Ok(Some(status)) = program.child.try_wait() {
                return Err(LabError::Ended(what.to_owned(), status, program.end_of_log()));
            }
        }
        if begin.elapsed() > PATIENCE {
            let log = programs.first().map(Running::end_of_log).unwrap_or_default();
            return Err(LabError::Late(what.to_owned(), log));
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn who_has_ended_is_not_waited_for() {
        let log = std::env::temp_dir().join(format!("culvert-ended-{}.log", std::process::id()));
        fs::write(&log, "one\nno such option\n").unwrap();
        let child = Command::new("sh").args(["-c", "exit 3"]).spawn().unwrap();
        let mut programs = [Running { child, log: log.clone() }];
        let begin = Instant::now();
        let error = wait("the daemon", &mut programs, || false, || Ok(())).unwrap_err().to_string();
        fs::remove_file(&log).unwrap();
        assert!(error.contains("status: 3") && error.contains("no such option"), "{error}");
        assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
    }
}
