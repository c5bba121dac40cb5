//! The rows of the catalog in etcd.
//!
//! | key, after the prefix | what |
//! |---|---|
//! | `head` | the last change of the catalog: [`Head`] |
//! | `rows/…` | the rows, by their keys |
//! | `parts/…` | a change that is too large for one transaction of etcd |
//!
//! Whoever changes the catalog replaces the head, and only the one that it knows: of two who write at a time one is told
//! [`StoreError::Outrun`]. A small change is one transaction with its rows. A large one lies in parts first, which the head then
//! names; from that moment it is made, and its rows are put in their places after it ([`large`]). Whoever finds a head that names
//! parts does that before anything else, so it does not matter who dies when.

mod follow;
mod head;
mod large;
mod load;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_large;
#[cfg(test)]
mod tests_lost;
mod tidy;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use culvert_proto::etcd::response_op::Response;
use culvert_proto::etcd::{RangeResponse, RequestOp};
use tenants::store::{Batch, Store, StoreError};
use tokio::runtime::Handle;
use tokio::sync::watch;

pub use follow::follow;
use head::{Head, Known};

use crate::etcd::{Etcd, EtcdError, delete, put, read, unchanged_since};

/// Operations of a transaction: etcd takes 128, and the head is one.
const MAX_ROWS: usize = 100;
/// Octets of a transaction: etcd takes 1.5 MiB.
const MAX_OCTETS: usize = 1 << 20;
/// How often a change is tried whose head was only tidied up by others. Each time it is another step of theirs.
const TRIES: usize = 16;

/// Keeps the rows of the catalog in etcd.
#[derive(Clone, Debug)]
pub struct EtcdStore {
    etcd: Etcd,
    /// Nobody has answered of late: said by the follower, who notices first, and by whoever asks.
    away: Arc<AtomicBool>,
    /// The greatest revision of the catalog that is known to be there: what is read here is to be no older.
    asked: Arc<watch::Sender<u64>>,
    /// What other nodes write does not come in.
    behind: Arc<AtomicBool>,
    /// Parts of a change that was not made may lie there still.
    remains: Arc<AtomicBool>,
    /// Calls of the catalog are made here.
    runtime: Handle,
}

impl EtcdStore {
    /// On this etcd; calls are made in the runtime that this is called in, which has to have more than one thread.
    pub fn new(etcd: Etcd) -> Self {
        Self {
            etcd,
            away: Arc::default(),
            asked: Arc::default(),
            behind: Arc::default(),
            remains: Arc::default(),
            runtime: Handle::current(),
        }
    }

    /// The head as of the last write that anybody was told of.
    async fn head(&self) -> Result<Known, EtcdError> {
        let found = self.etcd.get("head").await?;
        self.known(&found)
    }

    fn known(&self, found: &RangeResponse) -> Result<Known, EtcdError> {
        let at = found.header.as_ref().map_or(0, |header| header.revision);
        let Some(kv) = found.kvs.first() else { return Ok(Known { at, ..Known::default() }) };
        Ok(Known { head: Head::read(&kv.value)?, written: kv.mod_revision, at })
    }

    /// Puts the rows of a catalog of this revision where one is at `after`, in which there is nothing.
    ///
    /// # Errors
    /// If it is at another one meanwhile, or etcd is away.
    pub fn import(&self, rows: Vec<(String, Vec<u8>)>, after: u64, revision: u64) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for (key, value) in rows {
            batch.put(key, value);
        }
        self.changed(self.block_on(self.change(&batch, after, revision)))
    }

    fn changed(&self, outcome: Result<(), EtcdStoreError>) -> Result<(), StoreError> {
        match outcome {
            Err(EtcdStoreError::Outrun(revision)) => Err(StoreError::Outrun(revision)),
            Err(EtcdStoreError::TooLarge) => Err(StoreError::TooLarge { limit: large::LIMIT }),
            Err(EtcdStoreError::Etcd(error)) => Err(error.into()),
            Ok(()) => Ok(()),
        }
    }

    /// Makes the catalog be at `revision`, if it is at `after`.
    async fn change(&self, batch: &Batch, after: u64, revision: u64) -> Result<(), EtcdStoreError> {
        let large = is_large(batch);
        let mut known = self.head().await?;
        let commit = Head::commit();
        for _ in 0..TRIES {
            if known.head.has(&commit) {
                // The answer to an earlier try was lost.
                return Ok(());
            }
            if known.head.parts > 0 {
                self.put_in_place(&known).await?;
                known = self.head().await?;
                continue;
            }
            if known.head.revision != after {
                return Err(EtcdStoreError::Outrun(known.head.revision));
            }
            let next = known.head.next(revision, commit.clone());
            if large {
                return self.change_in_parts(batch, &known, next).await;
            }
            let mut rows = vec![put(self.etcd.key("head"), next.write())];
            rows.extend(self.rows_of(batch));
            let head = self.etcd.key("head");
            let compare = vec![unchanged_since(head.clone(), known.written)];
            let answer = self.etcd.transact(compare, rows, vec![read(head)]).await?;
            if answer.succeeded {
                return Ok(());
            }
            known = match answer.responses.into_iter().next().and_then(|response| response.response) {
                Some(Response::ResponseRange(found)) => self.known(&found)?,
                _ => self.head().await?,
            };
        }
        Err(EtcdStoreError::Outrun(known.head.revision))
    }

    /// What is no change of the catalog: in as many transactions as it takes.
    async fn note(&self, batch: &Batch) -> Result<(), EtcdError> {
        let rows: Vec<RequestOp> = self.rows_of(batch).collect();
        for chunk in rows.chunks(MAX_ROWS) {
            self.etcd.transact(Vec::new(), chunk.to_vec(), Vec::new()).await?;
        }
        Ok(())
    }

    fn rows_of(&self, batch: &Batch) -> impl Iterator<Item = RequestOp> {
        batch.rows().map(|(key, value)| self.row(key, value))
    }

    fn row(&self, key: &str, value: Option<&[u8]>) -> RequestOp {
        let key = self.etcd.key(&format!("rows/{key}"));
        match value {
            Some(value) => put(key, value.to_vec()),
            None => delete(key),
        }
    }

    fn block_on<T>(&self, call: impl Future<Output = T>) -> T {
        // The catalog is called where one may wait, which is a thread of the runtime now and then.
        tokio::task::block_in_place(|| self.runtime.block_on(call))
    }
}

impl Store for EtcdStore {
    fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let loaded = self.block_on(self.load_all())?;
        Ok(loaded.rows.into_iter().collect())
    }

    fn load_audit(&self, node: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let loaded = self.block_on(self.load_audit_of(node))?;
        Ok(loaded.rows.into_iter().collect())
    }

    fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        match batch.after() {
            None => Ok(self.block_on(self.note(batch))?),
            Some(after) => self.changed(self.block_on(self.change(batch, after, after + 1))),
        }
    }

    fn is_shared(&self) -> bool {
        true
    }

    fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    fn last_revision(&self) -> Result<u64, StoreError> {
        let away = self.away.load(Ordering::Relaxed);
        let found = self.block_on(async {
            let found = if away { self.etcd.glance("head").await } else { self.etcd.get("head").await };
            self.known(&found?)
        });
        self.away.store(matches!(found, Err(EtcdError::Away { .. })), Ordering::Relaxed);
        let revision = found?.head.revision;
        self.asked.send_if_modified(|asked| std::mem::replace(asked, revision.max(*asked)) < revision);
        Ok(revision)
    }
}

/// Why a change was not made.
enum EtcdStoreError {
    /// Another one was, this one.
    Outrun(u64),
    /// It takes too many parts.
    TooLarge,
    Etcd(EtcdError),
}

impl From<EtcdError> for EtcdStoreError {
    fn from(error: EtcdError) -> Self {
        Self::Etcd(error)
    }
}

impl From<EtcdError> for StoreError {
    fn from(error: EtcdError) -> Self {
        match error {
            EtcdError::Away { place, reason } => Self::Away { place, reason },
            EtcdError::Refused { place, reason } | EtcdError::TooLarge { place, reason } => {
                Self::Refused { place: format!("etcd at {place}"), reason }
            }
            EtcdError::Corrupt { key, reason } => Self::Corrupt { key, reason },
            other => Self::Backend(other.to_string()),
        }
    }
}

fn is_large(batch: &Batch) -> bool {
    let octets: usize = batch.rows().map(|(key, value)| key.len() + value.map_or(0, <[u8]>::len)).sum();
    batch.rows().count() > MAX_ROWS || octets > MAX_OCTETS
}
