//! What is said of it, as tables of Markdown.

use std::fmt::Write as _;

use super::cell::{Plan, simulate};
use super::cells::spread;
use super::costs::{CHILD_LIFE, IKE_LIFE, PROGRESS, PROGRESSES, REKEY_CHILD, REKEY_IKE};
use super::storm::storm;

/// Nodes of a cell.
const NODES: [usize; 6] = [3, 5, 9, 16, 31, 62];
/// Tunnels of a node.
const TUNNELS: u64 = 10_000;
/// Of them those whose packets are under way at a time.
const ACTIVE: f64 = 1_000.0;

/// All tables, with what stands above each.
pub fn tables() -> Vec<(&'static str, String)> {
    vec![
        ("half a year of a cell", history(30.0)),
        ("half a year of a cell whose tunnels last", history(365.0)),
        ("what a standby is told", told()),
        ("all peers at once", storms()),
        ("cells", cells()),
    ]
}

/// The page with its tables as they are now: each stands between two marks.
///
/// # Errors
/// With the mark that is not there.
pub fn put(page: &str) -> Result<String, String> {
    let mut page = page.to_owned();
    for (title, table) in tables() {
        let (begin, end) = (format!("<!-- begin: {title} -->\n"), "<!-- end -->");
        let missing = || format!("{begin:?} is not there, or {end:?} after it");
        let (before, rest) = page.split_once(&begin).ok_or_else(missing)?;
        let (_, after) = rest.split_once(end).ok_or_else(missing)?;
        page = format!("{before}{begin}{table}{end}{after}");
    }
    Ok(page)
}

fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&head.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    text += &line(&head.iter().map(|_| "---:".to_owned()).collect::<Vec<_>>());
    for row in rows {
        text += &line(&row);
    }
    text
}

fn history(life_days: f64) -> String {
    let head = [
        "nodes",
        "starts",
        "without a free slot",
        "slots at most",
        "taken over",
        "moved",
        "tunnels carried along",
        "tunnels lost",
        "fullest node, to the mean",
        "etcd writes/s",
        "at most",
    ];
    let row = |nodes: usize| {
        let plan = Plan {
            nodes,
            tunnels: TUNNELS,
            days: 182.0,
            fail_days: 30.0,
            upgrade_days: 7.0,
            life_days,
            seed: 1,
        };
        let outcome = simulate(plan);
        vec![
            nodes.to_string(),
            outcome.starts.to_string(),
            outcome.starts_without_slot.to_string(),
            outcome.slots_at_most.to_string(),
            outcome.taken_over.to_string(),
            outcome.moved.to_string(),
            thousands(outcome.carried as f64),
            thousands(outcome.lost as f64),
            format!("{:.2}", outcome.uneven),
            format!("{:.2}", outcome.writes_per_second),
            format!("{:.0}", outcome.writes_at_most),
        ]
    };
    table(&head, NODES.map(row).into())
}

fn told() -> String {
    let (tunnels, mut rows) = (TUNNELS as f64, Vec::new());
    let mut row = |what: &str, octets: f64| {
        rows.push(vec![
            what.to_owned(),
            format!("{:.0}", octets / 1e3),
            format!("{:.1}", octets * 8.0 / 1e6),
        ]);
    };
    let rekeys = tunnels / CHILD_LIFE * REKEY_CHILD + tunnels / IKE_LIFE * REKEY_IKE;
    row("rekeyings, by default every 1 h and 4 h", rekeys);
    let progress = ACTIVE * PROGRESSES * PROGRESS;
    row("how far 1,000 tunnels have come, ten times a second", progress);
    row("the same of all 10,000", tunnels * PROGRESSES * PROGRESS);
    table(&["of a node with 10,000 tunnels", "kB/s", "Mbit/s"], rows)
}

fn storms() -> String {
    let head = [
        "nodes",
        "handshakes/s of a node",
        "of a processor",
        "told a standby, Mbit/s",
        "etcd writes/s",
        "MB/s of them",
        "all know it after, s",
        "landed elsewhere",
    ];
    let row = |nodes: usize| {
        let storm = storm(nodes as f64, TUNNELS as f64, 60.0);
        vec![
            nodes.to_string(),
            format!("{:.0}", storm.handshakes),
            format!("{:.0} %", storm.processor * 100.0),
            format!("{:.1}", storm.checkpoints * 8.0 / 1e6),
            format!("{:.0}", storm.writes),
            format!("{:.2}", storm.octets / 1e6),
            format!("{:.1}", storm.told_after),
            format!("{:.0} %", 100.0 * (1.0 - 1.0 / nodes as f64)),
        ]
    };
    table(&head, NODES.map(row).into())
}

fn cells() -> String {
    let head = ["cells", "nodes", "fullest cell, to the mean", "redirected", "move when a cell is added"];
    let row = |cells: usize| {
        let spread = spread(cells);
        vec![
            cells.to_string(),
            (cells * 62).to_string(),
            format!("{:.3}", spread.uneven),
            format!("{:.1} %", 100.0 * spread.redirected),
            format!("{:.1} %", 100.0 * spread.move_to_one_more),
        ]
    };
    table(&head, [2, 4, 8, 16, 17].map(row).into())
}

fn thousands(count: f64) -> String {
    let digits = format!("{count:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        // A string takes everything.
        let _ = write!(text, "{digit}");
    }
    text
}
