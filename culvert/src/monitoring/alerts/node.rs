//! Alerts about nodes: bounds, health, access, telemetry.

use super::{Alert, NODE, Severity, Trial};
use crate::monitoring::query::query;
use crate::telemetry::metrics::table::*;

/// All of them.
pub(super) const ALERTS: &[Alert] = &[
    Alert {
        name: "CulvertHalfOpenNearBound",
        severity: Severity::Warning,
        when: query!("$0{resource=\"half_open\"} / $1{resource=\"half_open\"} > 0.5", USAGE, LIMIT),
        looks_at: query!("$0{resource=\"half_open\"} / $1{resource=\"half_open\"}", USAGE, LIMIT),
        minutes: 2,
        summary: "{{ $labels.instance }} has very many half-open negotiations",
        cause: None,
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
        cause: None,
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
        cause: None,
        runbook: "`router_events`: the control plane does not keep up with the messages that arrive; IKE messages are dropped, which peers repeat. Look for a flood, \
                  or a processor that others use. `otlp_spans`: the collector takes less than the node makes; take a smaller `otlp.sample_ratio`. \
                  `otlp_logs`: the same of records of logs; the audit log in the state directory has them all.",
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
        name: "CulvertNotReady",
        severity: Severity::Critical,
        when: query!("$0 == 0", READY),
        looks_at: query!("$0", READY),
        minutes: 5,
        summary: "{{ $labels.instance }} is not ready",
        cause: None,
        runbook: "`/readyz` of the node says what is in the way: a store that does not take writes, a thread that does not answer, a node that is cut off from all others of its cluster, or that it is going down. `/servez` says whether packets go on here all the same.",
        labels: NODE,
        fires: Trial { series: &[(query!("$0{instance=\"a\"}", READY), "0x10")], minute: 6 },
        rests: Trial { series: &[(query!("$0{instance=\"a\"}", READY), "1x10")], minute: 6 },
        needs: None,
    },
    Alert {
        name: "CulvertNodeGone",
        severity: Severity::Critical,
        // A pod that is started again is the same one at another address, and so it is by whichever monitor it is found.
        when: query!(
            "max by (namespace, pod) (max_over_time($0{pod!=\"\"}[1h])) unless on (namespace, pod) $0{pod!=\"\"} \
             or max by (job, instance) (max_over_time($0{pod=\"\"}[1h])) unless on (job, instance) $0{pod=\"\"}",
            READY
        ),
        looks_at: query!("$0", READY),
        minutes: 2,
        summary: "{{ $labels.pod }}{{ $labels.instance }} says nothing any more",
        cause: None,
        runbook: "The node was there within the hour, and Prometheus cannot read it: it was killed, its machine or its disk is gone, it ends at each start, or the way to \
                  `metrics.listen` is closed. Nothing else is told of a node that says nothing, and what was told of it rests: ask `culvert get nodes` at another \
                  node of the cluster who has its tunnels. Its log, or that of the one before (`kubectl logs --previous`), says why it ended. One that was taken away for good, as by \
                  a StatefulSet that is made smaller, is forgotten after an hour: silence the alert for it until then (`amtool silence add alertname=CulvertNodeGone pod=culvert-2 -d 1h`, or \
                  `instance=` where there are no pods).",
        labels: &[("job", "culvert"), ("instance", "a")],
        fires: Trial {
            series: &[
                (query!("$0{job=\"culvert\",instance=\"a\"}", READY), "1x5 stale"),
                (query!("$0{job=\"culvert\",instance=\"b\"}", READY), "1x20"),
            ],
            minute: 9,
        },
        rests: Trial {
            series: &[
                // One is started again.
                (query!("$0{job=\"culvert\",instance=\"a\"}", READY), "1x5 stale 1x20"),
                // So is a pod, elsewhere, and another monitor has it.
                (
                    query!(
                        "$0{job=\"culvert\",namespace=\"vpn\",pod=\"culvert-0\",instance=\"10.0.0.1:9090\"}",
                        READY
                    ),
                    "1x5 stale",
                ),
                (
                    query!(
                        "$0{job=\"vpn/culvert\",namespace=\"vpn\",pod=\"culvert-0\",instance=\"10.0.0.2:9090\"}",
                        READY
                    ),
                    "_x6 1x20",
                ),
            ],
            minute: 9,
        },
        needs: None,
    },
    Alert {
        name: "CulvertRestarting",
        severity: Severity::Warning,
        when: query!("changes($0[30m]) > 2", START_TIME),
        looks_at: query!("$0", START_TIME),
        minutes: 0,
        summary: "{{ $labels.instance }} ends again and again",
        cause: None,
        runbook: "The node was started three times within half an hour: it crashes, is killed for want of memory (`culvert_resident_memory_bytes`), or is not live and is restarted \
                  for that. Its tunnels break each time. The log of the run before (`journalctl -u culvertd`, `kubectl logs --previous`) says why it ended.",
        labels: NODE,
        fires: Trial {
            series: &[(query!("$0{instance=\"a\"}", START_TIME), "60x5 360x5 700x5 1000x20")],
            minute: 25,
        },
        rests: Trial {
            series: &[(query!("$0{instance=\"a\"}", START_TIME), "60x5 360x5 700x25")],
            minute: 25,
        },
        needs: None,
    },
    Alert {
        name: "CulvertMetricsAggregated",
        severity: Severity::Warning,
        when: query!("$0 == 1", AGGREGATED),
        looks_at: query!("$0", AGGREGATED),
        minutes: 10,
        summary: "{{ $labels.instance }} has more of a {{ $labels.scope }} than it tells metrics of",
        cause: None,
        runbook: "There are more peers than `metrics.max_peers`, or more tenants than `metrics.max_tenants`, so that not each has series of its own, and alerts about single ones look at \
                  less, as is said of each of them: those that fail are told, as many as the bound, and nothing of the others. Raise the bound, if Prometheus has room for a \
                  dozen series of each peer and twenty of each tenant.",
        labels: &[("instance", "a"), ("scope", "peer")],
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",scope=\"peer\"}", AGGREGATED), "1x15"),
                (query!("$0{instance=\"a\",scope=\"tenant\"}", AGGREGATED), "0x15"),
            ],
            minute: 12,
        },
        rests: Trial {
            series: &[(query!("$0{instance=\"a\",scope=\"peer\"}", AGGREGATED), "0x15")],
            minute: 12,
        },
        needs: None,
    },
    Alert {
        name: "CulvertStoreNotWritable",
        severity: Severity::Critical,
        when: query!("$0 == 0", STORE_WRITABLE),
        looks_at: query!("$0", STORE_WRITABLE),
        minutes: 1,
        summary: "the store of {{ $labels.instance }} does not take writes",
        cause: None,
        runbook: "Tunnels run on; changes are refused. A full disk, or a broken one: the log names what the system said. Make room in `state_dir` or move the store; the \
                  next write that is taken makes it well. It is about a node by itself: nodes of a cluster have their store in etcd, of which CulvertEtcdAway tells.",
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
        cause: None,
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
        cause: None,
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
        summary: "{{ $labels.instance }} cannot use its new files ({{ $labels.files }})",
        cause: None,
        runbook: "`tls` are certificate, key and CAs of the API, `tokens` the files of `grpc.tokens`, `nodes` those of `cluster.mesh_cert` and its like. What was read before is in use, a certificate until it ends, but the node would not start \
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
        cause: None,
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
        name: "CulvertExporterDropping",
        severity: Severity::Info,
        when: query!("sum by (instance, signal) (increase($0[15m])) > 0", EXPORT_DROPPED),
        looks_at: query!("$0", EXPORT_DROPPED),
        minutes: 5,
        summary: "{{ $labels.instance }} cannot export its {{ $labels.signal }}",
        cause: None,
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
