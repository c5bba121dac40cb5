//! The figures as a table and as a line of JSON.

use comfy_table::{CellAlignment, Table, presets};
use serde_json::json;

use super::measure::{Figure, Spread};
use crate::counts::Output;

#[allow(clippy::print_stdout, reason = "a command line tool")]
pub(crate) fn show(figures: &[Figure], output: Output) {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["octets", "way", "pairs", "shard ns", "bare AEAD ns", "ratio", "to one pair"]);
    for figure in figures {
        table.add_row([
            figure.size.to_string(),
            figure.way.name().to_owned(),
            figure.pairs.to_string(),
            text(figure.shard, 0),
            text(figure.bare, 0),
            text(figure.ratio, 2),
            to_one(figures, figure).map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}")),
        ]);
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}");
    if output == Output::Json {
        let spread = |spread: Spread| json!([spread.low, spread.median, spread.high]);
        let rows = figures.iter().map(|figure| {
            json!({ "octets": figure.size, "way": figure.way.name(), "pairs": figure.pairs,
                    "shard_ns": spread(figure.shard), "bare_ns": spread(figure.bare), "ratio": spread(figure.ratio),
                    "to_one_pair": to_one(figures, figure) })
        });
        println!("{}", json!({ "pipeline": rows.collect::<Vec<_>>() }));
    }
}

/// What a packet costs compared with the same over one pair, both as multiples of the bare AEAD.
fn to_one(figures: &[Figure], figure: &Figure) -> Option<f64> {
    let same = |one: &&Figure| one.pairs == 1 && one.way == figure.way && one.size == figure.size;
    let one = figures.iter().find(same)?;
    Some(figure.ratio.median / one.ratio.median)
}

fn text(spread: Spread, digits: usize) -> String {
    format!("{:.digits$} ({:.digits$}-{:.digits$})", spread.median, spread.low, spread.high)
}
