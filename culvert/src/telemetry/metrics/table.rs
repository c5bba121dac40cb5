//! Every metric there is. A name that is here once stays: dashboards and rules of others go by it.

use super::definition::{Definition, Kind, Scope};

macro_rules! metrics {
    ($($constant:ident = $kind:ident $scope:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(
            #[doc = $help]
            pub static $constant: Definition = Definition {
                name: $name,
                kind: Kind::$kind,
                scope: Scope::$scope,
                labels: &[$($label),*],
                help: $help,
            };
        )*

        /// All of them, in the order in which they are told.
        pub static ALL: &[&Definition] = &[$(&$constant),*];
    };
}

metrics! {
    BUILD = Gauge Node "culvert_build_info" ["version"] "The version of culvertd; always 1.";
    START_TIME = Gauge Node "culvert_start_time_seconds" [] "When the node was started, as a Unix time.";
    LIVE = Gauge Node "culvert_live" [] "1 while every thread runs that must; what does not is mended by a restart.";
    READY = Gauge Node "culvert_ready" [] "1 while the node is up and lives, nothing is in the way of work (`/readyz` says what), and it is not going down.";
    STORE_WRITABLE = Gauge Node "culvert_store_writable" [] "0 after a write that the store of a node by itself did not take, until it takes the next; 1 in a cluster, whose store is etcd.";
    REVISION = Gauge Node "culvert_catalog_revision" [] "The number of the last change of the catalog.";
    RESIDENT = Gauge Node "culvert_resident_memory_bytes" [] "Memory that the process holds.";
    USAGE = Gauge Node "culvert_usage" ["resource"] "How much of a bounded resource of the node is in use.";
    LIMIT = Gauge Node "culvert_limit" ["resource"] "How much of it there is.";
    QUEUE_DEPTH = Gauge Node "culvert_queue_depth" ["queue"] "What waits in a queue of the node.";
    QUEUE_LIMIT = Gauge Node "culvert_queue_limit" ["queue"] "What may wait in it.";
    PEERS = Gauge Node "culvert_peers" ["state"] "Configured peers by how they stand; elsewhere are those that another node of the cluster has or begins with.";
    IKE_SAS = Gauge Node "culvert_ike_sas" [] "IKE SAs, those included that another is taking over from.";
    CHILD_SAS = Gauge Node "culvert_child_sas" [] "Pairs of ESP SAs.";
    HALF_OPEN = Gauge Node "culvert_half_open" [] "Negotiations of strangers that are not authenticated yet.";
    CERTIFICATE = Gauge Node "culvert_certificate_expiry_timestamp_seconds" ["certificate"] "When a certificate that the node shows ends to be valid, as a Unix time.";
    API_FILES = Gauge Node "culvert_api_files_usable" ["files"] "0 while files of the API, or of the way between nodes, have changed and cannot be used; what was read before is in use.";
    EVENTS = Counter Node "culvert_events_total" ["event"] "What else the node counts, by name.";

    NEGOTIATIONS = Counter Node "culvert_negotiations_total" ["stage", "outcome", "cause"] "Negotiations that have ended: what was negotiated, whether it went well, and if not why, in the words of explain.";
    HANDSHAKE = Histogram Node "culvert_handshake_duration_seconds" ["role"] "From the first message to an authenticated peer.";
    REKEY = Histogram Node "culvert_rekey_duration_seconds" ["sa"] "From our request to new keys, of rekeyings that we began.";
    EXCHANGE = Histogram Node "culvert_ike_exchange_duration_seconds" ["exchange"] "From our request to the peer's answer, retransmissions included.";
    IKE_MESSAGES = Counter Node "culvert_ike_messages_total" ["direction"] "IKE messages that the router received and sent.";
    IKE_OUTCOMES = Counter Node "culvert_ike_received_messages_total" ["outcome"] "What became of each IKE message that was received.";
    RETRANSMISSIONS = Counter Node "culvert_ike_retransmissions_total" [] "Requests that we have sent again.";

    ESP_PACKETS = Counter Node "culvert_esp_packets_total" ["direction"] "ESP packets that the router received and sent.";
    INNER_PACKETS = Counter Node "culvert_inner_packets_total" ["way"] "Inner packets by where they went or came from.";
    DROPPED = Counter Node "culvert_dropped_packets_total" ["reason"] "Packets and messages that were dropped, by reason, each counted once.";

    CLUSTER_ETCD = Gauge Node "culvert_cluster_etcd_up" [] "0 while etcd is away or takes no writes; 1 for a node by itself.";
    CLUSTER_FOLLOWS = Gauge Node "culvert_cluster_follows" [] "0 while what other nodes write to etcd does not come in; 1 for a node by itself.";
    CLUSTER_NODES = Gauge Node "culvert_cluster_nodes" ["state"] "Other nodes of the cluster: joined are those that etcd says are there, heard those of them that answer this node.";
    CLUSTER_SLOTS = Gauge Node "culvert_cluster_slots" ["state"] "Slots of the node: protected are those that another node could go on with at once.";
    CLUSTER_CONNECTIONS = Gauge Node "culvert_cluster_connections" ["state"] "Connections of the node's slots: those that are not protected would be negotiated anew if the node were lost.";
    CLUSTER_WAITING = Gauge Node "culvert_cluster_waiting_rows" [] "Changes of tunnels that a standby has not been told of yet.";
    CLUSTER_KEPT_ROWS = Gauge Node "culvert_cluster_kept_rows" [] "What the node keeps of tunnels of others, to go on with them: connections and pairs of ESP SAs.";
    CLUSTER_KEPT = Gauge Node "culvert_cluster_kept_bytes" [] "Memory for it.";
    CLUSTER_ARRIVALS = Counter Node "culvert_cluster_slot_arrivals_total" ["how"] "Slots that the node has gone on with: sudden if their node was gone, moved if it gave them away.";
    CLUSTER_PACKETS = Counter Node "culvert_cluster_packets_total" ["direction"] "Packets and IKE messages that landed on one node and are for tunnels of another, as they went between the two.";
    CLUSTER_BYTES = Counter Node "culvert_cluster_bytes_total" ["direction"] "Octets of them.";

    TENANT_PEERS = Gauge Tenant "culvert_tenant_peers" ["tenant", "state"] "A tenant's peers by how they stand; elsewhere are those that another node of the cluster has or begins with.";
    TENANT_PEER_LIMIT = Gauge Tenant "culvert_tenant_peers_limit" ["tenant"] "Peers that a tenant may have.";
    TENANT_SECRETS = Gauge Tenant "culvert_tenant_secrets" ["tenant"] "A tenant's secrets.";
    TENANT_SECRET_LIMIT = Gauge Tenant "culvert_tenant_secrets_limit" ["tenant"] "Secrets that a tenant may have.";
    TENANT_OLDEST_SECRET = Gauge Tenant "culvert_tenant_oldest_secret_timestamp_seconds" ["tenant"] "When the secret was last set that has been the same for the longest time, as a Unix time.";
    TENANT_CERTIFICATE = Gauge Tenant "culvert_tenant_certificate_expiry_timestamp_seconds" ["tenant"] "When the first of the certificates in a tenant's secrets ends to be valid, as a Unix time.";
    TENANT_UPLINK = Gauge Tenant "culvert_tenant_uplink_up" ["tenant"] "1 while a tenant's uplink works; a hub always does.";
    TENANT_IKE_SAS = Gauge Tenant "culvert_tenant_ike_sas" ["tenant"] "A tenant's IKE SAs.";
    TENANT_CHILD_SAS = Gauge Tenant "culvert_tenant_child_sas" ["tenant"] "A tenant's pairs of ESP SAs.";
    TENANT_PACKETS = Counter Tenant "culvert_tenant_packets_total" ["tenant", "direction"] "Inner packets of a tenant's tunnels at this node, those of peers that are deleted since included.";
    TENANT_BYTES = Counter Tenant "culvert_tenant_bytes_total" ["tenant", "direction"] "Octets of the inner packets of a tenant's tunnels at this node, those of peers that are deleted since included.";
    TENANT_DROPPED = Counter Tenant "culvert_tenant_dropped_packets_total" ["tenant", "reason"] "Packets that were dropped in a tenant's tunnels, by reason.";
    TENANT_FAILURES = Counter Tenant "culvert_tenant_negotiation_failures_total" ["tenant"] "Negotiations with a tenant's peers that failed, rekeyings included.";
    TENANT_LOSSES = Counter Tenant "culvert_tenant_losses_total" ["tenant"] "Times that a tunnel of a tenant was lost though nobody here wanted it.";

    PEER_UP = Gauge Peer "culvert_peer_up" ["tenant", "peer"] "1 while a configured peer's tunnel is up, 0 while it is not, as long as it is configured.";
    PEER_REASON = Gauge Peer "culvert_peer_down_reason" ["tenant", "peer", "reason"] "1 for the reason why a tunnel does not carry all that it is for; none while it does. elsewhere: another node of the cluster has it or begins with it.";
    PEER_SINCE = Gauge Peer "culvert_peer_state_timestamp_seconds" ["tenant", "peer"] "Since when a tunnel is as it is, as a Unix time.";
    PEER_UPS = Counter Peer "culvert_peer_ups_total" ["tenant", "peer"] "Times that a tunnel came up.";
    PEER_LOSSES = Counter Peer "culvert_peer_losses_total" ["tenant", "peer"] "Times that a tunnel was lost though nobody here wanted it.";
    PEER_FAILURES = Counter Peer "culvert_peer_negotiation_failures_total" ["tenant", "peer"] "Negotiations with a peer that failed, rekeyings included.";
    PEER_REKEYS = Counter Peer "culvert_peer_rekeys_total" ["tenant", "peer", "sa"] "SAs of a peer that were rekeyed.";
    PEER_CHILD_SAS = Gauge Peer "culvert_peer_child_sas" ["tenant", "peer"] "Pairs of ESP SAs with a peer.";
    PEER_CHILDREN = Gauge Peer "culvert_peer_children" ["tenant", "peer"] "Child SAs that are configured for a peer.";
    PEER_PACKETS = Counter Peer "culvert_peer_packets_total" ["tenant", "peer", "direction"] "Inner packets of a peer's tunnel at this node.";
    PEER_BYTES = Counter Peer "culvert_peer_bytes_total" ["tenant", "peer", "direction"] "Octets of the inner packets of a peer's tunnel at this node.";

    AGGREGATED = Gauge Node "culvert_metrics_aggregated" ["scope"] "1 while there are more peers, or tenants, than have series of their own: those alone that fail have what alerts look at.";
    COLLECT = Gauge Node "culvert_metrics_collect_duration_seconds" [] "How long it took to read the node for this answer.";
    EXPORTED = Counter Node "culvert_otlp_exported_total" ["signal"] "What the collector has taken over OTLP: spans, requests of metrics, or records of logs.";
    EXPORT_DROPPED = Counter Node "culvert_otlp_dropped_total" ["signal", "reason"] "What was not exported over OTLP, by why.";
    EXPORT_UP = Gauge Node "culvert_otlp_up" ["signal"] "1 while the last export over OTLP was taken. None before the first.";
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// What promtool checks, and what the fields' meanings ask for.
    #[test]
    fn names_say_what_they_are() {
        let mut seen = HashSet::new();
        for metric in ALL {
            let name = metric.name;
            assert!(seen.insert(name), "{name} is there twice");
            assert!(
                name.starts_with("culvert_") && name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_')
            );
            assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
            assert!(metric.help.ends_with('.') && !metric.help.contains(['\\', '\n']), "{name}");
            let of: &[&str] = match metric.scope {
                Scope::Node => &[],
                Scope::Tenant => &["tenant"],
                Scope::Peer => &["tenant", "peer"],
            };
            assert!(metric.labels.starts_with(of), "{name}");
            assert!(metric.scope != Scope::Node || !metric.labels.contains(&"tenant"), "{name}");
        }
    }
}
