//! Where figures go.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;

use crate::fleet::LoadError;

/// How figures are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs: one line, the last of the output
    Json,
}

/// Prints figures as the last line, or lines, of the output.
pub(crate) fn print(to: &mut impl Write, told: &str) -> Result<(), LoadError> {
    match writeln!(to, "{told}").and_then(|()| to.flush()) {
        // Whoever reads has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        outcome => outcome.map_err(|error| LoadError::Io("printing the figures".to_owned(), error)),
    }
}

/// How a load reports.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Report")]
pub(crate) struct Reporting {
    /// How the figures are printed
    #[arg(long, short, value_enum, default_value_t = Output::Text)]
    pub(crate) output: Output,
    /// Write a page with plots too, one file that needs no network
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// What is left to chance follows from it, keys excepted [default: another one each time]
    #[arg(long, value_name = "NUMBER")]
    pub(crate) seed: Option<u64>,
}

impl Reporting {
    /// The seed of this run. A page that cannot be written is told before anything starts; one that is there stays until there is
    /// another.
    pub(crate) fn begin(&self) -> Result<u64, LoadError> {
        if let Some(path) = &self.html {
            let io = |error| LoadError::Io(format!("{} (--html)", path.display()), error);
            std::fs::File::options().write(true).create(true).truncate(false).open(path).map_err(io)?;
        }
        // Below 2^53, so that every reader of JSON has it as it is.
        Ok(self.seed.unwrap_or_else(|| rand::random::<u64>() >> 11))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::words;

    #[test]
    fn the_page_of_an_earlier_run_stays_until_there_is_another() {
        let path = std::env::temp_dir().join(format!("culvert-page-{:016x}.html", rand::random::<u64>()));
        let reporting: Reporting = words::arguments(&format!("--html {}", path.display()));
        reporting.begin().unwrap();
        assert!(path.exists(), "it can be written");
        std::fs::write(&path, "earlier").unwrap();
        reporting.begin().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "earlier");
        std::fs::remove_file(&path).unwrap();
        let nowhere: Reporting = words::arguments("--html /nowhere/page.html");
        assert!(nowhere.begin().unwrap_err().to_string().contains("--html"));
    }
}
