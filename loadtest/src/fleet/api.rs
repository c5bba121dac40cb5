//! What is asked of the node, as any client would.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use culvert_proto::v1;
use culvert_proto::v1::batch_service_client::BatchServiceClient;
use culvert_proto::v1::node_service_client::NodeServiceClient;
use culvert_proto::v1::object::Kind;
use culvert_proto::v1::peer_service_client::PeerServiceClient;
use culvert_proto::v1::sa_service_client::SaServiceClient;
use indicatif::ProgressBar;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::LoadError;
use super::place::Place;
use super::plan::{HUB, Plan};
use super::target::Version;
use crate::engine::stop::Stop;

/// Peers of one request: few enough that the bar moves, enough to hide the store's commit.
const BATCH: usize = 2_000;
/// Octets of an answer to it.
const MAX_ANSWER: usize = 64 << 20;
/// How long the node may take to say how it is, or the system to connect.
const ANSWER: Duration = Duration::from_secs(20);
const CONNECT: Duration = Duration::from_secs(5);
/// How long a rekeying may take: the peer has 43 s to answer.
const REKEY: Duration = Duration::from_secs(60);
/// How long the list of all SAs may take, a million of them included.
const LIST: Duration = Duration::from_secs(120);
/// How long a batch of changes may take, or the deletion of everything: it is work for each peer.
const CHANGE: Duration = Duration::from_secs(600);
/// A node that does not even answer pings of HTTP/2 is gone, however long the call may take.
const PING: Duration = Duration::from_secs(10);
const PONG: Duration = Duration::from_secs(20);

/// A connection to the node's API.
#[derive(Clone)]
pub(crate) struct Api {
    channel: Channel,
}

impl Api {
    pub(crate) async fn connect(server: &str) -> Result<Self, LoadError> {
        let unreachable = |error: String| LoadError::Unreachable(server.to_owned(), error);
        let endpoint = Endpoint::from_shared(server.to_owned()).map_err(|e| unreachable(e.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(PING)
            .keep_alive_timeout(PONG)
            .keep_alive_while_idle(true);
        let channel = endpoint.connect().await.map_err(|e| unreachable(e.to_string()))?;
        Ok(Self { channel })
    }

    /// Makes the node have the tenants and their peers, which wait for the initiators. What an earlier run has left is
    /// taken over. If an end is wanted, no request goes out any more; one that is under way is waited for, or the node could make
    /// what we delete.
    pub(crate) async fn provision(
        &self,
        plan: &Plan,
        life: Option<Duration>,
        bar: &ProgressBar,
        stop: &Stop,
    ) -> Result<(), LoadError> {
        let secrets = plan.proof.secrets()?;
        let tenants = tenants(plan).into_iter().flat_map(|tenant_id| {
            let uplink = v1::Uplink { kind: Some(v1::uplink::Kind::Hub(v1::uplink::Hub {})) };
            let name = format!("tenants/{tenant_id}");
            let secret = |(id, value): &(&str, Vec<u8>)| v1::Secret {
                name: format!("{name}/secrets/{id}"),
                value: value.clone(),
                ..v1::Secret::default()
            };
            let secrets: Vec<_> = secrets.iter().map(secret).map(Kind::Secret).collect();
            let tenant = v1::Tenant { name, uplink: Some(uplink), ..v1::Tenant::default() };
            std::iter::once(Kind::Tenant(tenant)).chain(secrets)
        });
        self.apply(tenants.collect()).await?;
        for places in plan.places().collect::<Vec<_>>().chunks(BATCH) {
            if stop.is_wanted() {
                break;
            }
            self.apply(places.iter().map(|place| Kind::Peer(peer(plan, *place, life))).collect()).await?;
            bar.inc(places.len() as u64);
        }
        bar.finish();
        Ok(())
    }

    async fn apply(&self, objects: Vec<Kind>) -> Result<(), LoadError> {
        let objects = objects.into_iter().map(|kind| v1::Object { kind: Some(kind) }).collect();
        let request = v1::ApplyRequest { objects, ..v1::ApplyRequest::default() };
        let mut client = BatchServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        within(CHANGE, client.apply(request)).await.map(drop).map_err(refused("provisioning"))
    }

    /// Rekeys the IKE_SA and the Child SA of every tunnel, from the node's side.
    pub(crate) async fn rekey_all(
        &self,
        plan: &Plan,
        at_a_time: u32,
        bar: &ProgressBar,
    ) -> Result<(), LoadError> {
        let at_a_time = usize::try_from(at_a_time).unwrap_or(1);
        self.for_all(plan, at_a_time, bar, "rekeying", |channel, place| async move {
            rekey(&channel, place, v1::RekeyTarget::Child).await?;
            rekey(&channel, place, v1::RekeyTarget::Ike).await
        })
        .await
    }

    /// Rekeys one of them.
    pub(crate) async fn rekey(&self, place: Place, target: v1::RekeyTarget) -> Result<(), Status> {
        rekey(&self.channel, place, target).await
    }

    /// All SAs of the node, one by one: how many are of the plan.
    pub(crate) async fn list(&self, plan: &Plan) -> Result<u64, LoadError> {
        let (own, mut count) = (tenants(plan), 0);
        self.each_sa(|sa| count += u64::from(own.contains(tenant_of(sa)))).await?;
        Ok(count)
    }

    /// Looks at all SAs of the node, one by one.
    pub(super) async fn each_sa(&self, mut look: impl FnMut(&v1::Sa)) -> Result<(), LoadError> {
        let request = v1::StreamSasRequest { parent: "tenants/-".to_owned() };
        let mut client = SaServiceClient::new(self.channel.clone());
        let list = async {
            let mut stream = client.stream_sas(request).await?.into_inner();
            while let Some(sa) = stream.next().await {
                look(&sa?);
            }
            Ok(())
        };
        within(LIST, list).await.map_err(refused("listing"))
    }

    /// Deletes what [`Self::provision`] made.
    pub(crate) async fn clean_up(&self, plan: &Plan) -> Result<(), LoadError> {
        let names = tenants(plan).into_iter().map(|tenant| format!("tenants/{tenant}")).collect();
        let request = v1::DeleteRequest { names, force: true, allow_missing: true, validate_only: false };
        let mut client = BatchServiceClient::new(self.channel.clone());
        let deleted = within(CHANGE, client.delete(request)).await;
        deleted.map(drop).map_err(refused("deleting what was provisioned"))
    }

    pub(crate) async fn status(&self) -> Result<v1::NodeStatus, LoadError> {
        let request = v1::GetNodeStatusRequest {};
        let mut client = NodeServiceClient::new(self.channel.clone());
        let answer = within(ANSWER, client.get_node_status(request)).await;
        Ok(answer.map_err(refused("asking the node"))?.into_inner())
    }

    /// One call for each tunnel, `at_a_time` under way.
    async fn for_all<F, Fut>(
        &self,
        plan: &Plan,
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
        for place in plan.places() {
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

/// A call that ends: a node that is frozen keeps its connections, and says nothing.
async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    let late = || Status::deadline_exceeded(format!("no answer in {} s", limit.as_secs()));
    tokio::time::timeout(limit, call).await.unwrap_or_else(|_| Err(late()))
}

fn refused(what: &'static str) -> impl Fn(Status) -> LoadError {
    move |status| LoadError::Api(what, format!("{}: {}", status.code(), status.message()))
}

fn name(place: Place) -> String {
    format!("tenants/{}/peers/{}", place.tenant_id(), place.peer_id())
}

/// Whose an SA is.
pub(super) fn tenant_of(sa: &v1::Sa) -> &str {
    sa.peer.split('/').nth(1).unwrap_or_default()
}

pub(super) fn tenants(plan: &Plan) -> BTreeSet<String> {
    plan.places().map(Place::tenant_id).collect()
}

async fn rekey(channel: &Channel, place: Place, target: v1::RekeyTarget) -> Result<(), Status> {
    let name = name(place);
    let request = v1::RekeyPeerRequest { name, target: target.into(), ..v1::RekeyPeerRequest::default() };
    let mut client = PeerServiceClient::new(channel.clone());
    within(REKEY, client.rekey_peer(request)).await.map(drop)
}

fn peer(plan: &Plan, place: Place, life: Option<Duration>) -> v1::Peer {
    let seconds = |time: Duration| prost_types::Duration::try_from(time).ok();
    v1::Peer {
        name: name(place),
        local_identity: HUB.to_owned(),
        remote_identity: place.identity(),
        auth: Some(v1::Auth { method: Some(plan.proof.method(&place.tenant_id())) }),
        start_action: v1::StartAction::None.into(),
        // The pre-shared key of Main Mode is found by it.
        remote_addresses: match plan.version {
            Version::Ikev2 => Vec::new(),
            Version::Ikev1 => plan.source(place).map(|address| address.to_string()).into_iter().collect(),
        },
        ike: Some(v1::IkeConfig {
            proposals: vec![plan.ike.to_string()],
            version: match plan.version {
                Version::Ikev2 => v1::IkeVersion::Ikev2.into(),
                Version::Ikev1 => v1::IkeVersion::Ikev1.into(),
            },
            ..v1::IkeConfig::default()
        }),
        children: vec![v1::Child {
            name: "lan".to_owned(),
            local_subnets: vec!["10.7.0.0/16".to_owned()],
            remote_subnets: vec![format!("{}/32", place.inner())],
            esp_proposals: vec![plan.esp.to_string()],
            lifetime: life.map(|life| v1::ChildLifetime {
                rekey_time: seconds(life),
                life_time: seconds(life * 3),
                ..v1::ChildLifetime::default()
            }),
            ..v1::Child::default()
        }],
        ..v1::Peer::default()
    }
}
