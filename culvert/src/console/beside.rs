//! What is told to people beside the results: notes, warnings, errors.

use std::fmt::Display;
use std::io::Write as _;

/// A line to standard error. Where that takes nothing, as a full disk or a pipe whose reader has gone, nobody reads it, and what the command
/// does goes on: `eprintln!` would end it there.
pub(crate) fn tell(line: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}
