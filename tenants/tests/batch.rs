//! Many objects in one write: all of them or none, on disk as in memory, and a dry run says which.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use common::peer;
use culvert_proto::v1;
use culvert_proto::v1::object::Kind;
use proptest::prelude::*;
use tenants::store::{Batch, MemoryStore, Store, StoreError, Vault};
use tenants::{Action, BatchError, Catalog, Snapshot};

/// Fails while it is told to.
#[derive(Default)]
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

/// An object over few names and subnets, so that they meet.
#[derive(Clone, Debug)]
enum Thing {
    Tenant { tenant: u8, max_peers: u32 },
    Secret { tenant: u8, value: u8 },
    Peer { tenant: u8, peer: u8, subnet: u8 },
}

impl Thing {
    fn object(&self) -> v1::Object {
        let kind = match self {
            Self::Tenant { tenant, max_peers } => Kind::Tenant(v1::Tenant {
                name: format!("tenants/t{tenant}"),
                quotas: Some(v1::Quotas { max_peers: *max_peers, ..Default::default() }),
                ..Default::default()
            }),
            Self::Secret { tenant, value } => Kind::Secret(v1::Secret {
                name: format!("tenants/t{tenant}/secrets/psk"),
                value: vec![b'a' + value],
                ..Default::default()
            }),
            Self::Peer { tenant, peer: id, subnet } => {
                Kind::Peer(peer(&format!("t{tenant}"), &format!("p{id}"), &format!("10.{subnet}.0.0/24")))
            }
        };
        v1::Object { kind: Some(kind) }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Thing>),
    Delete { names: Vec<String>, force: bool },
}

fn any_step() -> impl Strategy<Value = (Step, bool)> {
    let thing = prop_oneof![
        2 => (0u8..2, 1u32..5).prop_map(|(tenant, max_peers)| Thing::Tenant { tenant, max_peers }),
        2 => (0u8..2, 0u8..3).prop_map(|(tenant, value)| Thing::Secret { tenant, value }),
        5 => (0u8..2, 0u8..4, 0u8..5).prop_map(|(tenant, peer, subnet)| Thing::Peer { tenant, peer, subnet }),
    ];
    let name = prop_oneof![
        (0u8..2).prop_map(|tenant| format!("tenants/t{tenant}")),
        (0u8..2).prop_map(|tenant| format!("tenants/t{tenant}/secrets/psk")),
        (0u8..2, 0u8..4).prop_map(|(tenant, peer)| format!("tenants/t{tenant}/peers/p{peer}")),
    ];
    let step = prop_oneof![
        3 => proptest::collection::vec(thing, 1..6).prop_map(Step::Apply),
        1 => (proptest::collection::vec(name, 1..4), any::<bool>())
            .prop_map(|(names, force)| Step::Delete { names, force }),
    ];
    (step, proptest::bool::weighted(0.2))
}

/// What it said, in words that can be compared.
fn run(catalog: &Catalog, step: &Step, validate_only: bool) -> Result<Vec<String>, String> {
    match step {
        Step::Apply(things) => {
            let objects = things.iter().map(Thing::object).collect();
            let applied = catalog.apply(v1::ApplyRequest { objects, validate_only, ..Default::default() });
            let words = |applied: Vec<tenants::Applied>| {
                applied
                    .into_iter()
                    .map(|one| format!("{} {:?} {:?}", one.name, one.action, one.impact))
                    .collect()
            };
            applied.map(words).map_err(|error| error.to_string())
        }
        Step::Delete { names, force } => {
            let names = names.clone();
            let request = v1::DeleteRequest { names, validate_only, force: *force, allow_missing: true };
            catalog.delete(&request).map_err(|error| error.to_string())
        }
    }
}

fn same(a: &Snapshot, b: &Snapshot) -> bool {
    (a.revision, &a.tenants, &a.peers) == (b.revision, &b.tenants, &b.peers)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn all_or_none_and_the_dry_run_says_which(steps in proptest::collection::vec(any_step(), 1..20)) {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        let store = Arc::new(Fragile::default());
        let catalog = Catalog::with(Box::new(Arc::clone(&store)), Vault::create(&key).unwrap()).unwrap();
        for (step, broken) in &steps {
            let before = catalog.snapshot();
            let dry = run(&catalog, step, true);
            prop_assert!(same(&catalog.snapshot(), &before));
            store.broken.store(*broken, Ordering::Relaxed);
            let done = run(&catalog, step, false);
            store.broken.store(false, Ordering::Relaxed);
            if !(*broken && dry.is_ok()) {
                prop_assert_eq!(&done, &dry);
            }
            if done.is_err() {
                prop_assert!(same(&catalog.snapshot(), &before));
            }
            let again = Catalog::with(Box::new(Arc::clone(&store)), Vault::open(&key).unwrap().unwrap()).unwrap();
            prop_assert!(same(&again.snapshot(), &catalog.snapshot()));
        }
    }
}

#[test]
fn every_fault_is_told_with_its_place() {
    let catalog = common::catalog(&["acme"]);
    let object = |kind| v1::Object { kind: Some(kind) };
    let bad = v1::Peer { local_identity: String::new(), ..peer("acme", "b1", "10.0.0.1/24") };
    let objects = vec![
        object(Kind::Peer(peer("nowhere", "b1", "10.3.0.0/24"))),
        object(Kind::Peer(peer("acme", "b2", "10.4.0.0/24"))),
        object(Kind::Peer(bad)),
        v1::Object { kind: None },
    ];
    let error = catalog.apply(v1::ApplyRequest { objects, ..Default::default() }).unwrap_err();
    let BatchError::Objects(faults) = &error else { panic!("{error}") };
    assert_eq!(faults.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 2, 3]);
    assert!(error.to_string().contains("objects[2]: peer.local_identity"), "{error}");
    assert!(catalog.peers().is_empty());

    let twice = vec![object(Kind::Peer(peer("acme", "b2", "10.4.0.0/24"))); 2];
    let error = catalog.apply(v1::ApplyRequest { objects: twice, ..Default::default() }).unwrap_err();
    assert!(error.to_string().contains("objects[1]: name: is there twice"), "{error}");
    let names = vec!["tenants/acme/bees/b1".to_owned()];
    let error = catalog.delete(&v1::DeleteRequest { names, ..Default::default() }).unwrap_err();
    assert!(error.to_string().contains("is no name of a tenant, peer, secret or token"), "{error}");
}

/// Who read an object to send it back in another form does not bring back what was deleted meanwhile, whatever etag it had.
#[test]
fn what_is_only_to_be_changed_is_not_created() {
    let catalog = common::catalog(&["acme"]);
    let tenant = |name: &str, etag: &str| v1::Object {
        kind: Some(Kind::Tenant(v1::Tenant {
            name: format!("tenants/{name}"),
            display_name: "Acme".into(),
            etag: etag.into(),
            ..Default::default()
        })),
    };
    let existing = vec!["tenants/acme".to_owned()];
    let request = |etag: &str| v1::ApplyRequest {
        objects: vec![tenant("acme", etag), tenant("globex", "")],
        existing: existing.clone(),
        ..Default::default()
    };
    let applied = catalog.apply(request("")).unwrap();
    assert_eq!(applied.iter().map(|one| one.action).collect::<Vec<_>>(), [Action::Updated, Action::Created]);
    let etag = catalog.get_tenant(&"tenants/acme".parse().unwrap()).unwrap().meta.etag();
    for name in ["tenants/acme", "tenants/globex"] {
        catalog
            .delete_tenant(&v1::DeleteTenantRequest { name: name.into(), force: true, ..Default::default() })
            .unwrap();
    }
    for etag in [etag.as_str(), ""] {
        let error = catalog.apply(request(etag)).unwrap_err();
        let BatchError::Objects(faults) = &error else { panic!("{error}") };
        let [(0, tenants::Error::NotFound(name))] = faults.as_slice() else { panic!("{error}") };
        assert_eq!(name, "tenants/acme");
        assert!(catalog.snapshot().tenants.is_empty());
    }
    let request = v1::ApplyRequest { objects: vec![tenant("globex", "")], existing, ..Default::default() };
    let error = catalog.apply(request).unwrap_err();
    assert!(error.to_string().contains("\"tenants/acme\" is none of the objects"), "{error}");
}

#[test]
fn one_write_is_one_revision() {
    let catalog = common::catalog(&["acme"]);
    let mut changes = catalog.subscribe();
    let before = catalog.snapshot().revision;
    let objects = (0..5).map(|i| v1::Object {
        kind: Some(Kind::Peer(peer("acme", &format!("b{i}"), &format!("10.{i}.0.0/24")))),
    });
    let request = v1::ApplyRequest { objects: objects.collect(), ..Default::default() };
    let applied = catalog.apply(request.clone()).unwrap();
    assert!(applied.iter().all(|one| one.action == Action::Created));
    assert_eq!(catalog.snapshot().revision, before + 1);
    let revisions: Vec<_> =
        std::iter::from_fn(|| changes.try_recv().ok()).map(|change| change.revision).collect();
    assert_eq!(revisions, [before + 1; 5]);
    // Once more it changes nothing, and writes nothing.
    assert!(catalog.apply(request).unwrap().iter().all(|one| one.action == Action::Unchanged));
    assert_eq!(catalog.snapshot().revision, before + 1);
}

/// A tenant that is deleted by force takes its peers along, whatever else is named.
#[test]
fn what_goes_with_its_tenant_may_be_named_beside_it() {
    let names = ["tenants/acme/secrets/psk", "tenants/acme/peers/b1", "tenants/acme"];
    for named in [vec![0, 2], vec![2, 0], vec![2, 1], vec![0, 1, 2], vec![2]] {
        let catalog = common::catalog(&["acme"]);
        for id in ["b1", "b2"] {
            let peer = peer("acme", id, if id == "b1" { "10.1.0.0/24" } else { "10.2.0.0/24" });
            let object = v1::Object { kind: Some(Kind::Peer(peer)) };
            catalog.apply(v1::ApplyRequest { objects: vec![object], ..Default::default() }).unwrap();
        }
        let named: Vec<_> = named.into_iter().map(|at| names[at].to_owned()).collect();
        let request = v1::DeleteRequest { names: named.clone(), ..Default::default() };
        assert!(catalog.delete(&request).is_err(), "{named:?} without force");
        let gone = catalog.delete(&v1::DeleteRequest { force: true, ..request }).unwrap();
        assert_eq!(gone.len(), 4, "{named:?}: {gone:?}");
        assert_eq!(gone.last().map(String::as_str), Some("tenants/acme"));
        assert!(catalog.snapshot().tenants.is_empty());
    }
    let catalog = common::catalog(&["acme"]);
    let object = v1::Object { kind: Some(Kind::Peer(peer("acme", "b1", "10.1.0.0/24"))) };
    catalog.apply(v1::ApplyRequest { objects: vec![object], ..Default::default() }).unwrap();
    let names = vec!["tenants/acme/secrets/psk".to_owned()];
    let error = catalog.delete(&v1::DeleteRequest { names, force: true, ..Default::default() }).unwrap_err();
    assert!(error.to_string().contains("is in use by tenants/acme/peers/b1"), "{error}");
}
