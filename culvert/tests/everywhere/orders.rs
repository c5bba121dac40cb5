//! Orders to tunnels of whichever node.

use super::*;

#[tokio::test]
async fn orders_go_to_who_has_the_connection_or_begins() {
    let world = world("other").await;
    let mut peers = world.node.peers();
    let rekey = |peer: &str| v1::RekeyPeerRequest { name: name(peer), ..Default::default() };
    let status = peers.rekey_peer(rekey("there")).await.unwrap().into_inner().status.unwrap();
    assert_eq!((status.node.as_str(), world.other.orders()), ("other", vec!["Children".to_owned()]));
    assert_eq!(status.home_node, "other", "as the node has it that is asked");
    let status = peers.rekey_peer(rekey("here")).await.unwrap().into_inner().status.unwrap();
    assert_eq!(status.home_node, "other");
    assert_eq!((status.node.as_str(), world.own.orders()), ("own", vec!["Children".to_owned()]));
    assert!(world.other.orders().is_empty());

    // What another node answers comes as it is, with its reason.
    let refused = peers.initiate_peer(v1::InitiatePeerRequest { name: name("nowhere") }).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("nowhere: the peer does not answer"), "{refused}");
    assert_eq!(world.other.orders(), ["initiate"]);
    // Whoever would keep it down is told not to.
    world.own.until_told("let be").await;
    peers.initiate_peer(v1::InitiatePeerRequest { name: name("here") }).await.unwrap_err();
    world.other.until_told("let be").await;
    assert_eq!(world.own.orders(), ["initiate"]);

    // It knows who gave the order.
    world.lapse("gone");
    peers.terminate_peer(v1::TerminatePeerRequest { name: name("there") }).await.unwrap();
    assert_eq!(world.other.orders().last().unwrap(), "held: a command of anonymous at another node");
    world.node.stop().await;
}

/// Which is told before the other takes it down; and if that one does not, it is told of that.
#[tokio::test]
async fn who_would_begin_with_a_peer_that_is_taken_down_keeps_it_down() {
    let world = world("other").await;
    let mut peers = world.node.peers();
    let terminate = |peer: &str| v1::TerminatePeerRequest { name: name(peer) };
    // As what they were told: without who gave the order.
    let told = |tunnels: &Tunnels| -> Vec<String> {
        tunnels.orders().iter().map(|order| order.split(" of ").next().unwrap().to_owned()).collect()
    };
    world.lives("own");
    peers.terminate_peer(terminate("there")).await.unwrap();
    assert_eq!(
        (told(&world.own), told(&world.other)),
        (vec!["a command".into()], vec!["held: a command".into()])
    );
    // Nobody has it: who begins keeps it down.
    world.lives("other");
    peers.terminate_peer(terminate("nowhere")).await.unwrap();
    assert_eq!((told(&world.own), told(&world.other)), (vec![], vec!["a command".into()]));
    // The other does not take it down.
    world.lives("own");
    world.other.refuse(RuntimeError::Refused("not today".to_owned()));
    let refused = peers.terminate_peer(terminate("there")).await.unwrap_err();
    assert!(refused.message().contains("not today"), "{refused}");
    assert_eq!(told(&world.own), ["a command", "let be"]);
    // It has moved on, and is asked for again.
    world.other.refuse(RuntimeError::Moved);
    peers.terminate_peer(terminate("there")).await.unwrap();
    assert_eq!(told(&world.own), ["a command", "a command"]);
    assert_eq!(told(&world.other), ["held: a command"]);
    // What nodes mean by a request is not for others to say.
    let mut request = tonic::Request::new(v1::ExplainPeerRequest { name: name("here") });
    request.metadata_mut().insert("culvert-meant", "let-be".parse().unwrap());
    peers.explain_peer(request).await.unwrap();
    assert_eq!((told(&world.own), told(&world.other)), (vec![], vec![]));
    // Who begins is away, and may do so when it is back.
    world.lives("gone");
    let half = peers.terminate_peer(terminate("here")).await.unwrap_err();
    assert_eq!((half.code(), told(&world.own)), (Code::Unavailable, vec!["held: a command".into()]));
    let told = half.message();
    assert!(
        told.contains("was taken down, but node gone, which begins with the peer")
            && told.contains("ask again"),
        "{told}"
    );
    world.node.stop().await;
}

#[tokio::test]
async fn an_order_to_a_tunnel_of_a_node_that_is_away_names_it() {
    let world = world("gone").await;
    let request = v1::InitiatePeerRequest { name: name("nowhere") };
    let refused = world.node.peers().initiate_peer(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("node gone"), "{refused}");
    assert!(world.own.orders().is_empty() && world.other.orders().is_empty());
    world.node.stop().await;
}

/// Who drains the nodes one by one must not have the last one drained because those before it are not seen to have been.
#[tokio::test]
async fn a_drain_is_done_once_the_node_is_shown_as_drained() {
    for name in ["own", "other"] {
        let world = world("other").await;
        world.tells_who_is_there();
        let tunnels = if name == "own" { &world.own } else { &world.other };
        let (mut nodes, mut sas) = (world.node.nodes(), world.node.sas());
        let drain = nodes.drain_node(v1::DrainNodeRequest { name: name.to_owned() });
        let mut drain = std::pin::pin!(drain);
        let meanwhile = async {
            tunnels.until_told("drain").await;
            // By the same connection as the answer, which would be here by then.
            for _ in 0..16 {
                let request = v1::ListSasRequest { parent: "tenants/-".to_owned(), ..Default::default() };
                sas.list_sas(request).await.unwrap();
            }
        };
        tokio::select! {
            answer = &mut drain => panic!("{name}: {answer:?}"),
            () = meanwhile => {}
        }
        world.placement.send_modify(|placement| {
            for node in &mut Arc::make_mut(placement).nodes {
                node.drained = node.name == name;
            }
        });
        drain.await.unwrap();
        world.node.stop().await;
    }
}

#[tokio::test]
async fn orders_to_a_node_that_is_lost_meanwhile_are_not_waited_for() {
    let world = world("other").await;
    world.lives("own");
    world.tells_who_is_there();
    let begun = async |order: &str| {
        world.other.until_told(order).await;
        world.other.orders();
        *world.other.gate.lock().unwrap() = Some(Arc::default());
    };
    *world.other.gate.lock().unwrap() = Some(Arc::default());
    let (mut peers, mut nodes) = (world.node.peers(), world.node.nodes());
    let request = v1::RekeyPeerRequest { name: name("there"), ..Default::default() };
    let rekey = tokio::spawn(async move { peers.rekey_peer(request).await.map(drop) });
    begun("Children").await;
    let mut peers = world.node.peers();
    let request = v1::TerminatePeerRequest { name: name("there") };
    let terminate = tokio::spawn(async move { peers.terminate_peer(request).await.map(drop) });
    begun("held: a command of anonymous at another node").await;
    let request = v1::DrainNodeRequest { name: "other".to_owned() };
    let drain = tokio::spawn(async move { nodes.drain_node(request).await.map(drop) });
    begun("drain").await;
    world.silent.lock().unwrap().insert("other");
    for order in [rekey, terminate, drain] {
        let limit = std::time::Duration::from_secs(20);
        let status = tokio::time::timeout(limit, order).await.unwrap().unwrap().unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status}");
        let told = "node other: it is not heard any more; whether it was done is not known";
        assert!(status.message().ends_with(told), "{status}");
    }
    world.node.stop().await;
}

/// Nobody has it, and some slot is with nobody: it may be in that.
#[tokio::test]
async fn a_tunnel_that_is_on_its_way_is_waited_for() {
    let world = world("own").await;
    world.placement.send_modify(|placement| Arc::make_mut(placement).held.clear());
    world.lives("own");
    world.own.owners.lock().unwrap().insert(1, "other".to_owned());
    let mut peers = world.node.peers();
    let mut terminate = async |times| {
        *world.other.comes_in.lock().unwrap() = Some(times);
        peers.terminate_peer(v1::TerminatePeerRequest { name: name("nowhere") }).await
    };
    terminate(1).await.unwrap();
    assert_eq!(
        (world.own.orders().len(), *world.other.comes_in.lock().unwrap()),
        (1, Some(0)),
        "it has come"
    );
    let refused = terminate(1_000).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert!(refused.message().contains("has moved to another node meanwhile; ask again"), "{refused}");
    assert!(world.own.orders().is_empty());
    world.node.stop().await;
}

/// Between the node that is to leave it down and the one that has it.
#[tokio::test]
async fn an_order_of_several_steps_is_carried_out_though_its_caller_goes_away() {
    let world = world("other").await;
    world.lives("own");
    let gate = Arc::new(Notify::new());
    *world.own.gate.lock().unwrap() = Some(Arc::clone(&gate));
    let mut peers = world.node.peers();
    let order = async move { peers.terminate_peer(v1::TerminatePeerRequest { name: name("there") }).await };
    let order = tokio::spawn(order);
    let begun = async {
        while world.own.orders().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), begun).await.unwrap();
    order.abort();
    assert!(order.await.unwrap_err().is_cancelled());
    // It is noted as one that nobody waited for: the node knows that its caller has gone.
    let noted = async {
        while !world
            .catalog
            .page_audit("", 1, "")
            .unwrap()
            .items
            .iter()
            .any(|entry| entry.result == "CANCELLED")
        {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), noted).await.unwrap();
    gate.notify_one();
    world.other.until_told("held: a command of anonymous at another node").await;
    world.node.stop().await;
}
