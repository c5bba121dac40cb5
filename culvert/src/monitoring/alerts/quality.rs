//! Alerts about how tunnels do that are up: packets that are dropped, keys that are not renewed, handshakes that take long.

use super::{Alert, Cause, NODE, Severity, TENANT, Trial};
use crate::monitoring::query::query;
use crate::telemetry::metrics::table::*;

/// All of them.
pub(super) const ALERTS: &[Alert] = &[
    Alert {
        name: "CulvertDrops",
        severity: Severity::Warning,
        when: query!(
            "sum by (instance) (rate($0{reason!~\"tenant_limit_.*|policy_discard\"}[5m])) > 0.01 * sum by (instance) (rate($1[5m])) \
             and sum by (instance) (rate($0{reason!~\"tenant_limit_.*|policy_discard\"}[5m])) > 1",
            DROPPED,
            ESP_PACKETS
        ),
        looks_at: query!("rate($0[5m])", DROPPED),
        minutes: 10,
        summary: "{{ $labels.instance }} drops more than one packet in a hundred",
        cause: Some(Cause {
            asked: query!(
                "topk(1, sum by (reason) (rate($0{instance=%q,reason!~\"tenant_limit_.*|policy_discard\"}[5m])))",
                DROPPED
            ),
            by: &["instance"],
            word: "reason",
            trial: "no_route",
        }),
        runbook: "The panel of drops by reason says what is dropped. `no_route` and `policy_no_tunnel` are packets that nobody configured a way for; `policy_inbound` those that came through a \
                  tunnel that the policy has not for them; \
                  `esp_replay_duplicate` and `esp_replay_too_old` a path that reorders more than the replay window; `handoff_full`, `send_buffer_full` and `tun_full` a \
                  node that is short of processors; `unknown_spi` peers that have not noticed a restart, or somebody who tries. What is meant to be dropped does not count: `policy_discard` by a rule, \
                  `tenant_limit_...` by a quota, of which CulvertTenantAtLimit tells.",
        labels: NODE,
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",reason=\"no_route\"}", DROPPED), "0+600x30"),
                (query!("$0{instance=\"a\",reason=\"tenant_limit_out\"}", DROPPED), "0+6000x30"),
                (query!("$0{instance=\"a\",direction=\"received\"}", ESP_PACKETS), "0+6000x30"),
            ],
            minute: 20,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",reason=\"no_route\"}", DROPPED), "0+600x30"),
                // As it is configured.
                (query!("$0{instance=\"a\",reason=\"tenant_limit_out\"}", DROPPED), "0+60000x30"),
                (query!("$0{instance=\"a\",reason=\"policy_discard\"}", DROPPED), "0+60000x30"),
                (query!("$0{instance=\"a\",direction=\"received\"}", ESP_PACKETS), "0+600000x30"),
            ],
            minute: 20,
        },
        needs: None,
    },
    Alert {
        name: "CulvertTenantAtLimit",
        severity: Severity::Info,
        when: query!(
            "sum by (instance, tenant) (rate($0{reason=~\"tenant_limit_.*\"}[5m])) > 1",
            TENANT_DROPPED
        ),
        looks_at: query!("$0{reason=~\"tenant_limit_.*\"}", TENANT_DROPPED),
        minutes: 10,
        summary: "{{ $labels.tenant }} sends more than its quotas have it",
        cause: None,
        runbook: "Packets of the tenant are dropped at this node because of `quotas.packetsPerSecond` or `quotas.bytesPerSecond`, as they are meant to be. Raise them if it is to have more, or \
                  ask what sends so much.",
        labels: TENANT,
        fires: Trial {
            series: &[(
                query!("$0{instance=\"a\",tenant=\"acme\",reason=\"tenant_limit_out\"}", TENANT_DROPPED),
                "0+600x30",
            )],
            minute: 20,
        },
        rests: Trial {
            series: &[
                (
                    query!("$0{instance=\"a\",tenant=\"acme\",reason=\"tenant_limit_out\"}", TENANT_DROPPED),
                    "0+6x30",
                ),
                (
                    query!("$0{instance=\"a\",tenant=\"acme\",reason=\"outbound_selector\"}", TENANT_DROPPED),
                    "0+600x30",
                ),
            ],
            minute: 20,
        },
        needs: Some("a tenant that has come to its quotas of traffic"),
    },
    Alert {
        name: "CulvertRekeyFailing",
        severity: Severity::Warning,
        when: query!(
            "sum by (instance) (increase($0{stage=\"rekey\",outcome=\"failed\"}[30m])) > 2",
            NEGOTIATIONS
        ),
        looks_at: query!("$0{stage=\"rekey\",outcome=\"failed\"}", NEGOTIATIONS),
        minutes: 0,
        summary: "rekeyings on {{ $labels.instance }} fail",
        cause: Some(Cause {
            asked: query!(
                "topk(1, sum by (cause) (increase($0{instance=%q,stage=\"rekey\",outcome=\"failed\"}[30m])))",
                NEGOTIATIONS
            ),
            by: &["instance"],
            word: "cause",
            trial: "pfs",
        }),
        runbook: "Tunnels run on until the lifetime of their keys ends, and are lost then: there is time, but not much. The cause is in the label `cause` of \
                  `culvert_negotiations_total`. `pfs` and `proposal`: the peer takes other proposals in CREATE_CHILD_SA than in IKE_AUTH, most often a group for \
                  perfect forward secrecy.",
        labels: NODE,
        fires: Trial {
            series: &[(
                query!("$0{instance=\"a\",stage=\"rekey\",outcome=\"failed\",cause=\"pfs\"}", NEGOTIATIONS),
                "0+1x30",
            )],
            minute: 20,
        },
        rests: Trial {
            series: &[(
                query!("$0{instance=\"a\",stage=\"rekey\",outcome=\"succeeded\",cause=\"\"}", NEGOTIATIONS),
                "0+9x30",
            )],
            minute: 20,
        },
        needs: None,
    },
    Alert {
        name: "CulvertHandshakesSlow",
        severity: Severity::Info,
        when: query!(
            "histogram_quantile(0.95, sum by (instance, role, le) (rate($0_bucket[10m]))) > 2",
            HANDSHAKE
        ),
        looks_at: query!("rate($0_bucket[10m])", HANDSHAKE),
        minutes: 10,
        summary: "handshakes on {{ $labels.instance }} take more than two seconds",
        cause: None,
        runbook: "Messages are lost, or a node is short of processors. Compare retransmissions with the use of the processors; the traces of slow negotiations \
                  show which exchange waits.",
        labels: &[("instance", "a"), ("role", "initiator")],
        fires: Trial {
            series: &[
                (query!("$0_bucket{instance=\"a\",role=\"initiator\",le=\"1\"}", HANDSHAKE), "0x30"),
                (query!("$0_bucket{instance=\"a\",role=\"initiator\",le=\"10\"}", HANDSHAKE), "0+5x30"),
                (query!("$0_bucket{instance=\"a\",role=\"initiator\",le=\"+Inf\"}", HANDSHAKE), "0+5x30"),
            ],
            minute: 25,
        },
        rests: Trial {
            series: &[
                (query!("$0_bucket{instance=\"a\",role=\"initiator\",le=\"1\"}", HANDSHAKE), "0+5x30"),
                (query!("$0_bucket{instance=\"a\",role=\"initiator\",le=\"+Inf\"}", HANDSHAKE), "0+5x30"),
            ],
            minute: 25,
        },
        needs: None,
    },
];
