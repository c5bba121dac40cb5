//! Alerts as rules of Prometheus, and what `promtool test rules` tries on them.

use serde_json::{Map, Value, json};

use super::alerts::{ALERTS, Alert, Trial};

/// Where people read what to do.
const RUNBOOKS: &str = "docs/src/alerts.md";

fn runbook(alert: &Alert) -> String {
    format!("{RUNBOOKS}#{}", alert.name.to_lowercase())
}

/// One line, whatever the source is broken into.
pub(super) fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// In a line, with why.
fn summary(alert: &Alert) -> String {
    let Some(cause) = alert.cause else { return alert.summary.to_owned() };
    let labels: Vec<String> = cause.by.iter().map(|label| format!("$labels.{label}")).collect();
    let (asked, labels, word) = (cause.asked.written(), labels.join(" "), cause.word);
    // Nothing if there is none any more.
    let told = format!(
        "{{{{ with printf `{asked}` {labels} | query }}}}: {{{{ . | first | label \"{word}\" }}}}{{{{ end }}}}"
    );
    format!("{}{told}", alert.summary)
}

fn yaml(value: &Value) -> Result<String, String> {
    serde_yaml_ng::to_string(value).map_err(|error| error.to_string())
}

/// The rules.
pub(super) fn write() -> Result<String, String> {
    let rule = |alert: &Alert| {
        json!({
            "alert": alert.name,
            "expr": alert.when.written(),
            "for": format!("{}m", alert.minutes),
            "labels": { "severity": alert.severity.name() },
            "annotations": {
                "summary": summary(alert),
                "description": line(alert.runbook),
                "runbook": runbook(alert),
            },
        })
    };
    let rules: Vec<Value> = ALERTS.iter().map(rule).collect();
    let text = yaml(&json!({ "groups": [{ "name": "culvert", "rules": rules }] }))?;
    Ok(format!("# Made by `make dashboards` from culvert/src/monitoring/alerts.\n{text}"))
}

/// What `promtool test rules` tries on the rules in the file of this name: that each alert fires at what it is for, and rests
/// otherwise.
///
/// # Errors
/// When it cannot be written as YAML.
pub fn trials(rules: &str) -> Result<String, String> {
    let labels = |alert: &Alert| -> Map<String, Value> {
        let own = alert.labels.iter().map(|(name, value)| ((*name).to_owned(), json!(value)));
        own.chain([("severity".to_owned(), json!(alert.severity.name()))]).collect()
    };
    let filled = |alert: &Alert| {
        let put = |text: String, (name, value): &(&str, &str)| {
            text.replace(&format!("{{{{ $labels.{name} }}}}"), value)
        };
        let why = alert.cause.map(|cause| format!(": {}", cause.trial)).unwrap_or_default();
        let text = alert.labels.iter().fold(alert.summary.to_owned(), put);
        // A label that is not there is nothing.
        text.replace("{{ $labels.pod }}", "") + &why
    };
    let trial = |alert: &Alert, trial: &Trial, fires: bool| {
        let series = trial.series.iter();
        let series: Vec<Value> =
            series.map(|(series, values)| json!({ "series": series.written(), "values": values })).collect();
        let expected = if fires {
            json!([{
                "exp_labels": labels(alert),
                "exp_annotations": {
                    "summary": filled(alert),
                    "description": line(alert.runbook),
                    "runbook": runbook(alert),
                },
            }])
        } else {
            json!([])
        };
        json!({
            "interval": "1m",
            "input_series": series,
            "alert_rule_test": [{
                "eval_time": format!("{}m", trial.minute),
                "alertname": alert.name,
                "exp_alerts": expected,
            }],
        })
    };
    let tests: Vec<Value> = ALERTS
        .iter()
        .flat_map(|alert| [trial(alert, &alert.fires, true), trial(alert, &alert.rests, false)])
        .collect();
    yaml(&json!({ "rule_files": [rules], "evaluation_interval": "1m", "tests": tests }))
}
