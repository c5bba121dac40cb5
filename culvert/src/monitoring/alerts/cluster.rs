//! Alerts about nodes as parts of a cluster.

use super::{Alert, NODE, Severity, Trial};
use crate::monitoring::query::query;
use crate::telemetry::metrics::table::*;

/// All of them.
pub(super) const ALERTS: &[Alert] = &[
    Alert {
        name: "CulvertEtcdAway",
        severity: Severity::Critical,
        when: query!("$0 == 0", CLUSTER_ETCD),
        looks_at: query!("$0", CLUSTER_ETCD),
        minutes: 2,
        summary: "etcd does not answer {{ $labels.instance }}",
        cause: None,
        runbook: "Tunnels run on and are rekeyed; changes are refused, and a node that is lost now is not replaced by another. `etcdctl endpoint status` says how many of its members \
                  are there: more than half are needed. `etcdctl alarm list` says whether it is full and takes no writes. The node's log names what it was told.",
        labels: NODE,
        fires: Trial { series: &[(query!("$0{instance=\"a\"}", CLUSTER_ETCD), "0x5")], minute: 3 },
        rests: Trial { series: &[(query!("$0{instance=\"a\"}", CLUSTER_ETCD), "1x5")], minute: 3 },
        needs: None,
    },
    Alert {
        name: "CulvertNodeUnheard",
        severity: Severity::Critical,
        when: query!("$0{state=\"heard\"} < on (instance) $0{state=\"joined\"}", CLUSTER_NODES),
        looks_at: query!("$0", CLUSTER_NODES),
        minutes: 2,
        summary: "{{ $labels.instance }} does not hear all nodes that are there",
        cause: None,
        runbook: "etcd says that they are there, so the way between the nodes is closed: UDP to the address of `cluster.listen`. `culvert get nodes` says which of them is away as seen \
                  from each node; if it is one node for all others, its tunnels have gone to them and it is not ready. What lands on a node for a tunnel of one that it does not hear is \
                  lost.",
        labels: NODE,
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",state=\"heard\"}", CLUSTER_NODES), "1x5"),
                (query!("$0{instance=\"a\",state=\"joined\"}", CLUSTER_NODES), "2x5"),
            ],
            minute: 3,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",state=\"heard\"}", CLUSTER_NODES), "2x5"),
                (query!("$0{instance=\"a\",state=\"joined\"}", CLUSTER_NODES), "2x5"),
            ],
            minute: 3,
        },
        needs: None,
    },
    Alert {
        name: "CulvertUnprotected",
        severity: Severity::Warning,
        when: query!(
            "$0{state=\"unprotected\"} > 0 and on (instance) $1{state=\"heard\"} > 0",
            CLUSTER_CONNECTIONS,
            CLUSTER_NODES
        ),
        looks_at: query!("$0{state=\"unprotected\"}", CLUSTER_CONNECTIONS),
        minutes: 5,
        summary: "no other node could go on with connections of {{ $labels.instance }}",
        cause: None,
        runbook: "They would be negotiated anew if the node were lost. `culvert get slots` shows the slot without a standby: the log of its node says why none keeps up (\
                  `the standby does not keep up`), most often a node without processor time to spare, or of another version.",
        labels: &[("instance", "a"), ("state", "unprotected")],
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",state=\"unprotected\"}", CLUSTER_CONNECTIONS), "7x10"),
                (query!("$0{instance=\"a\",state=\"heard\"}", CLUSTER_NODES), "2x10"),
            ],
            minute: 6,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",state=\"unprotected\"}", CLUSTER_CONNECTIONS), "7x10"),
                (query!("$0{instance=\"a\",state=\"heard\"}", CLUSTER_NODES), "0x10"),
            ],
            minute: 6,
        },
        needs: None,
    },
];
