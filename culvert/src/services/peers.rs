//! PeerService: what is configured comes from the catalog, the state of the tunnel from the node that has it.

use std::sync::Arc;

use culvert_proto::v1;
use culvert_proto::v1::peer_service_server::PeerService;
use tenants::{Catalog, Error, Peer, PeerName};
use tonic::{Request, Response, Status};

use crate::access;
use crate::runtime::RekeyTarget;
use crate::services::{named_away, status, write};
use crate::wide::{Known, Meant, Wide};

/// PeerService over a catalog and the tunnels.
pub struct Peers {
    catalog: Arc<Catalog>,
    tunnels: Wide,
}

impl Peers {
    /// Serves this catalog and these tunnels.
    pub fn new(catalog: Arc<Catalog>, tunnels: Wide) -> Self {
        Self { catalog, tunnels }
    }

    fn find(&self, name: &str) -> Result<Arc<Peer>, Status> {
        let name: PeerName = name.parse().map_err(|error| status::invalid("name", error))?;
        self.catalog.get_peer(&name).ok_or_else(|| status::of_error(&Error::NotFound(name.to_string())))
    }

    async fn with_status(&self, peers: &[Arc<Peer>]) -> Known<Vec<v1::Peer>> {
        let Known { what, away } = self.tunnels.peer_statuses(peers).await;
        let peers = peers.iter().zip(what).map(|(peer, status)| v1::Peer { status, ..peer.to_proto() });
        Known { what: peers.collect(), away }
    }

    async fn one(&self, peer: Arc<Peer>) -> Result<Response<v1::Peer>, Status> {
        let Known { mut what, away } = self.with_status(std::slice::from_ref(&peer)).await;
        let peer = what.pop().ok_or_else(|| Status::internal("no answer"))?;
        Ok(named_away(peer, &away))
    }
}

#[tonic::async_trait]
impl PeerService for Peers {
    async fn create_peer(
        &self,
        request: Request<v1::CreatePeerRequest>,
    ) -> Result<Response<v1::Peer>, Status> {
        let request = request.into_inner();
        let peer = write(&self.catalog, "CreatePeer", move |c| c.create_peer(&request)).await?;
        Ok(Response::new(peer.to_proto()))
    }

    async fn get_peer(&self, request: Request<v1::GetPeerRequest>) -> Result<Response<v1::Peer>, Status> {
        let peer = self.find(&request.into_inner().name)?;
        self.one(peer).await
    }

    async fn list_peers(
        &self,
        request: Request<v1::ListPeersRequest>,
    ) -> Result<Response<v1::ListPeersResponse>, Status> {
        let request = request.into_inner();
        let page = self.catalog.page_peers(&request.parent, request.page_size, &request.page_token);
        let page = page.map_err(|error| status::of_error(&error))?;
        let Known { what: peers, away: nodes_away } = self.with_status(&page.items).await;
        let next_page_token = page.next_page_token;
        Ok(Response::new(v1::ListPeersResponse { peers, next_page_token, nodes_away }))
    }

    async fn batch_get_peer_statuses(
        &self,
        request: Request<v1::BatchGetPeerStatusesRequest>,
    ) -> Result<Response<v1::BatchGetPeerStatusesResponse>, Status> {
        let names = request.into_inner().names;
        if names.len() > MAX_STATUSES {
            let reason = format!("{} names; at most {MAX_STATUSES}", names.len());
            return Err(status::invalid("names", reason));
        }
        let found: Vec<Option<Arc<Peer>>> = names
            .iter()
            .enumerate()
            .map(|(at, name)| {
                let name: Result<PeerName, _> = name.parse();
                let name = name.map_err(|error| status::invalid(&format!("names[{at}]"), error))?;
                Ok::<_, Status>(self.catalog.get_peer(&name))
            })
            .collect::<Result<_, _>>()?;
        let peers: Vec<Arc<Peer>> = found.iter().flatten().cloned().collect();
        let held = self.tunnels.held();
        let Known { what, away: nodes_away } = self.tunnels.peer_statuses(&peers).await;
        let mut known = what.into_iter();
        let statuses = found.into_iter().map(|peer| peer.and_then(|_| known.next().flatten()));
        let statuses = statuses.map(Option::unwrap_or_default).collect();
        let mut answer = Response::new(v1::BatchGetPeerStatusesResponse { statuses, nodes_away });
        self.tunnels.tell_held(held, answer.metadata_mut());
        Ok(answer)
    }

    async fn update_peer(
        &self,
        request: Request<v1::UpdatePeerRequest>,
    ) -> Result<Response<v1::Peer>, Status> {
        let request = request.into_inner();
        let peer = write(&self.catalog, "UpdatePeer", move |c| c.update_peer(&request)).await?;
        let impact = peer.impact().to_proto();
        let mut answer = self.one(peer.after).await?;
        answer.get_mut().impact = Some(impact);
        Ok(answer)
    }

    async fn delete_peer(
        &self,
        request: Request<v1::DeletePeerRequest>,
    ) -> Result<Response<v1::DeletePeerResponse>, Status> {
        let request = request.into_inner();
        let deleted = write(&self.catalog, "DeletePeer", move |c| c.delete_peer(&request)).await?;
        Ok(Response::new(v1::DeletePeerResponse { deleted }))
    }

    async fn initiate_peer(
        &self,
        request: Request<v1::InitiatePeerRequest>,
    ) -> Result<Response<v1::InitiatePeerResponse>, Status> {
        let name = request.into_inner().name;
        let peer = self.find(&name)?;
        let result = self.tunnels.initiate(Arc::clone(&peer)).await;
        let status = result.map_err(|error| status::of_runtime(&error, &name))?;
        let status = self.tunnels.seen_from_here(&peer, status);
        Ok(Response::new(v1::InitiatePeerResponse { status: Some(status) }))
    }

    async fn terminate_peer(
        &self,
        request: Request<v1::TerminatePeerRequest>,
    ) -> Result<Response<v1::TerminatePeerResponse>, Status> {
        let meant = meant(&request);
        let name = request.into_inner().name;
        let by = access::current()
            .map_or_else(|| "somebody".to_owned(), |c| format!("{} at {}", c.principal(), c.from));
        let by = format!("a command of {by}");
        let peer = self.find(&name)?;
        let result = self.tunnels.terminate(Arc::clone(&peer), &by, meant).await;
        let status = result.map_err(|error| status::of_runtime(&error, &name))?;
        let status = self.tunnels.seen_from_here(&peer, status);
        Ok(Response::new(v1::TerminatePeerResponse { status: Some(status) }))
    }

    async fn rekey_peer(
        &self,
        request: Request<v1::RekeyPeerRequest>,
    ) -> Result<Response<v1::RekeyPeerResponse>, Status> {
        let request = request.into_inner();
        let peer = self.find(&request.name)?;
        let target = rekey_target(&request, &peer)?;
        let result = self.tunnels.rekey(Arc::clone(&peer), target, request.clone()).await;
        let status = result.map_err(|error| status::of_runtime(&error, &request.name))?;
        let status = self.tunnels.seen_from_here(&peer, status);
        Ok(Response::new(v1::RekeyPeerResponse { status: Some(status) }))
    }

    async fn send_dummies(
        &self,
        request: Request<v1::SendDummiesRequest>,
    ) -> Result<Response<v1::SendDummiesResponse>, Status> {
        let request = request.into_inner();
        let peer = self.find(&request.name)?;
        let count = match request.count {
            0 => 1,
            count @ 1..=MAX_DUMMIES => count as u16,
            count => return Err(status::invalid("count", format!("{count} is not 1 to {MAX_DUMMIES}"))),
        };
        let length = match request.length {
            0 => 64,
            length @ 1..=MAX_DUMMY_LENGTH => length as u16,
            length => {
                return Err(status::invalid("length", format!("{length} is not 1 to {MAX_DUMMY_LENGTH}")));
            }
        };
        let result = self.tunnels.send_dummies(peer, count, length).await;
        let child_sas = result.map_err(|error| status::of_runtime(&error, &request.name))?;
        Ok(Response::new(v1::SendDummiesResponse { child_sas }))
    }

    async fn explain_peer(
        &self,
        request: Request<v1::ExplainPeerRequest>,
    ) -> Result<Response<v1::ExplainPeerResponse>, Status> {
        let is_let_be = meant(&request) == Meant::LetBe;
        let request = request.into_inner();
        let peer = self.find(&request.name)?;
        if is_let_be {
            let told = self.tunnels.local().let_be(Arc::clone(&peer)).await;
            told.map_err(|error| status::of_runtime(&error, &request.name))?;
            return Ok(Response::new(v1::ExplainPeerResponse::default()));
        }
        let result = self.tunnels.explain(peer).await;
        result.map(Response::new).map_err(|error| status::of_runtime(&error, &request.name))
    }
}

/// What another node means by a request; what it says, where nobody else asks.
fn meant<T>(request: &Request<T>) -> Meant {
    request.extensions().get().copied().unwrap_or_default()
}

/// Peers whose states are asked for at a time: a page of them.
const MAX_STATUSES: usize = 1000;
/// As many as the router sends at once.
const MAX_DUMMIES: u32 = router::MAX_DUMMIES as u32;
/// The largest that may fit a path of jumbo frames; a path that takes less cuts it.
const MAX_DUMMY_LENGTH: u32 = 9_000;

fn rekey_target(request: &v1::RekeyPeerRequest, peer: &Peer) -> Result<RekeyTarget, Status> {
    let child = request.child.as_str();
    match v1::RekeyTarget::try_from(request.target) {
        Ok(v1::RekeyTarget::Ike) if child.is_empty() => Ok(RekeyTarget::Ike),
        Ok(v1::RekeyTarget::Ike) => Err(status::invalid("child", "goes with target CHILD only")),
        Ok(v1::RekeyTarget::Unspecified | v1::RekeyTarget::Child) if child.is_empty() => {
            Ok(RekeyTarget::Children)
        }
        Ok(v1::RekeyTarget::Unspecified | v1::RekeyTarget::Child) => match peer.spec.child(child) {
            Some(child) => Ok(RekeyTarget::Child(child.name.clone())),
            None => {
                let known: Vec<_> = peer.spec.children.iter().map(|child| child.name.as_str()).collect();
                let known = known.join(", ");
                Err(status::invalid("child", format!("there is no child {child:?}; expected one of {known}")))
            }
        },
        Err(_) => {
            Err(status::invalid("target", format!("unknown value {}; expected CHILD or IKE", request.target)))
        }
    }
}
