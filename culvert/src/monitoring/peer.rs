//! One peer: is its tunnel up, since when, why not, and what goes through it.

use super::panels::{Choice, Dashboard, Look, Panel};
use super::query::query;
use super::tenant::TENANT;
use crate::telemetry::metrics::table::*;

/// The peer that is looked at.
const PEER: Choice = Choice {
    name: "peer",
    label: "Peer",
    from: query!("$0{tenant=\"$tenant\"}", PEER_UP),
    of: "peer",
    all: false,
};

pub(super) fn dashboard() -> Dashboard {
    let tunnel = vec![
        Panel::new("Tunnel", Look::Stat, "bool_on_off", "Whether it carries traffic now.")
            .ask("up", query!("max($0{tenant=\"$tenant\",peer=\"$peer\"})", PEER_UP)),
        Panel::new("For", Look::Stat, "s", "How long it has been as it is, at the node that has it.")
            .ask("for", query!("time() - (max($0{tenant=\"$tenant\",peer=\"$peer\"} and on (instance) $1{tenant=\"$tenant\",peer=\"$peer\"} == 1) or max($0{tenant=\"$tenant\",peer=\"$peer\"}))", PEER_SINCE, PEER_UP)),
        Panel::new("Child SAs in place", Look::Stat, "percentunit", "Pairs of ESP SAs of those that are configured. More than 100 % while one replaces another.")
            .ask("in place", query!("max($0{tenant=\"$tenant\",peer=\"$peer\"}) / max($1{tenant=\"$tenant\",peer=\"$peer\"})", PEER_CHILD_SAS, PEER_CHILDREN)),
        Panel::new("Up and down", Look::States, "bool_on_off", "When it carried traffic.")
            .ask("tunnel", query!("max($0{tenant=\"$tenant\",peer=\"$peer\"})", PEER_UP)),
        Panel::new("Why it is not up", Look::States, "none", "The cause in the words of culvert explain, which says what to change. None while the tunnel carries all that it is for.")
            .ask("{{reason}}", query!("max by (reason) ($0{tenant=\"$tenant\",peer=\"$peer\",reason!=\"elsewhere\"}) or on() label_replace(vector(0), \"reason\", \"none\", \"\", \"\")", PEER_REASON)),
    ];
    let traffic = vec![
        Panel::new("Octets", Look::Lines, "Bps", "Inner octets from and to the peer.").ask(
            "{{direction}}",
            query!(
                "sum by (direction) (rate($0{tenant=\"$tenant\",peer=\"$peer\"}[$__rate_interval]))",
                PEER_BYTES
            ),
        ),
        Panel::new("Packets", Look::Lines, "pps", "Inner packets from and to the peer.").ask(
            "{{direction}}",
            query!(
                "sum by (direction) (rate($0{tenant=\"$tenant\",peer=\"$peer\"}[$__rate_interval]))",
                PEER_PACKETS
            ),
        ),
    ];
    let negotiations = vec![
        Panel::new("Came up, lost, failed", Look::Lines, "none", "In each interval. A tunnel that is lost again and again flaps: look for two gateways of one identity, or a path that loses packets.")
            .ask("came up", query!("sum(increase($0{tenant=\"$tenant\",peer=\"$peer\"}[$__rate_interval]))", PEER_UPS))
            .ask("lost", query!("sum(increase($0{tenant=\"$tenant\",peer=\"$peer\"}[$__rate_interval]))", PEER_LOSSES))
            .ask("failed", query!("sum(increase($0{tenant=\"$tenant\",peer=\"$peer\"}[$__rate_interval]))", PEER_FAILURES)),
        Panel::new("Rekeyed", Look::Lines, "none", "SAs that took the place of others, in each interval.")
            .ask("{{sa}}", query!("sum by (sa) (increase($0{tenant=\"$tenant\",peer=\"$peer\"}[$__rate_interval]))", PEER_REKEYS)),
    ];
    Dashboard {
        uid: "culvert-peer",
        title: "Culvert / Peer",
        help: "One peer: is its tunnel up, since when, why not, and what goes through it.",
        choices: vec![TENANT, PEER],
        rows: vec![("Tunnel", tunnel), ("Traffic", traffic), ("Negotiations", negotiations)],
    }
}
