//! Dashboards and alerts: made of one source, and none asks for what is not there.

use std::collections::BTreeSet;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use culvert::monitoring::{ALERTS, Query, dashboards, files, trials};
use serde_json::{Value, json};

use crate::collector::Collector;
use crate::http::get;
use crate::prometheus::{Process, Prometheus, free_port, is_there, promtool};

fn tree() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

#[test]
fn the_tree_has_what_is_made() {
    for (path, made) in files().unwrap() {
        let there = std::fs::read_to_string(tree().join(&path)).unwrap_or_default();
        assert!(there == made, "{path} is not what `make dashboards` makes of the source");
    }
}

fn queries() -> Vec<Query> {
    let panels: Vec<_> =
        dashboards().into_iter().flat_map(|d| d.panels().cloned().collect::<Vec<_>>()).collect();
    let of_panels = panels.into_iter().flat_map(|panel| panel.queries.into_iter().map(|(_, query)| query));
    let causes = ALERTS.iter().filter_map(|alert| Some(alert.cause?.asked));
    of_panels.chain(ALERTS.iter().flat_map(|alert| [alert.when, alert.looks_at])).chain(causes).collect()
}

/// A metric is named by the table alone, and a label only where the metric has it.
#[test]
fn queries_name_what_there_is() {
    let mut used = BTreeSet::new();
    for query in queries() {
        let text = query.text();
        assert!(!text.contains("culvert_"), "{text}");
        for at in 0..query.metrics().len() {
            assert!(text.contains(&format!("${at}")), "{text} has no use for metric {at}");
        }
        used.extend(query.metrics().iter().map(|metric| metric.name));
        // Those of targets, of Prometheus itself and of its operator, and those of histograms.
        let mut known: BTreeSet<&str> = ["instance", "job", "namespace", "pod", "le"].into();
        known.extend(query.metrics().iter().flat_map(|metric| metric.labels.iter().copied()));
        let lists = text.split("by (").skip(1).chain(text.split("on (").skip(1));
        let named = lists.filter_map(|list| list.split(')').next()).flat_map(|list| list.split(", "));
        let matched = text
            .split('{')
            .skip(1)
            .filter_map(|list| list.split('}').next())
            .flat_map(|list| list.split(',').map(|one| one.split(['=', '!']).next().unwrap()));
        for label in named.chain(matched) {
            assert!(known.contains(label), "{text}: {label}");
        }
    }
    // What nobody looks at need not be told.
    let table = culvert::telemetry::metrics::table::ALL;
    let idle: Vec<_> = table.iter().map(|metric| metric.name).filter(|name| !used.contains(name)).collect();
    assert!(idle.is_empty(), "no panel and no alert looks at {idle:?}");
}

/// Reasons of drops, as the label has them.
fn drops() -> BTreeSet<&'static str> {
    let own = router::Counter::ALL.iter().filter_map(|counter| counter.name().strip_prefix("drop_"));
    let opened = esp::OpenError::ALL.iter().map(|error| error.name());
    let sealed = esp::SealError::ALL.iter().map(|error| error.name());
    own.chain(opened).chain(sealed).collect()
}

/// Whoever looks for a word of the runbook in the panel of drops finds it.
#[test]
fn the_runbook_of_drops_names_reasons_that_there_are() {
    let known = drops();
    let alert = ALERTS.iter().find(|alert| alert.name == "CulvertDrops").unwrap();
    let named: Vec<_> =
        alert.runbook.split('`').skip(1).step_by(2).chain([alert.cause.unwrap().trial]).collect();
    assert!(named.len() > 5, "{named:?}");
    for reason in named {
        // `policy_...` is all that begin so.
        let is_there = match reason.strip_suffix("...") {
            Some(beginning) => known.iter().any(|name| name.starts_with(beginning)),
            None => known.contains(reason),
        };
        assert!(is_there, "{reason} is none of {known:?}");
    }
}

#[test]
fn alerts_fire_at_what_they_are_for_and_rest_otherwise() {
    if !is_there("promtool") {
        return;
    }
    let rules = tree().join("charts/culvert/rules/culvert.yaml");
    let said = promtool(&["check", "rules", rules.to_str().unwrap()], None);
    assert!(said.contains(&format!("{} rules found", ALERTS.len())), "{said}");
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trials.yaml");
    std::fs::write(&path, trials(rules.to_str().unwrap()).unwrap()).unwrap();
    promtool(&["test", "rules", path.to_str().unwrap()], None);
    // A trial that expects what is not so fails.
    let text = trials(rules.to_str().unwrap()).unwrap().replace("severity: critical", "severity: other");
    std::fs::write(&path, text).unwrap();
    let output = Command::new("promtool").args(["test", "rules"]).arg(&path).output().unwrap();
    assert!(!output.status.success());
}

/// What fires of these series after so many minutes, each named as `NAME{label="value"}`.
fn fires(series: &[(&str, &str)], minutes: u32, alert: &str, firing: &[&str]) {
    let series: Vec<Value> =
        series.iter().map(|(series, values)| json!({"series": series, "values": values})).collect();
    let all = |labels: &&str| {
        let labels = format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\",{labels}}}");
        json!({"labels": labels, "value": 1})
    };
    let asked = json!({
        "expr": format!("ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}"),
        "eval_time": format!("{minutes}m"),
        "exp_samples": firing.iter().map(all).collect::<Vec<_>>(),
    });
    let rules = tree().join("charts/culvert/rules/culvert.yaml");
    let tests = json!({
        "rule_files": [rules],
        "tests": [{"interval": "20s", "input_series": series, "promql_expr_test": [asked]}],
        "evaluation_interval": "20s",
    });
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fires.yaml");
    std::fs::write(&path, tests.to_string()).unwrap();
    promtool(&["test", "rules", path.to_str().unwrap()], None);
}

/// A value every twenty seconds. An attempt that nobody answers takes 41 seconds, and pauses become longer.
#[test]
fn a_tenant_whose_tunnels_fail_is_told_however_they_fail() {
    if !is_there("promtool") {
        return;
    }
    let name = "CulvertTenantTunnelsFailing";
    let of = |state: &str| {
        format!("culvert_tenant_peers{{job=\"culvert\",instance=\"a\",tenant=\"acme\",state=\"{state}\"}}")
    };
    let (connecting, backing_off) = (of("connecting"), of("backing_off"));
    let (waiting, up) = (of("waiting"), of("up"));
    let critical = "job=\"culvert\",tenant=\"acme\",severity=\"critical\"";
    // One peer, which is silent.
    let (attempts, pauses) =
        ("1 1 1 0 1 1 1 0 0 1 1 1 0 0 0 1 1 1 0 0 0 0", "0 0 0 1 0 0 0 1 1 0 0 0 1 1 1 0 0 0 1 1 1 1");
    let silent = [(connecting.as_str(), attempts), (&backing_off, pauses), (&up, "0x30")];
    fires(&silent, 7, name, &[critical]);
    // Begins with all of them, and comes up.
    fires(&[(&connecting, "9x6 0x30"), (&backing_off, "0x40"), (&up, "0x6 9x30")], 7, name, &[]);

    // Those that begin themselves, here two of so many, each refused by three nodes.
    let tried = |reason: &str, of: u32, firing: &[&str]| {
        let refused = ["b1", "b2"].iter().flat_map(|peer| ["a", "b", "c"].map(|node| (peer, node)));
        let refused = refused.flat_map(|(peer, node)| {
            let of = format!("job=\"culvert\",instance=\"{node}\",tenant=\"acme\",peer=\"{peer}\"");
            [
                (format!("culvert_peer_down_reason{{{of},reason=\"{reason}\"}}"), "1x30"),
                (format!("culvert_peer_up{{{of}}}"), "0x30"),
            ]
        });
        let (refused, others): (Vec<_>, _) = (refused.collect(), format!("{}x30", of - 2));
        let refused = refused.iter().map(|(series, values)| (series.as_str(), *values));
        let all: Vec<_> = refused.chain([(waiting.as_str(), "2x30"), (&up, &others)]).collect();
        fires(&all, 7, name, firing);
    };
    tried("proposal", 3, &[critical]);
    tried("proposal", 10, &[]);
    // Anybody may say their names.
    tried("psk", 3, &[]);
    // They may be switched off.
    tried("silent", 3, &[]);
    tried("waiting", 3, &[]);
}

#[test]
fn a_pod_that_is_gone_is_told_and_one_that_has_moved_is_not() {
    if !is_there("promtool") {
        return;
    }
    let of = |pod: &str, address: &str| {
        format!("culvert_ready{{job=\"culvert\",namespace=\"vpn\",pod=\"{pod}\",instance=\"{address}\"}}")
    };
    let (first, moved, second) =
        (of("culvert-0", "10.0.0.1"), of("culvert-0", "10.0.0.2"), of("culvert-1", "10.0.0.3"));
    let gone = "namespace=\"vpn\",pod=\"culvert-1\",severity=\"critical\"";
    let series = [(first.as_str(), "1x9 stale"), (&moved, "_x12 1x30"), (&second, "1x9 stale")];
    fires(&series, 10, "CulvertNodeGone", &[gone]);
}

/// Three nodes, each of which has one of three tunnels and shows the others as elsewhere: every panel counts each tunnel and the tenant once.
#[test]
fn panels_count_what_all_nodes_know_once() {
    if !is_there("promtool") {
        return;
    }
    let mut series = Vec::new();
    let mut add =
        |name: String, value: &str| series.push(json!({"series": name, "values": format!("{value}x10")}));
    for node in ["a", "b", "c"] {
        for (state, count) in [("up", "1"), ("waiting", "0"), ("elsewhere", "2")] {
            add(format!("culvert_peers{{instance=\"{node}\",state=\"{state}\"}}"), count);
            add(
                format!("culvert_tenant_peers{{instance=\"{node}\",tenant=\"acme\",state=\"{state}\"}}"),
                count,
            );
        }
        add(format!("culvert_usage{{instance=\"{node}\",resource=\"tenants\"}}"), "1");
        add(format!("culvert_tenant_peers_limit{{instance=\"{node}\",tenant=\"acme\"}}"), "10");
        for peer in ["a", "b", "c"] {
            let of = format!("{{instance=\"{node}\",tenant=\"acme\",peer=\"{peer}\"}}");
            let has_it = node == peer;
            add(format!("culvert_peer_up{of}"), if has_it { "1" } else { "0" });
            // It came up after one minute. The others have had nothing to do with it since four.
            add(format!("culvert_peer_state_timestamp_seconds{of}"), if has_it { "60" } else { "240" });
            if !has_it {
                let of = of.replace('}', ",reason=\"elsewhere\"}");
                add(format!("culvert_peer_down_reason{of}"), "1");
            }
        }
    }
    let none: &[_] = &[("{reason=\"none\"}", 0.0)];
    let expected: &[(&str, &[(&str, f64)])] = &[
        ("Culvert / Fleet: Tunnels up", &[("{}", 3.0)]),
        ("Culvert / Fleet: Tunnels not up", &[("{}", 0.0)]),
        ("Culvert / Fleet: Tenants", &[("{}", 1.0)]),
        ("Culvert / Fleet: Peers by state", &[("{state=\"up\"}", 3.0), ("{state=\"waiting\"}", 0.0)]),
        ("Culvert / Fleet: Why tunnels are not up", none),
        ("Culvert / Fleet: Tunnels that are down", none),
        ("Culvert / Tenant: Tunnels up", &[("{}", 3.0)]),
        ("Culvert / Tenant: Tunnels not up", &[("{}", 0.0)]),
        ("Culvert / Tenant: Peers by state", &[("{state=\"up\"}", 3.0), ("{state=\"waiting\"}", 0.0)]),
        ("Culvert / Tenant: Tunnels that are down", none),
        ("Culvert / Tenant: Use of quotas", &[("{}", 0.3)]),
        ("Culvert / Peer: For", &[("{}", 240.0)]),
        ("Culvert / Peer: Why it is not up", none),
    ];
    let panels = of_panels();
    let asked = expected.iter().map(|(panel, samples)| {
        let (_, query) = panels.iter().find(|(name, _)| name == panel).unwrap();
        let samples: Vec<Value> =
            samples.iter().map(|(labels, value)| json!({"labels": labels, "value": value})).collect();
        json!({"expr": query.asked("acme", "b"), "eval_time": "5m", "exp_samples": samples})
    });
    let asked: Vec<Value> = asked.collect();
    let tests = json!({"tests": [{"interval": "1m", "input_series": series, "promql_expr_test": asked}]});
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("panels.yaml");
    std::fs::write(&path, tests.to_string()).unwrap();
    promtool(&["test", "rules", path.to_str().unwrap()], None);
}

/// The first number under this name, wherever it is.
fn number(value: &Value, name: &str) -> Option<u64> {
    match value {
        Value::Object(fields) => fields
            .get(name)
            .and_then(Value::as_u64)
            .or_else(|| fields.values().find_map(|value| number(value, name))),
        Value::Array(values) => values.iter().find_map(|value| number(value, name)),
        _ => None,
    }
}

/// The quickstart, and a real Prometheus that reads it from before its start.
fn quickstart(directory: &Path, arguments: &[&str]) -> (Prometheus, Process, SocketAddr) {
    let metrics = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let rules = std::fs::canonicalize(tree().join("charts/culvert/rules/culvert.yaml")).unwrap();
    let prometheus = Prometheus::start(directory, metrics, &rules);
    let node = Command::new(env!("CARGO_BIN_EXE_culvert"))
        .args(["quickstart", "--for", "240s", "--rate", "50", "--metrics", &metrics.to_string()])
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    (prometheus, Process(node), metrics)
}

/// Whether it finds a number, of one of these peers of acme where it asks for a peer.
fn has_data(prometheus: &Prometheus, query: &Query, peers: &[&str]) -> bool {
    let value = |series: &Value| series["value"][1].as_str().and_then(|value| value.parse::<f64>().ok());
    peers.iter().any(|peer| {
        let found = prometheus.query(&query.asked("acme", peer));
        found.iter().any(|series| value(series).is_some_and(f64::is_finite))
    })
}

/// What every panel asks, with what it is called.
fn of_panels() -> Vec<(String, Query)> {
    let mut all = Vec::new();
    for dashboard in dashboards() {
        for panel in dashboard.panels() {
            let named = |(_, query): &(_, Query)| (format!("{}: {}", dashboard.title, panel.title), *query);
            all.extend(panel.queries.iter().map(named));
        }
    }
    all
}

/// Waits until all of them have found something. Rates are over a minute; what has not shown after three is not there.
fn all_find(mut waiting: Vec<(String, Query)>, node: &mut Process, finds: &dyn Fn(&Query) -> bool) {
    for round in 0.. {
        waiting.retain(|(_, query)| !finds(query));
        if waiting.is_empty() {
            break;
        }
        let left: Vec<String> =
            waiting.iter().map(|(name, query)| format!("{name}: {}", query.written())).collect();
        assert!(round < 900, "without data: {left:#?}");
        assert!(node.0.try_wait().unwrap().is_none(), "the node has ended");
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// Nothing is wrong, nothing is dropped, there is neither TLS nor a collector: panels about those say so, and are not empty.
#[test]
fn every_panel_shows_something_of_the_quickstart_alone() {
    if !is_there("prometheus") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (prometheus, mut node, _) = quickstart(directory.path(), &[]);
    all_find(of_panels(), &mut node, &|query| has_data(&prometheus, query, &["branch-1"]));
}

/// A node with traffic, a real Prometheus that reads it, and every panel and alert: each finds series.
#[test]
fn every_panel_and_alert_finds_series() {
    if !is_there("prometheus") {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let collector = runtime.block_on(Collector::start());
    let directory = tempfile::tempdir().unwrap();
    let (api, natt) = (free_port(), free_port());
    let arguments = [
        "--api",
        &format!("127.0.0.1:{api}"),
        "--natt-port",
        &natt.to_string(),
        "--otlp",
        &collector.endpoint(),
    ];
    let (prometheus, mut node, metrics) = quickstart(directory.path(), &arguments);
    let up =
        |text: &str| text.lines().filter(|l| l.starts_with("culvert_peer_up{") && l.ends_with(" 1")).count();
    while std::net::TcpStream::connect(metrics).is_err() || up(&get(metrics, "/metrics").1) < 4 {
        assert!(node.0.try_wait().unwrap().is_none(), "the node has ended");
        std::thread::sleep(Duration::from_millis(200));
    }

    // Metrics are as Prometheus wants them.
    let text = get(metrics, "/metrics").1;
    promtool(&["check", "metrics"], Some(&text));

    // One peer that cannot come up, and a negotiation that fails.
    let culvert = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
        let output =
            command.args(["--server", &format!("http://127.0.0.1:{api}")]).args(arguments).output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
    };
    let manifest = directory.path().join("lost.yaml");
    std::fs::write(
        &manifest,
        "kind: Peer\nname: tenants/acme/peers/lost\nlocalIdentity: hub.example\nremoteIdentity: lost.example\n\
         auth:\n  psk: tenants/acme/secrets/branches\nchildren:\n- name: lan\n  localSubnets: [10.8.0.0/24]\n  \
         remoteSubnets: [10.9.0.0/24]\n",
    )
    .unwrap();
    assert!(culvert(&["apply", "-f", manifest.to_str().unwrap()]).0);
    assert!(!culvert(&["initiate", "tenants/acme/peers/lost"]).0, "it has no address");

    let forge = || {
        // A packet that nobody with the keys has made.
        let (_, sas) = culvert(&["get", "sas", "tenants/acme", "-o", "json"]);
        let spi = serde_json::from_str(&sas).ok().and_then(|sas: Value| number(&sas, "inboundSpi"));
        if let Some(spi) = spi.and_then(|spi| u32::try_from(spi).ok()) {
            let mut packet = spi.to_be_bytes().to_vec();
            packet.extend([0, 0, 0xff, 0xff]);
            packet.extend([0x5a; 96]);
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.send_to(&packet, ("127.0.0.1", natt)).unwrap();
        }
    };
    let mut waiting = of_panels();
    // There is no certificate without TLS.
    let alerts = ALERTS.iter().filter(|alert| alert.needs.is_none());
    waiting.extend(alerts.map(|alert| (alert.name.to_owned(), alert.looks_at)));
    assert!(waiting.len() > 70, "{}", waiting.len());
    all_find(waiting, &mut node, &|query| {
        has_data(&prometheus, query, &["branch-1", "lost"]) || {
            forge();
            false
        }
    });
    // The rules are loaded, and each of them can be evaluated.
    let rules = prometheus.rules();
    assert_eq!(rules.len(), ALERTS.len());
    assert!(rules.iter().all(|rule| rule["health"] == "ok"), "{rules:?}");
}
