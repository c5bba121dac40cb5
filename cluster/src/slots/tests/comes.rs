//! Slots that have come, and what is in which takes a while to go on.

use super::*;

/// Longer than etcd, its watch, and everybody who looks take, and shorter than whoever gives a slot waits for an answer.
const WHILE: Duration = Duration::from_secs(3);

async fn member(etcd: &memory::Memory, net: &Arc<Net>, name: &str) -> Member {
    Member::join_at(etcd.client(Arc::new(AtOnce)), net, name).await
}

#[tokio::test(start_paused = true)]
async fn a_slot_gets_no_standby_and_is_not_given_on_before_it_has_come() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let (a, b) = (member(&etcd, &net, "a").await, member(&etcd, &net, "b").await);
    let c = member(&etcd, &net, "c").await;
    let number = a.slot();
    a.set(number, 1, 11).await;
    let gate = b.memory.gate.lock().await;
    let moved = async { a.slots.move_slot(number, "b").await.unwrap() };
    let on = async {
        until(|| b.slots.holds(number)).await;
        let mut on = std::pin::pin!(b.slots.move_slot(number, "c"));
        assert!(begins(on.as_mut()).await);
        tokio::time::sleep(WHILE).await;
        assert!(!b.slots.settled().contains(&number));
        assert!(!b.memory.has("resync", number) && !b.memory.has("give", number));
        assert_eq!(b.slots.0.slot(number).unwrap().standby, None);
        drop(gate);
        on.await.unwrap();
    };
    tokio::join!(moved, on);
    assert_eq!(c.arrived(number).await, BTreeMap::from([(1, 11)]));
    assert!(b.memory.has("give", number));
}

#[tokio::test(start_paused = true)]
async fn a_slot_comes_to_its_end_though_nobody_waits_for_the_answer() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let (a, b) = (member(&etcd, &net, "a").await, member(&etcd, &net, "b").await);
    let number = a.slot();
    a.set(number, 1, 11).await;
    let gate = b.memory.gate.lock().await;
    let cut = async {
        until(|| b.slots.holds(number)).await;
        net.cut("b", "a");
    };
    tokio::join!(cut, async { a.slots.move_slot(number, "b").await.unwrap() });
    drop(gate);
    assert_eq!(b.arrived(number).await, BTreeMap::from([(1, 11)]));
    until(|| b.slots.settled().contains(&number)).await;
    net.mend();
    b.wait(number, |slot| slot.ready).await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_lost_while_it_comes_is_put_away_as_a_whole() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let (a, b) = (member(&etcd, &net, "a").await, member(&etcd, &net, "b").await);
    let third = member(&etcd, &net, "c").await.slots.0.own.clone();
    let number = a.slot();
    let gate = b.memory.gate.lock().await;
    let lost = async {
        until(|| b.slots.holds(number)).await;
        let now = Slot::load(&b.slots.0.etcd, number).await.unwrap().unwrap();
        b.slots.0.heard_of(Slot { revision: now.revision + 1_000, ..now.of(third) });
        until(|| !b.slots.holds(number)).await;
        assert_eq!(b.set(number, 1, 1).await, Kept::Lost);
        tokio::time::sleep(WHILE).await;
        assert!(!b.memory.has("lose", number));
        drop(gate);
    };
    tokio::join!(lost, async { drop(a.slots.move_slot(number, "b").await) });
    until(|| b.memory.has("lose", number)).await;
    assert!(b.memory.has("take", number) && b.memory.of(number).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_a_nodes_by_etcd_alone_is_nobodys() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let a = member(&etcd, &net, "a").await;
    let inner = &a.slots.0;
    let slot = Slot::nobodys(&inner.etcd, 30, inner.own.clone()).await.unwrap().unwrap();
    assert!(matches!(slot.change(&inner.etcd).await, Ok(Changed::Done(_))));
    let mut table = a.slots.table();
    table.until(|table| table.contains_key(&30)).await.unwrap();
    let free = table.until(|table| !table.contains_key(&30));
    tokio::time::timeout(Duration::from_secs(30), free).await.unwrap().unwrap();
    assert!(a.slots.holds(a.slot()));
}

#[tokio::test(start_paused = true)]
async fn who_reads_no_rows_of_another_is_neither_its_standby_nor_gets_what_it_has() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let a = member(&etcd, &net, "a").await;
    let number = a.slot();
    a.set(number, 1, 11).await;
    let b = member(&etcd, &net, "b").await;
    b.memory.of_another.store(true, Ordering::Relaxed);
    let ready = tokio::time::timeout(Duration::from_secs(30), a.ready());
    let nothing_waits = async {
        for at in 0..3_000 {
            let begun = Instant::now();
            assert_ne!(a.set(number, 1, 11).await, Kept::Lost);
            assert!(begun.elapsed() < Duration::from_millis(50), "{at}: {:?}", begun.elapsed());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    assert!(tokio::join!(ready, nothing_waits).0.is_err() && b.slots.kept(number) == (0, 0));
    let tries = || a.memory.done.lock().unwrap().iter().filter(|done| **done == ("resync", number)).count();
    // At once, and after some 3, 6 and 12 seconds.
    assert!((3..=5).contains(&tries()), "{}", tries());
    let refused = a.slots.move_slot(number, "b").await.unwrap_err();
    assert!(refused.contains("another form"), "{refused}");
    assert_eq!((a.memory.of(number), b.memory.of(number)), (Some(BTreeMap::from([(1, 11)])), None));
    assert!(a.slots.holds(number) && b.memory.expected.lock().unwrap().is_empty());
    b.memory.of_another.store(false, Ordering::Relaxed);
    tokio::time::timeout(Duration::from_secs(61), a.ready()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_kept_of_a_slot_that_is_nobodys_is_forgotten() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let a = member(&etcd, &net, "a").await;
    let b = member(&etcd, &net, "b").await;
    assert_eq!(a.set(a.slot(), 1, 11).await, Kept::Free);
    a.ready().await;
    // Its owner went before etcd was told that it had a standby, and it was made nobody's.
    let part = Part { batch: 1, number: 0, last: true };
    b.slots.0.vault().put(40, 7, part, vec![row(1, Some(1))]).unwrap();
    assert_eq!(b.slots.kept(40), (1, 8));
    let forgotten = until(|| b.slots.kept(40) == (0, 0));
    tokio::time::timeout(Duration::from_secs(10), forgotten).await.unwrap();
    assert_eq!(b.slots.kept(a.slot()).0, 1, "what is somebody's stays");
}

#[tokio::test(start_paused = true)]
async fn a_slot_of_more_than_may_wait_for_a_standby_gets_one() {
    let (etcd, net) = (memory::Memory::begin(), Arc::new(Net::default()));
    let a = member(&etcd, &net, "a").await;
    let number = a.slot();
    let many = (0..70_000).map(|id| (id, 1)).collect();
    a.memory.numbers.lock().unwrap().insert(number, many);
    a.memory.singly.store(true, Ordering::Relaxed);
    let b = member(&etcd, &net, "b").await;
    tokio::time::timeout(Duration::from_secs(60), a.ready()).await.unwrap();
    assert_eq!(b.slots.kept(number).0, 70_000);
    let tries = a.memory.done.lock().unwrap().iter().filter(|done| **done == ("resync", number)).count();
    assert_eq!(tries, 1);
}
