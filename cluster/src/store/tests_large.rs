//! What is larger than an answer of etcd, and what lies there for nobody.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use culvert_proto::v1;
use culvert_proto::v1::object::Kind;
use tenants::store::{Batch, Store as _, audit_folder};
use tenants::{Catalog, Options};

use super::*;
use crate::etcd::memory::{AtOnce, Memory};
use crate::etcd::{delete_range, end_of};
use crate::servers::Servers;

fn open(etcd: Etcd, directory: &Path, name: &str) -> (EtcdStore, Arc<Catalog>) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let key = directory.join("key");
    if let Ok(mut file) = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&key) {
        std::io::Write::write_all(&mut file, &[7; 32]).unwrap();
    }
    let store = EtcdStore::new(etcd);
    let options = Options { key_file: Some(key), ..Options::default() };
    let catalog = Catalog::open_shared(&directory.join(name), Box::new(store.clone()), name, &options);
    (store, Arc::new(catalog.unwrap()))
}

fn tenant(name: &str) -> v1::Object {
    let tenant = v1::Tenant { name: format!("tenants/{name}"), ..Default::default() };
    v1::Object { kind: Some(Kind::Tenant(tenant)) }
}

fn secret(id: &str) -> v1::Object {
    let (name, value) = (format!("tenants/acme/secrets/{id}"), vec![1; 1_000]);
    v1::Object { kind: Some(Kind::Secret(v1::Secret { name, value, ..Default::default() })) }
}

fn apply(catalog: &Catalog, objects: Vec<v1::Object>) {
    let request = v1::ApplyRequest { objects, ..Default::default() };
    tokio::task::block_in_place(|| catalog.apply(request)).unwrap();
}

/// Follows from there until something holds of the catalog, which tells of each change. An error is none of those that are got over.
async fn follow_until(
    store: &EtcdStore,
    catalog: &Arc<Catalog>,
    seen: &mut Option<i64>,
    holds: impl Fn() -> bool,
) {
    // Nothing is overdue before the first that comes.
    let (mut changes, mut come, mut told) = (catalog.subscribe(), u64::MAX, false);
    let reached = async {
        while !holds() {
            // Some may have been missed, which is as good as one.
            let _ = changes.recv().await;
        }
    };
    tokio::select! {
        error = super::follow::follow_until_it_ends(store, catalog, seen, &mut come, &mut told) => panic!("{error}"),
        () = reached => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_an_answer_comes_in_several() {
    let (memory, directory) = (Memory::begin(), tempfile::tempdir().unwrap());
    memory.set_most(16 << 10);
    let client = || memory.client(Arc::new(AtOnce));
    let (_, a) = open(client(), directory.path(), "a");
    let (store, b) = open(client(), directory.path(), "b");
    let mut seen = Some(store.head().await.unwrap().at);
    apply(&a, vec![tenant("acme")]);
    for number in 0..30 {
        apply(&a, vec![secret(&format!("s{number}"))]);
    }
    // And one write that is larger by itself.
    apply(&a, (0..30).map(|number| secret(&format!("t{number}"))).collect());
    follow_until(&store, &b, &mut seen, || b.secrets().len() >= 60).await;
    assert_eq!(b.snapshot().revision, a.snapshot().revision);
    // Whoever starts reads page by page.
    assert_eq!(open(client(), directory.path(), "c").1.secrets().len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_says_nothing_of_what_is_known_to_be_there_is_begun_again() {
    let (memory, directory) = (Memory::begin(), tempfile::tempdir().unwrap());
    let client = || memory.client(Arc::new(AtOnce));
    let (_, a) = open(client(), directory.path(), "a");
    let (store, b) = open(client(), directory.path(), "b");
    let following = tokio::spawn(follow(store.clone(), Arc::clone(&b)));
    apply(&a, vec![tenant("acme")]);
    let catch_up = || tokio::task::block_in_place(|| b.catch_up());
    catch_up().unwrap();
    memory.mute();
    apply(&a, vec![tenant("zeta")]);
    catch_up().unwrap();
    assert_eq!(b.tenants().len(), 2);
    // Whoever has answered is not away, whatever was thought of it.
    store.away.store(true, Ordering::Relaxed);
    catch_up().unwrap();
    assert!(!store.away.load(Ordering::Relaxed));
    following.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_etcd_may_have_missed_and_read_anew_more_than_an_answer() {
    const LARGE: usize = 20;
    let Some(servers) = Servers::start(1) else { return };
    let directory = tempfile::tempdir().unwrap();
    let (store, a) = open(servers.client(), directory.path(), "a");
    let (other, b) = open(servers.client(), directory.path(), "b");
    let mut seen = Some(store.head().await.unwrap().at);
    let folder = store.etcd.key("rows/catalog/audit/gone/");
    for number in 0..LARGE {
        let key = [folder.as_slice(), format!("{number:020}").as_bytes()].concat();
        store.etcd.transact(Vec::new(), vec![put(key, vec![7; MAX_OCTETS])], Vec::new()).await.unwrap();
    }
    apply(&a, vec![tenant("acme")]);
    follow_until(&other, &b, &mut seen, || !b.tenants().is_empty()).await;
    let (all, _) = store.etcd.all(folder.clone(), end_of(folder), 0).await.unwrap();
    assert_eq!(all.len(), LARGE);
    // They are another node's, and nobody who starts reads them.
    assert_eq!(open(servers.client(), directory.path(), "c").1.tenants().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_entries_of_one_who_died_over_a_large_change_are_found() {
    let (memory, directory) = (Memory::begin(), tempfile::tempdir().unwrap());
    let (store, _) = open(memory.client(Arc::new(AtOnce)), directory.path(), "a");
    let known = store.head().await.unwrap();
    let (own, others) = (format!("{}1", audit_folder(Some("a"))), format!("{}1", audit_folder(Some("b"))));
    let mut batch = Batch::default();
    [&own, &others].into_iter().for_each(|key| batch.put(key.clone(), vec![0; 8]));
    (0..150).for_each(|number| batch.put(format!("catalog/used/tokens/t{number}"), vec![0; 8]));
    let next = known.head.next(known.head.revision + 1, Head::commit());
    store.begin_in_parts(&batch, &known, next).await.ok().unwrap();
    let found = tokio::task::block_in_place(|| store.load_audit("a")).unwrap();
    assert_eq!(found, [(own, vec![0; 8])]);
    let all = store.load_all().await.unwrap();
    assert!(!all.rows.contains_key(&others) && all.rows.len() >= 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_entries_of_a_node_that_is_gone_get_to_the_log_of_another_once() {
    let (memory, directory) = (Memory::begin(), tempfile::tempdir().unwrap());
    let client = || memory.client(Arc::new(AtOnce));
    let (_, a) = open(client(), directory.path(), "a");
    for number in 0..20 {
        apply(&a, vec![tenant(&format!("t{number}"))]);
    }
    drop(a);
    let (store, b) = open(client(), directory.path(), "b");
    let rows = |node: &'static str| tokio::task::block_in_place(|| store.load_audit(node)).unwrap().len();
    let listed = || b.page_audit("", 1_000, "").unwrap().items;
    let now = SystemTime::now();
    super::tidy::round(&store, &b, now).await.unwrap();
    assert_eq!((rows("a"), listed().len()), (20, 0), "it may come back");
    // While it is there they are its own.
    let later = now + Duration::from_secs(48 * 3600);
    let there = store.etcd.key("nodes/a");
    store.etcd.transact(Vec::new(), vec![put(there.clone(), vec![1])], Vec::new()).await.unwrap();
    super::tidy::round(&store, &b, later).await.unwrap();
    assert_eq!(rows("a"), 20);
    store.etcd.transact(Vec::new(), vec![delete(there)], Vec::new()).await.unwrap();
    for _ in 0..2 {
        super::tidy::round(&store, &b, later).await.unwrap();
        let found = listed();
        assert_eq!((rows("a"), found.len()), (0, 20));
        assert!(found.iter().all(|entry| entry.node == "a" && entry.objects.len() == 1));
    }
    assert_eq!(rows("b"), 0, "what is in the log is not kept in etcd");
    // And the changes go on from there.
    apply(&b, vec![tenant("last")]);
    assert_eq!((b.tenants().len(), rows("b")), (21, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_deletes_below_the_prefix_takes_nothing_from_the_nodes() {
    let (memory, directory) = (Memory::begin(), tempfile::tempdir().unwrap());
    let client = || memory.client(Arc::new(AtOnce));
    let (_, a) = open(client(), directory.path(), "a");
    let (store, b) = open(client(), directory.path(), "b");
    apply(&a, vec![tenant("acme"), secret("psk")]);
    let (mut seen, mut come, mut told) = (None, 0, false);
    for folder in ["rows/", ""] {
        let follows = async |seen: &mut _, come: &mut _, told: &mut _| {
            super::follow::follow_until_it_ends(&store, &b, seen, come, told).await
        };
        if folder == "rows/" {
            follow_until(&store, &b, &mut seen, || !b.secrets().is_empty()).await;
            seen = Some(store.head().await.unwrap().at);
        }
        let key = store.etcd.key(folder);
        let all = vec![delete_range(key.clone(), end_of(key))];
        store.etcd.transact(Vec::new(), all, Vec::new()).await.unwrap();
        // The watch tells of the head, if that has gone as well; and whoever reads everything finds that it is not to be taken over.
        if folder.is_empty() {
            let error = follows(&mut seen, &mut come, &mut told).await;
            assert!(matches!(error, EtcdError::Compacted(_)), "{error}");
        }
        let error = follows(&mut None, &mut come, &mut told).await.to_string();
        assert!(error.contains("is gone"), "{error}");
        assert_eq!((b.tenants().len(), b.secrets().len()), (1, 1));
    }
    let request = v1::ApplyRequest { objects: vec![tenant("zeta")], ..Default::default() };
    assert!(
        tokio::task::block_in_place(|| b.apply(request)).is_err(),
        "nothing is written beside what is there"
    );
}
