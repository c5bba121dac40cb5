//! All rows, at one moment.

use std::collections::BTreeMap;

use culvert_proto::etcd::{KeyValue, RangeRequest};

use super::{EtcdStore, Known};
use crate::etcd::{EtcdError, delete_range, end_of, unchanged_since};

/// Rows of a page.
const PAGE: i64 = 2_000;
/// How often something begins again because the moment is over: etcd forgets after minutes, and a head is replaced with each change.
const TRIES: usize = 3;

pub(super) struct Loaded {
    pub(super) rows: BTreeMap<String, Vec<u8>>,
    pub(super) known: Known,
}

impl EtcdStore {
    /// All rows, of the moment that the head was read.
    pub(super) async fn load_all(&self) -> Result<Loaded, EtcdError> {
        for _ in 1..TRIES {
            match self.load_once().await {
                Err(EtcdError::Compacted(_)) => {}
                done => return done,
            }
        }
        self.load_once().await
    }

    async fn load_once(&self) -> Result<Loaded, EtcdError> {
        let known = self.head().await?;
        let mut rows = BTreeMap::new();
        for kv in self.page_through("rows/", known.at).await? {
            if let Some(key) = self.etcd.strip(&kv.key).and_then(|key| key.strip_prefix("rows/")) {
                rows.insert(key.to_owned(), kv.value);
            }
        }
        for (key, value) in self.rows_in_parts(&known.head, known.at).await? {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(Loaded { rows, known })
    }

    async fn page_through(&self, folder: &str, revision: i64) -> Result<Vec<KeyValue>, EtcdError> {
        let mut key = self.etcd.key(folder);
        let (range_end, mut found) = (end_of(key.clone()), Vec::new());
        loop {
            let request = RangeRequest {
                key,
                range_end: range_end.clone(),
                limit: PAGE,
                revision,
                ..RangeRequest::default()
            };
            let page = self.etcd.range(request).await?;
            found.extend(page.kvs);
            match found.last().filter(|_| page.more) {
                // The key that follows.
                Some(last) => key = [last.key.as_slice(), &[0]].concat(),
                None => return Ok(found),
            }
        }
    }

    /// Removes parts of changes that were never made: of nodes that died over them. Those of one that is being written right now go
    /// too, and it is written again.
    pub(super) async fn clear_remains(&self) -> Result<(), EtcdError> {
        for _ in 0..TRIES {
            if self.clear_but(&self.head().await?).await? {
                return Ok(());
            }
        }
        // Whoever writes that much is there; what remains waits for the next start.
        Ok(())
    }

    /// Removes all parts but those of this head, if it is the head still: another one may name others by now. False if it is not.
    pub(super) async fn clear_but(&self, known: &Known) -> Result<bool, EtcdError> {
        let kept = self.etcd.key(&known.head.folder());
        let mut begin = self.etcd.key("parts/");
        let end = end_of(begin.clone());
        let mut remove = Vec::new();
        if known.head.parts > 0 {
            remove.push(delete_range(begin, kept.clone()));
            begin = end_of(kept);
        }
        remove.push(delete_range(begin, end));
        let still = vec![unchanged_since(self.etcd.key("head"), known.written)];
        Ok(self.etcd.transact(still, remove, Vec::new()).await?.succeeded)
    }
}
