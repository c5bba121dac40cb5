//! Nodes that come and go, mostly on a real etcd.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use super::*;
use crate::etcd::memory::{AtOnce, Memory};
use crate::etcd::{put, put_leased};
use crate::servers::Servers;
use latest::{Follow as _, Latest as _};

fn identity(name: &str) -> Identity {
    let (addresses, mesh) = (vec![[127, 0, 0, 1].into()], Some(([127, 0, 0, 1], 4510).into()));
    Identity { name: name.to_owned(), addresses, mesh, version: "1".to_owned() }
}

async fn join(servers: &Servers, name: &str) -> Members {
    Members::join(servers.client(), identity(name)).await.unwrap()
}

/// The same, where time is that of tokio: what a node has a while for is done within it.
async fn join_at(memory: &Memory, name: &str) -> Members {
    Members::join(memory.client(Arc::new(AtOnce)), identity(name)).await.unwrap()
}

/// Waits until these are there.
async fn wait_for(members: &Members, names: &[&str]) -> Arc<Placement> {
    let mut placement = members.placement();
    let there = |placement: &Arc<Placement>| placement.nodes.iter().map(|node| &node.name).eq(names);
    placement.until(there).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_have_slots_of_their_own_and_know_each_other() {
    let Some(servers) = Servers::start(1) else { return };
    let (b, a) = (join(&servers, "b").await, join(&servers, "a").await);
    assert_eq!((b.own().slot, a.own().slot), (1, 2));
    let [of_a, of_b] = [wait_for(&a, &["a", "b"]).await, wait_for(&b, &["a", "b"]).await];
    assert_eq!(of_a.nodes, of_b.nodes);
    for uid in 0..100 {
        assert!(of_a.is_home(uid) != of_b.is_home(uid), "each peer is at home with one");
    }
    b.leave().await;
    assert!((0..100).all(|uid| uid % 2 == 0 || of_a.home(uid).is_some()));
    let alone = wait_for(&a, &["a"]).await;
    assert!((0..100).all(|uid| alone.is_home(uid)));
    // Its slot is its own until somebody says otherwise: see `slots`.
    assert_eq!(join(&servers, "c").await.own().slot, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_killed_comes_back_to_its_slot_once_its_lease_is_over() {
    let Some(servers) = Servers::start(1) else { return };
    let (a, b) = (join(&servers, "a").await, join(&servers, "b").await);
    // As a process that is killed: nobody keeps the lease.
    drop(a);
    let again = join(&servers, "a").await;
    assert_eq!((again.own().slot, b.own().slot), (1, 2));
    wait_for(&b, &["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_that_is_lost_is_taken_again_with_the_same_slot() {
    let Some(servers) = Servers::start(1) else { return };
    let (a, b) = (join(&servers, "a").await, join(&servers, "b").await);
    let (mut lease, old) = (a.lease.clone(), a.lease.latest());
    a.etcd.revoke(old).await.unwrap();
    lease.until(|now| *now != old).await.unwrap();
    wait_for(&b, &["a", "b"]).await;
    assert_eq!(wait_for(&b, &["a", "b"]).await.nodes[0].slot, 1);
    assert!(a.lost().latest().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn whose_name_is_anothers_has_to_end() {
    let Some(servers) = Servers::start(1) else { return };
    let a = join(&servers, "a").await;
    // As if it had been silent for long, and another of its name had come.
    let lease = a.etcd.grant(TTL).await.unwrap();
    let other = Node { instance: vec![1], ..a.own().clone() };
    let taken = vec![put_leased(a.etcd.key("nodes/a"), other.write(), lease)];
    a.etcd.transact(Vec::new(), taken, Vec::new()).await.unwrap();
    a.etcd.revoke(a.lease.latest()).await.unwrap();
    let mut lost = a.lost();
    let reason = lost.until(Option::is_some).await.unwrap().unwrap();
    assert!(reason.contains("name a"), "{reason}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_node_is_told_by_its_key() {
    let Some(servers) = Servers::start(1) else { return };
    let etcd = servers.client();
    let odd = vec![put(etcd.key("nodes/x"), vec![255])];
    etcd.transact(Vec::new(), odd, Vec::new()).await.unwrap();
    let error = Members::join(etcd, identity("a")).await.map(drop).unwrap_err().to_string();
    assert!(error.contains("nodes/x"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_connection_stays_its_nodes_when_the_home_comes_back() {
    let memory = Memory::begin();
    let (a, b) = (join_at(&memory, "a").await, join_at(&memory, "b").await);
    let both = wait_for(&a, &["a", "b"]).await;
    let uid = (0..100).find(|uid| !both.is_home(*uid)).unwrap();
    b.leave().await;
    assert_eq!(wait_for(&a, &["a"]).await.begins(uid, |_| true).unwrap().name, "a");
    // It is connected here, and its home comes back.
    let holding = a.held();
    let mut placement = a.placement();
    let again = tokio::spawn(async move {
        placement.until(|placement| placement.nodes.len() == 2).await.unwrap();
        holding.hold(uid, true);
    });
    let b = join_at(&memory, "b").await;
    again.await.unwrap();
    let mut of_b = b.placement();
    assert_eq!(of_b.latest().begins(uid, |_| true).unwrap().name, "a", "known when it has joined");
    // A lease that is lost takes it away, and it is told again.
    a.etcd.revoke(a.lease.latest()).await.unwrap();
    of_b.until(|placement| placement.begins(uid, |_| true).unwrap().name == "b").await.unwrap();
    of_b.until(|placement| placement.begins(uid, |_| true).unwrap().name == "a").await.unwrap();
    a.held().hold(uid, false);
    of_b.until(|placement| placement.begins(uid, |_| true).unwrap().name == "b").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn where_etcd_has_lost_what_it_knew_a_node_ends_and_begins_anew() {
    let memory = Memory::begin();
    let a = join_at(&memory, "a").await;
    for number in 0..20 {
        a.held().hold(number, true);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    // Nothing of it is there, and what others have written since is less than there was before.
    memory.set_back(5);
    let mut lost = a.lost();
    let reason = tokio::time::timeout(2 * TTL, lost.until(Option::is_some)).await.unwrap().unwrap().unwrap();
    assert!(reason.contains("etcd is at revision 5 and was at "), "{reason}");
    let gone = matches!(a.etcd.watch("nodes/", 99).await, Err(EtcdError::WentBack { now: 5, .. }));
    assert!(gone && a.etcd.get("nodes/a").await.is_err(), "and nothing is done with what it says now");
    drop(a);
    assert_eq!(join_at(&memory, "a").await.own().slot, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_real_etcd_has_lost_its_data_a_node_ends() {
    let Some(mut servers) = Servers::start(1) else { return };
    let (a, b) = (join(&servers, "a").await, join(&servers, "b").await);
    servers.kill(0);
    std::fs::remove_dir_all(servers.file("m0")).unwrap();
    servers.revive(0);
    for node in [&a, &b] {
        let reason = node.lost().until(Option::is_some).await.unwrap().unwrap();
        assert!(reason.contains("its data were deleted"), "{reason}");
    }
}

/// Writes so many octets under the same key.
async fn write(etcd: &Etcd, octets: usize) -> Result<(), EtcdError> {
    let change = vec![put(etcd.key("load"), vec![7; octets])];
    etcd.transact(Vec::new(), change, Vec::new()).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn an_etcd_that_is_full_is_told_as_away() {
    let Some(servers) = Servers::start_small(16 << 20) else { return };
    let a = join(&servers, "a").await;
    let mut refused = Ok(());
    for _ in 0..64 {
        refused = write(&a.etcd, 1 << 20).await;
        if refused.is_err() {
            break;
        }
    }
    assert!(matches!(refused, Err(EtcdError::Refused { .. })), "{refused:?}");
    assert!(a.etcd.keep_alive(a.lease.latest()).await.unwrap(), "it keeps leases all the same");
    a.etcd_is_away().until(|away| *away).await.unwrap();
    assert!(a.lost().latest().is_none());
}

#[tokio::test(start_paused = true)]
async fn nobody_but_the_first_of_the_nodes_tells_etcd_to_forget() {
    let memory = Memory::begin();
    let (a, b) = (join_at(&memory, "a").await, join_at(&memory, "b").await);
    wait_for(&a, &["a", "b"]).await;
    wait_for(&b, &["a", "b"]).await;
    let (round, first) = (Duration::from_millis(20), a.etcd.revision());
    for (node, forgets) in [(&b, false), (&a, true)] {
        // Fewer than are remembered in memory anyway.
        let writes = async {
            for _ in 0..20 {
                write(&node.etcd, 10).await.unwrap();
                tokio::time::sleep(round).await;
            }
        };
        tokio::select! {
            () = compact::run(node.etcd.clone(), node.placement(), round) => panic!("it does not end"),
            () = writes => {}
        }
        let watched = a.etcd.watch("nodes/", first).await.map(drop);
        assert_eq!(
            matches!(watched, Err(EtcdError::Compacted(_))),
            forgets,
            "{}: {watched:?}",
            node.own().name
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_etcd_forgets_what_is_old_and_nothing_of_what_is_there() {
    let Some(servers) = Servers::start(1) else { return };
    let (a, b) = (join(&servers, "a").await, join(&servers, "b").await);
    wait_for(&a, &["a", "b"]).await;
    let (round, first) = (Duration::from_millis(20), a.etcd.revision());
    let then = culvert_proto::etcd::RangeRequest {
        key: a.etcd.key("nodes/a"),
        revision: first,
        ..Default::default()
    };
    let forgotten = async {
        loop {
            write(&a.etcd, 10).await.unwrap();
            if let Err(error) = a.etcd.range(then.clone()).await {
                return error;
            }
        }
    };
    let forgotten = tokio::select! {
        () = compact::run(a.etcd.clone(), a.placement(), round) => panic!("it does not end"),
        error = forgotten => error,
    };
    assert!(matches!(forgotten, EtcdError::Compacted(_)), "{forgotten}");
    // Nobody is missed.
    drop(b);
    wait_for(&a, &["a"]).await;
}

/// A way that takes so long in each direction.
#[derive(Debug)]
struct Slow(Duration);

impl crate::etcd::memory::Path for Slow {
    fn time(&self) -> Option<Duration> {
        Some(self.0)
    }
}

#[tokio::test(start_paused = true)]
async fn who_enters_keeps_its_lease_however_slow_etcd_is() {
    let memory = Memory::begin();
    let client = |milliseconds| memory.client(Arc::new(Slow(Duration::from_millis(milliseconds))));
    // Five and more calls of 1.8 s, and a lease of 5 s.
    let slow = Members::join(client(900), identity("a")).await.unwrap();
    let quick = Members::join(client(1), identity("b")).await.unwrap();
    assert_eq!((slow.own().slot, quick.own().slot), (1, 2));
    wait_for(&quick, &["a", "b"]).await;
}

#[tokio::test(start_paused = true)]
async fn who_is_deleted_though_its_lease_lives_enters_again() {
    let memory = Memory::begin();
    let client = || memory.client(Arc::new(AtOnce));
    let a = Members::join(client(), identity("a")).await.unwrap();
    let b = Members::join(client(), identity("b")).await.unwrap();
    a.held().hold(7, true);
    let holds = |placement: &Arc<Placement>| placement.nodes.len() == 2 && placement.held.contains_key("a");
    b.placement().until(holds).await.unwrap();
    let keys = a.etcd.key("nodes/a");
    let end = crate::etcd::end_of(keys.clone());
    a.etcd.transact(Vec::new(), vec![crate::etcd::delete_range(keys, end)], Vec::new()).await.unwrap();
    wait_for(&b, &["b"]).await;
    let (mut placement, soon) = (b.placement(), Duration::from_secs(60));
    tokio::time::timeout(soon, placement.until(holds)).await.unwrap().unwrap();
    assert!(a.lost().latest().is_none());
}

#[tokio::test(start_paused = true)]
async fn who_cannot_read_what_others_write_says_so_until_it_can() {
    let memory = Memory::begin();
    let a = Members::join(memory.client(Arc::new(AtOnce)), identity("a")).await.unwrap();
    let odd = a.etcd.key("nodes/x");
    let seen = async |behind| {
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            while a.known().is_behind() != behind {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        });
        waited.await.is_ok()
    };
    a.etcd.transact(Vec::new(), vec![put(odd.clone(), vec![255])], Vec::new()).await.unwrap();
    assert!(seen(true).await);
    a.etcd.transact(Vec::new(), vec![crate::etcd::delete(odd)], Vec::new()).await.unwrap();
    assert!(seen(false).await);
}
