//! Several who write and read at a time, and a store that fails.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use common::{catalog, create_peer, create_secret, create_tenant, peer};
use culvert_proto::v1;
use tenants::store::{Batch, MemoryStore, Store, StoreError, Vault};
use tenants::{Catalog, ChangeKind, Error, Object};

#[test]
fn of_many_who_create_one_name_one_succeeds() {
    let catalog = catalog(&["acme"]);
    let created = thread::scope(|scope| {
        let create = || catalog.create_peer(&create_peer(peer("acme", "b1", "10.1.0.0/24"))).is_ok();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(create)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|ok| *ok).count()
    });
    assert_eq!(created, 1);
    assert_eq!(catalog.peers().len(), 1);
}

#[test]
fn of_many_who_claim_one_subnet_one_succeeds() {
    let catalog = catalog(&["acme"]);
    let created = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|i| {
                let catalog = &catalog;
                scope.spawn(move || {
                    catalog.create_peer(&create_peer(peer("acme", &format!("b{i}"), "10.1.0.0/24"))).is_ok()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).filter(|ok| *ok).count()
    });
    assert_eq!(created, 1);
}

/// Whenever one begins to follow: a snapshot and the changes after it are the catalog as it is.
#[test]
fn a_snapshot_and_the_changes_after_it_fit_together() {
    let catalog = catalog(&["acme"]);
    let quotas = Some(v1::Quotas { max_peers: 10_000, ..Default::default() });
    let tenant = Some(v1::Tenant { name: "tenants/acme".to_owned(), quotas, ..Default::default() });
    catalog.update_tenant(&v1::UpdateTenantRequest { tenant, ..Default::default() }).unwrap();
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for i in 0..300 {
                let id = format!("b{i}");
                let subnet = format!("10.{}.{}.0/24", i / 256, i % 256);
                catalog.create_peer(&create_peer(peer("acme", &id, &subnet))).unwrap();
                if i % 3 == 0 {
                    let name = format!("tenants/acme/peers/{id}");
                    catalog.delete_peer(&v1::DeletePeerRequest { name, ..Default::default() }).unwrap();
                }
            }
        });
        let mut followers = Vec::new();
        // Enough of them to fall between any two steps of a write.
        while !writer.is_finished() && followers.len() < 200 {
            let changes = catalog.subscribe();
            followers.push((changes, catalog.snapshot()));
        }
        writer.join().unwrap();
        let expected: Vec<String> = catalog.peers().iter().map(|peer| peer.name.to_string()).collect();
        for (mut changes, snapshot) in followers {
            let mut seen: BTreeMap<_, _> =
                snapshot.peers.iter().map(|peer| (peer.name.clone(), peer.uid)).collect();
            while let Ok(change) = changes.try_recv() {
                let Object::Peer(peer) = change.object else { continue };
                if change.revision <= snapshot.revision {
                    continue;
                }
                match change.kind {
                    ChangeKind::Created => assert!(seen.insert(peer.name.clone(), peer.uid).is_none()),
                    ChangeKind::Updated => assert!(seen.contains_key(&peer.name)),
                    ChangeKind::Deleted => assert!(seen.remove(&peer.name).is_some()),
                }
            }
            assert_eq!(seen.keys().map(ToString::to_string).collect::<Vec<_>>(), expected);
        }
    });
}

/// Fails while it is told to.
struct Fragile {
    inner: MemoryStore,
    broken: AtomicBool,
}

impl Store for Fragile {
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.inner.load()
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        if self.broken.load(Ordering::Relaxed) {
            return Err(StoreError::Backend("no space left on device".to_owned()));
        }
        self.inner.commit(batch)
    }
}

#[test]
fn what_was_not_kept_was_not_done() {
    let store = Arc::new(Fragile { inner: MemoryStore::default(), broken: AtomicBool::new(false) });
    let catalog = Catalog::with(Box::new(Arc::clone(&store)), Vault::ephemeral().unwrap()).unwrap();
    catalog.create_tenant(&create_tenant("acme")).unwrap();
    catalog.create_secret(create_secret("acme", "psk", b"x")).unwrap();
    let mut changes = catalog.subscribe();
    let create = create_peer(peer("acme", "b1", "10.1.0.0/24"));

    store.broken.store(true, Ordering::Relaxed);
    let error = catalog.create_peer(&create).unwrap_err();
    assert!(matches!(&error, Error::Store(_)) && error.to_string().contains("no space left"), "{error}");
    assert!(catalog.peers().is_empty() && changes.try_recv().is_err());
    let force =
        v1::DeleteTenantRequest { name: "tenants/acme".to_owned(), force: true, ..Default::default() };
    assert!(catalog.delete_tenant(&force).is_err());
    assert_eq!(catalog.tenants().len(), 1);

    store.broken.store(false, Ordering::Relaxed);
    catalog.create_peer(&create).unwrap();
    assert_eq!(changes.try_recv().unwrap().kind, ChangeKind::Created);
}
