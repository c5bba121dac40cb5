//! All rows, at one moment.

use std::collections::BTreeMap;

use tenants::store::{audit_folder, is_audit};

use super::{EtcdStore, Known};
use crate::etcd::{Etcd, EtcdError, delete_range, end_of, unchanged_since};

/// How often something begins again because the moment is over: etcd forgets after minutes, and a head is replaced with each change.
const TRIES: usize = 3;

pub(super) struct Loaded {
    pub(super) rows: BTreeMap<String, Vec<u8>>,
    pub(super) known: Known,
}

/// Which rows are read.
enum Which<'a> {
    /// All but entries of the audit log: those are of one node each, and nobody else has use for them.
    Catalog,
    /// The entries of this node.
    AuditOf(&'a str),
}

impl Which<'_> {
    fn has(&self, key: &str) -> bool {
        match self {
            Self::Catalog => !is_audit(key),
            Self::AuditOf(node) => key.starts_with(&audit_folder(Some(node))),
        }
    }

    /// Where they lie, without the prefix of the cluster: from the first key up to the second.
    fn ranges(&self, etcd: &Etcd) -> Vec<(Vec<u8>, Vec<u8>)> {
        let rows = etcd.key("rows/");
        let folder = |node| etcd.key(&format!("rows/{}", audit_folder(node)));
        match self {
            Self::Catalog => vec![(rows.clone(), folder(None)), (end_of(folder(None)), end_of(rows))],
            Self::AuditOf(node) => vec![(folder(Some(node)), end_of(folder(Some(node))))],
        }
    }
}

impl EtcdStore {
    /// All rows of the catalog, of the moment that the head was read.
    pub(super) async fn load_all(&self) -> Result<Loaded, EtcdError> {
        self.load_which(&Which::Catalog).await
    }

    /// The audit entries of a node that are not known to be in its log.
    pub(super) async fn load_audit_of(&self, node: &str) -> Result<Loaded, EtcdError> {
        self.load_which(&Which::AuditOf(node)).await
    }

    async fn load_which(&self, which: &Which<'_>) -> Result<Loaded, EtcdError> {
        for _ in 1..TRIES {
            match self.load_once(which).await {
                Err(EtcdError::Compacted(_)) => {}
                done => return done,
            }
        }
        self.load_once(which).await
    }

    async fn load_once(&self, which: &Which<'_>) -> Result<Loaded, EtcdError> {
        let known = self.head().await?;
        let mut rows = BTreeMap::new();
        for (begin, end) in which.ranges(&self.etcd) {
            for kv in self.etcd.all(begin, end, known.at).await?.0 {
                if let Some(key) = self.etcd.strip(&kv.key).and_then(|key| key.strip_prefix("rows/")) {
                    rows.insert(key.to_owned(), kv.value);
                }
            }
        }
        // Those of a change whose maker died over it are among them.
        let in_parts = self.rows_in_parts(&known.head, known.at).await?;
        for (key, value) in in_parts.into_iter().filter(|(key, _)| which.has(key)) {
            match value {
                Some(value) => rows.insert(key, value),
                None => rows.remove(&key),
            };
        }
        Ok(Loaded { rows, known })
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
