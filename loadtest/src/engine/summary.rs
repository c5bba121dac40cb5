//! What a load has come to: figures, latencies, rates over time, and whether the thresholds are met.

use std::io::Write;

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{ContentArrangement, Table};
use hdrhistogram::Histogram;
use serde_json::{Map, Value, json};

use super::causes::Causes;
use super::html;
use super::live::Series;
use super::output::{Output, Reporting, print};
use super::threshold::Check;
use crate::fleet::LoadError;

/// Percentiles that are told.
const PERCENTILES: [(&str, f64); 4] = [("p50", 50.0), ("p90", 90.0), ("p99", 99.0), ("p99.9", 99.9)];
/// Causes of failure that are told: the most frequent.
const CAUSES: usize = 8;

/// One number.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    key: &'static str,
    value: Value,
    pub(super) label: &'static str,
    pub(super) text: String,
}

/// Everything that is told of a load.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(super) load: &'static str,
    pub(super) seed: u64,
    pub(super) figures: Vec<Figure>,
    pub(super) latencies: Vec<(&'static str, &'static str, Histogram<u64>)>,
    pub(super) series: Vec<Series>,
    pub(super) checks: Vec<Check>,
    causes: Vec<(String, u64)>,
}

impl Summary {
    pub(crate) const fn new(load: &'static str, seed: u64) -> Self {
        Self {
            load,
            seed,
            figures: Vec::new(),
            latencies: Vec::new(),
            series: Vec::new(),
            checks: Vec::new(),
            causes: Vec::new(),
        }
    }

    /// A number by its name for programs and for people, and as people read it.
    pub(crate) fn figure(
        &mut self,
        key: &'static str,
        label: &'static str,
        value: impl Into<Value>,
        text: impl Into<String>,
    ) {
        self.figures.push(Figure { key, value: value.into(), label, text: text.into() });
    }

    /// A count.
    pub(crate) fn count(&mut self, key: &'static str, label: &'static str, count: u64) {
        self.figure(key, label, count, count.to_string());
    }

    /// A value with a unit, or a dash where none was measured.
    pub(crate) fn measure(&mut self, key: &'static str, label: &'static str, value: Option<f64>, unit: &str) {
        let text = value.map_or_else(|| "-".to_owned(), |value| format!("{} {unit}", short(value)));
        self.figure(key, label, value, text);
    }

    /// Latencies by their name for programs and for people; of none nothing is told.
    pub(crate) fn latency(&mut self, key: &'static str, label: &'static str, histogram: Histogram<u64>) {
        if !histogram.is_empty() {
            self.latencies.push((key, label, histogram));
        }
    }

    pub(crate) fn series(&mut self, series: impl IntoIterator<Item = Series>) {
        self.series.extend(series.into_iter().filter(|series| !series.points.is_empty()));
    }

    pub(crate) fn check(&mut self, check: Check) {
        self.checks.push(check);
    }

    pub(crate) fn causes(&mut self, causes: &Causes) {
        self.causes.extend(causes.list());
    }

    /// What was asked for; if there is no answer the check of this name fails, and why is told with the causes.
    pub(crate) fn got<T>(&mut self, check: &'static str, answer: Result<T, LoadError>) -> Option<T> {
        match answer {
            Ok(answer) => Some(answer),
            Err(error) => {
                let cause = error.to_string();
                match self.causes.iter_mut().find(|(known, _)| *known == cause) {
                    Some((_, count)) => *count += 1,
                    None => self.causes.push((cause, 1)),
                }
                self.check(Check::at_most(check, 0.0, None, ""));
                None
            }
        }
    }

    /// Somebody has ended the load before all of its tunnels were open: whatever else it tells, it has not shown what it is for.
    pub(crate) fn interrupted(&mut self) {
        self.figure("interrupted", "interrupted", true, "while tunnels were opened");
        self.check(Check::at_most("interrupted before its begin", 0.0, Some(1.0), ""));
    }

    /// Of what was asked for there may be none: as [`Self::got`], and a check of the same name.
    pub(crate) fn none(&mut self, check: &'static str, answer: Result<u64, LoadError>) -> Option<u64> {
        let there = self.got(check, answer)?;
        self.check(Check::at_most(check, 0.0, Some(there as f64), ""));
        Some(there)
    }

    /// Everything that had to be reached was.
    pub(crate) fn passed(&self) -> bool {
        self.checks.iter().all(Check::passed)
    }

    /// Prints it, and writes the page that was asked for; true if all thresholds are met.
    pub(crate) fn tell(&self, reporting: &Reporting) -> Result<bool, LoadError> {
        self.tell_to(reporting, &mut std::io::stdout())
    }

    /// A page that cannot be written must not take the figures with it, nor they the page.
    fn tell_to(&self, reporting: &Reporting, to: &mut impl Write) -> Result<bool, LoadError> {
        let told = match reporting.output {
            Output::Text => self.text(),
            Output::Json => self.json().to_string(),
        };
        let printed = print(to, &told);
        self.page(reporting)?;
        printed?;
        Ok(self.passed())
    }

    fn page(&self, reporting: &Reporting) -> Result<(), LoadError> {
        if let Some(path) = &reporting.html {
            let io = |error| LoadError::Io(format!("{} (--html)", path.display()), error);
            let page = html::page(self).map_err(|error| io(std::io::Error::other(error)))?;
            std::fs::write(path, page).map_err(io)?;
        }
        Ok(())
    }

    /// A figure as people read it.
    #[cfg(test)]
    pub(crate) fn told(&self, key: &str) -> String {
        self.figures.iter().find(|figure| figure.key == key).map_or_else(String::new, |f| f.text.clone())
    }

    pub(super) fn tables(&self) -> Vec<Rows> {
        let mut tables = vec![Rows {
            head: vec![self.load.to_owned(), String::new()],
            rows: self.figures.iter().map(|f| vec![f.label.to_owned(), f.text.clone()]).collect(),
        }];
        let causes = self.causes.iter().take(CAUSES).map(|(cause, n)| vec![cause.clone(), n.to_string()]);
        tables.push(Rows { head: words(&["failed because", "times"]), rows: causes.collect() });
        let percentiles = PERCENTILES.iter().map(|(name, _)| *name);
        let head: Vec<_> = ["latency"].into_iter().chain(percentiles).chain(["max"]).collect();
        let latencies = self.latencies.iter().map(|(_, label, histogram)| {
            let values = PERCENTILES.iter().map(|(_, p)| histogram.value_at_percentile(*p));
            let values = values.chain([histogram.max()]).map(time);
            std::iter::once((*label).to_owned()).chain(values).collect()
        });
        tables.push(Rows { head: words(&head), rows: latencies.collect() });
        let checks = self.checks.iter().map(|check| {
            let value = check.value.map_or_else(|| "-".to_owned(), short);
            let limit = format!("{} {}", check.limit, check.unit);
            let verdict = if check.passed() { "ok" } else { "FAILED" };
            vec![check.name.to_owned(), limit.trim_end().to_owned(), value, verdict.to_owned()]
        });
        tables.push(Rows { head: words(&["threshold", "limit", "measured", ""]), rows: checks.collect() });
        tables.retain(|table| !table.rows.is_empty());
        tables
    }

    fn text(&self) -> String {
        let tables = self.tables().into_iter().map(|Rows { head, rows }| {
            let mut table = Table::new();
            table.load_style(UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
            table.set_header(head).add_rows(rows);
            table.to_string()
        });
        let seed = format!("seed {}", self.seed);
        tables.chain([seed]).collect::<Vec<_>>().join("\n")
    }

    fn json(&self) -> Value {
        let figures: Map<_, _> = self.figures.iter().map(|f| (f.key.to_owned(), f.value.clone())).collect();
        let micros = |nanos: u64| nanos as f64 / 1e3;
        let latencies = self.latencies.iter().map(|(key, _, histogram)| {
            let at = |p| micros(histogram.value_at_percentile(p));
            let value = json!({
                "count": histogram.len(), "meanMicros": histogram.mean() / 1e3, "minMicros": micros(histogram.min()),
                "p50Micros": at(50.0), "p90Micros": at(90.0), "p99Micros": at(99.0), "p999Micros": at(99.9),
                "maxMicros": micros(histogram.max()),
            });
            ((*key).to_owned(), value)
        });
        let latencies: Map<_, _> = latencies.collect();
        let checks = self.checks.iter().map(|check| {
            json!({
                "threshold": check.name, "limit": check.limit.to_string(), "unit": check.unit, "measured": check.value,
                "passed": check.passed(),
            })
        });
        let causes = self.causes.iter().map(|(cause, count)| json!({ "cause": cause, "count": count }));
        json!({
            "load": self.load, "seed": self.seed, "passed": self.passed(), "figures": figures, "latencies": latencies,
            "failures": causes.collect::<Vec<_>>(), "checks": checks.collect::<Vec<_>>(),
        })
    }
}

/// A table before it has a form.
pub(super) struct Rows {
    pub(super) head: Vec<String>,
    pub(super) rows: Vec<Vec<String>>,
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The least that `short` has digits for.
const LEAST: f64 = 1e-4;

/// Three digits or so; what is not 0 is never told as 0: one packet that is lost of millions fails a load.
fn short(value: f64) -> String {
    if value != 0.0 && value.abs() < LEAST {
        return if value > 0.0 { format!("<{LEAST}") } else { format!(">-{LEAST}") };
    }
    let value = (value * 1e4).round() / 1e4;
    match value.abs() {
        size if size >= 100.0 || value.fract() == 0.0 => format!("{value:.0}"),
        size if size >= 1.0 => format!("{value:.1}"),
        _ => format!("{value:.4}"),
    }
}

/// A latency in nanoseconds as people read it.
pub(super) fn time(nanos: u64) -> String {
    let nanos = nanos as f64;
    match nanos {
        n if n >= 1e9 => format!("{:.2} s", n / 1e9),
        n if n >= 1e6 => format!("{:.1} ms", n / 1e6),
        n => format!("{:.0} us", n / 1e3),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use super::*;
    use crate::engine::meter::Latencies;
    use crate::engine::words;

    pub(in crate::engine) fn example() -> Summary {
        let mut summary = Summary::new("handshakes", 7);
        let latencies = Latencies::default();
        for n in 1..=1000 {
            latencies.note(Duration::from_micros(n * 10));
        }
        summary.count("childSas", "Child SAs", 990);
        summary.measure("rate", "rate", Some(1234.5), "/s");
        summary.measure("cpu", "CPU of the <responder>", None, "us");
        summary.latency("childSa", "to the Child SA", latencies.copy());
        summary.latency("none", "nothing", Latencies::default().copy());
        let mut rates = Series::named("handshakes/s");
        rates.push(0.5, 900.0);
        rates.push(1.0, 1500.0);
        summary.series([rates]);
        let causes = Causes::default();
        (0..10).for_each(|_| causes.note("NO_PROPOSAL_CHOSEN"));
        summary.causes(&causes);
        summary.check(Check::at_least("--min-rate", 1000.0, Some(1234.5), "/s"));
        summary.check(Check::at_most("--max-failed", 0.0, Some(10.0), ""));
        summary
    }

    #[test]
    fn the_table_says_which_threshold_failed_and_fits_a_terminal() {
        let text = example().text();
        let line = |of: &str| text.lines().find(|line| line.contains(of)).unwrap_or_default().to_owned();
        assert!(line("--max-failed").contains("FAILED") && line("--min-rate").contains("ok"), "{text}");
        assert!(line("NO_PROPOSAL_CHOSEN").contains("10"), "{text}");
        assert!(line("to the Child SA").contains("5.0 ms"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
        assert!(!example().passed());
    }

    #[test]
    fn what_is_not_0_is_never_told_as_0() {
        assert_eq!([1e-9, -1e-9, 0.00009999].map(short), ["<0.0001", ">-0.0001", "<0.0001"]);
        assert_eq!([0.0, 0.0001, 0.5, 12.34, 1234.5].map(short), ["0", "0.0001", "0.5000", "12.3", "1234"]);
        let mut summary = Summary::new("traffic", 0);
        summary.check(Check::at_most("--max-loss", 0.0, Some(0.000_02), "%"));
        let text = summary.text();
        assert!(text.contains("FAILED") && text.contains("<0.0001"), "{text}");
    }

    #[test]
    fn a_page_that_cannot_be_written_takes_no_figures_with_it() {
        let reporting: Reporting = words::arguments("--output json --html /dev/full");
        let mut told = Vec::new();
        let error = example().tell_to(&reporting, &mut told).unwrap_err().to_string();
        assert!(error.contains("--html"), "{error}");
        let told: Value = serde_json::from_slice(&told).unwrap();
        assert_eq!(told["figures"]["childSas"], 990);
    }

    #[test]
    fn programs_read_numbers() {
        let json = example().json();
        assert_eq!(json["figures"]["childSas"], 990);
        assert_eq!(json["figures"]["cpu"], Value::Null);
        assert_eq!(json["passed"], false);
        let p50 = json["latencies"]["childSa"]["p50Micros"].as_f64().expect("a number");
        assert!((4_990.0..5_010.0).contains(&p50), "{p50}");
        assert_eq!(json["latencies"]["none"], Value::Null);
        assert!(!json.to_string().contains('\n'));
    }
}
