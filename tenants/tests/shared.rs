//! Several catalogs on one store: what is written at one is there at the others, etags are exact over all of them, and keys that
//! differ are refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use common::peer;
use culvert_proto::v1;
use culvert_proto::v1::object::Kind;
use tenants::store::{Batch, Store, StoreError};
use tenants::{BatchError, Catalog, ChangeKind, Error, News, Object, Options};

/// A store as a cluster has it: the last revision decides, and every change is told to all.
#[derive(Clone, Default)]
struct Cluster(Arc<Inner>);

#[derive(Default)]
struct Inner {
    state: Mutex<State>,
    moved: Condvar,
    away: AtomicBool,
}

#[derive(Default)]
struct State {
    rows: BTreeMap<String, Vec<u8>>,
    revision: u64,
    /// Of revision 1 and on.
    log: Vec<Vec<(String, Option<Vec<u8>>)>>,
    ended: bool,
}

impl Cluster {
    fn away(&self) -> Result<(), StoreError> {
        let (place, reason) = ("etcd".to_owned(), "no answer".to_owned());
        if self.0.away.load(Ordering::Relaxed) { Err(StoreError::Away { place, reason }) } else { Ok(()) }
    }

    /// Tells a catalog of what is written, until the end.
    fn follow(&self, catalog: &Arc<Catalog>, from: u64) -> JoinHandle<()> {
        let (cluster, catalog) = (self.clone(), Arc::clone(catalog));
        std::thread::spawn(move || {
            for revision in from + 1.. {
                let state = cluster.0.state.lock().unwrap();
                let wait = |state: &mut State| state.revision < revision && !state.ended;
                let state = cluster.0.moved.wait_while(state, wait).unwrap();
                let Some(rows) = state.log.get(revision as usize - 1).cloned() else { return };
                drop(state);
                catalog.follow(News::Change { revision, rows }).unwrap();
            }
        })
    }

    fn end(&self) {
        self.0.state.lock().unwrap().ended = true;
        self.0.moved.notify_all();
    }
}

impl Store for Cluster {
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.away()?;
        Ok(self.0.state.lock().unwrap().rows.clone().into_iter().collect())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        self.away()?;
        let mut state = self.0.state.lock().unwrap();
        if let Some(after) = batch.after() {
            if after != state.revision {
                return Err(StoreError::Outrun(state.revision));
            }
            state.revision += 1;
            let rows = batch.rows().map(|(key, value)| (key.to_owned(), value.map(<[u8]>::to_vec)));
            state.log.push(rows.collect());
        }
        batch.apply_to(&mut state.rows);
        self.0.moved.notify_all();
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn last_revision(&self) -> Result<u64, StoreError> {
        self.away()?;
        Ok(self.0.state.lock().unwrap().revision)
    }
}

fn open(cluster: &Cluster, directory: &Path, node: &str, key: &Path) -> Result<Arc<Catalog>, StoreError> {
    let options = Options { key_file: Some(key.to_owned()), ..Options::default() };
    let store = Box::new(cluster.clone());
    Catalog::open_shared(&directory.join(node), store, node, &options).map(Arc::new)
}

/// A file with a key, as somebody else keeps it.
fn key(directory: &Path, name: &str, octet: u8) -> std::path::PathBuf {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = directory.join(name);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).unwrap();
    std::io::Write::write_all(&mut file, &[octet; 32]).unwrap();
    path
}

/// Two catalogs that follow one store.
fn pair(directory: &Path) -> (Cluster, [Arc<Catalog>; 2], Vec<JoinHandle<()>>) {
    let (cluster, key) = (Cluster::default(), key(directory, "key", 7));
    let catalogs = ["a", "b"].map(|node| open(&cluster, directory, node, &key).unwrap());
    let followers = catalogs.iter().map(|catalog| cluster.follow(catalog, catalog.snapshot().revision));
    let followers = followers.collect();
    (cluster, catalogs, followers)
}

fn tenant(name: &str, display_name: &str) -> v1::Tenant {
    v1::Tenant { name: format!("tenants/{name}"), display_name: display_name.into(), ..Default::default() }
}

fn secret(tenant: &str, value: &str) -> v1::Object {
    let name = format!("tenants/{tenant}/secrets/psk");
    v1::Object { kind: Some(Kind::Secret(v1::Secret { name, value: value.into(), ..Default::default() })) }
}

fn apply(catalog: &Catalog, objects: Vec<v1::Object>) -> Result<Vec<tenants::Applied>, BatchError> {
    catalog.apply(v1::ApplyRequest { objects, ..Default::default() })
}

#[test]
fn what_is_written_at_one_is_there_at_the_other() {
    let directory = tempfile::tempdir().unwrap();
    let (cluster, [a, b], followers) = pair(directory.path());
    let mut changes = b.subscribe();
    let acme = v1::Object { kind: Some(Kind::Tenant(tenant("acme", ""))) };
    let office = v1::Object { kind: Some(Kind::Peer(peer("acme", "office", "10.1.0.0/24"))) };
    apply(&a, vec![office, secret("acme", "one"), acme]).unwrap();
    b.catch_up().unwrap();
    let name = "tenants/acme/secrets/psk".parse().unwrap();
    assert_eq!(b.resolve_secret(&name).unwrap().as_slice(), b"one");
    assert_eq!(a.snapshot().revision, b.snapshot().revision);
    assert_eq!(a.peers(), b.peers());
    let told: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
    let names: Vec<_> = told.iter().map(|change| change.object.name()).collect();
    assert_eq!(names, ["tenants/acme", "tenants/acme/secrets/psk", "tenants/acme/peers/office"]);
    assert!(told.iter().all(|change| change.kind == ChangeKind::Created));

    let request = v1::DeleteTenantRequest { name: "tenants/acme".into(), force: true, ..Default::default() };
    b.delete_tenant(&request).unwrap();
    a.catch_up().unwrap();
    assert!(a.tenants().is_empty() && a.peers().is_empty() && a.secrets().is_empty());
    cluster.end();
    followers.into_iter().for_each(|follower| follower.join().unwrap());
}

#[test]
fn writers_at_both_lose_nothing_and_each_write_is_made_once() {
    let directory = tempfile::tempdir().unwrap();
    let (cluster, catalogs, followers) = pair(directory.path());
    apply(&catalogs[0], vec![v1::Object { kind: Some(Kind::Tenant(tenant("acme", ""))) }]).unwrap();
    apply(&catalogs[0], vec![secret("acme", "one")]).unwrap();
    let before = catalogs[0].snapshot().revision;
    std::thread::scope(|scope| {
        for (side, catalog) in catalogs.iter().enumerate() {
            scope.spawn(move || {
                for number in 0..40 {
                    let subnet = format!("10.{side}.{number}.0/24");
                    let peer = peer("acme", &format!("p{side}-{number}"), &subnet);
                    apply(catalog, vec![v1::Object { kind: Some(Kind::Peer(peer)) }]).unwrap();
                    // Its value is kept over attempts.
                    if number % 8 == 0 {
                        let value = format!("{side} {number}");
                        apply(catalog, vec![secret("acme", &value)]).unwrap();
                    }
                }
            });
        }
    });
    for catalog in &catalogs {
        catalog.catch_up().unwrap();
        assert_eq!(catalog.peers().len(), 80);
        assert_eq!(catalog.snapshot().revision, before + 80 + 10);
    }
    let mut uids: Vec<_> = catalogs[0].peers().iter().map(|peer| peer.uid).collect();
    uids.sort_unstable();
    uids.dedup();
    assert_eq!(uids.len(), 80, "a number is given out once, at whichever node");
    assert_eq!(catalogs[0].peers(), catalogs[1].peers());
    cluster.end();
    followers.into_iter().for_each(|follower| follower.join().unwrap());
}

#[test]
fn an_etag_is_one_over_all_nodes() {
    let directory = tempfile::tempdir().unwrap();
    let (cluster, catalogs, followers) = pair(directory.path());
    let created = v1::CreateTenantRequest {
        tenant_id: "acme".into(),
        tenant: Some(tenant("", "")),
        ..Default::default()
    };
    let etag = catalogs[0].create_tenant(&created).unwrap().meta.etag();
    let won: Vec<_> = std::thread::scope(|scope| {
        let ask = |side: usize, catalog: &Arc<Catalog>| {
            let patch = v1::Tenant { etag: etag.clone(), ..tenant("acme", &format!("of {side}")) };
            let catalog = Arc::clone(catalog);
            scope.spawn(move || {
                let request = v1::UpdateTenantRequest { tenant: Some(patch), ..Default::default() };
                catalog.update_tenant(&request)
            })
        };
        let asked: Vec<_> = catalogs.iter().enumerate().map(|(side, catalog)| ask(side, catalog)).collect();
        asked.into_iter().map(|asked| asked.join().unwrap()).collect()
    });
    assert_eq!(won.iter().filter(|won| won.is_ok()).count(), 1);
    assert!(won.iter().any(|won| matches!(won, Err(Error::StaleEtag { .. }))), "{won:?}");
    cluster.end();
    followers.into_iter().for_each(|follower| follower.join().unwrap());
}

#[test]
fn what_was_missed_comes_with_all_rows() {
    let directory = tempfile::tempdir().unwrap();
    let (cluster, key) = (Cluster::default(), key(directory.path(), "key", 7));
    let a = open(&cluster, directory.path(), "a", &key).unwrap();
    let b = open(&cluster, directory.path(), "b", &key).unwrap();
    let follower = cluster.follow(&a, 1);
    for name in ["acme", "zeta"] {
        apply(&a, vec![v1::Object { kind: Some(Kind::Tenant(tenant(name, ""))) }]).unwrap();
    }
    let rows = cluster.0.state.lock().unwrap().log[2].clone();
    let gap = b.follow(News::Change { revision: 3, rows });
    assert!(matches!(gap, Err(StoreError::Outrun(3))), "{gap:?}");
    assert!(b.tenants().is_empty());
    b.follow(News::All(cluster.load().unwrap())).unwrap();
    assert_eq!(b.tenants(), a.tenants());
    let request = v1::DeleteTenantRequest { name: "tenants/acme".into(), ..Default::default() };
    a.delete_tenant(&request).unwrap();
    let mut changes = b.subscribe();
    b.follow(News::All(cluster.load().unwrap())).unwrap();
    assert_eq!(b.tenants(), a.tenants());
    let change = changes.try_recv().unwrap();
    assert_eq!((change.kind, change.object.name()), (ChangeKind::Deleted, "tenants/acme".to_owned()));
    assert!(changes.try_recv().is_err(), "what is the same is not told again");
    cluster.end();
    follower.join().unwrap();
}

/// A name alone does not tell which object it is: what was given away under it is not given to the next one of that name.
#[test]
fn what_was_made_anew_while_nobody_looked_is_another() {
    let directory = tempfile::tempdir().unwrap();
    let (cluster, key) = (Cluster::default(), key(directory.path(), "key", 7));
    let a = open(&cluster, directory.path(), "a", &key).unwrap();
    let follower = cluster.follow(&a, 1);
    let make = |role| {
        let acme = v1::Object { kind: Some(Kind::Tenant(tenant("acme", ""))) };
        let paris = v1::Object { kind: Some(Kind::Peer(peer("acme", "paris", "10.1.0.0/24"))) };
        apply(&a, vec![acme, secret("acme", "one"), paris]).unwrap();
        let token = v1::Token { role: v1::Role::into(role), ..Default::default() };
        let request =
            v1::CreateTokenRequest { token_id: "ops".into(), token: Some(token), ..Default::default() };
        a.create_token(&request).unwrap().1
    };
    let old = make(v1::Role::Viewer);
    let b = open(&cluster, directory.path(), "b", &key).unwrap();
    let now = std::time::SystemTime::now();
    assert!(b.verify_token(old.as_bytes(), now).is_ok());
    let (number, uid) = (b.tenants()[0].number, b.peers()[0].uid);
    let gone = v1::DeleteTenantRequest { name: "tenants/acme".into(), force: true, ..Default::default() };
    a.delete_tenant(&gone).unwrap();
    a.delete_token(&v1::DeleteTokenRequest { name: "tokens/ops".into(), ..Default::default() }).unwrap();
    let new = make(v1::Role::Admin);

    let mut changes = b.subscribe();
    b.follow(News::All(cluster.load().unwrap())).unwrap();
    assert!(b.verify_token(old.as_bytes(), now).is_err(), "it was revoked");
    assert!(b.verify_token(new.as_bytes(), now).is_ok());
    assert_eq!((b.tenants(), b.peers()), (a.tenants(), a.peers()));
    let mut told = Vec::new();
    while let Ok(change) = changes.try_recv() {
        told.push((change.kind, change.object));
    }
    let kinds: Vec<_> = told.iter().map(|(kind, object)| (*kind, object.name())).collect();
    let (acme, psk, paris, ops) =
        ("tenants/acme", "tenants/acme/secrets/psk", "tenants/acme/peers/paris", "tokens/ops");
    use ChangeKind::{Created, Deleted, Updated};
    let told_of = [
        (Deleted, ops),
        (Deleted, paris),
        (Deleted, acme),
        (Created, acme),
        (Updated, psk),
        (Created, paris),
        (Created, ops),
    ];
    assert_eq!(kinds, told_of.map(|(kind, name)| (kind, name.to_owned())));
    let gone = |object: &Object| match object {
        Object::Tenant(tenant) => tenant.number == number,
        Object::Peer(peer) => peer.uid == uid,
        _ => true,
    };
    assert!(told[..3].iter().all(|(_, object)| gone(object)), "whoever has something of it can tell");
    cluster.end();
    follower.join().unwrap();
}

#[test]
fn another_key_is_refused_with_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::default();
    let (ours, other) = (key(directory.path(), "ours", 7), key(directory.path(), "other", 8));
    open(&cluster, directory.path(), "a", &ours).unwrap();
    let refused = open(&cluster, directory.path(), "b", &other).map(drop).unwrap_err().to_string();
    assert!(
        refused.contains("other") && refused.contains("not the key that the other nodes have"),
        "{refused}"
    );
    let none = Catalog::open_shared(directory.path(), Box::new(cluster), "c", &Options::default());
    assert!(none.map(drop).unwrap_err().to_string().contains("vault.key_file"));
}

#[test]
fn a_store_that_is_away_refuses_writes_and_reads_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let (cluster, [a, b], followers) = pair(directory.path());
    apply(&a, vec![v1::Object { kind: Some(Kind::Tenant(tenant("acme", ""))) }]).unwrap();
    cluster.0.away.store(true, Ordering::Relaxed);
    let refused = apply(&a, vec![v1::Object { kind: Some(Kind::Tenant(tenant("zeta", ""))) }]).unwrap_err();
    assert!(refused.to_string().contains("etcd is away; tunnels go on"), "{refused}");
    assert!(b.catch_up().is_err());
    assert_eq!(a.tenants().len(), 1);
    cluster.0.away.store(false, Ordering::Relaxed);
    apply(&b, vec![v1::Object { kind: Some(Kind::Tenant(tenant("zeta", ""))) }]).unwrap();
    a.catch_up().unwrap();
    assert_eq!(a.tenants().len(), 2);
    cluster.end();
    followers.into_iter().for_each(|follower| follower.join().unwrap());
}

#[test]
fn the_audit_entries_of_a_node_are_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let (cluster, [a, b], followers) = pair(directory.path());
    apply(&a, vec![v1::Object { kind: Some(Kind::Tenant(tenant("acme", ""))) }]).unwrap();
    apply(&b, vec![v1::Object { kind: Some(Kind::Tenant(tenant("zeta", ""))) }]).unwrap();
    let keys: Vec<_> = cluster.load().unwrap().into_iter().map(|(key, _)| key).collect();
    for node in ["a", "b"] {
        let prefix = format!("catalog/audit/{node}/");
        assert_eq!(keys.iter().filter(|key| key.starts_with(&prefix)).count(), 1, "{keys:?}");
    }
    cluster.end();
    followers.into_iter().for_each(|follower| follower.join().unwrap());
}

/// As in an upgrade, in which each node is started anew while others have written already.
#[test]
fn a_node_starts_beside_rows_of_a_kind_that_only_a_newer_version_has() {
    let directory = tempfile::tempdir().unwrap();
    let (cluster, [a, _], followers) = pair(directory.path());
    apply(&a, vec![v1::Object { kind: Some(Kind::Tenant(tenant("acme", ""))) }]).unwrap();
    let newer = "tenants/acme/gateways/one".to_owned();
    cluster.0.state.lock().unwrap().rows.insert(newer, b"\xff".to_vec());
    let started = open(&cluster, directory.path(), "c", &directory.path().join("key")).unwrap();
    assert_eq!(started.tenants(), a.tenants());
    cluster.end();
    followers.into_iter().for_each(|follower| follower.join().unwrap());
}
