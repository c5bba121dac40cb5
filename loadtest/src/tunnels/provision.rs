//! What is asked of the node, as any client would.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use culvert_proto::v1;
use culvert_proto::v1::node_service_client::NodeServiceClient;
use culvert_proto::v1::peer_service_client::PeerServiceClient;
use culvert_proto::v1::sa_service_client::SaServiceClient;
use culvert_proto::v1::secret_service_client::SecretServiceClient;
use culvert_proto::v1::tenant_service_client::TenantServiceClient;
use indicatif::ProgressBar;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::{Arguments, LoadError, PATIENCE, Place, Version};

/// The key of every tunnel. It protects nothing but probes.
pub(super) const PSK: &str = "loadtest-pre-shared-key";
/// The ESP proposals of every tunnel.
pub(super) const ESP: &str = "aes128gcm16";
/// The node's identity.
pub(super) const HUB: &str = "hub.load.example";
/// Calls under way at a time: enough to hide the store's commit.
const CALLS: usize = 32;

/// A connection to the node's API.
#[derive(Clone)]
pub(super) struct Api {
    channel: Channel,
}

impl Api {
    pub(super) async fn connect(server: &str) -> Result<Self, LoadError> {
        let unreachable = |error: String| LoadError::Unreachable(server.to_owned(), error);
        let endpoint = Endpoint::from_shared(server.to_owned()).map_err(|e| unreachable(e.to_string()))?;
        let channel = endpoint.connect().await.map_err(|e| unreachable(e.to_string()))?;
        Ok(Self { channel })
    }

    /// Creates the tenants and their peers, which wait for the initiators.
    pub(super) async fn provision(&self, arguments: &Arguments, bar: &ProgressBar) -> Result<(), LoadError> {
        let tenants = Place::all(arguments.count).map(Place::tenant_id);
        let mut seen = std::collections::BTreeSet::new();
        for tenant_id in tenants.filter(|id| seen.insert(id.clone())) {
            let uplink = v1::Uplink { kind: Some(v1::uplink::Kind::Hub(v1::uplink::Hub {})) };
            let tenant = v1::Tenant { uplink: Some(uplink), ..v1::Tenant::default() };
            let request = v1::CreateTenantRequest {
                tenant_id: tenant_id.clone(),
                tenant: Some(tenant),
                ..v1::CreateTenantRequest::default()
            };
            let created = TenantServiceClient::new(self.channel.clone()).create_tenant(request).await;
            created.map_err(refused("creating a tenant"))?;
            let secret = v1::Secret { value: PSK.as_bytes().to_vec(), ..v1::Secret::default() };
            let request = v1::CreateSecretRequest {
                parent: format!("tenants/{tenant_id}"),
                secret_id: "psk".to_owned(),
                secret: Some(secret),
                ..v1::CreateSecretRequest::default()
            };
            let created = SecretServiceClient::new(self.channel.clone()).create_secret(request).await;
            created.map_err(refused("creating a secret"))?;
        }
        let (version, server) = (arguments.version, arguments.address);
        self.for_all(arguments.count, CALLS, bar, "creating a peer", |channel, place| async move {
            let request = v1::CreatePeerRequest {
                parent: format!("tenants/{}", place.tenant_id()),
                peer_id: place.peer_id(),
                peer: Some(peer(version, server, place)),
                ..v1::CreatePeerRequest::default()
            };
            PeerServiceClient::new(channel).create_peer(request).await.map(drop)
        })
        .await
    }

    /// Rekeys the IKE_SA and the Child SA of every tunnel, from the node's side.
    pub(super) async fn rekey_all(&self, arguments: &Arguments, bar: &ProgressBar) -> Result<(), LoadError> {
        let at_a_time = usize::try_from(arguments.concurrency).unwrap_or(1);
        self.for_all(arguments.count, at_a_time, bar, "rekeying", |channel, place| async move {
            let mut peers = PeerServiceClient::new(channel);
            for target in [v1::RekeyTarget::Child, v1::RekeyTarget::Ike] {
                let name = name(place);
                let request =
                    v1::RekeyPeerRequest { name, target: target.into(), ..v1::RekeyPeerRequest::default() };
                peers.rekey_peer(request).await?;
            }
            Ok(())
        })
        .await
    }

    /// All SAs of the node, one by one: how many.
    pub(super) async fn list(&self) -> Result<u64, LoadError> {
        let request = v1::StreamSasRequest { parent: "tenants/-".to_owned() };
        let answer = SaServiceClient::new(self.channel.clone()).stream_sas(request).await;
        let mut stream = answer.map_err(refused("listing"))?.into_inner();
        let mut count = 0;
        while let Some(sa) = stream.next().await {
            sa.map_err(refused("listing"))?;
            count += 1;
        }
        Ok(count)
    }

    /// Waits until the node has no SA left.
    pub(super) async fn wait_down(&self) -> Result<(), LoadError> {
        let begin = Instant::now();
        loop {
            let status = self.status().await?;
            let left = status.ike_sas + status.child_sas;
            if left == 0 {
                return Ok(());
            }
            if begin.elapsed() > PATIENCE {
                let left = usize::try_from(left).unwrap_or(usize::MAX);
                return Err(LoadError::Stuck {
                    what: "torn down",
                    done: 0,
                    all: left,
                    why: "SAs are left".to_owned(),
                });
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }

    /// Deletes what [`Self::provision`] created.
    pub(super) async fn clean_up(&self, arguments: &Arguments) -> Result<(), LoadError> {
        let quiet = ProgressBar::hidden();
        self.for_all(arguments.count, CALLS, &quiet, "deleting a peer", |channel, place| async move {
            let request = v1::DeletePeerRequest { name: name(place), ..v1::DeletePeerRequest::default() };
            PeerServiceClient::new(channel).delete_peer(request).await.map(drop)
        })
        .await?;
        let mut seen = std::collections::BTreeSet::new();
        for tenant in Place::all(arguments.count).map(Place::tenant_id).filter(|id| seen.insert(id.clone())) {
            let tenant = format!("tenants/{tenant}");
            let request =
                v1::DeleteSecretRequest { name: format!("{tenant}/secrets/psk"), ..Default::default() };
            let deleted = SecretServiceClient::new(self.channel.clone()).delete_secret(request).await;
            deleted.map_err(refused("deleting a secret"))?;
            let request = v1::DeleteTenantRequest { name: tenant, ..Default::default() };
            let deleted = TenantServiceClient::new(self.channel.clone()).delete_tenant(request).await;
            deleted.map_err(refused("deleting a tenant"))?;
        }
        Ok(())
    }

    pub(super) async fn status(&self) -> Result<v1::NodeStatus, LoadError> {
        let request = v1::GetNodeStatusRequest {};
        let answer = NodeServiceClient::new(self.channel.clone()).get_node_status(request).await;
        Ok(answer.map_err(refused("asking the node"))?.into_inner())
    }

    /// One call for each tunnel, `at_a_time` under way.
    async fn for_all<F, Fut>(
        &self,
        count: u32,
        at_a_time: usize,
        bar: &ProgressBar,
        what: &'static str,
        call: F,
    ) -> Result<(), LoadError>
    where
        F: Fn(Channel, Place) -> Fut,
        Fut: Future<Output = Result<(), Status>> + Send + 'static,
    {
        let room = Arc::new(Semaphore::new(at_a_time));
        let mut calls = JoinSet::new();
        for place in Place::all(count) {
            let permit = room.clone().acquire_owned().await;
            let (bar, work) = (bar.clone(), call(self.channel.clone(), place));
            calls.spawn(async move {
                let outcome = work.await;
                bar.inc(1);
                drop(permit);
                outcome
            });
        }
        while let Some(outcome) = calls.join_next().await {
            let outcome = outcome.unwrap_or_else(|error| Err(Status::internal(error.to_string())));
            outcome.map_err(refused(what))?;
        }
        bar.finish();
        Ok(())
    }
}

fn refused(what: &'static str) -> impl Fn(Status) -> LoadError {
    move |status| LoadError::Api(what, format!("{}: {}", status.code(), status.message()))
}

fn name(place: Place) -> String {
    format!("tenants/{}/peers/{}", place.tenant_id(), place.peer_id())
}

fn peer(version: Version, server: IpAddr, place: Place) -> v1::Peer {
    let secret = format!("tenants/{}/secrets/psk", place.tenant_id());
    v1::Peer {
        local_identity: HUB.to_owned(),
        remote_identity: place.identity(),
        auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk(secret)) }),
        start_action: v1::StartAction::None.into(),
        // The pre-shared key of Main Mode is found by it.
        remote_addresses: match version {
            Version::Ikev2 => Vec::new(),
            Version::Ikev1 => place.source(server).map(|address| address.to_string()).into_iter().collect(),
        },
        ike: Some(v1::IkeConfig {
            proposals: vec![version.proposal().to_owned()],
            version: match version {
                Version::Ikev2 => v1::IkeVersion::Ikev2.into(),
                Version::Ikev1 => v1::IkeVersion::Ikev1.into(),
            },
            ..v1::IkeConfig::default()
        }),
        children: vec![v1::Child {
            name: "lan".to_owned(),
            local_subnets: vec!["10.7.0.0/16".to_owned()],
            remote_subnets: vec![format!("{}/32", place.inner())],
            esp_proposals: vec![ESP.to_owned()],
            ..v1::Child::default()
        }],
        ..v1::Peer::default()
    }
}
