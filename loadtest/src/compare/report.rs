//! Tables and JSON.

use comfy_table::presets::UTF8_FULL_CONDENSED;
use comfy_table::{CellAlignment, Table};
use serde_json::{Map, Value, json};

use super::Arguments;
use super::contestants::Name;
use super::goals;
use super::iperf::Tcp;
use super::lab::LabError;
use super::responders::{Cost, Kind};
use super::stats::{Bound, Goal, Row, median};
use super::turn::{Results, Turn};
use crate::Output;
use crate::engine::output::print;

/// Tells everything; true if no goal is missed, or left without a figure.
pub(crate) fn tell(results: &Results, arguments: &Arguments, output: Output) -> Result<bool, LabError> {
    let rows = goals::rows(results);
    let text = match output {
        Output::Text => text(results, &rows),
        Output::Json => object(results, arguments, &rows).to_string(),
    };
    print(&mut std::io::stdout(), &text)
        .map_err(|error| LabError::Program("this program".to_owned(), error.to_string()))?;
    Ok(rows.iter().all(|row| row.goal == Goal::None || row.is_met() == Some(true)))
}

fn text(results: &Results, rows: &[Row]) -> String {
    let mut parts = vec![machine_line()];
    let cell = |value: Option<f64>, digits: usize| {
        value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
    };
    if !results.by.is_empty() {
        let mut table = new(&["", "TCP x1", "again", "TCP x4", "again", "UDP", "ping ms", "CPU s/GB"]);
        for name in Name::ALL {
            if !results.by.contains_key(&name) {
                continue;
            }
            let of = |pick: fn(&Turn) -> Option<f64>| median(&results.of(name, pick));
            let udp = of(Turn::udp_mbps);
            let sign = if results.udp_at_least(name) { Bound::AtLeast } else { Bound::Exact }.sign();
            table.add_row([
                name.text().to_owned(),
                cell(of(|turn| turn.mbps(1)), 0),
                cell(of(|turn| turn.tcp1.map(|tcp| tcp.again as f64)), 0),
                cell(of(|turn| turn.mbps(4)), 0),
                cell(of(|turn| turn.tcp4.map(|tcp| tcp.again as f64)), 0),
                format!("{}{}", udp.map_or("", |_| sign), cell(udp, 0)),
                cell(of(|turn| turn.ping), 2),
                cell(of(|turn| turn.cpu).filter(|cpu| *cpu > 0.0), 2),
            ]);
        }
        parts.push(format!("Mbit/s, segments sent again, medians of all rounds\n{table}"));
    }
    if !results.costs.is_empty() {
        let mut table = new(&["responder", "us a handshake", "octets a tunnel", "tunnels/s", "failed"]);
        for (name, kind) in results.costs.keys() {
            let of = |pick: fn(&Cost) -> f64| median(&results.costs(*name, *kind, pick));
            table.add_row([
                format!("{}, {}", name.text(), kind.text()),
                cell(of(|cost| cost.micros), 0),
                cell(of(|cost| cost.octets), 0),
                cell(of(|cost| cost.rate), 0),
                cell(of(|cost| cost.failed as f64), 0),
            ]);
        }
        let exchange = cell(median(&results.x25519), 1);
        parts.push(format!(
            "A tunnel at its responder; the two operations of X25519 take {exchange} us\n{table}"
        ));
    }
    let mut table = new(&["Culvert", "goal", "reached", "from", "to", ""]);
    // What has a goal is told also without a figure: it is missed for who requires them.
    for row in rows.iter().filter(|row| row.reached.is_ok() || row.goal != Goal::None) {
        let digits = if row.goal.number().is_some_and(|goal| goal > 100.0) { 0 } else { 2 };
        let goal = match row.goal {
            Goal::AtLeast(goal) => format!(">= {goal:.digits$}"),
            Goal::AtMost(goal) => format!("<= {goal:.digits$}"),
            Goal::None => String::new(),
        };
        let met = match (row.reached, row.is_met()) {
            (Err(lack), _) => lack.text(),
            (Ok(_), Some(true)) => "ok",
            (Ok(_), Some(false)) => "missed",
            (Ok(_), None) if row.goal != Goal::None => "open",
            (Ok(_), None) => "",
        };
        let reached = row.reached.ok();
        table.add_row([
            row.title.clone(),
            goal,
            format!(
                "{}{}",
                reached.map_or("", |_| row.bound.sign()),
                cell(reached.map(|spread| spread.median), digits)
            ),
            cell(reached.map(|spread| spread.min), digits),
            cell(reached.map(|spread| spread.max), digits),
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
    parts.push(warnings(results, rows).join("\n"));
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
    let measured = |turns: &[Turn]| {
        let tcp = |pick: fn(&Turn) -> Option<Tcp>| {
            by_round(turns, |turn| {
                pick(turn).map(|tcp| json!({"mbps": tcp.mbps, "retransmissions": tcp.again}))
            })
        };
        let number = |pick: fn(&Turn) -> Option<f64>| by_round(turns, |turn| pick(turn).map(Value::from));
        json!({
            "tcp1": tcp(|turn| turn.tcp1), "tcp4": tcp(|turn| turn.tcp4), "udpMbps": number(Turn::udp_mbps),
            "udpAtLeast": by_round(turns, |turn| turn.udp.map(|udp| udp.at_least.into())),
            "pingMillis": number(|turn| turn.ping), "cpuSecondsPerGigabyte": number(|turn| turn.cpu),
        })
    };
    let mut all: Map<String, Value> =
        results.by.iter().map(|(name, turns)| (by_name(name), measured(turns))).collect();
    for ((name, kind), costs) in &results.costs {
        let of = all.entry(by_name(name)).or_insert_with(|| json!({}));
        let costs = by_round(costs, |cost| {
            cost.map(|Cost { micros, octets, rate, failed }| {
                json!({"cpuMicros": micros, "octetsPerTunnel": octets, "perSecond": rate, "failed": failed})
            })
        });
        if let Some(of) = of.as_object_mut() {
            of.insert(if *kind == Kind::Ikev1 { "ikev1" } else { "ikev2" }.to_owned(), costs);
        }
    }
    let text = |of: &std::collections::BTreeMap<Name, String>| -> Map<String, Value> {
        of.iter().map(|(name, text)| (by_name(name), text.clone().into())).collect()
    };
    let ratios: Map<String, Value> = rows.iter().map(|row| (row.name.to_owned(), row.json())).collect();
    let lacking: Map<String, Value> =
        rows.iter().filter_map(|row| Some((row.name.to_owned(), row.reached.err()?.text().into()))).collect();
    json!({
        "machine": {"processors": processors(), "model": model(), "kernel": kernel()},
        "settings": {
            "rounds": arguments.rounds, "seconds": arguments.secs.as_secs(), "size": arguments.size(),
            "mtu": arguments.mtu, "ipv6": arguments.ipv6, "cipher": arguments.cipher.name(),
            "resourceSas": arguments.resource_sas, "congestion": arguments.congestion,
            "tunnels": arguments.tunnels, "tunnelsIkev1": Kind::Ikev1.tunnels(arguments.tunnels),
        },
        "versions": text(&results.versions),
        "iperf3": results.iperf,
        "missing": text(&results.missing),
        "twoX25519Micros": results.x25519,
        "results": all,
        "ratios": ratios,
        "lacking": lacking,
        "warnings": warnings(results, rows),
    })
}

/// A value for each round, null where it is lacking; none at all of what was in no round.
fn by_round<T>(rounds: &[T], value: impl Fn(&T) -> Option<Value>) -> Value {
    let values: Vec<Option<Value>> = rounds.iter().map(value).collect();
    if values.iter().all(Option::is_none) { json!([]) } else { json!(values) }
}

/// What makes figures worth less.
fn warnings(results: &Results, rows: &[Row]) -> Vec<String> {
    let debug =
        "this loadtest was built without optimisation: figures are worth little; try: cargo build --release";
    let debug = cfg!(debug_assertions).then(|| debug.to_owned());
    let zeros = rows.iter().filter(|row| row.zeros > 0).map(|row| {
        format!(
            "{}: nothing has come of the other in {} of the rounds, which are no part of it",
            row.title, row.zeros
        )
    });
    let by_sender = rows.iter().any(|row| row.reached.is_ok() && row.bound != Bound::Exact)
        || results.by.keys().any(|name| results.udp_at_least(*name));
    let hint =
        "UDP: ≥ is what the sender could send, and nothing of it was lost; a larger --size finds the end";
    let by_sender = by_sender.then(|| hint.to_owned());
    results.failed.iter().cloned().chain(zeros).chain(by_sender).chain(debug).collect()
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
    use super::super::blast::Udp;
    use super::*;

    fn results() -> Results {
        let mut results = Results::default();
        for (name, mbps) in
            [(Name::Culvert, 7_000.0), (Name::WireguardGo, 3_000.0), (Name::Forwarder, 14_000.0)]
        {
            let tcp = |mbps| Tcp { mbps, again: 3, octets: 1e9 };
            let turn = |mbps| Turn { tcp1: Some(tcp(mbps)), ping: Some(0.3), ..Turn::default() };
            results.by.insert(name, vec![turn(mbps), turn(mbps * 1.1)]);
        }
        results.x25519 = vec![50.0];
        let cost = Cost { micros: 150.0, octets: 10_000.0, rate: 4_000.0, failed: 0 };
        results.costs.insert((Name::Culvert, Kind::Ikev2), vec![Some(cost)]);
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

    #[test]
    fn a_round_that_failed_is_told_and_ratios_are_of_the_others() {
        let mut results = results();
        let fast = results.by[&Name::Culvert][0];
        results.by.insert(Name::Culvert, vec![Turn::default(), fast]);
        results.costs.insert((Name::Culvert, Kind::Ikev1), vec![None]);
        results.failed.push("round 1: culvert: culvertd is not there".to_owned());
        let rows = goals::rows(&results);
        let row = rows.iter().find(|row| row.name == "tcp1_vs_wireguard_go").unwrap();
        assert!((row.reached.unwrap().max - 7_000.0 / 3_300.0).abs() < 1e-9, "{row:?}");
        let text = text(&results, &rows);
        assert!(text.contains("round 1: culvert: culvertd is not there"), "{text}");
        let turns = &results.by[&Name::Culvert];
        assert_eq!(by_round(turns, |turn| turn.ping.map(Value::from)), json!([null, 0.3]));
        assert_eq!(by_round(turns, |turn| turn.udp_mbps().map(Value::from)), json!([]));
    }

    fn udp(mbps: f64) -> Udp {
        Udp { mbps, at_least: false }
    }

    #[test]
    fn what_the_sender_could_send_is_not_told_as_what_the_path_takes() {
        let mut results = results();
        for turn in results.by.get_mut(&Name::Culvert).into_iter().flatten() {
            turn.udp = Some(Udp { at_least: true, ..udp(400.0) });
        }
        results.by.insert(Name::Strongswan, vec![Turn { udp: Some(udp(80.0)), ..Turn::default() }; 2]);
        results.by.insert(Name::Boringtun, vec![Turn { udp: Some(udp(90.0)), ..Turn::default() }; 2]);
        let rows = goals::rows(&results);
        let told = text(&results, &rows);
        let line = |of: &str| told.lines().find(|line| line.contains(of)).unwrap_or_default().to_owned();
        assert!(line("│ culvert ").contains("≥ 400") && !line("│ strongswan ").contains('≥'), "{told}");
        // At least five times as much is perhaps six times, and at least four and a half times is four times.
        let row = line("UDP without loss / strongSwan");
        assert!(row.contains("≥ 5.00") && row.contains("open"), "{told}");
        let row = line("UDP without loss / boringtun");
        assert!(row.contains("≥ 4.44") && row.contains("ok"), "{told}");
        assert!(told.contains("what the sender could send"), "{told}");
        let object = object(&results, &crate::engine::words::arguments(""), &rows);
        assert_eq!(object["results"]["culvert"]["udpAtLeast"], json!([true, true]));
        assert_eq!(object["results"]["strongswan"]["udpAtLeast"], json!([false, false]));
        assert_eq!(object["ratios"]["udp_vs_strongswan"]["bound"], "atLeast");
        assert!(object["ratios"]["udp_vs_strongswan"]["met"].is_null());
        assert_eq!(object["ratios"]["tcp1_vs_wireguard_go"]["bound"], "exact");
    }

    #[test]
    fn a_goal_without_a_figure_is_told_with_the_reason() {
        let mut results = results();
        results.by.insert(Name::Strongswan, vec![Turn { udp: Some(udp(0.0)), ..Turn::default() }]);
        for turn in results.by.get_mut(&Name::Culvert).into_iter().flatten() {
            turn.udp = Some(udp(3_000.0));
        }
        let rows = goals::rows(&results);
        let text = text(&results, &rows);
        let line = |of: &str| text.lines().find(|line| line.contains(of)).unwrap_or_default().to_owned();
        assert!(line("UDP without loss / strongSwan ").contains("theirs is 0"), "{text}");
        assert!(line("UDP without loss / boringtun").contains("left out"), "{text}");
        assert!(line("TCP x4 / wireguard-go").contains("not measured"), "{text}");
        assert!(
            !text.contains("ping / strongSwan") && line("UDP without loss / wireguard-go").is_empty(),
            "{text}"
        );
        assert!(line("UDP without loss / strongSwan:").contains("in 1 of the rounds"), "{text}");
        assert!(rows.iter().any(|row| row.goal != Goal::None && row.is_met().is_none()));
        let object = object(&results, &crate::engine::words::arguments(""), &rows);
        assert_eq!(object["lacking"]["udp_vs_strongswan"], "theirs is 0");
        assert!(object["ratios"]["udp_vs_strongswan"].is_null());
        assert_eq!(object["results"]["culvert"]["cpuSecondsPerGigabyte"], json!([]));
        let settings = &object["settings"];
        assert_eq!((&settings["tunnels"], &settings["tunnelsIkev1"]), (&json!(1000), &json!(300)));
        assert_eq!(settings["resourceSas"], 1);
    }
}
