//! The text that Prometheus reads, format 0.0.4.

use std::fmt::Write as _;

use actors::Histogram;

use super::definition::Definition;
use super::exit::{Exit, Number};

/// The type of the content.
pub(in crate::telemetry) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The text while it is written.
#[derive(Debug, Default)]
pub struct Text {
    text: String,
    last: Option<&'static Definition>,
}

impl Text {
    /// With room for so many octets.
    pub fn with_capacity(octets: usize) -> Self {
        Self { text: String::with_capacity(octets), last: None }
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.text
    }

    fn head(&mut self, metric: &'static Definition) {
        if self.last.is_some_and(|last| std::ptr::eq(last, metric)) {
            return;
        }
        self.last = Some(metric);
        let (name, kind) = (metric.name, metric.kind.name());
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help);
    }

    /// `{a="b",c="d"}`, with one more label if there is one.
    fn labels(&mut self, metric: &Definition, values: &[&str], more: Option<(&str, &str)>) {
        let pairs = metric.labels.iter().copied().zip(values.iter().copied()).chain(more);
        let mut open = '{';
        for (name, value) in pairs {
            self.text.push(open);
            self.text.push_str(name);
            self.text.push_str("=\"");
            escape(&mut self.text, value);
            self.text.push('"');
            open = ',';
        }
        if open == ',' {
            self.text.push('}');
        }
    }
}

/// A backslash, a quotation mark and a line end have a meaning in the value of a label.
fn escape(text: &mut String, value: &str) {
    if !value.contains(['\\', '"', '\n']) {
        return text.push_str(value);
    }
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            other => text.push(other),
        }
    }
}

impl Exit for Text {
    fn number(&mut self, metric: &'static Definition, labels: &[&str], value: Number) {
        self.head(metric);
        self.text.push_str(metric.name);
        self.labels(metric, labels, None);
        let _ = match value {
            Number::Whole(number) => writeln!(self.text, " {number}"),
            Number::Real(number) => writeln!(self.text, " {number}"),
        };
    }

    fn histogram(&mut self, metric: &'static Definition, labels: &[&str], value: &Histogram) {
        self.head(metric);
        let name = metric.name;
        let mut below = 0;
        for (end, count) in &value.steps {
            below += count;
            let end = end.as_secs_f64().to_string();
            let _ = write!(self.text, "{name}_bucket");
            self.labels(metric, labels, Some(("le", &end)));
            let _ = writeln!(self.text, " {below}");
        }
        let _ = write!(self.text, "{name}_bucket");
        self.labels(metric, labels, Some(("le", "+Inf")));
        let _ = write!(self.text, " {}\n{name}_sum", value.count);
        self.labels(metric, labels, None);
        let _ = write!(self.text, " {}\n{name}_count", value.sum.as_secs_f64());
        self.labels(metric, labels, None);
        let _ = writeln!(self.text, " {}", value.count);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::table;
    use super::*;

    #[test]
    fn series_of_one_metric_share_a_head() {
        let mut text = Text::default();
        text.number(&table::PEER_UP, &["acme", "b1"], true.into());
        text.number(&table::PEER_UP, &["a\"\\\n", "b2"], false.into());
        text.number(&table::LIVE, &[], 1.5.into());
        let text = text.finish();
        let expected = "culvert_peer_up{tenant=\"acme\",peer=\"b1\"} 1\nculvert_peer_up{tenant=\"a\\\"\\\\\\n\",peer=\"b2\"} 0\n";
        assert!(text.contains(expected), "{text}");
        assert_eq!(text.matches("# TYPE culvert_peer_up gauge").count(), 1);
        assert!(text.ends_with("\nculvert_live 1.5\n"), "{text}");
    }

    #[test]
    fn steps_of_a_histogram_add_up() {
        let ms = Duration::from_millis;
        let value = Histogram { steps: vec![(ms(10), 2), (ms(500), 1)], count: 4, sum: ms(2500) };
        let mut text = Text::default();
        text.histogram(&table::REKEY, &["ike"], &value);
        let text = text.finish();
        let lines: Vec<&str> = text.lines().skip(2).collect();
        assert_eq!(
            lines,
            [
                "culvert_rekey_duration_seconds_bucket{sa=\"ike\",le=\"0.01\"} 2",
                "culvert_rekey_duration_seconds_bucket{sa=\"ike\",le=\"0.5\"} 3",
                "culvert_rekey_duration_seconds_bucket{sa=\"ike\",le=\"+Inf\"} 4",
                "culvert_rekey_duration_seconds_sum{sa=\"ike\"} 2.5",
                "culvert_rekey_duration_seconds_count{sa=\"ike\"} 4",
            ]
        );
    }
}
