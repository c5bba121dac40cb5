//! Tables and JSON.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use super::Arguments;
use super::contestants::Name;
use super::goals;
use super::responders::Kind;
use super::stats::{Goal, Row, median};
use super::turn::{Measured, Results};
use crate::Output;

/// Tells everything; true if no goal is missed, or left without a figure.
pub(crate) fn tell(results: &Results, arguments: &Arguments, output: Output) -> bool {
    let rows = goals::rows(results);
    let text = match output {
        Output::Text => text(results, &rows),
        Output::Json => object(results, arguments, &rows).to_string(),
    };
    #[allow(clippy::print_stdout, reason = "this is what was asked for")]
    {
        println!("{text}");
    }
    rows.iter().all(|row| row.goal == Goal::None || row.is_met() == Some(true))
}

fn text(results: &Results, rows: &[Row]) -> String {
    let mut parts = vec![machine_line()];
    let cell = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    if !results.by.is_empty() {
        let mut table = new(&["", "TCP x1", "again", "TCP x4", "again", "UDP", "ping ms", "CPU s/GB"]);
        for name in Name::ALL {
            let Some(measured) = results.measured(name) else { continue };
            let Measured { tcp1, tcp4, cpu, udp, ping } = measured;
            let again =
                |of: &[super::iperf::Tcp]| median(&of.iter().map(|tcp| tcp.again as f64).collect::<Vec<_>>());
            table.add_row([
                name.text().to_owned(),
                cell(median(&measured.mbps(1)), 0),
                cell(again(tcp1), 0),
                cell(median(&measured.mbps(4)), 0),
                cell(again(tcp4), 0),
                cell(median(udp), 0),
                cell(median(ping), 2),
                cell(median(cpu).filter(|cpu| *cpu > 0.0), 2),
            ]);
        }
        parts.push(format!("Mbit/s, segments sent again, medians of all rounds\n{table}"));
    }
    if !results.costs.is_empty() {
        let mut table = new(&["responder", "us a handshake", "octets a tunnel", "tunnels/s"]);
        for ((name, kind), costs) in &results.costs {
            let of = |pick: fn(&super::responders::Cost) -> f64| {
                median(&costs.iter().map(pick).collect::<Vec<_>>())
            };
            table.add_row([
                format!("{}, {}", name.text(), kind.text()),
                cell(of(|cost| cost.micros), 0),
                cell(of(|cost| cost.octets), 0),
                cell(of(|cost| cost.rate), 0),
            ]);
        }
        let exchange = cell(median(&results.x25519), 1);
        parts.push(format!(
            "A tunnel at its responder; the two operations of X25519 take {exchange} us\n{table}"
        ));
    }
    let mut table = new(&["Culvert", "goal", "reached", "from", "to", ""]);
    for row in rows.iter().filter(|row| row.reached.is_some()) {
        let digits = if row.goal.number().is_some_and(|goal| goal > 100.0) { 0 } else { 2 };
        let goal = match row.goal {
            Goal::AtLeast(goal) => format!(">= {goal:.digits$}"),
            Goal::AtMost(goal) => format!("<= {goal:.digits$}"),
            Goal::None => String::new(),
        };
        let met = row.is_met().map_or("", |met| if met { "ok" } else { "missed" });
        table.add_row([
            row.title.clone(),
            goal,
            cell(row.reached.map(|spread| spread.median), digits),
            cell(row.reached.map(|spread| spread.min), digits),
            cell(row.reached.map(|spread| spread.max), digits),
            met.to_owned(),
        ]);
    }
    parts.push(format!("Ratios of the same round: the median, and from the least to the most\n{table}"));
    for (name, version) in &results.versions {
        parts.push(format!("{}: {version}", name.text()));
    }
    parts.extend(results.iperf.clone());
    for (name, hint) in &results.missing {
        parts.push(format!("{} was left out: {hint}", name.text()));
    }
    parts.push(warnings().join("\n"));
    parts.retain(|part| !part.is_empty());
    parts.join("\n")
}

fn new(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

/// One object.
fn object(results: &Results, arguments: &Arguments, rows: &[Row]) -> Value {
    let by_name = |name: &Name| name.text().to_owned();
    let measured = |measured: &Measured| {
        let tcp = |of: &[super::iperf::Tcp]| -> Value {
            of.iter().map(|tcp| json!({"mbps": tcp.mbps, "retransmissions": tcp.again})).collect()
        };
        json!({
            "tcp1": tcp(&measured.tcp1), "tcp4": tcp(&measured.tcp4), "udpMbps": measured.udp,
            "pingMillis": measured.ping, "cpuSecondsPerGigabyte": measured.cpu,
        })
    };
    let mut all: Map<String, Value> =
        results.by.iter().map(|(name, of)| (by_name(name), measured(of))).collect();
    for ((name, kind), costs) in &results.costs {
        let of = all.entry(by_name(name)).or_insert_with(|| json!({}));
        let costs: Value = costs
            .iter()
            .map(|cost| json!({"cpuMicros": cost.micros, "octetsPerTunnel": cost.octets, "perSecond": cost.rate}))
            .collect();
        if let Some(of) = of.as_object_mut() {
            of.insert(if *kind == Kind::Ikev1 { "ikev1" } else { "ikev2" }.to_owned(), costs);
        }
    }
    let text = |of: &std::collections::BTreeMap<Name, String>| -> Map<String, Value> {
        of.iter().map(|(name, text)| (by_name(name), text.clone().into())).collect()
    };
    let ratios: Map<String, Value> = rows.iter().map(|row| (row.name.to_owned(), row.json())).collect();
    json!({
        "machine": {"processors": processors(), "model": model(), "kernel": kernel()},
        "settings": {
            "rounds": arguments.rounds, "seconds": arguments.secs.as_secs(), "size": arguments.size,
            "mtu": arguments.mtu, "ipv6": arguments.ipv6, "cipher": arguments.cipher.name(),
            "tunnels": arguments.tunnels,
        },
        "versions": text(&results.versions),
        "iperf3": results.iperf,
        "missing": text(&results.missing),
        "twoX25519Micros": results.x25519,
        "results": all,
        "ratios": ratios,
        "warnings": warnings(),
    })
}

/// What makes figures worth less.
fn warnings() -> Vec<String> {
    let debug =
        "this loadtest was built without optimisation: figures are worth little; try: cargo build --release";
    if cfg!(debug_assertions) { vec![debug.to_owned()] } else { Vec::new() }
}

fn machine_line() -> String {
    format!("{} processors, {}, Linux {}", processors(), model(), kernel())
}

fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

fn model() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    line.map_or_else(|| "unknown".to_owned(), |(_, model)| model.trim().to_owned())
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::iperf::Tcp;
    use super::super::responders::Cost;
    use super::*;

    fn results() -> Results {
        let mut results = Results::default();
        for (name, mbps) in
            [(Name::Culvert, 7_000.0), (Name::WireguardGo, 3_000.0), (Name::Forwarder, 14_000.0)]
        {
            let tcp = |mbps| Tcp { mbps, again: 3, octets: 1e9 };
            let measured =
                Measured { tcp1: vec![tcp(mbps), tcp(mbps * 1.1)], ping: vec![0.3], ..Measured::default() };
            results.by.insert(name, measured);
        }
        results.x25519 = vec![50.0];
        let cost = Cost { micros: 150.0, octets: 10_000.0, rate: 4_000.0 };
        results.costs.insert((Name::Culvert, Kind::Ikev2), vec![cost]);
        results.missing.insert(Name::Boringtun, "try: cargo install boringtun-cli".to_owned());
        results
    }

    #[test]
    fn tables_fit_a_terminal_and_say_who_is_missing() {
        let results = results();
        let text = text(&results, &goals::rows(&results));
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
        assert!(text.contains("boringtun was left out: try: cargo install"), "{text}");
        let line = |of: &str| text.lines().find(|line| line.contains(of)).unwrap_or_default().to_owned();
        assert!(
            line("TCP x1 / wireguard-go").contains("2.33") && line("TCP x1 / wireguard-go").contains("ok"),
            "{text}"
        );
        assert!(
            line("operations of X25519").contains("50.0") && line("/ two X25519").contains("missed"),
            "{text}"
        );
    }

    #[test]
    fn ratios_stand_by_name_and_are_null_without_a_figure() {
        let results = results();
        let rows = goals::rows(&results);
        let ratios: Map<String, Value> = rows.iter().map(|row| (row.name.to_owned(), row.json())).collect();
        assert_eq!(ratios["tcp1_share_of_ceiling"]["met"], true);
        assert_eq!(ratios["memory_per_tunnel_octets"]["median"], 10_000.0);
        assert!(ratios["tcp1_vs_boringtun"].is_null() && ratios["udp_vs_strongswan"].is_null());
        let names: std::collections::HashSet<_> = rows.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), rows.len());
    }
}
