//! Who is cut off from all others: what it finds out, and what it takes over once it hears one of them again.

use super::*;

#[tokio::test(start_paused = true)]
async fn who_is_cut_off_from_etcd_as_well_is_not_ready_long_before_etcd_counts_as_away() {
    let (etcd, net, way) = (memory::Memory::begin(), Arc::new(Net::default()), Arc::new(Way::default()));
    let a = Member::join_at(etcd.client(way.clone()), &net, "a").await;
    let b = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "b").await;
    let c = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "c").await;
    c.ready().await;
    way.cut.store(true, Ordering::Relaxed);
    net.part("a", &["b", "c"]);
    let mut astray = a.slots.astray();
    let found = tokio::time::timeout(Duration::from_millis(1_500), astray.until(Option::is_some)).await;
    assert!(found.expect("in time").unwrap().unwrap().contains("nor etcd"));
    assert_eq!((b.slots.astray().latest(), a.slots.etcd_is_away()), (None, false));
    // Etcd alone is as good as another node.
    way.cut.store(false, Ordering::Relaxed);
    let not_by_etcd = |why: &Option<String>| why.as_ref().is_none_or(|why| !why.contains("nor etcd"));
    let found = tokio::time::timeout(Duration::from_secs(2), astray.until(not_by_etcd)).await;
    found.expect("etcd answers again").unwrap();
}

#[tokio::test(start_paused = true)]
async fn who_was_cut_off_takes_nothing_over_from_those_that_it_hears_a_moment_later() {
    for is_there in [true, false] {
        let (etcd, net, way) = (memory::Memory::begin(), Arc::new(Net::default()), Arc::new(Way::default()));
        let a = Member::join_at(etcd.client(way.clone()), &net, "a").await;
        let b = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "b").await;
        let c = Member::join_at(etcd.client(Arc::new(AtOnce)), &net, "c").await;
        c.ready().await;
        let slot = a.ready().await;
        assert_eq!(a.set(slot.number, 1, 1).await, Kept::Known);
        let standby = slot.standby.unwrap().node;
        let (heir, other) = if standby == "b" { (&b, "c") } else { (&c, "b") };
        // So that it strikes nobody out meanwhile.
        way.cut.store(true, Ordering::Relaxed);
        net.part(&standby, &["a", other]);
        tokio::time::sleep(Duration::from_millis(300)).await;
        net.cut.lock().unwrap().retain(|(from, to)| from == "a" || to == "a");
        net.tell();
        tokio::time::sleep(Duration::from_millis(700)).await;
        assert!(heir.slots.0.hears(other) && !heir.slots.0.hears("a"));
        assert!(a.slots.holds(slot.number), "it was taken from who is there");
        if is_there {
            net.mend();
            way.cut.store(false, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(10)).await;
            assert!(a.slots.holds(slot.number));
        } else {
            // Who is not heard any more is gone.
            net.kill(a);
            let arrived = tokio::time::timeout(Duration::from_secs(4), heir.arrived(slot.number)).await;
            assert_eq!(arrived.unwrap(), BTreeMap::from([(1, 1)]));
        }
    }
}
