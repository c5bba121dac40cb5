//! Tokens that another node of the cluster has made or revoked a moment ago, asked for where that has not come yet.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime};

use common::{Node, create_tenant};
use culvert::access::Access;
use culvert::config::{Anonymous, GrpcConfig};
use culvert::runtime::NoRuntime;
use culvert_proto::v1;
use culvert_proto::v1::tenant_service_client::TenantServiceClient;
use culvert_proto::v1::token_service_client::TokenServiceClient;
use tenants::store::{Batch, Store, StoreError};
use tenants::{Catalog, News, Options, Role};
use tonic::{Code, Request};

/// A store as a cluster has it: the last revision decides.
#[derive(Clone, Default)]
struct Cluster(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    rows: BTreeMap<String, Vec<u8>>,
    revision: u64,
    /// Of revision 1 and on.
    log: Vec<Vec<(String, Option<Vec<u8>>)>>,
}

/// What a node has of it: its catalog hears of changes when it asks how many there are, and not before.
struct Late {
    cluster: Cluster,
    catalog: Arc<OnceLock<Weak<Catalog>>>,
}

impl Store for Late {
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        Ok(self.cluster.0.lock().unwrap().rows.clone().into_iter().collect())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut state = self.cluster.0.lock().unwrap();
        if let Some(after) = batch.after() {
            if after != state.revision {
                return Err(StoreError::Outrun(state.revision));
            }
            state.revision += 1;
            let rows = batch.rows().map(|(key, value)| (key.to_owned(), value.map(<[u8]>::to_vec)));
            state.log.push(rows.collect());
        }
        batch.apply_to(&mut state.rows);
        Ok(())
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn last_revision(&self) -> Result<u64, StoreError> {
        let log = self.cluster.0.lock().unwrap().log.clone();
        if let Some(catalog) = self.catalog.get().and_then(Weak::upgrade) {
            for (revision, rows) in (1..).zip(log.iter().cloned()) {
                catalog.follow(News::Change { revision, rows })?;
            }
        }
        Ok(log.len() as u64)
    }
}

fn open(cluster: &Cluster, directory: &Path, node: &str) -> Arc<Catalog> {
    let key = directory.join("key");
    std::fs::write(&key, [7; 32]).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let options = Options { key_file: Some(key), ..Options::default() };
    let told = Arc::new(OnceLock::new());
    let store = Late { cluster: cluster.clone(), catalog: Arc::clone(&told) };
    let catalog = Catalog::open_shared(&directory.join(node), Box::new(store), node, &options).unwrap();
    let catalog = Arc::new(catalog);
    told.set(Arc::downgrade(&catalog)).unwrap();
    catalog
}

fn create(catalog: &Catalog, id: &str) -> String {
    let expire_time = Some((SystemTime::now() + Duration::from_secs(3600)).into());
    let token = v1::Token { role: Role::Admin.to_proto().into(), expire_time, ..Default::default() };
    let request = v1::CreateTokenRequest { token_id: id.into(), token: Some(token), ..Default::default() };
    catalog.create_token(&request).unwrap().1.to_string()
}

fn revoke(catalog: &Catalog, id: &str) {
    let request = v1::DeleteTokenRequest { name: format!("tokens/{id}"), ..Default::default() };
    catalog.delete_token(&request).unwrap();
}

fn showing<T>(token: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

#[tokio::test]
async fn what_another_node_has_said_of_a_token_goes_here_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let cluster = Cluster::default();
    let (there, here) = (open(&cluster, directory.path(), "a"), open(&cluster, directory.path(), "b"));
    let config = GrpcConfig { anonymous: Some(Anonymous(None)), ..GrpcConfig::default() };
    let access = Access::new(Arc::clone(&here), &config).unwrap();
    let node = Node::with(Arc::new(NoRuntime), Arc::clone(&here), access).await;
    let mut tokens = TokenServiceClient::new(node.channel());
    let mut tenants = TenantServiceClient::new(node.channel());

    // Made there, and good here though this node has not heard of it; nobody has failed to log in.
    for id in ["reads", "writes"] {
        let value = create(&there, id);
        let me = tokens.who_am_i(showing(&value, v1::WhoAmIRequest {})).await.unwrap().into_inner();
        assert_eq!(me.principal, format!("token tokens/{id}"));
        revoke(&there, id);
        // Revoked there, and of no use here, where it is still known.
        assert!(here.verify_token(value.as_bytes(), SystemTime::now()).is_ok());
        let refused = if id == "reads" {
            tokens.who_am_i(showing(&value, v1::WhoAmIRequest {})).await.unwrap_err()
        } else {
            tenants.create_tenant(showing(&value, create_tenant("acme"))).await.unwrap_err()
        };
        assert_eq!(refused.code(), Code::Unauthenticated, "{refused:?}");
        assert_eq!(refused.message(), "the token is unknown or was revoked");
    }
    assert!(there.catch_up().is_ok() && there.tenants().is_empty());
    let failed = here.page_audit("", 100, "").unwrap().items;
    assert_eq!(failed.iter().filter(|entry| entry.result == "UNAUTHENTICATED").count(), 2);
    let refused = tokens.who_am_i(showing("cvt_invented", v1::WhoAmIRequest {})).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    node.stop().await;
}
