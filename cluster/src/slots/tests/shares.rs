//! Who has how much.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_nothing_is_left_of_is_nobodys_and_so_is_an_empty_one_of_who_leaves() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let number = a.slot();
    a.set(number, 1, 1).await;
    a.slots.move_slot(number, "b").await.unwrap();
    let mut table = a.slots.table();
    table.until(|table| table.values().filter(|slot| slot.ready).count() == 3).await.unwrap();
    let begun = a.slots.primary();
    // Its last connection ends.
    b.memory.numbers.lock().unwrap().get_mut(&number).unwrap().clear();
    table.until(|table| !table.contains_key(&number)).await.unwrap();
    assert_eq!((b.memory.of(number), b.slots.mine()), (None, BTreeSet::from([b.slot()])));
    assert_eq!(
        a.slots.mine(),
        BTreeSet::from([begun]),
        "that which it begins in is empty as well, and stays"
    );

    assert_eq!(a.slots.drain().await, []);
    assert_eq!((a.slots.mine(), b.memory.of(begun)), (BTreeSet::new(), None), "nothing was to be moved");
    table.until(|table| !table.contains_key(&begun)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_begins_when_all_slots_are_somebodys_gets_one_of_them() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    a.set(a.slot(), 1, 1).await;
    for number in crate::members::SLOTS.filter(|number| *number != a.slot()) {
        earlier(&a, number, 1).await;
    }
    let b = Member::join(&servers, &net, "b").await;
    assert_eq!(b.slot(), 0);
    assert_ne!(b.members.own().number(), a.members.own().number());
    let mut table = b.slots.table();
    let of_b =
        |table: &Arc<Table>| table.values().find(|slot| slot.owner.node == "b").map(|slot| slot.number);
    let got = of_b(&table.until(|table| of_b(table).is_some()).await.unwrap()).unwrap();
    assert_eq!(b.arrived(got).await[&0], u64::from(got));
    // Others follow, as that one is not all that there is to do.
    until(|| b.slots.holds(b.slots.primary()) && a.slots.mine().len() + b.slots.mine().len() == 63).await;
    assert!(a.slots.holds(a.slots.primary()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_gathered_at_one_node_is_spread() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    for (number, connections) in [(10, 40), (11, 40), (12, 20), (13, 20)] {
        earlier(&a, number, connections).await;
    }
    let (b, c) = (Member::join(&servers, &net, "b").await, Member::join(&servers, &net, "c").await);
    let loads = || [&a, &b, &c].map(|node| node.memory.connections().values().sum::<usize>());
    let even = |loads: [usize; 3]| loads.iter().max().unwrap() - loads.iter().min().unwrap();
    until(|| loads().iter().sum::<usize>() == 120 && even(loads()) <= 20).await;
    assert!([&a, &b, &c].iter().all(|node| node.slots.arrivals().0 == 0), "none of it by a take-over");

    // What somebody has put somewhere stays there.
    let number = *b.slots.mine().iter().find(|number| **number >= 10).unwrap();
    b.slots.move_slot(number, "a").await.unwrap();
    assert!(share::movable(&a.slots.0, a.memory.connections()).iter().all(|(other, _)| *other != number));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_has_put_somewhere_is_the_last_to_be_spared() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    for (number, connections) in [(10, 1), (11, 5)] {
        earlier(&a, number, connections).await;
    }
    let inner = &a.slots.0;
    let order = |number: u8| inner.mine().get_mut(&number).unwrap().ordered = true;
    order(10);
    assert_eq!(share::spared(inner), Some(11), "though there is more in it");
    order(11);
    assert_eq!(share::spared(inner), Some(10), "a node without a slot needs one");
}
