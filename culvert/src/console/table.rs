//! Tables for people, and the numbers in them.

use std::io::IsTerminal as _;
use std::time::{Duration, SystemTime};

use comfy_table::{ContentArrangement, Table, presets};

/// Aligned columns without lines; an empty cell is a dash, so that columns can be cut with `awk`.
pub(crate) fn table(header: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row.into_iter().map(|cell| if cell.is_empty() { "-".to_owned() } else { cell }));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    // On a terminal cells are wrapped to its width; what goes to another program keeps to a line each.
    if std::io::stdout().is_terminal() {
        let width = columns(table.width());
        table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
    }
    table.trim_fmt()
}

/// The width of a terminal that says this of itself. None has no column at all: one whose size nobody has set says so, as a serial console or
/// what a program has made.
fn columns(told: Option<u16>) -> u16 {
    /// What programs take where they are told nothing.
    const USUAL: u16 = 80;
    told.filter(|columns| *columns > 0).unwrap_or(USUAL)
}

/// `name: value` lines, aligned; lines without a value are left out.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default() + 1;
    let shown = fields.iter().filter(|(_, value)| !value.is_empty());
    let lines: Vec<String> =
        shown.map(|(name, value)| format!("{:width$} {value}", format!("{name}:"))).collect();
    lines.join("\n")
}

/// `1.5 MiB`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if count < 1024 {
        return format!("{count} B");
    }
    let mut value = count as f64 / 1024.0;
    let mut unit = "KiB";
    for next in UNITS.iter().skip(1) {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// How long ago, in its two greatest units: `2h 5m`.
pub(crate) fn age(time: Option<prost_types::Timestamp>) -> String {
    let Some(time) = time.and_then(|time| SystemTime::try_from(time).ok()) else {
        return String::new();
    };
    // Clocks of two machines differ: the future is now.
    span(SystemTime::now().duration_since(time).unwrap_or_default())
}

/// How long until then; `now` if it has passed.
pub(crate) fn until(time: Option<prost_types::Timestamp>) -> String {
    let Some(time) = time.and_then(|time| SystemTime::try_from(time).ok()) else {
        return String::new();
    };
    match time.duration_since(SystemTime::now()) {
        Ok(rest) => format!("in {}", span(rest)),
        Err(_) => "now".to_owned(),
    }
}

/// How long until something ends; `expired` if it has.
pub(crate) fn ends(time: Option<prost_types::Timestamp>) -> String {
    let ended =
        time.and_then(|time| SystemTime::try_from(time).ok()).filter(|time| *time <= SystemTime::now());
    ended.map_or_else(|| until(time), |_| "expired".to_owned())
}

/// A point in time as RFC 3339, to the millisecond.
pub(crate) fn clock(time: Option<prost_types::Timestamp>) -> String {
    let time = time.and_then(|time| SystemTime::try_from(time).ok());
    time.map(|time| humantime::format_rfc3339_millis(time).to_string()).unwrap_or_default()
}

fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let parts =
        [("d", seconds / 86_400), ("h", seconds / 3600 % 24), ("m", seconds / 60 % 60), ("s", seconds % 60)];
    let mut shown = parts.iter().skip_while(|(_, value)| *value == 0).take(2).filter(|(_, value)| *value > 0);
    let first = shown.next().map(|(unit, value)| format!("{value}{unit}"));
    let second = shown.next().map(|(unit, value)| format!(" {value}{unit}"));
    format!("{}{}", first.unwrap_or("0s".to_owned()), second.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(1023), "1023 B");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "16.0 EiB");
        assert_eq!(span(Duration::from_secs(0)), "0s");
        assert_eq!(span(Duration::from_secs(7500)), "2h 5m");
        assert_eq!(span(Duration::from_secs(86_400)), "1d");
        assert_eq!(span(Duration::from_secs(86_399)), "23h 59m");
    }

    #[test]
    fn a_terminal_that_does_not_know_its_width_has_the_usual_one() {
        assert_eq!([None, Some(0), Some(1), Some(200)].map(columns), [80, 80, 1, 200]);
    }

    #[test]
    fn tables_have_no_empty_cells() {
        let text =
            table(&["A", "LONG"], vec![vec!["x".into(), String::new()], vec!["yyyy".into(), "z".into()]]);
        assert_eq!(text, "A     LONG\nx     -\nyyyy  z");
        assert_eq!(
            fields(&[("A", "1".into()), ("Skipped", String::new()), ("Bcd", "2".into())]),
            "A:       1\nBcd:     2"
        );
    }
}
