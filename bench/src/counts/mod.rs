//! Counts instructions of every subject and holds them against the file of expected counts.

mod callgrind;
mod expected;
mod report;

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use crate::subjects;
use expected::Expected;

/// How to count.
#[derive(Args)]
pub(crate) struct Options {
    /// Only subjects with this in their name.
    filter: Option<String>,
    /// Write what was counted into the file of expected counts.
    #[arg(long)]
    accept: bool,
    /// A table, or a line of JSON at the end.
    #[arg(long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

/// For whom.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Json,
}

/// Counts, by name of the subject: all instructions of a round.
type Counts = BTreeMap<&'static str, u64>;

/// Counts and compares: whether no subject of those looked at has grown by more than it may.
pub(crate) fn run(options: &Options) -> anyhow::Result<bool> {
    let all = subjects::all();
    let chosen = |name: &str| options.filter.as_ref().is_none_or(|part| name.contains(part.as_str()));
    let chosen: Vec<_> = all.iter().filter(|subject| chosen(subject.name)).collect();
    anyhow::ensure!(
        !chosen.is_empty(),
        "no subject has that in its name; `bench counts` without one counts all"
    );
    let made_with = callgrind::about()?;

    // What a subject is compared with has to be counted, too.
    let needed = |name| chosen.iter().any(|subject| subject.name == name || subject.over == Some(name));
    let needed: Vec<_> = all.iter().filter(|subject| needed(subject.name)).collect();
    let progress = ProgressBar::new(needed.len() as u64);
    progress.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
    let mut counts = Counts::new();
    for subject in needed {
        progress.set_message(subject.name);
        counts.insert(subject.name, callgrind::count(subject)?);
        progress.inc(1);
    }
    progress.finish_and_clear();

    let mut expected = Expected::read()?;
    let rows = report::rows(&chosen, &counts, &expected);
    let failed = report::failed(&rows);
    report::show(&rows, &made_with, &expected, options.output);
    if options.accept {
        expected.take_over(&rows, made_with, &all)?;
        expected.write()?;
        return Ok(true);
    }
    Ok(failed == 0)
}
