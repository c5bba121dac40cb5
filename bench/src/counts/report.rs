//! What was counted against what was expected.

use std::collections::BTreeMap;

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::expected::Expected;
use super::{Counts, Output};
use crate::subjects::{Kind, Subject};

/// A subject that was counted.
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// All instructions of a round.
    pub(crate) all: u64,
    /// Those that are compared: less those of the bare AEAD.
    pub(crate) now: u64,
    /// What was expected, if anything was.
    pub(crate) before: Option<u64>,
}

impl Row {
    /// By how much it has grown, in per cent of what was expected.
    fn change(&self) -> Option<f64> {
        let before = self.before?.max(1) as f64;
        Some((self.now as f64 / before - 1.0) * 100.0)
    }

    fn is_worse(&self) -> bool {
        self.kind != Kind::Bare && self.before.is_some_and(|before| is_more(self.now, before))
    }

    fn verdict(&self) -> &'static str {
        match self.before {
            _ if self.kind == Kind::Bare => "",
            None => "new",
            Some(before) if is_more(self.now, before) => "MORE",
            Some(before) if is_more(before, self.now) => "less",
            Some(_) => "",
        }
    }
}

fn is_more(one: u64, other: u64) -> bool {
    one * 100 > other * (100 + MAX_GROWTH)
}

/// In per cent. A count grows with every check that is added, but not by so much unnoticed.
const MAX_GROWTH: u64 = 5;

pub(crate) fn rows(chosen: &[&Subject], counts: &Counts, expected: &Expected) -> Vec<Row> {
    let row = |subject: &&Subject| {
        let all = *counts.get(subject.name)?;
        let bare = subject.over.and_then(|bare| counts.get(bare)).copied().unwrap_or(0);
        let before = expected.instructions.get(subject.name).copied();
        Some(Row { name: subject.name, kind: subject.kind, all, now: all.saturating_sub(bare), before })
    };
    chosen.iter().filter_map(row).collect()
}

/// How many have grown too much.
pub(crate) fn failed(rows: &[Row]) -> usize {
    rows.iter().filter(|row| row.is_worse()).count()
}

#[allow(clippy::print_stdout, reason = "a command line tool")]
pub(crate) fn show(rows: &[Row], made_with: &BTreeMap<String, String>, expected: &Expected, output: Output) {
    let tables = [
        (Kind::Own, "Our own code (of AEADs: what it adds to the bare one)"),
        (Kind::Crypto, "Mostly ciphers, hashes and Diffie-Hellman"),
        (Kind::Bare, "The bare AEAD, to compare with"),
    ];
    for (kind, title) in tables {
        let of_kind: Vec<_> = rows.iter().filter(|row| row.kind == kind).collect();
        if !of_kind.is_empty() {
            println!("{title}\n{}\n", table(&of_kind));
        }
    }
    for (what, now) in made_with {
        if let Some(before) = expected.made_with.get(what).filter(|before| *before != now) {
            println!(
                "{what} is {now}; what is expected was counted with {before}, so counts may differ for that"
            );
        }
    }
    match failed(rows) {
        0 => println!("No count has grown by more than {MAX_GROWTH} %."),
        failed => println!(
            "{failed} have grown by more than {MAX_GROWTH} %. If that has to be, `make bench-accept` takes it over."
        ),
    }
    if output == Output::Json {
        println!("{}", json(rows, made_with));
    }
}

fn table(rows: &[&Row]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["subject", "all", "before", "now", "change", ""]);
    for row in rows {
        table.add_row([
            row.name.to_owned(),
            row.all.to_string(),
            row.before.map_or_else(|| "-".to_owned(), |before| before.to_string()),
            row.now.to_string(),
            row.change().map_or_else(|| "-".to_owned(), |change| format!("{change:+.1} %")),
            row.verdict().to_owned(),
        ]);
    }
    for number in 1..5 {
        if let Some(column) = table.column_mut(number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn json(rows: &[Row], made_with: &BTreeMap<String, String>) -> serde_json::Value {
    let subjects = rows.iter().map(|row| {
        json!({ "subject": row.name, "instructions": row.all, "compared": row.now, "expected": row.before,
                "change_percent": row.change(), "failed": row.is_worse() })
    });
    json!({ "made_with": made_with, "failed": failed(rows), "subjects": subjects.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(kind: Kind, now: u64, before: Option<u64>) -> Row {
        Row { name: "some", kind, all: now, now, before }
    }

    #[test]
    fn more_than_a_twentieth_fails_but_not_for_the_bare_aead_or_what_is_new() {
        assert_eq!(failed(&[row(Kind::Own, 105, Some(100)), row(Kind::Crypto, 95, Some(100))]), 0);
        assert_eq!(failed(&[row(Kind::Own, 106, Some(100)), row(Kind::Crypto, 106, Some(100))]), 2);
        assert_eq!(failed(&[row(Kind::Bare, 200, Some(100)), row(Kind::Own, 7, None)]), 0);
        assert_eq!(row(Kind::Own, 106, Some(100)).verdict(), "MORE");
        assert_eq!(row(Kind::Own, 90, Some(100)).verdict(), "less");
    }
}
