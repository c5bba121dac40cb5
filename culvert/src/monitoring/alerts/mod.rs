//! The alerts: when somebody is to look, and what he is to do then. Each brings what `promtool` tries on it.

mod cluster;
mod node;
mod quality;
mod tenant;
mod tunnels;

use std::sync::LazyLock;

use super::query::Query;

/// All of them.
pub static ALERTS: LazyLock<Vec<Alert>> = LazyLock::new(|| {
    [tunnels::ALERTS, quality::ALERTS, tenant::ALERTS, node::ALERTS, cluster::ALERTS].concat()
});

const PEER: &[(&str, &str)] = &[("instance", "a"), ("tenant", "acme"), ("peer", "b1")];
const TENANT: &[(&str, &str)] = &[("instance", "a"), ("tenant", "acme")];
const NODE: &[(&str, &str)] = &[("instance", "a")];

/// How soon somebody is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// At once.
    Critical,
    /// Today.
    Warning,
    /// Some day.
    Info,
}

impl Severity {
    /// As it is labelled.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// Series over time, one value a minute, in the notation of `promtool`.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The series, and their values.
    pub series: &'static [(Query, &'static str)],
    /// The minute that is looked at.
    pub minute: u32,
}

/// The word that says why, asked when the alert fires. As a label of the alert it would begin anew whenever the word changes.
#[derive(Clone, Copy, Debug)]
pub struct Cause {
    /// Where it stands, with `%q` for the labels of the alert.
    pub asked: Query,
    /// Those labels, in their order.
    pub by: &'static [&'static str],
    /// The label that has the word.
    pub word: &'static str,
    /// The word in the trial.
    pub trial: &'static str,
}

/// An alert.
#[derive(Clone, Copy, Debug)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// How soon somebody is to look.
    pub severity: Severity,
    /// When it holds.
    pub when: Query,
    /// What it looks at, which is there whether it holds or not.
    pub looks_at: Query,
    /// For how long it has to hold, in minutes.
    pub minutes: u32,
    /// In a line, with labels as `{{ $labels.tenant }}`.
    pub summary: &'static str,
    /// Why, in a word that goes with the line.
    pub cause: Option<Cause>,
    /// What it means, and what to do.
    pub runbook: &'static str,
    /// The labels of the one that fires in the trial.
    pub labels: &'static [(&'static str, &'static str)],
    /// What it fires at.
    pub fires: Trial,
    /// What it does not fire at.
    pub rests: Trial,
    /// What there has to be for it to look at anything, where that is not always so.
    pub needs: Option<&'static str>,
}
