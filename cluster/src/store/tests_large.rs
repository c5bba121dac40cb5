//! What is larger than an answer of etcd.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use culvert_proto::v1;
use culvert_proto::v1::object::Kind;
use tenants::{Catalog, Options};

use super::*;
use crate::etcd::memory::{self, Memory};
use crate::servers::Servers;

/// Requests and answers take no time.
#[derive(Debug)]
struct AtOnce;

impl memory::Path for AtOnce {
    fn time(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

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
    let request = v1::ApplyRequest { objects, validate_only: false };
    tokio::task::block_in_place(|| catalog.apply(request)).unwrap();
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
    let mut told = false;
    let follow = super::follow::follow_until_it_ends(&store, &b, &mut seen, &mut told);
    let reached = async {
        while b.secrets().len() < 60 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        error = follow => panic!("{error}"),
        () = reached => {}
        () = tokio::time::sleep(Duration::from_secs(10)) => panic!("{} secrets", b.secrets().len()),
    }
    assert_eq!(b.snapshot().revision, a.snapshot().revision);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_missed_at_a_real_etcd_may_be_more_than_an_answer() {
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
    let mut told = false;
    let follow = super::follow::follow_until_it_ends(&other, &b, &mut seen, &mut told);
    let reached = async {
        while b.tenants().is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::select! {
        error = follow => panic!("{error}"),
        () = reached => {}
        () = tokio::time::sleep(Duration::from_secs(10)) => panic!("nothing has come"),
    }
}
