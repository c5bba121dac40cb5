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
        name: "CulvertNodeBehind",
        severity: Severity::Critical,
        when: query!("$0 == 0 and on (instance) $1 == 1", CLUSTER_FOLLOWS, CLUSTER_ETCD),
        looks_at: query!("$0", CLUSTER_FOLLOWS),
        minutes: 2,
        summary: "{{ $labels.instance }} does not follow what other nodes write",
        cause: None,
        runbook: "etcd answers, and something in it cannot be read or is gone, so that the node goes on with what it knew: changes of the configuration do not reach it, or it does not \
                  see who comes and goes. Its log names the key. A newer version may have written it: upgrade this node too. If somebody has deleted keys below `cluster.prefix`, \
                  restore etcd from a snapshot.",
        labels: NODE,
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\"}", CLUSTER_FOLLOWS), "0x5"),
                (query!("$0{instance=\"a\"}", CLUSTER_ETCD), "1x5"),
            ],
            minute: 3,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\"}", CLUSTER_FOLLOWS), "0x5"),
                (query!("$0{instance=\"a\"}", CLUSTER_ETCD), "0x5"),
            ],
            minute: 3,
        },
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
        name: "CulvertNodeLost",
        severity: Severity::Critical,
        when: query!("increase($0{how=\"sudden\"}[15m]) > 0", CLUSTER_ARRIVALS),
        looks_at: query!("$0{how=\"sudden\"}", CLUSTER_ARRIVALS),
        minutes: 0,
        summary: "{{ $labels.instance }} has gone on with tunnels of a node that was lost",
        cause: None,
        runbook: "A node was killed, has crashed, stood still or was cut off, and its tunnels went on at this one. `culvert get nodes` says who is there. The log of the one \
                  that was lost, as it was before (`kubectl logs --previous`), says why it ended; one that comes back and is lost again does so each time. Until it is back the others have \
                  its share, and with no other left nobody is there to go on with theirs.",
        labels: &[("instance", "a"), ("how", "sudden")],
        fires: Trial {
            series: &[(query!("$0{instance=\"a\",how=\"sudden\"}", CLUSTER_ARRIVALS), "0x10 2x10")],
            minute: 15,
        },
        // One that is drained gives its slots away.
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",how=\"sudden\"}", CLUSTER_ARRIVALS), "2x20"),
                (query!("$0{instance=\"a\",how=\"moved\"}", CLUSTER_ARRIVALS), "0x10 2x10"),
            ],
            minute: 15,
        },
        needs: None,
    },
    Alert {
        name: "CulvertUnprotected",
        severity: Severity::Warning,
        when: query!(
            "$0{state=\"unprotected\"} > 0 and on (instance) max_over_time($1{state=\"joined\"}[6h]) > 0",
            CLUSTER_CONNECTIONS,
            CLUSTER_NODES
        ),
        looks_at: query!("$0{state=\"unprotected\"}", CLUSTER_CONNECTIONS),
        minutes: 5,
        summary: "no other node could go on with connections of {{ $labels.instance }}",
        cause: None,
        runbook: "They would be negotiated anew if the node were lost. Where it is the last of several that were there within six hours, the others are what is missing: `culvert get \
                  nodes`. Where there are others, `culvert get slots` shows the slot without a standby: the log of its node says why none keeps up (\
                  `the standby does not keep up`), most often a node without processor time to spare, or of another version.",
        labels: &[("instance", "a"), ("state", "unprotected")],
        fires: Trial {
            series: &[
                (query!("$0{instance=\"a\",state=\"unprotected\"}", CLUSTER_CONNECTIONS), "0x3 7x10"),
                // The leases of the others have ended.
                (query!("$0{instance=\"a\",state=\"joined\"}", CLUSTER_NODES), "2x3 0x10"),
                (query!("$0{instance=\"a\",state=\"heard\"}", CLUSTER_NODES), "2x3 0x10"),
            ],
            minute: 10,
        },
        rests: Trial {
            series: &[
                (query!("$0{instance=\"a\",state=\"unprotected\"}", CLUSTER_CONNECTIONS), "7x10"),
                // A node by itself.
                (query!("$0{instance=\"a\",state=\"joined\"}", CLUSTER_NODES), "0x10"),
                (query!("$0{instance=\"a\",state=\"heard\"}", CLUSTER_NODES), "0x10"),
            ],
            minute: 6,
        },
        needs: None,
    },
];
