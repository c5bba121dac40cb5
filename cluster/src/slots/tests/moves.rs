//! Slots that go from one node to another while both are there.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_moves_as_it_is_and_back() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let number = a.slot();
    for id in 0..50 {
        a.set(number, id, id).await;
    }
    let all: BTreeMap<u64, u64> = (0..50).map(|id| (id, id)).collect();
    for _ in 0..3 {
        a.slots.move_slot(number, "b").await.unwrap();
        assert_eq!((a.memory.of(number), b.memory.of(number)), (None, Some(all.clone())));
        assert_eq!(a.set(number, 0, 9).await, Kept::Lost);
        assert!(!a.slots.settled().contains(&number) && b.slots.settled().contains(&number));
        b.slots.move_slot(number, "a").await.unwrap();
        assert_eq!((a.memory.of(number), b.memory.of(number)), (Some(all.clone()), None));
    }
    assert!(a.slots.move_slot(number, "a").await.unwrap_err().contains("already"));
    assert!(a.slots.move_slot(number, "zz").await.unwrap_err().contains("not heard"));
    assert!(a.slots.move_slot(63, "b").await.unwrap_err().contains("not this node's"));

    // The next one does not answer: it stays, and nothing is lost.
    net.cut("b", "a");
    net.heard.lock().unwrap()["a"].send_replace(Arc::new(BTreeSet::from(["b".to_owned()])));
    assert!(a.slots.move_slot(number, "b").await.is_err());
    assert_eq!((a.memory.of(number), b.memory.of(number)), (Some(all.clone()), None));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_comes_to_its_end_though_nobody_waits_for_it() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let number = a.slot();
    a.set(number, 1, 11).await;
    {
        let mut moving = std::pin::pin!(a.slots.move_slot(number, "b"));
        assert!(begins(moving.as_mut()).await);
    }
    assert_eq!(b.arrived(number).await, BTreeMap::from([(1, 11)]));
    {
        let mut draining = std::pin::pin!(b.slots.drain());
        assert!(begins(draining.as_mut()).await);
    }
    assert_eq!(a.arrived(number).await, BTreeMap::from([(1, 11)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_move_that_another_was_faster_than_is_told_with_whose_the_slot_is() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, _b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let c = Member::join(&servers, &net, "c").await;
    let number = a.slot();
    a.set(number, 1, 11).await;
    *net.thief.lock().unwrap() = Some(c.slots.clone());
    let refused = a.slots.move_slot(number, "b").await.unwrap_err();
    assert!(refused.contains(&format!("slot {number} is at c now")), "{refused}");
    assert!(!a.slots.holds(number) && a.memory.of(number).is_none());
    assert!(a.slots.0.going().is_empty());
    // Of what has gone another way nothing stays that could be told of.
    let begun = a.wait_to_begin().await;
    a.set(begun, 1, 11).await;
    *net.thief.lock().unwrap() = Some(c.slots.clone());
    assert_eq!(a.slots.drain().await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_other_node_is_asked_again() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let slot = a.slot();
    a.set(slot, 1, 11).await;
    net.in_vain.store(DRAIN_TRIES - 1, Ordering::Relaxed);
    assert_eq!(a.slots.drain().await, []);
    assert_eq!(b.memory.of(slot).unwrap()[&1], 11);
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_was_to_come_and_does_not_is_waited_for_no_longer() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let a = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "a").await;
    let b = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "b").await;
    let slot = a.ready().await;
    let rows = |last| {
        Rows { slot: slot.number.into(), term: slot.term, rows: Vec::new(), last, ..Rows::default() }
            .encode_to_vec()
    };
    let no_more = async || {
        let done =
            b.memory.done.lock().unwrap().extract_if(.., |done| *done == ("expect", slot.number)).count();
        assert_eq!(done, 1, "it was expected");
        loop {
            let changed = b.memory.changed.notified();
            if b.memory.expected.lock().unwrap().is_empty() {
                return;
            }
            changed.await;
        }
    };
    // Its owner says that it comes, and is never heard of again.
    b.slots.answer("a", Ask::Expect, &rows(false)).await.unwrap();
    no_more().await;
    let refused = b.slots.answer("a", Ask::Hand, &rows(true)).await.unwrap_err();
    assert!(refused.contains("not expected"), "{refused}");
    // It comes, and has changed hands meanwhile.
    b.slots.answer("a", Ask::Expect, &rows(false)).await.unwrap();
    let now = a.slots.0.slot(slot.number).unwrap();
    assert!(matches!(a.slots.0.change(&now.with_standby(None)).await, Ok(Changed::Done(_))));
    a.wait(slot.number, |now| now.term > slot.term).await;
    assert!(b.slots.answer("a", Ask::Hand, &rows(true)).await.is_err());
    assert!(b.memory.expected.lock().unwrap().is_empty());
}

#[tokio::test(start_paused = true)]
async fn nothing_is_frozen_for_a_node_that_etcd_does_not_answer() {
    let (etcd, net, way) = (memory::Memory::begin(), Arc::new(Net::default()), Arc::new(Way::default()));
    let a = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "a").await;
    let b = Member::join_at(etcd.client(way.clone()), &net, "b").await;
    let number = a.ready().await.number;
    assert_eq!(a.set(number, 1, 11).await, Kept::Known);
    way.cut.store(true, Ordering::Relaxed);
    let moved = tokio::time::timeout(Duration::from_secs(3), a.slots.move_slot(number, "b")).await;
    assert!(moved.unwrap().unwrap_err().to_string().contains("etcd"));
    assert!(a.slots.holds(number) && !a.memory.has("give", number));
    assert_eq!(a.memory.of(number), Some(BTreeMap::from([(1, 11)])));
    way.cut.store(false, Ordering::Relaxed);
    a.slots.move_slot(number, "b").await.unwrap();
    assert_eq!(b.arrived(number).await, BTreeMap::from([(1, 11)]));
}
