//! SaService: lists, streams and events of the running tunnels.

use std::pin::Pin;
use std::sync::Arc;

use culvert_proto::v1;
use culvert_proto::v1::sa_service_server::SaService;
use latest::Follow as _;
use tenants::{Catalog, Error, PageRequest};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt as _};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::access::Counters;
use crate::runtime::{RuntimeError, Scope};
use crate::services::{named_away, status};
use crate::wide::{After, Known, LAST_EVENT, Watched, Wide, is_of_another};

/// Events on their way to one client. When it is slower, the runtime's own backlog takes over.
const EVENT_BUFFER: usize = 64;

/// SaService over the tunnels.
pub struct Sas {
    catalog: Arc<Catalog>,
    tunnels: Wide,
    api: Arc<Counters>,
    /// Becomes true when the node goes down: streams end then.
    down: watch::Receiver<bool>,
}

impl Sas {
    /// Serves these tunnels until `down` becomes true.
    pub fn new(
        catalog: Arc<Catalog>,
        tunnels: Wide,
        api: Arc<Counters>,
        down: watch::Receiver<bool>,
    ) -> Self {
        Self { catalog, tunnels, api, down }
    }

    /// Whose SAs are meant. With what a node that asks says in the headers.
    fn scope(&self, parent: &str, metadata: &MetadataMap) -> Result<Scope, Status> {
        if parent == "tenants/-" {
            return Ok(Scope::All);
        }
        let missing = || status::of_error(&Error::NotFound(parent.to_owned()));
        let scope = if parent.contains("/peers/") {
            let name = parent.parse().map_err(|error| status::invalid("parent", error))?;
            let uid = self.catalog.get_peer(&name).ok_or_else(missing)?.uid;
            Scope::Peer { name, uid }
        } else {
            let name = parent.parse().map_err(|error| status::invalid("parent", error))?;
            let number = self.catalog.get_tenant(&name).ok_or_else(missing)?.number;
            Scope::Tenant { name, number }
        };
        if is_of_another(&scope, metadata) { Err(missing()) } else { Ok(scope) }
    }

    /// The status of a list that is not made.
    fn no_list(&self, error: &RuntimeError) -> Status {
        if matches!(error, RuntimeError::Exhausted(_)) {
            self.api.lists_limited();
        }
        status::of_runtime(error, "")
    }
}

#[tonic::async_trait]
impl SaService for Sas {
    async fn list_sas(
        &self,
        request: Request<v1::ListSasRequest>,
    ) -> Result<Response<v1::ListSasResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        let scope = self.scope(&request.parent, &metadata)?;
        let page = PageRequest::parse(&request.parent, request.page_size, &request.page_token);
        let page = page.map_err(|faults| status::of_violations(&faults))?;
        let held = self.tunnels.held();
        let listed = self.tunnels.page_of_sas(&scope, &page, &request).await;
        let Known { what: page, away: nodes_away } = listed.map_err(|error| self.no_list(&error))?;
        let next_page_token = page.next_page_token;
        let mut answer = Response::new(v1::ListSasResponse { sas: page.items, next_page_token, nodes_away });
        self.tunnels.tell_held(held, answer.metadata_mut());
        Ok(answer)
    }

    type StreamSasStream = Pin<Box<dyn Stream<Item = Result<v1::Sa, Status>> + Send>>;

    async fn stream_sas(
        &self,
        request: Request<v1::StreamSasRequest>,
    ) -> Result<Response<Self::StreamSasStream>, Status> {
        let (metadata, _, request) = request.into_parts();
        let scope = self.scope(&request.parent, &metadata)?;
        let held = self.tunnels.held();
        let listed = self.tunnels.all_sas(&scope).await;
        let Known { what: sas, away } = listed.map_err(|error| self.no_list(&error))?;
        let stream: Self::StreamSasStream = Box::pin(tokio_stream::iter(sas.map(Ok)));
        let mut answer = named_away(stream, &away);
        self.tunnels.tell_held(held, answer.metadata_mut());
        Ok(answer)
    }

    type WatchEventsStream = ReceiverStream<Result<v1::Event, Status>>;

    async fn watch_events(
        &self,
        request: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        let (metadata, _, request) = request.into_parts();
        // Before it is looked for: what comes of it once it is known comes after.
        let last = self.tunnels.local().last_event();
        let scope = self.scope(&request.parent, &metadata).map_err(|mut status| {
            status.metadata_mut().insert(LAST_EVENT, last.into());
            status
        })?;
        let after = After { number: request.after_sequence, of_nodes: request.after_sequences };
        let watched = self.tunnels.watch(&scope, after, request.positions).await;
        let Watched { position, mut events } = watched.map_err(|error| status::of_runtime(&error, ""))?;
        let (sender, receiver) = mpsc::channel(EVENT_BUFFER);
        let mut down = self.down.clone();
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = events.next() => next,
                    _ = down.until(|down| *down) => Some(Err(RuntimeError::Unavailable("the node goes down"))),
                    () = sender.closed() => None,
                };
                let Some(item) = next else { return };
                let item = item.map_err(|error| status::of_runtime(&error, ""));
                let last = item.is_err();
                if sender.send(item).await.is_err() || last {
                    return;
                }
            }
        });
        let mut response = Response::new(ReceiverStream::new(receiver));
        response.metadata_mut().insert(LAST_EVENT, position.into());
        Ok(response)
    }
}
