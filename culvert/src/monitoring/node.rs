//! One node: whether it is well, how near it is to its bounds, what it drops.

use super::panels::{Choice, Dashboard, Look, Panel};
use super::query::query;
use crate::telemetry::metrics::table::*;

/// The node that is looked at.
const NODE: Choice =
    Choice { name: "node", label: "Node", from: query!("$0", BUILD), of: "instance", all: true };

pub(super) fn dashboard() -> Dashboard {
    Dashboard {
        uid: "culvert-node",
        title: "Culvert / Node",
        help: "One node: whether it is well, how near it is to its bounds, what it drops.",
        choices: vec![NODE],
        rows: vec![
            ("Health", health()),
            ("Bounds", bounds()),
            ("Negotiations", negotiations()),
            ("Packets", packets()),
            ("Telemetry", telemetry()),
        ],
    }
}

fn health() -> Vec<Panel> {
    vec![
        Panel::new("Ready", Look::Stat, "bool_yes_no", "Up, alive, nothing is in the way of work, and it is not going down.")
            .ask("{{instance}}", query!("$0{instance=~\"$node\"}", READY)),
        Panel::new(
            "Alive",
            Look::Stat,
            "bool_yes_no",
            "Every thread runs that must. What does not is mended by a restart.",
        )
        .ask("{{instance}}", query!("$0{instance=~\"$node\"}", LIVE)),
        Panel::new(
            "Store takes writes",
            Look::Stat,
            "bool_yes_no",
            "No is a full or broken disk: tunnels run on, changes are refused.",
        )
        .ask("{{instance}}", query!("$0{instance=~\"$node\"}", STORE_WRITABLE)),
        Panel::new("Runs for", Look::Stat, "s", "Since its start.")
            .ask("{{instance}}", query!("time() - $0{instance=~\"$node\"}", START_TIME)),
        Panel::new("Version", Look::Table, "none", "Of culvertd.")
            .ask("", query!("$0{instance=~\"$node\"}", BUILD)),
        Panel::new("Memory", Look::Lines, "bytes", "Memory that the process holds.")
            .ask("{{instance}}", query!("$0{instance=~\"$node\"}", RESIDENT)),
        Panel::new("Changes of the catalog", Look::Lines, "none", "Its revision: a step is a change.")
            .ask("{{instance}}", query!("$0{instance=~\"$node\"}", REVISION)),
        Panel::new(
            "Certificates end in",
            Look::Table,
            "s",
            "Until a certificate that the node shows is not valid any more; none without TLS.",
        )
        .ask("", query!("$0{instance=~\"$node\"} - time() or on() label_replace(vector(0), \"certificate\", \"none\", \"\", \"\")", CERTIFICATE)),
    ]
}

fn bounds() -> Vec<Panel> {
    vec![
        Panel::new("Use of bounded resources", Look::Lines, "percentunit", "How much of what there is. half_open near its bound is a flood, or many peers that return at once.")
            .ask("{{instance}} {{resource}}", query!("$0{instance=~\"$node\"} / $1{instance=~\"$node\"}", USAGE, LIMIT)),
        Panel::new("Queues", Look::Lines, "percentunit", "How full they are. What finds no room is dropped, counted, and repeated by its sender.")
            .ask("{{instance}} {{queue}}", query!("$0{instance=~\"$node\"} / $1{instance=~\"$node\"}", QUEUE_DEPTH, QUEUE_LIMIT)),
        Panel::new("SAs and half-open negotiations", Look::Lines, "none", "IKE SAs, pairs of ESP SAs, and negotiations of whom nobody knows yet.")
            .ask("IKE SAs", query!("sum($0{instance=~\"$node\"})", IKE_SAS))
            .ask("Child SAs", query!("sum($0{instance=~\"$node\"})", CHILD_SAS))
            .ask("half-open", query!("sum($0{instance=~\"$node\"})", HALF_OPEN)),
    ]
}

fn negotiations() -> Vec<Panel> {
    vec![
        Panel::new("Handshakes", Look::Lines, "s", "From the first message to an authenticated peer: median and 99th percentile; of all since the start where there was none lately.")
            .ask("median, {{role}}", query!("histogram_quantile(0.5, sum by (le, role) (rate($0_bucket{instance=~\"$node\"}[$__rate_interval]))) >= 0 or histogram_quantile(0.5, sum by (le, role) ($0_bucket{instance=~\"$node\"}))", HANDSHAKE))
            .ask("99 %, {{role}}", query!("histogram_quantile(0.99, sum by (le, role) (rate($0_bucket{instance=~\"$node\"}[$__rate_interval]))) >= 0 or histogram_quantile(0.99, sum by (le, role) ($0_bucket{instance=~\"$node\"}))", HANDSHAKE)),
        Panel::new("Rekeyings", Look::Lines, "s", "From our request to new keys, 95th percentile.")
            .ask("{{sa}}", query!("histogram_quantile(0.95, sum by (le, sa) (rate($0_bucket{instance=~\"$node\"}[$__rate_interval])))", REKEY)),
        Panel::new("Exchanges", Look::Lines, "s", "From our request to the peer's answer, 95th percentile. Half a second and more: requests are sent again.")
            .ask("{{exchange}}", query!("histogram_quantile(0.95, sum by (le, exchange) (rate($0_bucket{instance=~\"$node\"}[$__rate_interval])))", EXCHANGE)),
        Panel::new("IKE messages", Look::Lines, "pps", "Received, sent, and sent again.")
            .ask("{{direction}}", query!("sum by (direction) (rate($0{instance=~\"$node\"}[$__rate_interval]))", IKE_MESSAGES))
            .ask("sent again", query!("sum(rate($0{instance=~\"$node\"}[$__rate_interval]))", RETRANSMISSIONS)),
        Panel::new("What became of IKE messages", Look::Lines, "pps", "Each that was received has one outcome. init_cookie, init_over_budget and half_open_limit are the defence against floods.")
            .ask("{{outcome}}", query!("sum by (outcome) (rate($0{instance=~\"$node\"}[$__rate_interval]))", IKE_OUTCOMES)),
        Panel::new("Failures by stage and cause", Look::Lines, "ops", "Per second.")
            .ask("{{stage}} {{cause}}", query!("sum by (stage, cause) (rate($0{instance=~\"$node\",outcome=\"failed\"}[$__rate_interval]))", NEGOTIATIONS)),
    ]
}

fn packets() -> Vec<Panel> {
    vec![
        Panel::new("ESP packets", Look::Lines, "pps", "Received and sent.").ask(
            "{{direction}}",
            query!("sum by (direction) (rate($0{instance=~\"$node\"}[$__rate_interval]))", ESP_PACKETS),
        ),
        Panel::new(
            "Inner packets",
            Look::Lines,
            "pps",
            "Switched between tunnels, to and from devices, and past the tunnels by policy.",
        )
        .ask(
            "{{way}}",
            query!("sum by (way) (rate($0{instance=~\"$node\"}[$__rate_interval]))", INNER_PACKETS),
        ),
        Panel::new("Drops by reason", Look::Lines, "pps", "Per second.").ask(
            "{{reason}}",
            query!("sum by (reason) (rate($0{instance=~\"$node\"}[$__rate_interval]))", DROPPED),
        ),
        Panel::new(
            "Requests at the API",
            Look::Lines,
            "ops",
            "Let in, and refused by why, per second. `culvert get audit` says who.",
        )
        .ask(
            "{{event}}",
            query!(
                "sum by (event) (rate($0{instance=~\"$node\",event=~\"api_.*\"}[$__rate_interval]))",
                EVENTS
            ),
        ),
        Panel::new("Other events", Look::Lines, "ops", "Whatever else the node counts, per second.").ask(
            "{{event}}",
            query!(
                "sum by (event) (rate($0{instance=~\"$node\",event!~\"api_.*\"}[$__rate_interval]))",
                EVENTS
            ),
        ),
    ]
}

fn telemetry() -> Vec<Panel> {
    vec![
        Panel::new("Reading the node", Look::Lines, "s", "How long it took for an answer to Prometheus, or an export.")
            .ask("{{instance}}", query!("$0{instance=~\"$node\"}", COLLECT)),
        Panel::new("Sums only", Look::Table, "bool_yes_no", "Whether there are more peers, or tenants, than have series of their own (metrics.max_peers, metrics.max_tenants).")
            .ask("", query!("$0{instance=~\"$node\"}", AGGREGATED)),
        Panel::new("Exported over OTLP", Look::Lines, "ops", "What the collector has taken, and whether it takes anything; none without a collector.")
            .ask("{{signal}}", query!("sum by (signal) (rate($0{instance=~\"$node\"}[$__rate_interval])) or on() label_replace(vector(0), \"signal\", \"none\", \"\", \"\")", EXPORTED))
            .ask("{{signal}}: up", query!("min by (signal) ($0{instance=~\"$node\"}) or on() label_replace(vector(0), \"signal\", \"none\", \"\", \"\")", EXPORT_UP)),
        Panel::new("Not exported", Look::Lines, "ops", "Spans, requests of metrics and records of logs that were let go, by why.")
            .ask("{{signal}} {{reason}}", query!("sum by (signal, reason) (rate($0{instance=~\"$node\"}[$__rate_interval]))", EXPORT_DROPPED)),
    ]
}
