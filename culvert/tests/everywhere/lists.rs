//! Lists of SAs: how much of them a node holds, and asks of others.

use culvert_proto::v1::sa_service_server::{SaService, SaServiceServer};
use tokio_stream::Stream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::*;

const ALL: &str = "tenants/-";

fn child(peer: &str, spi: u32) -> v1::Sa {
    let child = v1::ChildSa { inbound_spi: spi, ..v1::ChildSa::default() };
    v1::Sa { peer: name(peer), kind: Some(v1::sa::Kind::Child(child)), ..v1::Sa::default() }
}

fn page(size: i32, token: &str) -> v1::ListSasRequest {
    v1::ListSasRequest { parent: ALL.to_owned(), page_size: size, page_token: token.to_owned() }
}

/// With what a text takes beside itself, two megabytes in memory.
fn large(peer: &str, spi: u32) -> v1::Sa {
    v1::Sa { local_address: "x".repeat(1 << 20), ..child(peer, spi) }
}

async fn stream(world: &World, parent: &str) -> Result<Streaming<v1::Sa>, Status> {
    let request = v1::StreamSasRequest { parent: parent.to_owned() };
    world.node.sas().stream_sas(request).await.map(tonic::Response::into_inner)
}

async fn whole(stream: Streaming<v1::Sa>) -> usize {
    stream.map(Result::unwrap).collect::<Vec<_>>().await.len()
}

#[tokio::test]
async fn lists_that_nobody_reads_hold_no_more_than_there_is_for_them() {
    let world = world("other").await;
    // Half of what there is for all.
    *world.own.sas.lock().unwrap() = (0..64).map(|spi| large("here", spi)).collect();
    let unread = stream(&world, "tenants/acme").await.unwrap();
    let refused = stream(&world, "tenants/acme").await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("by pages"), "{refused}");
    let status = world.node.nodes().get_node_status(v1::GetNodeStatusRequest {}).await.unwrap();
    assert_eq!(status.into_inner().counters["api_lists_limited"], 1);

    let first = world.node.sas().list_sas(page(1, "")).await.unwrap().into_inner();
    assert!(first.sas.len() == 1 && !first.next_page_token.is_empty());
    drop(unread);
    while stream(&world, "tenants/acme").await.is_err() {
        tokio::task::yield_now().await;
    }
    world.node.stop().await;
}

#[tokio::test]
async fn a_list_of_all_larger_than_any_share_is_made_while_another_is_not_read() {
    let world = world("other").await;
    let own = (0..8).map(|spi| large("here", spi)).chain((0..100).map(|spi| large("there", spi)));
    *world.own.sas.lock().unwrap() = own.collect();
    *world.other.sas.lock().unwrap() = (100..104).map(|spi| large("there", spi)).collect();
    let unread = stream(&world, &name("here")).await.unwrap();
    let all = stream(&world, ALL).await.unwrap();
    assert_eq!(stream(&world, ALL).await.unwrap_err().code(), Code::ResourceExhausted, "one at a time");
    let beside = stream(&world, &name("here")).await.unwrap();
    assert_eq!(whole(beside).await, 9);
    assert_eq!(whole(all).await, 9 + 100 + 4 + 1);
    drop(unread);
    world.node.stop().await;
}

/// A node that remembers what it was asked.
#[derive(Clone, Default)]
struct Asked(Arc<Mutex<Vec<v1::ListSasRequest>>>);

#[tonic::async_trait]
impl SaService for Asked {
    async fn list_sas(
        &self,
        request: Request<v1::ListSasRequest>,
    ) -> Result<Response<v1::ListSasResponse>, Status> {
        self.0.lock().unwrap().push(request.into_inner());
        Ok(Response::new(v1::ListSasResponse { sas: vec![child("there", 1)], ..Default::default() }))
    }

    type StreamSasStream = std::pin::Pin<Box<dyn Stream<Item = Result<v1::Sa, Status>> + Send>>;

    async fn stream_sas(
        &self,
        _: Request<v1::StreamSasRequest>,
    ) -> Result<Response<Self::StreamSasStream>, Status> {
        Err(Status::internal("everything is asked for"))
    }

    type WatchEventsStream = std::pin::Pin<Box<dyn Stream<Item = Result<v1::Event, Status>> + Send>>;

    async fn watch_events(
        &self,
        _: Request<v1::WatchEventsRequest>,
    ) -> Result<Response<Self::WatchEventsStream>, Status> {
        Err(Status::unimplemented("nothing happens here"))
    }
}

#[tokio::test]
async fn a_page_is_made_of_a_page_of_each_node() {
    let world = world("other").await;
    let asked = Asked::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let doors = [("other", listener.local_addr().unwrap())].into();
    let service = Server::builder().add_service(SaServiceServer::new(asked.clone()));
    tokio::spawn(service.serve_with_incoming(TcpListenerStream::new(listener)));
    let three =
        Three { placement: world.placement.clone(), doors, besides: Arc::default(), silent: Arc::default() };
    let wide = Wide::among(Arc::clone(&world.own) as _, Some(Arc::new(three)));
    let catalog = Arc::new(Catalog::in_memory().unwrap());
    let access = Access::open(Arc::clone(&catalog));
    let node = Node::wide(wide, catalog, access).await;
    let answer = node.sas().list_sas(page(7, "")).await.unwrap().into_inner();
    assert_eq!((answer.sas.len(), answer.nodes_away), (2, vec!["gone".to_owned()]));
    assert_eq!(*asked.0.lock().unwrap(), [page(7, "")]);
    node.stop().await;
    world.node.stop().await;
}

#[tokio::test]
async fn pages_cover_the_lists_of_all_nodes_once_and_in_order() {
    let world = world("other").await;
    *world.own.sas.lock().unwrap() = (0..5).map(|spi| child("here", spi * 2)).collect();
    *world.other.sas.lock().unwrap() =
        (0..9).rev().map(|spi| child("here", spi * 2 + 1)).chain([child("there", 1)]).collect();
    let stream = v1::StreamSasRequest { parent: ALL.to_owned() };
    let stream = world.node.sas().stream_sas(stream).await.unwrap().into_inner();
    let all: Vec<v1::Sa> = stream.map(Result::unwrap).collect().await;
    assert_eq!(all.len(), 5 + 10 + 2, "and one each that is up");
    for size in 1..18 {
        let (mut seen, mut token) = (Vec::new(), String::new());
        loop {
            let page = world.node.sas().list_sas(page(size, &token)).await.unwrap().into_inner();
            assert!(!page.sas.is_empty() && page.sas.len() <= usize::try_from(size).unwrap());
            seen.extend(page.sas);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        assert_eq!(seen, all, "{size}");
    }
    world.node.stop().await;
}

/// A client takes 4 MiB, and a Child SA may have a hundred selectors.
#[tokio::test]
async fn pages_of_large_ones_are_small_enough_for_every_client_and_cover_all_once_and_in_order() {
    const LARGE: usize = 300 << 10;
    let world = world("other").await;
    let child =
        |peer: &str, spi, octets: usize| v1::Sa { local_address: "x".repeat(octets), ..child(peer, spi) };
    // One node is full where the other is not.
    *world.own.sas.lock().unwrap() = (0..40).map(|spi| child("here", spi * 2, LARGE)).collect();
    *world.other.sas.lock().unwrap() = (0..60).map(|spi| child("here", spi * 2 + 1, 1 << 10)).collect();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let page = world.node.sas().list_sas(page(1_000, &token)).await.unwrap().into_inner();
        let octets = prost::Message::encoded_len(&page);
        assert!(!page.sas.is_empty() && octets < 3 << 20, "{octets}");
        let spis = page.sas.iter().filter_map(|sa| match &sa.kind {
            Some(v1::sa::Kind::Child(child)) => Some(child.inbound_spi),
            _ => None,
        });
        seen.extend(spis);
        token = page.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    let mut all: Vec<u32> = (0..40).map(|spi| spi * 2).chain((0..60).map(|spi| spi * 2 + 1)).collect();
    all.sort_unstable();
    assert_eq!(seen, all);
    world.node.stop().await;
}

#[tokio::test]
async fn what_is_in_a_slot_that_is_on_its_way_is_asked_for_again() {
    let world = world("other").await;
    world.own.owners.lock().unwrap().insert(1, "other".to_owned());
    let comes_in = |times| *world.other.comes_in.lock().unwrap() = Some(times);
    let (up, waits) = (v1::PeerState::Established, v1::PeerState::Waiting);

    comes_in(1);
    let sas = world.node.sas().list_sas(page(0, "")).await.unwrap().into_inner();
    assert_eq!((sas.sas.len(), sas.nodes_away), (2, vec!["gone".to_owned()]));
    comes_in(1);
    let stream = v1::StreamSasRequest { parent: ALL.to_owned() };
    let stream = world.node.sas().stream_sas(stream).await.unwrap();
    assert_eq!(stream.metadata().get("culvert-nodes-away").unwrap(), "gone");
    assert_eq!(stream.into_inner().collect::<Vec<_>>().await.len(), 2);
    let there = async || {
        let request = v1::ListPeersRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
        let answer = world.node.peers().list_peers(request).await.unwrap().into_inner();
        let there = answer.peers.iter().find(|peer| peer.name == name("there")).unwrap();
        (there.status.as_ref().unwrap().state(), answer.nodes_away)
    };
    comes_in(1);
    assert_eq!(there().await, (up, vec!["gone".to_owned()]));

    // It takes long: who would have it is named.
    comes_in(9);
    let sas = world.node.sas().list_sas(page(0, "")).await.unwrap().into_inner();
    assert_eq!((sas.sas.len(), sas.nodes_away), (1, vec!["gone".to_owned(), "other".to_owned()]));
    assert_eq!(there().await, (waits, vec!["gone".to_owned(), "other".to_owned()]));
    world.node.stop().await;
}

#[tokio::test]
async fn what_has_moved_meanwhile_is_listed_once() {
    let world = world("other").await;
    world.own.owners.lock().unwrap().insert(1, "other".to_owned());
    let moved = vec![child("there", 1 << 26 | 7)];
    *world.own.sas.lock().unwrap() = moved.clone();
    *world.other.sas.lock().unwrap() = moved;
    let sas = world.node.sas().list_sas(page(0, "")).await.unwrap().into_inner().sas;
    let moved: Vec<&str> = sas.iter().filter(|sa| sa.kind.is_some()).map(|sa| sa.node.as_str()).collect();
    assert_eq!((moved, sas.len()), (vec!["other"], 3));
    world.node.stop().await;
}
