//! What a node has that was drained, or ends.

use super::*;

#[tokio::test(start_paused = true)]
async fn who_ends_by_a_fault_leaves_its_slots_to_those_who_can_go_on_with_them() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let a = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "a").await;
    let b = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "b").await;
    let number = a.ready().await.number;
    assert_eq!(a.set(number, 1, 11).await, Kept::Known);
    // Nobody keeps this one yet.
    earlier(&a, 9, 3).await;
    assert_eq!(a.slots.abandon().await, BTreeSet::from([number]));
    assert_eq!((a.memory.of(number), a.slots.mine()), (None, BTreeSet::from([9])));
    assert_eq!(a.set(number, 1, 12).await, Kept::Lost, "nobody is told of what ends with it");
    a.slots.leave().await;
    a.members.leave().await;
    net.heard.lock().unwrap().remove("a");
    net.tell();
    assert_eq!(b.arrived(number).await, BTreeMap::from([(1, 11)]));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_to_others_where_etcd_has_lost_whose_it_is() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let a = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "a").await;
    let _b = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "b").await;
    a.ready().await;
    etcd.set_back(1);
    a.members.lost().until(Option::is_some).await.unwrap();
    assert_eq!(a.slots.abandon().await, BTreeSet::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_only_slots_of_others_begins_in_none_of_them() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    a.set(a.slot(), 1, 1).await;
    a.ready().await;
    assert!(a.slots.drain().await.is_empty());
    // As one does that comes by a takeover: it was its standby, and nobody else knows what is in it.
    earlier(&a, 9, 3).await;
    assert!(a.slots.holds(9) && !a.slots.begins());
    assert_eq!(a.slots.instead(7).as_deref(), Some("b"));
    assert!(b.slots.begins() && b.slots.instead(7).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_which_something_has_begun_is_not_given_up() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    assert!(share::is_empty(&a.slots.0, a.slot()));
    // Meanwhile a slot changes hands.
    let turn = a.slots.0.turn.lock().await;
    let mut giving = std::pin::pin!(share::give_up(&a.slots.0, a.slot()));
    assert!(begins(giving.as_mut()).await);
    a.set(a.slot(), 1, 1).await;
    drop(turn);
    assert!(!giving.await);
    assert_eq!(a.memory.of(a.slot()), Some(BTreeMap::from([(1, 1)])));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_gives_all_of_it_away_first() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    let (b, c) = (Member::join(&servers, &net, "b").await, Member::join(&servers, &net, "c").await);
    let (of_a, of_b) = (a.slot(), b.slot());
    a.set(of_a, 1, 11).await;
    b.set(of_b, 2, 22).await;
    assert!(a.slots.drain().await.is_empty());
    a.slots.leave().await;
    a.members.leave().await;
    net.heard.lock().unwrap().remove("a");
    net.tell();
    assert_eq!(b.slots.drain().await, [], "those that came from the first one as well");
    assert_eq!(c.memory.of(of_a).unwrap()[&1], 11);
    assert_eq!(c.memory.of(of_b).unwrap()[&2], 22);
    assert!(c.memory.came.lock().unwrap().iter().all(|(_, handover)| *handover == Handover::Exact));
    let stay = c.slots.drain().await;
    assert!(
        !stay.is_empty()
            && stay.iter().all(|(_, why)| why.contains("no other node") || why.contains("leaves")),
        "{stay:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn who_ends_while_etcd_is_away_ends_in_time_however_many_slots_it_has() {
    // Whether that is known here already or not.
    for known in [true, false] {
        let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
        let a = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "a").await;
        for number in 10..30 {
            earlier(&a, number, 3).await;
            a.wait(number, |_| true).await;
        }
        etcd.set_away(true);
        if known {
            a.members.etcd_is_away().until(|away| *away).await.unwrap();
        }
        let begun = Instant::now();
        a.slots.leave().await;
        a.members.leave().await;
        assert!(begun.elapsed() <= 2 * leaving::LAST_TURN, "{:?}", begun.elapsed());
        assert_eq!(a.slots.mine(), BTreeSet::new());
    }
}

/// As by an order.
async fn drained(member: &Member) -> Vec<(u8, String)> {
    member.members.drained().set();
    member.slots.drain().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stayed_at_a_node_that_was_drained_goes_once_somebody_is_there() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let number = a.slot();
    a.set(number, 1, 11).await;
    // It hears nobody.
    net.cut("b", "a");
    let stay = drained(&a).await;
    assert!(stay.iter().any(|(slot, why)| *slot == number && why.contains("no other node")), "{stay:?}");
    net.mend();
    assert_eq!(b.arrived(number).await, BTreeMap::from([(1, 11)]));
    until(|| a.slots.mine().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_was_drained_makes_room_for_another_and_does_not_keep_what_it_takes_over() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let slot = a.ready().await;
    assert_eq!(a.set(slot.number, 1, 11).await, Kept::Known);
    drained(&b).await;
    until(|| a.slots.0.is_drained(slot.standby.as_ref().unwrap())).await;
    assert!(a.slots.is_protected(slot.number), "there is no better one");
    let c = Member::join(&servers, &net, "c").await;
    let is_of = |node: &'static str| {
        move |slot: &Slot| slot.ready && slot.standby.as_ref().is_some_and(|standby| standby.node == node)
    };
    a.wait(slot.number, is_of("c")).await;

    // One that takes over what it was the only standby of.
    drained(&c).await;
    earlier(&c, 30, 1).await;
    assert!(a.arrived(30).await.contains_key(&0));
}

#[tokio::test(start_paused = true)]
async fn who_leaves_asks_as_many_as_there_are() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let join = async |name| Member::join_at(etcd.client(Arc::new(AtOnce)), &net, name).await;
    let a = join("a").await;
    let mut others = Vec::new();
    for name in ["b", "c", "d", "e", "f"] {
        others.push(join(name).await);
    }
    let number = a.slot();
    a.set(number, 1, 11).await;
    // All leave but the one that is asked last.
    others.sort_by_key(|other| Placement::weight(&other.slots.0.own.node, number.into()));
    for other in &others[1..] {
        assert_eq!(other.slots.drain().await, []);
    }
    assert!(others.len() - 1 > DRAIN_TRIES);
    assert_eq!(a.slots.drain().await, []);
    assert_eq!(others[0].memory.of(number).unwrap()[&1], 11);
}
