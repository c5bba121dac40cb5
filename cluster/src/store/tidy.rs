//! What nobody has use for any more.
//!
//! An audit entry lies in etcd until it is known to be in the log of the node that made the change, which sees to that itself. A node
//! that is gone for good does not, so another one takes its entries into its own log. Parts of a large change that was not made, and that
//! its writer could not take back, go too.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use culvert_proto::etcd::RangeRequest;
use tenants::Catalog;
use tenants::store::{StoreError, audit_folder, audit_node};

use super::EtcdStore;
use crate::etcd::{EtcdError, end_of};

/// Between rounds: nothing waits for it.
const ROUND: Duration = Duration::from_secs(3600);
/// Nodes that are looked for in a round: each is a question to etcd, and clusters have fewer.
const MAX_NODES: usize = 1_000;

/// Tidies up now and then, for as long as it is polled.
pub(super) async fn tidy(store: &EtcdStore, catalog: &Arc<Catalog>) {
    loop {
        tokio::time::sleep(ROUND).await;
        if let Err(error) = round(store, catalog, SystemTime::now()).await {
            tracing::debug!(%error, "audit entries stay in the cluster's store for another round");
        }
        if store.remains.swap(false, Ordering::Relaxed)
            && let Err(error) = store.clear_remains().await
        {
            tracing::debug!(%error, "parts of a change that was not made stay for another round");
            store.remains.store(true, Ordering::Relaxed);
        }
    }
}

pub(super) async fn round(
    store: &EtcdStore,
    catalog: &Arc<Catalog>,
    now: SystemTime,
) -> Result<(), StoreError> {
    blocking(catalog, |catalog| catalog.settle_audit()).await?;
    for node in store.gone().await? {
        blocking(catalog, move |catalog| catalog.inherit_audit(&node, now)).await?;
    }
    Ok(())
}

impl EtcdStore {
    /// Nodes that are not there and have audit entries.
    async fn gone(&self) -> Result<Vec<String>, EtcdError> {
        let mut gone = Vec::new();
        let folder = self.etcd.key(&format!("rows/{}", audit_folder(None)));
        let (mut key, range_end) = (folder.clone(), end_of(folder));
        for _ in 0..MAX_NODES {
            let request = RangeRequest {
                key,
                range_end: range_end.clone(),
                limit: 1,
                keys_only: true,
                ..RangeRequest::default()
            };
            let found = self.etcd.range(request).await?;
            let Some(first) = found.kvs.into_iter().next() else { break };
            let row = self.etcd.strip(&first.key).and_then(|key| key.strip_prefix("rows/"));
            let Some(node) = row.and_then(audit_node) else {
                key = [first.key.as_slice(), &[0]].concat();
                continue;
            };
            if self.etcd.get(&format!("nodes/{node}")).await?.kvs.is_empty() {
                gone.push(node.to_owned());
            }
            key = end_of(self.etcd.key(&format!("rows/{}", audit_folder(Some(node)))));
        }
        Ok(gone)
    }
}

/// Does something with the catalog, which may wait: for who writes, the disk, and etcd.
pub(super) async fn blocking(
    catalog: &Arc<Catalog>,
    act: impl FnOnce(&Catalog) -> Result<(), StoreError> + Send + 'static,
) -> Result<(), StoreError> {
    let catalog = Arc::clone(catalog);
    let done = tokio::task::spawn_blocking(move || act(&catalog)).await;
    done.unwrap_or_else(|error| Err(StoreError::Backend(error.to_string())))
}
