//! What a member is asked: over the network, or in the memory of a simulation.

use culvert_proto::etcd::kv_client::KvClient;
use culvert_proto::etcd::lease_client::LeaseClient;
use culvert_proto::etcd::watch_client::WatchClient;
use culvert_proto::etcd::watch_request::RequestUnion;
use culvert_proto::etcd::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, RangeRequest, RangeResponse, TxnRequest,
    TxnResponse, WatchCreateRequest, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Status, Streaming};

#[cfg(feature = "simulated")]
use super::memory;

/// Greatest answer, several times what is asked for at once: pages are of fewer octets, and a watch comes in fragments.
const MAX_ANSWER: usize = 16 << 20;

/// The way to a member.
#[derive(Clone, Debug)]
pub(super) enum Way {
    Network(Channel),
    #[cfg(feature = "simulated")]
    Memory(memory::Line),
}

/// What a watch is told.
pub(super) enum Answers {
    Network {
        answers: Box<Streaming<WatchResponse>>,
        /// The stream of requests; etcd ends the watch when it ends.
        _requests: mpsc::Sender<WatchRequest>,
    },
    #[cfg(feature = "simulated")]
    Memory(memory::Answers),
}

impl Way {
    pub(super) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        match self {
            Self::Network(channel) => Ok(kv(channel).range(request).await?.into_inner()),
            #[cfg(feature = "simulated")]
            Self::Memory(line) => line.ask(move |store| store.answer(&request)).await?,
        }
    }

    pub(super) async fn transact(&self, request: TxnRequest) -> Result<TxnResponse, Status> {
        match self {
            Self::Network(channel) => Ok(kv(channel).txn(request).await?.into_inner()),
            #[cfg(feature = "simulated")]
            Self::Memory(line) => line.ask(move |store| store.transact(request)).await?,
        }
    }

    /// Makes it forget what was before a revision. It does so by and by, and answers before.
    pub(super) async fn compact(&self, revision: i64) -> Result<(), Status> {
        let request = culvert_proto::etcd::CompactionRequest { revision, physical: false };
        match self {
            Self::Network(channel) => kv(channel).compact(request).await.map(drop),
            #[cfg(feature = "simulated")]
            Self::Memory(line) => line.ask(move |store| store.compact(revision)).await,
        }
    }

    /// A new lease of so many seconds.
    pub(super) async fn grant(&self, ttl: i64) -> Result<i64, Status> {
        match self {
            Self::Network(channel) => {
                let request = LeaseGrantRequest { ttl, id: 0 };
                Ok(LeaseClient::new(channel.clone()).lease_grant(request).await?.into_inner().id)
            }
            #[cfg(feature = "simulated")]
            Self::Memory(line) => line.ask(move |store| store.grant(ttl)).await,
        }
    }

    /// Seconds that a lease has from now on: zero for one that is gone, nothing if the member does not say.
    pub(super) async fn keep_alive(&self, id: i64) -> Result<Option<i64>, Status> {
        match self {
            Self::Network(channel) => {
                let request = tokio_stream::once(LeaseKeepAliveRequest { id });
                let answer = LeaseClient::new(channel.clone()).lease_keep_alive(request).await?;
                Ok(answer.into_inner().message().await?.map(|answer| answer.ttl))
            }
            #[cfg(feature = "simulated")]
            Self::Memory(line) => line.ask(move |store| Some(store.keep_alive(id))).await,
        }
    }

    pub(super) async fn revoke(&self, id: i64) -> Result<(), Status> {
        match self {
            Self::Network(channel) => {
                let request = LeaseRevokeRequest { id };
                LeaseClient::new(channel.clone()).lease_revoke(request).await.map(drop)
            }
            #[cfg(feature = "simulated")]
            Self::Memory(line) => line.ask(move |store| store.revoke(id)).await,
        }
    }

    /// Watches at a member that has a leader: one that is cut off would be silent for ever.
    pub(super) async fn watch(&self, create: WatchCreateRequest) -> Result<Answers, Status> {
        match self {
            Self::Network(channel) => {
                let (requests, receiver) = mpsc::channel(1);
                // There is room for one, and this is the first.
                let _ = requests
                    .try_send(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) });
                let mut request = Request::new(ReceiverStream::new(receiver));
                request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
                let mut client = WatchClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER);
                let answers = Box::new(client.watch(request).await?.into_inner());
                Ok(Answers::Network { answers, _requests: requests })
            }
            #[cfg(feature = "simulated")]
            Self::Memory(line) => line.watch(create).await.map(Answers::Memory),
        }
    }
}

impl Answers {
    /// The next one; none when the watch has ended.
    pub(super) async fn next(&mut self) -> Result<Option<WatchResponse>, Status> {
        match self {
            Self::Network { answers, .. } => answers.message().await,
            #[cfg(feature = "simulated")]
            Self::Memory(answers) => answers.recv().await.transpose(),
        }
    }
}

fn kv(channel: &Channel) -> KvClient<Channel> {
    KvClient::new(channel.clone()).max_decoding_message_size(MAX_ANSWER).max_encoding_message_size(MAX_ANSWER)
}
