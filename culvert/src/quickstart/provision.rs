//! Fills the concentrator and reads it, over gRPC as any client would.

use std::collections::BTreeMap;

use culvert_proto::v1;

use crate::console::{Client, Failure};
use crate::quickstart::plan::{Branch, Plan};

pub(crate) async fn run(client: &Client, plan: &Plan) -> Result<(), Failure> {
    for tenant in &plan.tenants {
        let id = last(&tenant.name);
        let request = v1::CreateTenantRequest {
            tenant_id: id.clone(),
            tenant: Some(v1::Tenant {
                display_name: tenant.display.to_owned(),
                uplink: Some(v1::Uplink { kind: Some(v1::uplink::Kind::Hub(v1::uplink::Hub {})) }),
                ..v1::Tenant::default()
            }),
            ..v1::CreateTenantRequest::default()
        };
        client.tenants().create_tenant(request).await.map_err(|s| Failure::of_status(&s, &tenant.name))?;
        let request = v1::CreateSecretRequest {
            parent: tenant.name.clone(),
            secret_id: last(&tenant.secret),
            secret: Some(v1::Secret { value: tenant.psk.clone().into_bytes(), ..v1::Secret::default() }),
            ..v1::CreateSecretRequest::default()
        };
        client.secrets().create_secret(request).await.map_err(|s| Failure::of_status(&s, &tenant.secret))?;
    }
    for branch in &plan.branches {
        let Some(tenant) = plan.tenants.get(branch.tenant) else { continue };
        let request = v1::CreatePeerRequest {
            parent: tenant.name.clone(),
            peer_id: last(&branch.name),
            peer: Some(peer(plan, branch, &tenant.secret)),
            ..v1::CreatePeerRequest::default()
        };
        client.peers().create_peer(request).await.map_err(|s| Failure::of_status(&s, &branch.name))?;
    }
    Ok(())
}

fn peer(plan: &Plan, branch: &Branch, secret: &str) -> v1::Peer {
    v1::Peer {
        local_identity: branch.hub_identity.clone(),
        remote_identity: branch.identity.clone(),
        auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk(secret.to_owned())) }),
        start_action: v1::StartAction::None.into(),
        ike: Some(v1::IkeConfig {
            proposals: vec![branch.ike.to_owned()],
            lifetime: Some(v1::IkeLifetime {
                rekey_time: span(plan.ike_rekey),
                life_time: plan.lives.and_then(|lives| span(plan.ike_rekey * lives)),
            }),
            ..v1::IkeConfig::default()
        }),
        children: vec![v1::Child {
            name: "lan".to_owned(),
            local_subnets: vec![branch.other_subnet.to_owned()],
            remote_subnets: vec![branch.subnet.to_owned()],
            esp_proposals: vec![branch.esp.to_owned()],
            lifetime: Some(v1::ChildLifetime {
                rekey_time: span(plan.child_rekey),
                life_time: plan.lives.and_then(|lives| span(plan.child_rekey * lives)),
                ..v1::ChildLifetime::default()
            }),
            ..v1::Child::default()
        }],
        ..v1::Peer::default()
    }
}

fn span(time: std::time::Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(time).ok()
}

fn last(name: &str) -> String {
    name.rsplit('/').next().unwrap_or_default().to_owned()
}

/// What the concentrator says of each branch, with the packets dropped on its SAs.
pub(crate) async fn statuses(
    client: &Client,
    plan: &Plan,
) -> Result<BTreeMap<String, (v1::PeerStatus, u64)>, Failure> {
    let mut all = BTreeMap::new();
    for tenant in &plan.tenants {
        let request = v1::ListPeersRequest { parent: tenant.name.clone(), ..v1::ListPeersRequest::default() };
        let peers =
            client.peers().list_peers(request).await.map_err(|s| Failure::of_status(&s, &tenant.name))?;
        for peer in peers.into_inner().peers {
            all.insert(peer.name, (peer.status.unwrap_or_default(), 0));
        }
        let request = v1::ListSasRequest { parent: tenant.name.clone(), ..v1::ListSasRequest::default() };
        let sas = client.sas().list_sas(request).await.map_err(|s| Failure::of_status(&s, &tenant.name))?;
        for sa in sas.into_inner().sas {
            if let (Some(entry), Some(v1::sa::Kind::Child(child))) = (all.get_mut(&sa.peer), sa.kind) {
                entry.1 += child.drops.values().sum::<u64>();
            }
        }
    }
    Ok(all)
}

/// The node's counters that are not zero.
pub(crate) async fn counters(client: &Client) -> Result<BTreeMap<String, u64>, Failure> {
    let status = client.nodes().get_node_status(v1::GetNodeStatusRequest {}).await;
    let status = status.map_err(|s| Failure::of_status(&s, "node"))?.into_inner();
    Ok(status.counters.into_iter().filter(|(_, n)| *n > 0).collect())
}
