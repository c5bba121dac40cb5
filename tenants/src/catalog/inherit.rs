//! Audit entries that lie in a store which nodes share: each node's own go once they are in its log, those of nodes that are gone for
//! good go to the log of another.

use std::sync::PoisonError;
use std::time::{Duration, SystemTime};

use culvert_proto::v1;
use prost::Message as _;

use crate::catalog::Catalog;
use crate::store::{Batch, COUNTERS, Counters, Row, StoreError, audit_key};

/// How old the last entry of a node that is not there has to be: one that starts again has them in its own log.
const GONE: Duration = Duration::from_secs(24 * 3600);
/// Entries that are taken over at once, so that whoever writes waits for one large change at most.
const AT_ONCE: usize = 16;
/// Such changes in a round: far more than a node leaves behind.
const MAX_TURNS: usize = 64;

impl Catalog {
    /// Makes all lines of the audit log stay on disk, and removes from the store what is there for as long as that is not sure. Called
    /// now and then: otherwise it is done with the changes to come, and there may be none.
    pub fn settle_audit(&self) -> Result<(), StoreError> {
        self.audit.sync();
        let mut settled = self.audit.take_settled();
        if !self.is_shared() {
            // By the newest a copy of the store says where numbers go on if the log is lost.
            let newest = settled.iter().enumerate().max_by_key(|(_, sequence)| **sequence).map(|(at, _)| at);
            let newest = newest.map(|at| settled.swap_remove(at));
            self.audit.not_removed(newest.into_iter().collect());
        }
        if settled.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for sequence in &settled {
            batch.delete(audit_key(self.node.as_deref(), *sequence));
        }
        let removed = self.store.commit(&batch);
        if removed.is_err() {
            self.audit.not_removed(settled);
        }
        removed
    }

    /// Takes the audit entries of a node that is not there any more into the log of this one, if it has been away for long. Of several
    /// nodes that do so each entry gets to one.
    pub fn inherit_audit(&self, node: &str, now: SystemTime) -> Result<(), StoreError> {
        for _ in 0..MAX_TURNS {
            match self.inherit_some(node, now) {
                Ok(true) => {}
                // Somebody wrote meanwhile, maybe this very thing: it is looked again in the next round.
                Ok(false) | Err(StoreError::Outrun(_)) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// False if there is nothing to take over.
    fn inherit_some(&self, node: &str, now: SystemTime) -> Result<bool, StoreError> {
        if self.node.as_deref().is_none_or(|own| own == node) {
            return Ok(false);
        }
        let mut staged = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        // After this revision is known: what is read now was there then, or the store refuses the change.
        let found = entries(self.store.load_audit(node)?)?;
        if found.is_empty() || found.iter().any(|(_, entry)| !is_old(entry, now)) {
            return Ok(false);
        }
        let counters = Counters { revision: staged.counters.revision + 1, ..staged.counters };
        let mut batch = Batch::default();
        batch.follow_on(staged.counters.revision);
        batch.put(COUNTERS, counters.encode_to_vec());
        let mut taken = Vec::new();
        for (key, mut entry) in found.into_iter().take(AT_ONCE) {
            entry.sequence = self.audit.number();
            if entry.node.is_empty() {
                entry.node = node.to_owned();
            }
            batch.delete(key);
            batch.put(audit_key(self.node.as_deref(), entry.sequence), entry.encode_to_vec());
            taken.push(entry);
        }
        self.store.commit(&batch)?;
        tracing::info!(node, entries = taken.len(), "the audit log has entries now of a node that is gone");
        // They are this node's from here on, and in its log after the next start at the latest.
        taken.into_iter().for_each(|entry| self.audit.stored(entry));
        staged.counters = counters;
        self.state.write().unwrap_or_else(PoisonError::into_inner).counters = counters;
        drop(staged);
        self.reached.note(counters.revision);
        Ok(true)
    }
}

/// Audit entries of rows, by their keys.
pub(super) fn entries(rows: Vec<(String, Vec<u8>)>) -> Result<Vec<(String, v1::AuditEntry)>, StoreError> {
    let mut entries = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        if let Row::Audit(_, entry) = Row::decode(&key, &value)? {
            entries.push((key, *entry));
        }
    }
    Ok(entries)
}

fn is_old(entry: &v1::AuditEntry, now: SystemTime) -> bool {
    let time = SystemTime::try_from(entry.time.unwrap_or_default()).unwrap_or(now);
    now.duration_since(time).is_ok_and(|age| age >= GONE)
}
