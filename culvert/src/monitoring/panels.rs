//! What a dashboard is made of.

use super::query::Query;

/// How a panel shows what it asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// One number.
    Stat,
    /// Lines over time.
    Lines,
    /// Areas on top of each other over time.
    Stack,
    /// States over time.
    States,
    /// A table of what holds now.
    Table,
}

/// A panel.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it shows.
    pub title: &'static str,
    /// What it means, and what to do about it.
    pub help: &'static str,
    /// The unit, as Grafana names it.
    pub unit: &'static str,
    /// How.
    pub look: Look,
    /// What each line is called, and what it asks.
    pub queries: Vec<(&'static str, Query)>,
}

impl Panel {
    /// One that shows something on every node that carries traffic: nobody can tell an empty one from one that is broken, so what
    /// may be none says so in its query.
    pub(super) fn new(title: &'static str, look: Look, unit: &'static str, help: &'static str) -> Self {
        Self { title, help, unit, look, queries: Vec::new() }
    }

    /// With a line.
    pub(super) fn ask(mut self, legend: &'static str, query: Query) -> Self {
        self.queries.push((legend, query));
        self
    }
}

/// What is chosen at the top of a dashboard.
#[derive(Clone, Copy, Debug)]
pub struct Choice {
    /// Its name in queries.
    pub name: &'static str,
    /// What it is called.
    pub label: &'static str,
    /// Where its values are from: a metric of the table, restricted or not, and its label.
    pub from: Query,
    /// The label.
    pub of: &'static str,
    /// Whether all of them may be meant at once.
    pub all: bool,
}

/// A dashboard.
#[derive(Clone, Debug)]
pub struct Dashboard {
    /// Its name in addresses, and of its file.
    pub uid: &'static str,
    /// Its name for people.
    pub title: &'static str,
    /// What it is for.
    pub help: &'static str,
    /// What is chosen.
    pub choices: Vec<Choice>,
    /// Rows with their titles.
    pub rows: Vec<(&'static str, Vec<Panel>)>,
}

impl Dashboard {
    /// All panels.
    pub fn panels(&self) -> impl Iterator<Item = &Panel> {
        self.rows.iter().flat_map(|(_, panels)| panels)
    }
}
