//! Slots whose owner is not heard, or does not hear.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_knows_all_that_anybody_was_told_and_takes_over() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    assert_eq!(a.set(a.slot(), 1, 10).await, Kept::Free, "nobody is there to be told");
    let b = Member::join(&servers, &net, "b").await;
    let slot = a.ready().await;
    assert_eq!(slot.standby.as_ref().unwrap().node, "b");
    for number in 0..100 {
        assert_eq!(a.set(slot.number, 2, number).await, Kept::Known);
    }
    assert_eq!(b.slots.kept(slot.number).0, 2);

    // Nobody hears it any more, though it is there and hears everybody, and etcd as well.
    net.cut("a", "b");
    assert_eq!(b.arrived(slot.number).await, BTreeMap::from([(1, 10), (2, 99)]));
    assert_eq!(b.slots.arrivals(), (1, 0));
    assert_eq!(*b.memory.came.lock().unwrap(), [(slot.number, Handover::Sudden)]);
    // It notices, does nothing more for the slot, and begins with another.
    a.lost(slot.number).await;
    assert_eq!(a.set(slot.number, 2, 100).await, Kept::Lost);
    let mut table = a.slots.table();
    table.until(|table| table.values().any(|slot| slot.owner.node == "a")).await.unwrap();
    // When it is heard again, it is a standby like any other.
    net.mend();
    b.wait(slot.number, |slot| slot.ready && slot.standby.as_ref().is_some_and(|s| s.node == "a")).await;
    assert_eq!(a.slots.kept(slot.number).0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_that_was_paused_tells_nobody_of_anything() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let slot = a.ready().await;
    assert_eq!(a.set(slot.number, 1, 1).await, Kept::Known);
    // All that it does is stopped: it does not see etcd change.
    drop(a._tasks);
    net.cut("a", "b");
    b.arrived(slot.number).await;
    net.mend();
    let paused = Member { _tasks: JoinSet::new(), ..a };
    assert_eq!(paused.set(slot.number, 1, 2).await, Kept::Lost);
    assert_eq!(b.memory.of(slot.number).unwrap(), BTreeMap::from([(1, 1)]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_that_does_not_answer_is_struck_out_first() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let slot = a.ready().await;
    net.part("a", &["b"]);
    // Either it gets rid of its standby, or that takes over: what it says, nobody else says.
    match a.set(slot.number, 1, 1).await {
        Kept::Free => {
            a.wait(slot.number, |now| now.owner.node == "a" && !now.ready).await;
            assert!(b.memory.of(slot.number).is_none());
        }
        kept => {
            assert_eq!(kept, Kept::Lost);
            assert!(b.arrived(slot.number).await.is_empty());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_hears_the_owner_and_does_not_answer_is_struck_out() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let a = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "a").await;
    let b = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "b").await;
    let number = a.ready().await.number;
    net.cut("b", "a");
    assert_eq!(a.set(number, 1, 1).await, Kept::Free);
    a.wait(number, |now| now.owner.node == "a" && now.standby.is_none()).await;
    assert!(b.memory.of(number).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_anybodys_word_nothing_is_said() {
    let Some(mut servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let (a, _b) = (Member::join(&servers, &net, "a").await, Member::join(&servers, &net, "b").await);
    let slot = a.ready().await;
    servers.kill(0);
    net.part("a", &["b"]);
    let waiting = a.set(slot.number, 5, 5);
    tokio::pin!(waiting);
    tokio::select! {
        kept = &mut waiting => panic!("{kept:?} without anybody's word"),
        // No more than what a standby is waited for, twice.
        () = tokio::time::sleep(2 * replica::PATIENCE) => {}
    }
    servers.revive(0);
    waiting.await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_is_not_ready_once_others_have_what_it_had() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    let (b, _c) = (Member::join(&servers, &net, "b").await, Member::join(&servers, &net, "c").await);
    a.ready().await;
    b.ready().await;
    let (mut of_a, of_b) = (a.slots.astray(), b.slots.astray());
    net.part("a", &["b", "c"]);
    let why = of_a.until(Option::is_some).await.unwrap();
    assert!(why.unwrap().contains("have taken"));
    assert_eq!(of_b.latest(), None);
    net.mend();
    of_a.until(Option::is_none).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_notices_later_than_others_that_it_is_cut_off_is_not_ready_either() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    let (b, _c) = (Member::join(&servers, &net, "b").await, Member::join(&servers, &net, "c").await);
    let slot = a.ready().await.number;
    b.ready().await;
    net.cut_all(&[("a", "b"), ("a", "c")]);
    a.lost(slot).await;
    net.cut_all(&[("b", "a"), ("c", "a")]);
    let why = a.slots.astray().until(Option::is_some).await.unwrap();
    assert!(why.unwrap().contains("have taken"));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_hears_anybody_all_stay_ready_until_etcd_is_away_as_well() {
    let Some(mut servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    let (b, c) = (Member::join(&servers, &net, "b").await, Member::join(&servers, &net, "c").await);
    for node in [&a, &b, &c] {
        node.ready().await;
    }
    net.heard.lock().unwrap().values().for_each(|hears| drop(hears.send_replace(Arc::default())));
    // Their standbys are struck out, and nobody takes anything.
    for node in [&a, &b, &c] {
        node.wait(node.slot(), |slot| slot.standby.is_none()).await;
        assert_eq!((node.slots.mine().len(), node.slots.astray().latest()), (1, None));
    }
    servers.kill(0);
    for node in [&a, &b, &c] {
        let mut astray = node.slots.astray();
        let why = astray.until(Option::is_some).await.unwrap();
        assert!(why.unwrap().contains("nor etcd"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_takes_no_word_of_etcd_waits_for_none() {
    let Some(mut servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    let b = Member::join(&servers, &net, "b").await;
    let (own, orphan) = (a.ready().await, b.ready().await);
    assert_eq!(orphan.standby.as_ref(), Some(&own.owner));
    let c = Member::join(&servers, &net, "c").await;
    let third = c.ready().await.owner;
    let _d = Member::join(&servers, &net, "d").await;
    servers.kill(0);
    // It wants what was b's, and asks etcd until it is told.
    net.cut("b", "a");
    let inner = &a.slots.0;
    until(|| !inner.hears("b") && inner.turn.try_lock().is_err()).await;
    // Another has what was its own meanwhile.
    inner.heard_of(Slot { revision: own.revision + 1_000, ..own.of(third) });
    a.lost(own.number).await;
    // And then nobody is heard.
    net.cut_all(&[("c", "a"), ("d", "a")]);
    let why = a.slots.astray().until(Option::is_some).await.unwrap();
    assert!(why.unwrap().contains("have taken"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_goes_on_with_is_nobodys() {
    let Some(servers) = Servers::start(1) else { return };
    let net = Arc::new(Net::default());
    let a = Member::join(&servers, &net, "a").await;
    let number = a.slot();
    // Gone before anybody knew anything of it.
    drop(a);
    net.nodes.lock().unwrap().clear();
    net.heard.lock().unwrap().clear();
    let b = Member::join(&servers, &net, "b").await;
    assert_ne!(b.slot(), number);
    b.slots.table().until(|table| !table.contains_key(&number)).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_no_standby_keeps_is_offered_less_and_less_often() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let a = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "a").await;
    a.memory.bulk.store(2 << 20, Ordering::Relaxed);
    let _b = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "b").await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    let tries = a.memory.done.lock().unwrap().iter().filter(|done| **done == ("resync", a.slot())).count();
    // After some 10, 20, 40, 80 and 160 seconds.
    assert!((5..=7).contains(&tries), "{tries}");
    // Once it has become smaller it has one.
    a.memory.bulk.store(0, Ordering::Relaxed);
    a.ready().await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_whose_standby_keeps_nothing_of_it_is_nobodys_once_its_owner_is_gone() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let a = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "a").await;
    let b = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "b").await;
    let number = a.ready().await.number;
    b.slots.0.vault().forget(|_, _| false);
    net.nodes.lock().unwrap().remove("a");
    net.heard.lock().unwrap().remove("a");
    net.tell();
    drop(a);
    let mut table = b.slots.table();
    let free = table.until(|table| !table.contains_key(&number));
    tokio::time::timeout(Duration::from_secs(60), free).await.unwrap().unwrap();
    assert_eq!(b.slots.arrivals(), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_standby_whose_watch_of_etcd_tells_nothing_takes_over() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let a = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "a").await;
    assert_eq!(a.set(a.slot(), 1, 10).await, Kept::Free);
    let b = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "b").await;
    // Before anybody is anybody's standby, and it stays so for as long as a watch that is overdue is waited for.
    etcd.mute();
    let arrives = async {
        let number = a.ready().await.number;
        b.wait(number, |slot| slot.ready).await;
        net.part("a", &["b"]);
        b.arrived(number).await
    };
    let arrived = tokio::time::timeout(Duration::from_secs(1), arrives).await;
    assert_eq!(arrived.expect("without its watch"), BTreeMap::from([(1, 10)]));
    // And the watches are begun again.
    let c = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "c").await;
    let there = |placement: &Arc<Placement>| placement.nodes.len() == 3;
    let mut placement = b.members.placement();
    let seen = tokio::time::timeout(Duration::from_secs(10), placement.until(there)).await;
    seen.expect("b sees c").unwrap();
    drop(c);
}

#[tokio::test]
async fn that_nobody_tells_of_etcd_any_more_is_no_news() {
    let (tell, mut told) = watch::channel(false);
    tell.send_replace(true);
    steward::news(&mut told).await;
    drop(tell);
    assert!(begins(std::pin::pin!(steward::news(&mut told))).await);
}

#[tokio::test(start_paused = true)]
async fn a_standby_that_etcd_does_not_know_of_any_more_makes_room_for_another() {
    let (etcd, net, way) = (memory::Memory::begin(), Arc::new(Net::default()), Arc::new(Way::default()));
    let a = Member::join_at(etcd.client(way.clone()), &net, "a").await;
    let b = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "b").await;
    let number = b.ready().await.number;
    assert_eq!(b.set(number, 1, 11).await, Kept::Known);
    let c = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "c").await;
    way.cut.store(true, Ordering::Relaxed);
    let of_c = |slot: &Slot| slot.ready && slot.standby.as_ref().is_some_and(|standby| standby.node == "c");
    tokio::time::timeout(Duration::from_secs(15), b.wait(number, of_c)).await.unwrap();
    assert!(b.slots.0.hears("a"));
    net.kill(b);
    let arrived = tokio::time::timeout(Duration::from_secs(1), c.arrived(number)).await.unwrap();
    assert_eq!(arrived, BTreeMap::from([(1, 11)]));
    drop(a);
}

#[tokio::test(start_paused = true)]
async fn a_second_node_that_goes_is_not_taken_for_a_cut_while_etcd_still_knows_of_the_first() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let join = async |name| Member::join_at(etcd.client(Arc::new(AtOnce)), &net, name).await;
    let (a, b, c) = (join("a").await, join("b").await, join("c").await);
    let number = b.slot();
    let of_c = |slot: &Slot| slot.ready && slot.standby.as_ref().is_some_and(|standby| standby.node == "c");
    // It has heard both by then.
    c.ready().await;
    net.kill(a);
    b.wait(number, of_c).await;
    assert_eq!(b.set(number, 1, 11).await, Kept::Known);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(c.members.placement().latest().nodes.len(), 3);
    net.kill(b);
    let arrived = tokio::time::timeout(Duration::from_millis(500), c.arrived(number)).await.unwrap();
    assert_eq!(arrived, BTreeMap::from([(1, 11)]));
}
