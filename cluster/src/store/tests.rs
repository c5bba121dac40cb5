//! Catalogs on a real etcd.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use culvert_proto::v1;
use culvert_proto::v1::object::Kind;
use tenants::store::{Batch, Store, StoreError};
use tenants::{Applied, BatchError, Catalog, Options};
use tokio::task::JoinHandle;

use super::*;
use crate::servers::Servers;

/// More than an election takes on any machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A node: its catalog, and the task that follows.
struct Node {
    store: EtcdStore,
    catalog: Arc<Catalog>,
    following: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.following.abort();
    }
}

/// A catalog on these members that does not follow what others write.
fn open(servers: &Servers, name: &str) -> (EtcdStore, Arc<Catalog>) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let key = servers.file("key");
    if let Ok(mut file) = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&key) {
        std::io::Write::write_all(&mut file, &[7; 32]).unwrap();
    }
    let store = EtcdStore::new(servers.client());
    let options = Options { key_file: Some(key), ..Options::default() };
    let catalog = Catalog::open_shared(&servers.file(name), Box::new(store.clone()), name, &options);
    (store, Arc::new(catalog.unwrap()))
}

fn node(servers: &Servers, name: &str) -> Node {
    let (store, catalog) = open(servers, name);
    let following = tokio::spawn(follow(store.clone(), Arc::clone(&catalog)));
    Node { store, catalog, following }
}

fn tenant(name: &str) -> v1::Object {
    let tenant = v1::Tenant { name: format!("tenants/{name}"), ..Default::default() };
    v1::Object { kind: Some(Kind::Tenant(tenant)) }
}

fn secret(tenant: &str, id: &str, value: Vec<u8>) -> v1::Object {
    let name = format!("tenants/{tenant}/secrets/{id}");
    v1::Object { kind: Some(Kind::Secret(v1::Secret { name, value, ..Default::default() })) }
}

fn apply(catalog: &Catalog, objects: Vec<v1::Object>) -> Result<Vec<Applied>, BatchError> {
    tokio::task::block_in_place(|| catalog.apply(v1::ApplyRequest { objects, ..Default::default() }))
}

/// While members are about to agree on who leads them, writes are refused.
async fn apply_soon(catalog: &Catalog, name: &str) {
    while let Err(error) = apply(catalog, vec![tenant(name)]) {
        let away = matches!(&error, BatchError::Whole(tenants::Error::Store(StoreError::Away { .. })));
        assert!(away, "{error}");
        tokio::task::yield_now().await;
    }
}

/// Whoever follows members of which some go looks for the others for a while, and says as long that etcd is away.
fn caught_up(node: &Node) -> &Catalog {
    let begin = Instant::now();
    while let Err(error) = tokio::task::block_in_place(|| node.catalog.catch_up()) {
        assert!(matches!(error, StoreError::Away { .. }) && begin.elapsed() < PATIENCE, "{error}");
    }
    &node.catalog
}

/// Names of tenants, after all that was written is there.
fn tenants(node: &Node) -> Vec<String> {
    caught_up(node).tenants().iter().map(|tenant| tenant.name.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_see_what_each_other_writes_and_lose_nothing() {
    let Some(servers) = Servers::start(1) else { return };
    let nodes = [node(&servers, "a"), node(&servers, "b")];
    apply(&nodes[0].catalog, vec![tenant("acme")]).unwrap();
    assert_eq!(tenants(&nodes[1]), ["tenants/acme"]);
    let writers: Vec<_> = (0..2)
        .map(|side| {
            let catalog = Arc::clone(&nodes[side].catalog);
            tokio::spawn(async move {
                for number in 0..20 {
                    let id = format!("s{side}-{number}");
                    apply(&catalog, vec![secret("acme", &id, vec![number; 8])]).unwrap();
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.unwrap();
    }
    let [a, b] = [caught_up(&nodes[0]).secrets(), caught_up(&nodes[1]).secrets()];
    assert_eq!((a.len(), &a), (40, &b));
    // A node that starts later has it all.
    assert_eq!(node(&servers, "c").catalog.secrets(), a);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_any_size_is_made_at_once() {
    let Some(servers) = Servers::start(1) else { return };
    let nodes = [node(&servers, "a"), node(&servers, "b")];
    let quotas = Some(v1::Quotas { max_secrets: 1_500, ..Default::default() });
    let acme = v1::Tenant { name: "tenants/acme".into(), quotas, ..Default::default() };
    let mut objects = vec![v1::Object { kind: Some(Kind::Tenant(acme)) }];
    objects.extend((0..1_500).map(|number| secret("acme", &format!("s{number}"), vec![1; 1_000])));
    apply(&nodes[0].catalog, objects).unwrap();
    assert_eq!(caught_up(&nodes[1]).secrets().len(), 1_500);
    let revision = nodes[0].catalog.snapshot().revision;
    assert_eq!(nodes[1].catalog.snapshot().revision, revision);
    assert!(nodes[1].catalog.secrets().iter().all(|secret| secret.meta.revision == revision));
    // And the rows are in their places, with nothing left of the way there.
    let loaded = nodes[0].store.load_all().await.unwrap();
    assert_eq!(loaded.known.head.parts, 0);
    assert_eq!(loaded.rows.keys().filter(|key| key.contains("/secrets/")).count(), 1_500);
    let parts = nodes[0].store.etcd.range(culvert_proto::etcd::RangeRequest {
        key: nodes[0].store.etcd.key("parts/"),
        range_end: crate::etcd::end_of(nodes[0].store.etcd.key("parts/")),
        ..Default::default()
    });
    assert_eq!(parts.await.unwrap().count, 0);
    let all = v1::DeleteTenantRequest { name: "tenants/acme".into(), force: true, ..Default::default() };
    tokio::task::block_in_place(|| nodes[1].catalog.delete_tenant(&all)).unwrap();
    assert!(caught_up(&nodes[0]).secrets().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_comes_next_finishes_for_one_who_died() {
    let Some(servers) = Servers::start(1) else { return };
    let node = node(&servers, "a");
    apply(&node.catalog, vec![tenant("acme")]).unwrap();
    // As far as one gets who dies after the change was made: its rows lie in parts.
    let known = node.store.head().await.unwrap();
    let mut batch = Batch::default();
    (0..150).for_each(|number| batch.put(format!("catalog/used/tokens/t{number}"), vec![0; 8]));
    let next = known.head.next(known.head.revision + 1, Head::commit());
    let died = node.store.begin_in_parts(&batch, &known, next).await.ok().unwrap();
    assert_eq!(died.head.parts, 1);
    let loaded = node.store.load_all().await.unwrap();
    assert_eq!(loaded.rows.keys().filter(|key| key.starts_with("catalog/used/")).count(), 150);
    // Remains of changes that were made are none.
    node.store.clear_remains().await.unwrap();
    apply(&node.catalog, vec![tenant("zeta")]).unwrap();
    let loaded = node.store.load_all().await.unwrap();
    assert_eq!((loaded.known.head.parts, loaded.known.head.revision), (0, known.head.revision + 2));
    assert_eq!(loaded.rows.keys().filter(|key| key.starts_with("catalog/used/")).count(), 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_who_begins_while_parts_are_cleared_is_told_to_write_again() {
    let Some(servers) = Servers::start(1) else { return };
    let (store, _) = open(&servers, "a");
    let known = store.head().await.unwrap();
    let mut batch = Batch::default();
    (0..150).for_each(|number| batch.put(format!("catalog/used/tokens/t{number}"), vec![0; 8]));
    let mut next = known.head.next(known.head.revision + 1, Head::commit());
    store.write_parts(&batch, &mut next).await.ok().unwrap();
    store.clear_remains().await.unwrap();
    assert!(matches!(store.name_parts(&known, &next).await, Err(EtcdStoreError::Outrun(_))));
    assert_eq!(store.head().await.unwrap().head, known.head);
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_a_head_has_named_meanwhile_are_not_cleared() {
    let Some(servers) = Servers::start(1) else { return };
    let (store, _) = open(&servers, "a");
    let known = store.head().await.unwrap();
    let mut batch = Batch::default();
    (0..150).for_each(|number| batch.put(format!("catalog/used/tokens/t{number}"), vec![0; 8]));
    let next = known.head.next(known.head.revision + 1, Head::commit());
    // One who starts has read the head when the change is made, and whoever made it dies.
    let made = store.begin_in_parts(&batch, &known, next).await.ok().unwrap();
    assert!(!store.clear_but(&known).await.unwrap());
    assert_eq!(store.rows_in_parts(&made.head, 0).await.unwrap().len(), 150);
    store.clear_remains().await.unwrap();
    assert_eq!(store.rows_in_parts(&made.head, 0).await.unwrap().len(), 150);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_etcd_has_forgotten_comes_with_all_rows() {
    let Some(servers) = Servers::start(1) else { return };
    let a = node(&servers, "a");
    let (store, b) = open(&servers, "b");
    let mut seen = Some(store.head().await.unwrap().at);
    for name in ["acme", "zeta"] {
        apply(&a.catalog, vec![tenant(name)]).unwrap();
    }
    a.store.etcd.compact(a.store.head().await.unwrap().at).await.unwrap();
    let end = super::follow::follow_until_it_ends(&store, &b, &mut seen, &mut 0, &mut false).await;
    assert!(matches!(end, EtcdError::Compacted(_)), "{end}");
    let following = tokio::spawn(follow(store.clone(), Arc::clone(&b)));
    let b = Node { store, catalog: b, following };
    assert_eq!(tenants(&b), ["tenants/acme", "tenants/zeta"]);
    apply(&b.catalog, vec![tenant("third")]).unwrap();
    assert_eq!(tenants(&a).len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_may_go_and_without_most_of_them_writes_are_refused() {
    let Some(mut servers) = Servers::start(3) else { return };
    let nodes = [node(&servers, "a"), node(&servers, "b")];
    apply(&nodes[0].catalog, vec![tenant("one")]).unwrap();
    servers.kill(0);
    apply_soon(&nodes[0].catalog, "two").await;
    assert_eq!(tenants(&nodes[1]), ["tenants/one", "tenants/two"]);
    servers.kill(1);
    let refused = apply(&nodes[1].catalog, vec![tenant("three")]).unwrap_err();
    let away = matches!(&refused, BatchError::Whole(tenants::Error::Store(StoreError::Away { .. })));
    assert!(away && refused.to_string().contains("tunnels go on"), "{refused}");
    assert_eq!(nodes[1].catalog.tenants().len(), 2, "reads go on");
    servers.revive(0);
    servers.revive(1);
    apply_soon(&nodes[1].catalog, "four").await;
    let there = tenants(&nodes[0]);
    assert!(there.contains(&"tenants/four".to_owned()), "{there:?}");
    assert_eq!(there, tenants(&nodes[1]));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_is_refused_with_its_file() {
    let Some(servers) = Servers::start(1) else { return };
    let node = node(&servers, "a");
    apply(&node.catalog, vec![tenant("acme")]).unwrap();
    let other = servers.file("other");
    std::fs::write(&other, [8; 32]).unwrap();
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let options = Options { key_file: Some(other), ..Options::default() };
    let store = Box::new(node.store.clone());
    let refused = Catalog::open_shared(&servers.file("b"), store, "b", &options).map(drop).unwrap_err();
    assert!(refused.to_string().contains("other"), "{refused}");
    let last = tokio::task::block_in_place(|| node.store.last_revision()).unwrap();
    assert_eq!(last, node.catalog.snapshot().revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_shown_at_one_node_was_shown_at_all() {
    let Some(servers) = Servers::start(1) else { return };
    let nodes = [node(&servers, "a"), node(&servers, "b")];
    let request = v1::CreateTokenRequest {
        token_id: "ops".to_owned(),
        token: Some(v1::Token { role: v1::Role::Viewer.into(), ..Default::default() }),
        ..Default::default()
    };
    let (_, value) = tokio::task::block_in_place(|| nodes[0].catalog.create_token(&request)).unwrap();
    let shown = SystemTime::now();
    caught_up(&nodes[1]).verify_token(value.as_bytes(), shown).unwrap();
    tokio::task::block_in_place(|| nodes[1].catalog.tend()).unwrap();
    let name = "tokens/ops".parse().unwrap();
    let last_use = |node: &Node| node.catalog.get_token(&name).unwrap().last_use();
    let known = async {
        while last_use(&nodes[0]).is_none() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), known).await.expect("it is told");
    assert_eq!(last_use(&nodes[0]), last_use(&nodes[1]));
}
