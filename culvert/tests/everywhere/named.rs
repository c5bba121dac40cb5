//! Nodes by their names: those that have tunnels though etcd does not know of them any more are named as all others are.

use super::*;

#[tokio::test]
async fn a_node_whose_lease_has_run_out_is_shown_and_ordered_as_long_as_it_is_heard_or_has_slots() {
    let world = world("own").await;
    world.lapse("other");
    world.lapse("gone");
    world.besides.lock().unwrap().extend(["other", "gone"]);
    let slots = [(1, "own"), (2, "gone"), (3, "other")].map(|(slot, node)| (slot, node.to_owned()));
    *world.own.owners.lock().unwrap() = slots.into();
    world.own.placement.set(world.placement.latest()).unwrap();

    let mut nodes = world.node.nodes();
    let shown = nodes.list_nodes(v1::ListNodesRequest {}).await.unwrap().into_inner().nodes;
    let shown: Vec<_> = shown.iter().map(|node| (node.name.as_str(), node.away, &node.slots[..])).collect();
    assert_eq!(shown, [("gone", true, &[2][..]), ("other", false, &[3]), ("own", false, &[1])]);

    let order = |to: &str| v1::MoveSlotRequest { name: "slots/1".to_owned(), to: to.to_owned() };
    let refused = nodes.move_slot(order("other")).await.unwrap_err();
    assert!(refused.message().contains("1 is not for other"), "whoever has it decides: {refused}");
    let refused = nodes.move_slot(order("nobody")).await.unwrap_err();
    assert!(refused.message().contains("expected one of gone, other, own"), "{refused}");
    // Nor does a node that is ordered by another one know of itself.
    world.other.placement.set(world.placement.latest()).unwrap();
    let order = v1::MoveSlotRequest { name: "slots/3".to_owned(), to: "gone".to_owned() };
    world.other.owners.lock().unwrap().insert(3, "other".to_owned());
    let refused = nodes.move_slot(order).await.unwrap_err();
    assert!(refused.message().contains("3 is not for gone"), "{refused}");
    let drain = |name: &str| v1::DrainNodeRequest { name: name.to_owned() };
    let refused = nodes.drain_node(drain("gone")).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable, "{refused}");
    world.node.stop().await;
}
