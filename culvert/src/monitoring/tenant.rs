//! One tenant: its tunnels, its traffic, its bounds.

use super::panels::{Choice, Dashboard, Look, Panel};
use super::query::query;
use crate::telemetry::metrics::table::*;

/// The tenant that is looked at.
pub(super) const TENANT: Choice =
    Choice { name: "tenant", label: "Tenant", from: query!("$0", TENANT_PEERS), of: "tenant", all: false };

pub(super) fn dashboard() -> Dashboard {
    let tunnels = vec![
        Panel::new("Tunnels up", Look::Stat, "none", "Peers of the tenant whose tunnel carries traffic.")
            .ask("up", query!("sum($0{tenant=\"$tenant\",state=~\"up|degraded\"})", TENANT_PEERS)),
        Panel::new(
            "Tunnels not up",
            Look::Stat,
            "none",
            "Peers of the tenant without a tunnel, wanted or not.",
        )
        .ask("not up", query!("sum($0{tenant=\"$tenant\",state!~\"up|degraded|elsewhere\"})", TENANT_PEERS)),
        Panel::new(
            "Uplink",
            Look::Stat,
            "bool_on_off",
            "Whether packets get from the tunnels to the tenant's device; a hub has none and always works.",
        )
        .ask("uplink", query!("min($0{tenant=\"$tenant\"})", TENANT_UPLINK)),
        Panel::new("Peers by state", Look::Stack, "none", "How the tenant's peers stand.")
            .ask("{{state}}", query!("sum by (state) ($0{tenant=\"$tenant\",state!=\"elsewhere\"})", TENANT_PEERS)),
        Panel::new(
            "Tunnels that are down",
            Look::Table,
            "none",
            "Each with its reason, or none. culvert explain NAME says what to change on which side.",
        )
        .ask("", query!("max by (peer, reason) ($0{tenant=\"$tenant\",reason!=\"elsewhere\"}) or on() label_replace(vector(0), \"reason\", \"none\", \"\", \"\")", PEER_REASON)),
        Panel::new(
            "Lost and failed",
            Look::Lines,
            "none",
            "Tunnels lost though nobody here wanted it, and negotiations that failed, in each interval.",
        )
        .ask("lost", query!("sum(increase($0{tenant=\"$tenant\"}[$__rate_interval]))", TENANT_LOSSES))
        .ask("failed", query!("sum(increase($0{tenant=\"$tenant\"}[$__rate_interval]))", TENANT_FAILURES)),
    ];
    let traffic = vec![
        Panel::new("Octets", Look::Lines, "Bps", "Inner octets from and to the tenant's peers.").ask(
            "{{direction}}",
            query!("sum by (direction) (rate($0{tenant=\"$tenant\"}[$__rate_interval]))", TENANT_BYTES),
        ),
        Panel::new("Packets", Look::Lines, "pps", "Inner packets from and to the tenant's peers.").ask(
            "{{direction}}",
            query!("sum by (direction) (rate($0{tenant=\"$tenant\"}[$__rate_interval]))", TENANT_PACKETS),
        ),
        Panel::new(
            "Drops in tunnels",
            Look::Lines,
            "pps",
            "Packets of the tenant's tunnels that were dropped, per second, by reason; none before the first.",
        )
        .ask(
            "{{reason}}",
            query!("sum by (reason) (rate($0{tenant=\"$tenant\"}[$__rate_interval])) or on() label_replace(vector(0), \"reason\", \"none\", \"\", \"\")", TENANT_DROPPED),
        ),
        Panel::new("Peers with most traffic", Look::Table, "Bps", "The twenty that carry most now.").ask(
            "",
            query!("topk(20, sum by (peer) (rate($0{tenant=\"$tenant\"}[$__rate_interval])))", PEER_BYTES),
        ),
    ];
    let bounds = vec![
        Panel::new("SAs", Look::Lines, "none", "IKE SAs and pairs of ESP SAs of the tenant.")
            .ask("IKE", query!("sum($0{tenant=\"$tenant\"})", TENANT_IKE_SAS))
            .ask("Child", query!("sum($0{tenant=\"$tenant\"})", TENANT_CHILD_SAS)),
        Panel::new(
            "Use of quotas",
            Look::Lines,
            "percentunit",
            "How much of what the tenant may have it has. At 100 % creating another is refused.",
        )
        .ask(
            "peers",
            query!(
                "max(sum by (instance) ($0{tenant=\"$tenant\"})) / max($1{tenant=\"$tenant\"})",
                TENANT_PEERS,
                TENANT_PEER_LIMIT
            ),
        )
        .ask(
            "secrets",
            query!(
                "max($0{tenant=\"$tenant\"}) / max($1{tenant=\"$tenant\"})",
                TENANT_SECRETS,
                TENANT_SECRET_LIMIT
            ),
        ),
        Panel::new(
            "Age of the oldest secret",
            Look::Stat,
            "s",
            "Since the secret was set that has been the same for the longest time.",
        )
        .ask("age", query!("time() - min($0{tenant=\"$tenant\"})", TENANT_OLDEST_SECRET)),
        Panel::new(
            "Certificates end in",
            Look::Table,
            "s",
            "Until the first certificate in the tenant's secrets is not valid any more; none where no peer has certificates.",
        )
        .ask("", query!("min by (tenant) ($0{tenant=\"$tenant\"}) - time() or on() label_replace(vector(0), \"tenant\", \"none\", \"\", \"\")", TENANT_CERTIFICATE)),
    ];
    Dashboard {
        uid: "culvert-tenant",
        title: "Culvert / Tenant",
        help: "One tenant: its tunnels, its traffic, its bounds.",
        choices: vec![TENANT],
        rows: vec![("Tunnels", tunnels), ("Traffic", traffic), ("Bounds", bounds)],
    }
}
