//! Alerts about what a tenant has beside its tunnels: bounds, its uplink, its certificates.

use super::{Alert, Severity, TENANT, Trial};
use crate::monitoring::query::query;
use crate::telemetry::metrics::table::*;

/// All of them.
pub(super) const ALERTS: &[Alert] = &[
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
        cause: None,
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
        cause: None,
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
        name: "CulvertSecretOld",
        severity: Severity::Info,
        when: query!("time() - $0 > 365 * 86400", TENANT_OLDEST_SECRET),
        looks_at: query!("$0", TENANT_OLDEST_SECRET),
        minutes: 60,
        summary: "{{ $labels.tenant }} has a secret that is older than a year",
        cause: None,
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
        name: "CulvertTenantCertificateExpiring",
        severity: Severity::Warning,
        when: query!("$0 - time() < 14 * 86400", TENANT_CERTIFICATE),
        looks_at: query!("$0", TENANT_CERTIFICATE),
        minutes: 5,
        summary: "a certificate of {{ $labels.tenant }} for its tunnels ends within two weeks",
        cause: None,
        runbook: "Tunnels that are up stay, and none comes up by it once it has ended: the peer refuses ours, or we refuse all peers of an authority. `culvert get secrets tenants/TENANT` \
                  shows which secret it is by `ENDS`. Write it with the new certificate (`culvert apply`), or without one that nobody needs any more; that counts from the next authentication on.",
        labels: TENANT,
        fires: Trial {
            series: &[(query!("$0{instance=\"a\",tenant=\"acme\"}", TENANT_CERTIFICATE), "864000x10")],
            minute: 6,
        },
        rests: Trial {
            series: &[(query!("$0{instance=\"a\",tenant=\"acme\"}", TENANT_CERTIFICATE), "8640000x10")],
            minute: 6,
        },
        needs: Some("a certificate in a secret of the tenant"),
    },
];
