//! What happens at any node is told by each.

use culvert_proto::v1::sa_service_client::SaServiceClient;
use tonic::Streaming;
use tonic_types::StatusExt as _;

use super::*;

#[tokio::test]
async fn events_of_all_nodes_are_one_stream() {
    let world = world("other").await;
    let request = v1::WatchEventsRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
    let mut events = world.node.sas().watch_events(request).await.unwrap().into_inner();
    let away = events.message().await.unwrap().unwrap();
    assert_eq!((away.r#type(), away.node.as_str()), (v1::EventType::NodeChanged, "gone"));
    let event = |sequence, peer: &str| v1::Event { sequence, peer: name(peer), ..v1::Event::default() };
    world.other.happens(event(7, "there"));
    let seen = events.message().await.unwrap().unwrap();
    assert_eq!((seen.sequence, seen.node.as_str()), (7, "other"));
    world.own.happens(event(3, "here"));
    let seen = events.message().await.unwrap().unwrap();
    assert_eq!((seen.sequence, seen.node.as_str()), (3, "own"));
    // The tenant's uplink is of none of its peers.
    let uplink = |sequence, tenant: &str| v1::Event {
        sequence,
        r#type: v1::EventType::UplinkChanged.into(),
        tenant: format!("tenants/{tenant}"),
        ..v1::Event::default()
    };
    world.other.happens(uplink(8, "globex"));
    world.other.happens(uplink(9, "acme"));
    let seen = events.message().await.unwrap().unwrap();
    assert_eq!((seen.sequence, seen.tenant.as_str()), (9, "tenants/acme"));
    world.node.stop().await;
}

/// Every node keeps some that are older than whoever has a name now, and gives them to whoever asks for events after an old one.
#[tokio::test]
async fn what_befell_whoever_had_a_name_before_is_told_to_nobody_who_watches_it() {
    let world = world("other").await;
    let uid = world.catalog.get_peer(&name("here").parse().unwrap()).unwrap().uid;
    let former = [0, 1].map(|tenant| Whose { tenant, peer: uid - 1 });
    let event = |sequence| v1::Event { sequence, peer: name("here"), ..v1::Event::default() };
    for node in [&world.own, &world.other] {
        for (sequence, whose) in (BEFORE + 1..).zip(former) {
            node.has_happened(Happened { event: event(sequence), whose });
        }
        node.happens_unseen(event(BEFORE + 3));
    }
    let told = async |parent: String| {
        let after_sequences = ["own", "other"].map(|node| (node.to_owned(), BEFORE)).into();
        let request = v1::WatchEventsRequest { parent, after_sequences, ..Default::default() };
        let mut events = world.node.sas().watch_events(request).await.unwrap().into_inner();
        let mut told = BTreeMap::<String, Vec<u64>>::new();
        while told.len() < 2 || told.values().any(|told| told.last() != Some(&(BEFORE + 3))) {
            let event = events.message().await.unwrap().unwrap();
            if event.r#type() != v1::EventType::NodeChanged {
                told.entry(event.node).or_default().push(event.sequence);
            }
        }
        told.into_values().collect::<Vec<_>>()
    };
    assert_eq!(told("tenants/-".to_owned()).await, [[6, 7, 8], [6, 7, 8]]);
    // Another peer that the tenant had itself.
    assert_eq!(told("tenants/acme".to_owned()).await, [[7, 8], [7, 8]]);
    assert_eq!(told(name("here")).await, [[8], [8]]);
    world.node.stop().await;
}

#[tokio::test]
async fn no_event_is_left_out_while_a_stream_is_begun_again_though_none_was_seen_before() {
    let world = world("other").await;
    let request = v1::WatchEventsRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
    let mut events = world.node.sas().watch_events(request).await.unwrap().into_inner();
    let event = |sequence| v1::Event { sequence, peer: name("there"), ..v1::Event::default() };
    let mut next = async || loop {
        let event = events.message().await.unwrap().unwrap();
        if event.r#type() != v1::EventType::NodeChanged {
            return event.sequence;
        }
    };
    world.other.happens_unseen(event(7));
    assert_eq!(next().await, 7);
    // Its lease runs out for a while, and it is not heard.
    let there = world.placement.latest();
    world.lapse("other");
    while world.other.watchers() > 0 {
        tokio::task::yield_now().await;
    }
    world.other.happens_unseen(event(8));
    world.placement.send_replace(there);
    assert_eq!(next().await, 8);
    world.node.stop().await;
}

/// More of them than there is room for between a watcher and the node where they happen.
#[tokio::test]
async fn watchers_that_do_not_read_hold_up_nobody_else() {
    const LAST: u64 = BEFORE + 1_000;
    let world = world("other").await;
    let event = |sequence| v1::Event {
        sequence,
        peer: name("there"),
        message: "x".repeat(16 << 10),
        ..v1::Event::default()
    };
    (BEFORE + 1..=LAST).for_each(|sequence| world.other.happens_unseen(event(sequence)));
    let watch = async |channel: Channel, after: u64| {
        let after_sequences = [("other".to_owned(), after)].into();
        let parent = "tenants/acme".to_owned();
        let request = v1::WatchEventsRequest { parent, after_sequences, ..Default::default() };
        SaServiceClient::new(channel).watch_events(request).await.unwrap().into_inner()
    };
    let mut stalled = Vec::new();
    for _ in 0..4 {
        // A connection each, which takes no more than it must.
        let endpoint = Endpoint::from_shared(world.node.address.clone()).unwrap();
        let endpoint = endpoint.initial_stream_window_size(65_535).initial_connection_window_size(65_535);
        stalled.push(watch(endpoint.connect().await.unwrap(), BEFORE).await);
    }
    let parent = "tenants/-".to_owned();
    let mut read = 0;
    loop {
        let request = v1::ListSasRequest { parent: parent.clone(), ..Default::default() };
        let sas = world.node.sas().list_sas(request).await.unwrap().into_inner();
        assert_eq!(sas.nodes_away, ["gone"], "the other one answers");
        let before = std::mem::replace(&mut read, world.other.read.load(Ordering::Relaxed));
        if before == read && stalled.len() * 64 < read {
            break;
        }
    }
    assert!(u64::try_from(read).unwrap() < 4 * (LAST - BEFORE), "nobody reads");
    let rekey = v1::RekeyPeerRequest { name: name("there"), ..Default::default() };
    world.node.peers().rekey_peer(rekey).await.unwrap();
    let next = async |events: &mut Streaming<v1::Event>| loop {
        let event = events.message().await.unwrap().unwrap();
        if event.r#type() != v1::EventType::NodeChanged {
            return event.sequence;
        }
    };
    let mut other = watch(world.node.channel(), LAST - 1).await;
    assert_eq!(next(&mut other).await, LAST);
    // Whoever goes on reading has missed nothing.
    for sequence in BEFORE + 1..=LAST {
        assert_eq!(next(&mut stalled[0]).await, sequence);
    }
    world.node.stop().await;
}

/// The number after which the events of each node begin, and the next event that is none of a node.
async fn begun(
    events: &mut Streaming<v1::Event>,
    nodes: &[&str],
) -> (BTreeMap<String, u64>, BTreeMap<String, String>) {
    let (mut positions, mut changes) = (BTreeMap::new(), BTreeMap::new());
    while !nodes.iter().all(|node| positions.contains_key(*node) || changes.contains_key(*node)) {
        let event = events.message().await.unwrap().unwrap();
        match event.r#type() {
            v1::EventType::NodePosition => drop(positions.insert(event.node, event.sequence)),
            v1::EventType::NodeChanged => drop(changes.insert(event.node, event.message)),
            _ => panic!("{event:?}"),
        }
    }
    (positions, changes)
}

#[tokio::test]
async fn whoever_begins_again_misses_nothing_of_a_node_of_which_none_was_seen() {
    let world = world("other").await;
    let request = |after_sequences| v1::WatchEventsRequest {
        parent: "tenants/acme".to_owned(),
        after_sequences,
        positions: true,
        ..Default::default()
    };
    let mut events = world.node.sas().watch_events(request([].into())).await.unwrap().into_inner();
    let (positions, changes) = begun(&mut events, &["own", "other", "gone"]).await;
    assert_eq!(positions, ["own", "other"].map(|node| (node.to_owned(), BEFORE)).into());
    assert!(changes["gone"].contains("is away"), "{changes:?}");
    // The stream is cut off, and something happens before it is begun again.
    drop(events);
    let event = |sequence, peer: &str| v1::Event { sequence, peer: name(peer), ..v1::Event::default() };
    world.own.happens_unseen(event(6, "here"));
    world.other.happens_unseen(event(7, "there"));
    let resumed = request(positions.into_iter().collect());
    let mut events = world.node.sas().watch_events(resumed).await.unwrap().into_inner();
    let mut seen = BTreeMap::new();
    while seen.len() < 2 {
        let event = events.message().await.unwrap().unwrap();
        let told = matches!(event.r#type(), v1::EventType::NodePosition | v1::EventType::NodeChanged);
        if !told {
            seen.insert(event.node, event.sequence);
        }
    }
    assert_eq!(seen, [("own".to_owned(), 6), ("other".to_owned(), 7)].into());
    // Who has not asked for positions is told none.
    let request = v1::WatchEventsRequest { parent: "tenants/acme".to_owned(), ..Default::default() };
    let mut events = world.node.sas().watch_events(request).await.unwrap().into_inner();
    assert!(begun(&mut events, &["gone"]).await.0.is_empty());
    world.node.stop().await;
}

#[tokio::test]
async fn the_node_that_is_asked_says_its_position_before_all_else_and_others_theirs_if_it_is_not_known() {
    let world = world("other").await;
    let watch = async |known: &str| {
        let request = v1::WatchEventsRequest {
            parent: "tenants/acme".to_owned(),
            after_sequences: [(known.to_owned(), BEFORE)].into(),
            positions: true,
            ..Default::default()
        };
        world.node.sas().watch_events(request).await.unwrap().into_inner()
    };
    let next = async |events: &mut Streaming<v1::Event>| loop {
        let event = events.message().await.unwrap().unwrap();
        if event.node != "gone" {
            return (event.node.clone(), event.r#type());
        }
    };
    let position = |node: &str| (node.to_owned(), v1::EventType::NodePosition);
    let new = |node: &str| (node.to_owned(), v1::EventType::NodeChanged);
    let mut events = watch("own").await;
    for told in [position("own"), position("other"), new("other")] {
        assert_eq!(next(&mut events).await, told);
    }
    let mut events = watch("other").await;
    for told in [position("own"), new("own")] {
        assert_eq!(next(&mut events).await, told);
    }
    world.other.happens(v1::Event { sequence: 6, peer: name("there"), ..v1::Event::default() });
    assert_eq!(next(&mut events).await, ("other".to_owned(), v1::EventType::Unspecified));
    world.node.stop().await;
}

/// More events than a node keeps may be of others: who begins again after its own last one would be told that it has lost some.
#[tokio::test]
async fn whoever_watches_a_quiet_peer_is_told_how_far_the_events_of_others_have_come() {
    const LAST: u64 = BEFORE + 1_000;
    let world = world("other").await;
    for sequence in BEFORE + 1..=LAST {
        let event = |peer: &str| v1::Event { sequence, peer: name(peer), ..v1::Event::default() };
        world.own.happens_unseen(event("here"));
        world.other.happens_unseen(event("there"));
    }
    let own = |sequence| v1::Event { sequence, peer: name("nowhere"), ..v1::Event::default() };
    world.own.happens_unseen(own(LAST + 1));
    world.other.happens_unseen(own(LAST + 1));
    let watch = async |positions: bool| {
        let request = v1::WatchEventsRequest {
            parent: name("nowhere"),
            after_sequences: ["own", "other"].map(|node| (node.to_owned(), BEFORE)).into(),
            positions,
            ..Default::default()
        };
        let mut events = world.node.sas().watch_events(request).await.unwrap().into_inner();
        let (mut told, mut seen) = (BTreeMap::<String, Vec<u64>>::new(), BTreeMap::new());
        while seen.len() < 2 {
            let event = events.message().await.unwrap().unwrap();
            match event.r#type() {
                v1::EventType::NodePosition => told.entry(event.node).or_default().push(event.sequence),
                v1::EventType::NodeChanged => assert_eq!(event.node, "gone"),
                _ => drop(seen.insert(event.node, event.sequence)),
            }
        }
        assert_eq!(seen, ["own", "other"].map(|node| (node.to_owned(), LAST + 1)).into());
        told
    };
    let told = watch(true).await;
    for node in ["own", "other"] {
        let told = &told[node];
        assert!(told.is_sorted() && told.last().is_some_and(|last| LAST - last < 300), "{node}: {told:?}");
        assert!(told.len() < 10, "a few of many: {told:?}");
    }
    assert!(watch(false).await.is_empty(), "who has not asked for them is told none");
    world.node.stop().await;
}

#[tokio::test]
async fn nodes_that_have_gone_or_are_new_to_a_watcher_are_named() {
    let world = world("other").await;
    let request = v1::WatchEventsRequest {
        parent: "tenants/acme".to_owned(),
        after_sequences: [("own".to_owned(), BEFORE), ("former".to_owned(), 9)].into(),
        ..Default::default()
    };
    let mut events = world.node.sas().watch_events(request).await.unwrap().into_inner();
    let (_, changes) = begun(&mut events, &["former", "other", "gone"]).await;
    assert!(changes["former"].contains("has gone"), "{changes:?}");
    assert!(changes["other"].contains("is watched from now on"), "{changes:?}");
    assert!(changes["gone"].contains("is away"), "{changes:?}");
    let there = world.placement.latest();
    world.lapse("other");
    assert!(begun(&mut events, &["other"]).await.1["other"].contains("has gone"));
    world.placement.send_replace(there);
    assert!(begun(&mut events, &["other"]).await.1["other"].contains("is there again"));
    world.node.stop().await;
}

#[tokio::test]
async fn a_node_that_has_lost_events_is_named() {
    let world = world("other").await;
    for node in ["own", "other"] {
        let request = v1::WatchEventsRequest {
            parent: "tenants/acme".to_owned(),
            after_sequences: [(node.to_owned(), 1)].into(),
            ..Default::default()
        };
        let lost = world.node.sas().watch_events(request).await.unwrap_err();
        assert_eq!(lost.code(), Code::OutOfRange);
        assert!(lost.message().starts_with(&format!("node {node}: ")), "{lost}");
        let info = lost.get_details_error_info().unwrap();
        assert_eq!((info.reason.as_str(), info.metadata["node"].as_str()), ("LAGGED", node));
    }
    world.node.stop().await;
}

/// Its catalog is some milliseconds behind, and it has had an event of the peer before it is asked again.
#[tokio::test]
async fn a_node_that_does_not_know_of_a_new_peer_yet_is_not_taken_for_one_that_is_away() {
    let world = world("other").await;
    let late = |catalog: &Catalog| {
        let request = create_peer(common::peer("acme", "late", "10.200.0.0/16"));
        catalog.create_peer(&request).unwrap();
    };
    late(&world.catalog);
    let request = v1::WatchEventsRequest { parent: name("late"), positions: true, ..Default::default() };
    let mut events = world.node.sas().watch_events(request).await.unwrap().into_inner();
    let (positions, changes) = begun(&mut events, &["own", "other", "gone"]).await;
    assert_eq!((positions["other"], changes.len()), (BEFORE, 1), "{changes:?}");
    world.other.happens_unseen(v1::Event { sequence: 7, peer: name("late"), ..v1::Event::default() });
    late(&world.catalog_of_other);
    let seen = events.message().await.unwrap().unwrap();
    assert_eq!((seen.sequence, seen.node.as_str()), (7, "other"));
    world.node.stop().await;
}

/// It does not follow what is written: by the name it knows the peer that had it before, whose tunnel is still up there.
#[tokio::test]
async fn a_node_that_knows_of_the_former_peer_alone_shows_nothing_of_it() {
    let world = world("other").await;
    let anew = |catalog: &Catalog| {
        catalog.delete_peer(&v1::DeletePeerRequest { name: name("there"), ..Default::default() }).unwrap();
        catalog.create_peer(&create_peer(common::peer("acme", "there", "10.200.0.0/16"))).unwrap();
    };
    anew(&world.catalog);
    let list = async |parent: String| {
        let request = v1::ListSasRequest { parent, ..Default::default() };
        world.node.sas().list_sas(request).await.unwrap().into_inner().sas.len()
    };
    let stream = async |parent: String| {
        let sas = world.node.sas().stream_sas(v1::StreamSasRequest { parent }).await.unwrap().into_inner();
        sas.collect::<Vec<_>>().await.len()
    };
    assert_eq!((list(name("there")).await, stream(name("there")).await), (0, 0));
    let request = v1::WatchEventsRequest { parent: name("there"), positions: true, ..Default::default() };
    let mut events = world.node.sas().watch_events(request).await.unwrap().into_inner();
    begun(&mut events, &["own", "other", "gone"]).await;
    world.other.happens_unseen(v1::Event { sequence: 7, peer: name("there"), ..v1::Event::default() });
    world.own.happens(v1::Event { sequence: 6, peer: name("there"), ..v1::Event::default() });
    let seen = events.message().await.unwrap().unwrap();
    assert_eq!((seen.sequence, seen.node.as_str()), (6, "own"));
    // From the first number on that it has not told of.
    anew(&world.catalog_of_other);
    let seen = events.message().await.unwrap().unwrap();
    assert_eq!((seen.sequence, seen.node.as_str()), (7, "other"));
    assert_eq!((list(name("there")).await, stream(name("there")).await), (1, 1));
    world.node.stop().await;
}
