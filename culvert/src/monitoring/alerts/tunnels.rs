//! Alerts about tunnels: those that are down or lack a part, and why.

use super::{Alert, Cause, PEER, Severity, Trial};
use crate::monitoring::query::query;
use crate::telemetry::metrics::table::*;

/// As `explain` has it.
const OF_PEER: Option<Cause> = Some(Cause {
    asked: query!("$0{instance=%q,tenant=%q,peer=%q}", PEER_REASON),
    by: &["instance", "tenant", "peer"],
    word: "reason",
    trial: "silent",
});

/// All of them.
pub(super) const ALERTS: &[Alert] = &[
    Alert {
        name: "CulvertPeerDown",
        severity: Severity::Warning,
        when: query!(
            "$0 == 0 unless on (instance, tenant, peer) $1{reason=~\"waiting|terminated|elsewhere\"}",
            PEER_UP,
            PEER_REASON
        ),
        looks_at: query!("$0", PEER_UP),
        minutes: 5,
        summary: "the tunnel of {{ $labels.peer }} of {{ $labels.tenant }} is down",
        cause: OF_PEER,
        runbook: "A tunnel that is wanted does not come up, or was lost and does not come back. `culvert explain tenants/TENANT/peers/PEER` says why, with \
                  the values that differ and what to change on which side; `culvert_peer_down_reason` has the same cause in a word. A tunnel that waits for its \
                  peer or for a packet, that was taken down by command, or that another node has or begins with, does not count. One that nobody here begins, and that was lost \
                  without a word or was refused, counts for an hour: its peer may be broken, or it was switched off, and then it is waited for.",
        labels: PEER,
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b1\"}", PEER_UP), "0x10"),
                (
                    query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b1\",reason=\"silent\"}", PEER_REASON),
                    "1x10",
                ),
            ],
            minute: 6,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b1\"}", PEER_UP), "1x10"),
                (query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b2\"}", PEER_UP), "0x10"),
                (
                    query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b2\",reason=\"waiting\"}", PEER_REASON),
                    "1x10",
                ),
                // Lost here, and up at another node since.
                (query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b3\"}", PEER_UP), "0x10"),
                (
                    query!(
                        "$0{instance=\"a\",tenant=\"acme\",peer=\"b3\",reason=\"elsewhere\"}",
                        PEER_REASON
                    ),
                    "1x10",
                ),
                (query!("$0{instance=\"b\",tenant=\"acme\",peer=\"b3\"}", PEER_UP), "1x10"),
            ],
            minute: 6,
        },
        needs: None,
    },
    Alert {
        name: "CulvertPeerDegraded",
        severity: Severity::Warning,
        when: query!("$0 == 1 and on (instance, tenant, peer) $1", PEER_UP, PEER_REASON),
        looks_at: query!("$0", PEER_UP),
        minutes: 5,
        summary: "a part of the tunnel of {{ $labels.peer }} of {{ $labels.tenant }} is missing",
        cause: OF_PEER,
        runbook: "The peer is authenticated, and a child of it is not up, or not all of its subnets: packets of those are dropped. `culvert explain \
                  tenants/TENANT/peers/PEER` shows what each side has, and what to change on which. `selectors`: the subnets do not fit; `proposal`: the \
                  algorithms of ESP; `mode`: one side wants transport mode.",
        labels: PEER,
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b1\"}", PEER_UP), "1x10"),
                (
                    query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b1\",reason=\"silent\"}", PEER_REASON),
                    "1x10",
                ),
            ],
            minute: 6,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b1\"}", PEER_UP), "1x10"),
                (query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b2\"}", PEER_UP), "0x10"),
                (
                    query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b2\",reason=\"silent\"}", PEER_REASON),
                    "1x10",
                ),
            ],
            minute: 6,
        },
        needs: None,
    },
    Alert {
        name: "CulvertRefused",
        severity: Severity::Info,
        when: query!(
            "sum by (instance, cause) (increase($0{stage=\"respond\",outcome=\"failed\"}[30m])) > 10",
            NEGOTIATIONS
        ),
        looks_at: query!("$0{stage=\"respond\"}", NEGOTIATIONS),
        minutes: 0,
        summary: "{{ $labels.instance }} refuses who begins a tunnel again and again: {{ $labels.cause }}",
        cause: None,
        runbook: "A gateway that is configured otherwise than its peer here, or somebody who tries. Whose a first message is nobody knows, for anybody can send it from \
                  any address, so what is refused of it, such as its proposals, leaves its peer waiting, as the \
                  metrics have it: `culvert explain` of the peer that is missed shows what was refused, what differs, and what \
                  to change on which side.",
        labels: &[("instance", "a"), ("cause", "proposal")],
        fires: Trial {
            series: &[(
                query!(
                    "$0{instance=\"a\",stage=\"respond\",outcome=\"failed\",cause=\"proposal\"}",
                    NEGOTIATIONS
                ),
                "0+1x30",
            )],
            minute: 20,
        },
        rests: Trial {
            series: &[
                (
                    query!(
                        "$0{instance=\"a\",stage=\"respond\",outcome=\"failed\",cause=\"proposal\"}",
                        NEGOTIATIONS
                    ),
                    "0x10 3x20",
                ),
                (
                    query!(
                        "$0{instance=\"a\",stage=\"respond\",outcome=\"succeeded\",cause=\"\"}",
                        NEGOTIATIONS
                    ),
                    "0+9x30",
                ),
            ],
            minute: 20,
        },
        needs: None,
    },
    Alert {
        name: "CulvertTenantTunnelsFailing",
        severity: Severity::Critical,
        // Of peers that begin themselves each is counted once, whichever nodes refused it, and by what only it can be refused for: anybody can
        // say its name, and has no key.
        when: query!(
            "sum by (job, namespace, tenant) ($0{state=~\"backing_off|connecting\"}) > 0.5 * sum by (job, namespace, tenant) ($0{state!~\"terminated|elsewhere\"}) \
             or count by (job, namespace, tenant) (max by (job, namespace, tenant, peer) ($1{reason=\"proposal\"}) \
             unless on (job, namespace, tenant, peer) $2 == 1) \
             > 0.5 * sum by (job, namespace, tenant) ($0{state!~\"terminated|elsewhere\"})",
            TENANT_PEERS,
            PEER_REASON,
            PEER_UP
        ),
        looks_at: query!("$0{state=~\"backing_off|connecting\"}", TENANT_PEERS),
        minutes: 5,
        summary: "more than half of the tunnels of {{ $labels.tenant }} fail",
        cause: Some(Cause {
            asked: query!(
                "topk(1, count by (reason) ($0{job=%q,namespace=%q,tenant=%q,reason!~\"waiting|terminated|elsewhere\"}))",
                PEER_REASON
            ),
            by: &["job", "namespace", "tenant"],
            word: "reason",
            trial: "psk",
        }),
        runbook: "Most of a tenant's tunnels fail at once, so it is hardly each of them: look for what they have in common. A secret that was changed here and \
                  not there, a proposal taken away, a path or an address of the nodes. A peer that nobody answers counts, and one that begins itself and whose proposals are refused. One \
                  that begins itself and is silent does not, for it may have been switched off, nor one with another secret, for anybody may say its name: CulvertPeerDown tells of those. `culvert get peers tenants/TENANT` shows them with their last errors, and \
                  `culvert get audit` what was changed last.",
        labels: &[("job", "culvert"), ("tenant", "acme")],
        // Three nodes, each of which begins with a third of the peers, and whose attempts take longer than the pauses.
        fires: Trial {
            series: &[
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"a\",tenant=\"acme\",state=\"backing_off\"}",
                        TENANT_PEERS
                    ),
                    "3 0 3 0 0 3 0 3 0 0 3",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"a\",tenant=\"acme\",state=\"connecting\"}",
                        TENANT_PEERS
                    ),
                    "0 3 0 3 3 0 3 0 3 3 0",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"a\",tenant=\"acme\",state=\"elsewhere\"}",
                        TENANT_PEERS
                    ),
                    "7x10",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"b\",tenant=\"acme\",state=\"backing_off\"}",
                        TENANT_PEERS
                    ),
                    "3 0 3 0 0 3 0 3 0 0 3",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"b\",tenant=\"acme\",state=\"connecting\"}",
                        TENANT_PEERS
                    ),
                    "0 3 0 3 3 0 3 0 3 3 0",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"b\",tenant=\"acme\",state=\"elsewhere\"}",
                        TENANT_PEERS
                    ),
                    "7x10",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"c\",tenant=\"acme\",state=\"backing_off\"}",
                        TENANT_PEERS
                    ),
                    "2 0 2 0 0 2 0 2 0 0 2",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"c\",tenant=\"acme\",state=\"connecting\"}",
                        TENANT_PEERS
                    ),
                    "0 2 0 2 2 0 2 0 2 2 0",
                ),
                (
                    query!("$0{job=\"culvert\",instance=\"c\",tenant=\"acme\",state=\"up\"}", TENANT_PEERS),
                    "2x10",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"c\",tenant=\"acme\",state=\"elsewhere\"}",
                        TENANT_PEERS
                    ),
                    "6x10",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"a\",tenant=\"acme\",peer=\"b1\",reason=\"psk\"}",
                        PEER_REASON
                    ),
                    "1x10",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"b\",tenant=\"acme\",peer=\"b1\",reason=\"elsewhere\"}",
                        PEER_REASON
                    ),
                    "1x10",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"c\",tenant=\"acme\",peer=\"b1\",reason=\"elsewhere\"}",
                        PEER_REASON
                    ),
                    "1x10",
                ),
            ],
            minute: 6,
        },
        // All that one node begins with, and few of all.
        rests: Trial {
            series: &[
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"a\",tenant=\"acme\",state=\"backing_off\"}",
                        TENANT_PEERS
                    ),
                    "2x10",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"a\",tenant=\"acme\",state=\"elsewhere\"}",
                        TENANT_PEERS
                    ),
                    "8x10",
                ),
                (
                    query!("$0{job=\"culvert\",instance=\"b\",tenant=\"acme\",state=\"up\"}", TENANT_PEERS),
                    "4x10",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"b\",tenant=\"acme\",state=\"elsewhere\"}",
                        TENANT_PEERS
                    ),
                    "6x10",
                ),
                (
                    query!("$0{job=\"culvert\",instance=\"c\",tenant=\"acme\",state=\"up\"}", TENANT_PEERS),
                    "4x10",
                ),
                (
                    query!(
                        "$0{job=\"culvert\",instance=\"c\",tenant=\"acme\",state=\"elsewhere\"}",
                        TENANT_PEERS
                    ),
                    "6x10",
                ),
            ],
            minute: 6,
        },
        needs: None,
    },
    Alert {
        name: "CulvertPeerFlapping",
        severity: Severity::Warning,
        when: query!("increase($0[30m]) > 3", PEER_LOSSES),
        looks_at: query!("$0", PEER_LOSSES),
        minutes: 0,
        summary: "the tunnel of {{ $labels.peer }} of {{ $labels.tenant }} is lost again and again",
        cause: None,
        runbook: "The tunnel comes up and is lost again. `culvert explain` tells the last attempts: liveness checks without an answer mean a path that loses \
                  packets or a NAT that forgets its mapping; `uniqueness` means that two gateways call themselves by one identity and take the tunnel from each \
                  other, so give each its own.",
        labels: PEER,
        fires: Trial {
            series: &[(query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b1\"}", PEER_LOSSES), "0+1x30")],
            minute: 30,
        },
        rests: Trial {
            series: &[(query!("$0{instance=\"a\",tenant=\"acme\",peer=\"b1\"}", PEER_LOSSES), "0x15 1x15")],
            minute: 30,
        },
        needs: None,
    },
];
