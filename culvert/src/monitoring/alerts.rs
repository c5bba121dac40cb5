//! The alerts: when somebody is to look, and what he is to do then. Each brings what `promtool` tries on it.

use super::query::{Query, query};
use crate::telemetry::metrics::table::*;

/// How soon somebody is to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// At once.
    Critical,
    /// Today.
    Warning,
    /// Some day.
    Info,
}

impl Severity {
    /// As it is labelled.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::Warning => "warning",
            Self::Info => "info",
        }
    }
}

/// Series over time, one value a minute, in the notation of `promtool`.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// The series, and their values.
    pub series: &'static [(Query, &'static str)],
    /// The minute that is looked at.
    pub minute: u32,
}

/// An alert.
#[derive(Clone, Copy, Debug)]
pub struct Alert {
    /// Its name.
    pub name: &'static str,
    /// How soon somebody is to look.
    pub severity: Severity,
    /// When it holds.
    pub when: Query,
    /// What it looks at, which is there whether it holds or not.
    pub looks_at: Query,
    /// For how long it has to hold, in minutes.
    pub minutes: u32,
    /// In a line, with labels as `{{ $labels.tenant }}`.
    pub summary: &'static str,
    /// What it means, and what to do.
    pub runbook: &'static str,
    /// The labels of the one that fires in the trial.
    pub labels: &'static [(&'static str, &'static str)],
    /// What it fires at.
    pub fires: Trial,
    /// What it does not fire at.
    pub rests: Trial,
    /// What there has to be for it to look at anything, where that is not always so.
    pub needs: Option<&'static str>,
}

const PEER: &[(&str, &str)] = &[("instance", "a"), ("tenant", "acme"), ("peer", "b1")];
const TENANT: &[(&str, &str)] = &[("instance", "a"), ("tenant", "acme")];
const NODE: &[(&str, &str)] = &[("instance", "a")];

/// All of them.
pub static ALERTS: &[Alert] = &[
    Alert {
        name: "CulvertPeerDown",
        severity: Severity::Warning,
        when: query!(
            "$0 == 0 unless on (instance, tenant, peer) $1{reason=~\"waiting|terminated\"}",
            PEER_UP,
            PEER_REASON
        ),
        looks_at: query!("$0", PEER_UP),
        minutes: 5,
        summary: "the tunnel of {{ $labels.peer }} of {{ $labels.tenant }} is down",
        runbook: "A tunnel that is wanted does not come up, or was lost and does not come back. `culvert explain tenants/TENANT/peers/PEER` says why, with \
                  the values that differ and what to change on which side; `culvert_peer_down_reason` has the same cause in a word. A tunnel that waits for its \
                  peer or for a packet, or that was taken down by command, does not count.",
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
            ],
            minute: 6,
        },
        needs: None,
    },
    Alert {
        name: "CulvertTenantTunnelsFailing",
        severity: Severity::Critical,
        when: query!(
            "sum by (instance, tenant) ($0{state=\"backing_off\"}) > 0.5 * sum by (instance, tenant) ($0{state!=\"terminated\"})",
            TENANT_PEERS
        ),
        looks_at: query!("$0{state=\"backing_off\"}", TENANT_PEERS),
        minutes: 5,
        summary: "more than half of the tunnels of {{ $labels.tenant }} fail",
        runbook: "Most of a tenant's tunnels fail at once, so it is hardly each of them: look for what they have in common. A secret that was changed here and \
                  not there, a proposal taken away, a path or an address of this node. `culvert get peers tenants/TENANT` shows them with their last errors, and \
                  `culvert get audit` what was changed last.",
        labels: TENANT,
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",tenant=\"acme\",state=\"backing_off\"}", TENANT_PEERS), "8x10"),
                (query!("$0{instance=\"a\",tenant=\"acme\",state=\"up\"}", TENANT_PEERS), "2x10"),
            ],
            minute: 6,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",tenant=\"acme\",state=\"backing_off\"}", TENANT_PEERS), "2x10"),
                (query!("$0{instance=\"a\",tenant=\"acme\",state=\"up\"}", TENANT_PEERS), "8x10"),
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
    Alert {
        name: "CulvertDrops",
        severity: Severity::Warning,
        when: query!(
            "sum by (instance) (rate($0[5m])) > 0.01 * sum by (instance) (rate($1[5m])) and sum by (instance) (rate($0[5m])) > 1",
            DROPPED,
            ESP_PACKETS
        ),
        looks_at: query!("rate($0[5m])", DROPPED),
        minutes: 10,
        summary: "{{ $labels.instance }} drops more than one packet in a hundred",
        runbook: "The panel of drops by reason says what is dropped. `no_route` and `policy_...` are packets that nobody configured a way for; \
                  `esp_replayed` and `esp_outside_window` a path that reorders more than the replay window; `handoff_full`, `send_buffer_full` and `tun_full` a \
                  node that is short of processors; `unknown_spi` peers that have not noticed a restart, or somebody who tries.",
        labels: NODE,
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",reason=\"no_route\"}", DROPPED), "0+600x30"),
                (query!("$0{instance=\"a\",direction=\"received\"}", ESP_PACKETS), "0+6000x30"),
            ],
            minute: 20,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",reason=\"no_route\"}", DROPPED), "0+600x30"),
                (query!("$0{instance=\"a\",direction=\"received\"}", ESP_PACKETS), "0+600000x30"),
            ],
            minute: 20,
        },
        needs: None,
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
    Alert {
        name: "CulvertHalfOpenNearBound",
        severity: Severity::Warning,
        when: query!("$0{resource=\"half_open\"} / $1{resource=\"half_open\"} > 0.5", USAGE, LIMIT),
        looks_at: query!("$0{resource=\"half_open\"} / $1{resource=\"half_open\"}", USAGE, LIMIT),
        minutes: 2,
        summary: "{{ $labels.instance }} has very many half-open negotiations",
        runbook: "A flood of first messages, or thousands of peers that return at once. Tunnels that are up do not suffer, and cookies keep the room for those that \
                  have proved their address; `culvert_ike_received_messages_total` by outcome shows what is refused. Where it is a flood, filter its sources \
                  before the node.",
        labels: &[("instance", "a"), ("resource", "half_open")],
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",resource=\"half_open\"}", USAGE), "6000x10"),
                (query!("$0{instance=\"a\",resource=\"half_open\"}", LIMIT), "8192x10"),
            ],
            minute: 4,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",resource=\"half_open\"}", USAGE), "60x10"),
                (query!("$0{instance=\"a\",resource=\"half_open\"}", LIMIT), "8192x10"),
            ],
            minute: 4,
        },
        needs: None,
    },
    Alert {
        name: "CulvertNodeNearLimit",
        severity: Severity::Warning,
        when: query!("$0{resource!=\"half_open\"} / $1{resource!=\"half_open\"} > 0.8", USAGE, LIMIT),
        looks_at: query!("$0{resource!=\"half_open\"} / $1{resource!=\"half_open\"}", USAGE, LIMIT),
        minutes: 10,
        summary: "{{ $labels.instance }} has used four fifths of its {{ $labels.resource }}",
        runbook: "The node is near a bound that is not meant to be reached: `tenants` and `child_sas` have fixed bounds. Put further tenants on another node.",
        labels: &[("instance", "a"), ("resource", "tenants")],
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",resource=\"tenants\"}", USAGE), "9000x20"),
                (query!("$0{instance=\"a\",resource=\"tenants\"}", LIMIT), "10000x20"),
            ],
            minute: 12,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",resource=\"tenants\"}", USAGE), "700x20"),
                (query!("$0{instance=\"a\",resource=\"tenants\"}", LIMIT), "10000x20"),
            ],
            minute: 12,
        },
        needs: None,
    },
    Alert {
        name: "CulvertQueueFull",
        severity: Severity::Warning,
        when: query!("$0 / $1 > 0.8", QUEUE_DEPTH, QUEUE_LIMIT),
        looks_at: query!("$0 / $1", QUEUE_DEPTH, QUEUE_LIMIT),
        minutes: 5,
        summary: "the queue {{ $labels.queue }} of {{ $labels.instance }} is nearly full",
        runbook: "`router_events`: the control plane does not keep up with the messages that arrive; IKE messages are dropped, which peers repeat. Look for a flood, \
                  or a processor that others use. `otlp_spans`: the collector takes less than the node makes; take a smaller `otlp.sample_ratio`.",
        labels: &[("instance", "a"), ("queue", "router_events")],
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",queue=\"router_events\"}", QUEUE_DEPTH), "8000x10"),
                (query!("$0{instance=\"a\",queue=\"router_events\"}", QUEUE_LIMIT), "8192x10"),
            ],
            minute: 6,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",queue=\"router_events\"}", QUEUE_DEPTH), "8x10"),
                (query!("$0{instance=\"a\",queue=\"router_events\"}", QUEUE_LIMIT), "8192x10"),
            ],
            minute: 6,
        },
        needs: None,
    },
    Alert {
        name: "CulvertTenantNearQuota",
        severity: Severity::Info,
        when: query!(
            "sum by (instance, tenant) ($0) > on (instance, tenant) 0.9 * $1",
            TENANT_PEERS,
            TENANT_PEER_LIMIT
        ),
        looks_at: query!(
            "sum by (instance, tenant) ($0) / on (instance, tenant) $1",
            TENANT_PEERS,
            TENANT_PEER_LIMIT
        ),
        minutes: 10,
        summary: "{{ $labels.tenant }} has nine tenths of the peers that it may have",
        runbook: "Creating further peers will be refused. Raise `quotas.maxPeers` of the tenant, or ask what makes so many.",
        labels: TENANT,
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",tenant=\"acme\",state=\"up\"}", TENANT_PEERS), "950x20"),
                (query!("$0{instance=\"a\",tenant=\"acme\"}", TENANT_PEER_LIMIT), "1000x20"),
            ],
            minute: 12,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",tenant=\"acme\",state=\"up\"}", TENANT_PEERS), "95x20"),
                (query!("$0{instance=\"a\",tenant=\"acme\"}", TENANT_PEER_LIMIT), "1000x20"),
            ],
            minute: 12,
        },
        needs: None,
    },
    Alert {
        name: "CulvertUplinkDown",
        severity: Severity::Critical,
        when: query!("$0 == 0", TENANT_UPLINK),
        looks_at: query!("$0", TENANT_UPLINK),
        minutes: 3,
        summary: "the uplink of {{ $labels.tenant }} does not work",
        runbook: "Packets get through the tunnels of the tenant and not further. `culvert describe tenants/TENANT` says what the system refused: the privilege to make \
                  devices (CAP_NET_ADMIN), a name or an address that is in use, a network namespace that is gone.",
        labels: TENANT,
        fires: Trial {
            series: &[(query!("$0{instance=\"a\",tenant=\"acme\"}", TENANT_UPLINK), "0x10")],
            minute: 4,
        },
        rests: Trial {
            series: &[(query!("$0{instance=\"a\",tenant=\"acme\"}", TENANT_UPLINK), "1x10")],
            minute: 4,
        },
        needs: None,
    },
    Alert {
        name: "CulvertNotReady",
        severity: Severity::Critical,
        when: query!("$0 == 0", READY),
        looks_at: query!("$0", READY),
        minutes: 5,
        summary: "{{ $labels.instance }} is not ready",
        runbook: "`/readyz` of the node says what is in the way: a store that does not take writes, a thread that does not answer, or that it is going down.",
        labels: NODE,
        fires: Trial { series: &[(query!("$0{instance=\"a\"}", READY), "0x10")], minute: 6 },
        rests: Trial { series: &[(query!("$0{instance=\"a\"}", READY), "1x10")], minute: 6 },
        needs: None,
    },
    Alert {
        name: "CulvertStoreNotWritable",
        severity: Severity::Critical,
        when: query!("$0 == 0", STORE_WRITABLE),
        looks_at: query!("$0", STORE_WRITABLE),
        minutes: 1,
        summary: "the store of {{ $labels.instance }} does not take writes",
        runbook: "Tunnels run on; changes are refused. A full disk, or a broken one: the log names what the system said. Make room in `state_dir` or move the store; the \
                  next write that is taken makes it well.",
        labels: NODE,
        fires: Trial { series: &[(query!("$0{instance=\"a\"}", STORE_WRITABLE), "0x5")], minute: 2 },
        rests: Trial { series: &[(query!("$0{instance=\"a\"}", STORE_WRITABLE), "1x5")], minute: 2 },
        needs: None,
    },
    Alert {
        name: "CulvertCertificateExpiring",
        severity: Severity::Warning,
        when: query!("$0 - time() < 14 * 86400", CERTIFICATE),
        looks_at: query!("$0", CERTIFICATE),
        minutes: 5,
        summary: "the certificate {{ $labels.certificate }} of {{ $labels.instance }} ends within two weeks",
        runbook: "Clients will refuse the connection once it has ended. Put a new certificate in its file: it is read again without a restart, and the metric shows the \
                  new end.",
        labels: &[("instance", "a"), ("certificate", "grpc")],
        fires: Trial {
            series: &[(query!("$0{instance=\"a\",certificate=\"grpc\"}", CERTIFICATE), "864000x10")],
            minute: 6,
        },
        rests: Trial {
            series: &[(query!("$0{instance=\"a\",certificate=\"grpc\"}", CERTIFICATE), "8640000x10")],
            minute: 6,
        },
        needs: Some("a certificate that the node shows"),
    },
    Alert {
        name: "CulvertLoginsFailing",
        severity: Severity::Warning,
        when: query!("sum by (instance) (rate($0{event=\"api_unauthenticated\"}[5m])) > 1", EVENTS),
        looks_at: query!("$0{event=\"api_unauthenticated\"}", EVENTS),
        minutes: 10,
        summary: "logins at the API of {{ $labels.instance }} fail all the time",
        runbook: "A token or certificate that has ended and is still in use, or somebody who tries. `culvert get audit` shows from where and why: `has expired` and \
                  `unknown or was revoked` are of somebody who had access; make a new token and take the old one out of use. Tunnels do not suffer, and a source that tries \
                  too often is cut short; close its way there if it should not have one.",
        labels: NODE,
        fires: Trial {
            series: &[(query!("$0{instance=\"a\",event=\"api_unauthenticated\"}", EVENTS), "0+600x30")],
            minute: 20,
        },
        rests: Trial {
            series: &[(query!("$0{instance=\"a\",event=\"api_unauthenticated\"}", EVENTS), "0+6x30")],
            minute: 20,
        },
        needs: None,
    },
    Alert {
        name: "CulvertApiFilesUnusable",
        severity: Severity::Warning,
        when: query!("$0 == 0", API_FILES),
        looks_at: query!("$0", API_FILES),
        minutes: 1,
        summary: "{{ $labels.instance }} cannot use the new files of its API ({{ $labels.files }})",
        runbook: "`tls` are certificate, key and CAs, `tokens` the files of `grpc.tokens`. What was read before is in use, a certificate until it ends, but the node would not start \
                  again. It fires until the files can be used. The log names the file and what is wrong with it: most often a key that is not that of the certificate, because only one \
                  of the two was exchanged.",
        labels: &[("instance", "a"), ("files", "tls")],
        fires: Trial {
            // For longer than any window of a rate.
            series: &[(query!("$0{instance=\"a\",files=\"tls\"}", API_FILES), "1x5 0x55")],
            minute: 60,
        },
        rests: Trial {
            series: &[(query!("$0{instance=\"a\",files=\"tls\"}", API_FILES), "1x5 0x5 1x10")],
            minute: 15,
        },
        needs: None,
    },
    Alert {
        name: "CulvertAuditLost",
        severity: Severity::Critical,
        when: query!("sum by (instance) (increase($0{event=\"audit_lost\"}[15m])) > 0", EVENTS),
        looks_at: query!("$0{event=\"audit_lost\"}", EVENTS),
        minutes: 0,
        summary: "{{ $labels.instance }} has lost entries of its audit log",
        runbook: "The disk of the state directory does not take the log: it is full, or broken. Entries about changes are in the store and come back at the next start; those about \
                  orders to tunnels and refusals are lost. Make room.",
        labels: NODE,
        fires: Trial {
            series: &[(query!("$0{instance=\"a\",event=\"audit_lost\"}", EVENTS), "0x5 3x10")],
            minute: 8,
        },
        rests: Trial {
            series: &[(query!("$0{instance=\"a\",event=\"audit_lost\"}", EVENTS), "3x20")],
            minute: 8,
        },
        needs: None,
    },
    Alert {
        name: "CulvertSecretOld",
        severity: Severity::Info,
        when: query!("time() - $0 > 365 * 86400", TENANT_OLDEST_SECRET),
        looks_at: query!("$0", TENANT_OLDEST_SECRET),
        minutes: 60,
        summary: "{{ $labels.tenant }} has a secret that is older than a year",
        runbook: "`culvert get secrets tenants/TENANT` shows when each was set. Set a new value here and there; tunnels that are up stay up, and the next authentication \
                  takes it.",
        labels: TENANT,
        fires: Trial {
            // The clock of a trial starts at 1970.
            series: &[(query!("$0{instance=\"a\",tenant=\"acme\"}", TENANT_OLDEST_SECRET), "-40000000x70")],
            minute: 62,
        },
        rests: Trial {
            series: &[(query!("$0{instance=\"a\",tenant=\"acme\"}", TENANT_OLDEST_SECRET), "-40000x70")],
            minute: 62,
        },
        needs: None,
    },
    Alert {
        name: "CulvertExporterDropping",
        severity: Severity::Info,
        when: query!("sum by (instance, signal) (increase($0[15m])) > 0", EXPORT_DROPPED),
        looks_at: query!("$0", EXPORT_DROPPED),
        minutes: 5,
        summary: "{{ $labels.instance }} cannot export its {{ $labels.signal }}",
        runbook: "Tunnels do not suffer; traces have gaps. The label `reason` says why: `failed` is a collector that is away, slow or refuses, `queue_full` one that takes \
                  less than there is, `rejected` one that threw something away, and says so in its own log.",
        labels: &[("instance", "a"), ("signal", "traces")],
        fires: Trial {
            series: &[(
                query!("$0{instance=\"a\",signal=\"traces\",reason=\"queue_full\"}", EXPORT_DROPPED),
                "0+5x20",
            )],
            minute: 15,
        },
        rests: Trial {
            series: &[(
                query!("$0{instance=\"a\",signal=\"traces\",reason=\"queue_full\"}", EXPORT_DROPPED),
                "5x20",
            )],
            minute: 15,
        },
        needs: None,
    },
];
