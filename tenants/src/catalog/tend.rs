//! What is done in the store now and then, whether or not anybody writes.

use std::sync::PoisonError;

use latest::Latest as _;

use crate::catalog::Catalog;
use crate::store::{Batch, KEY_CHECK, StoreError};

impl Catalog {
    /// Keeps when tokens were shown, removes audit entries from the store that are in the log for sure (but for the last), and asks a store that has refused
    /// a write whether it takes one now. Called every few seconds: nobody else may write for a year, be it only since a node
    /// that says it is not well is sent nothing any more.
    ///
    /// # Errors
    /// The first that the store has told. Everything is tried again the next time.
    pub fn tend(&self) -> Result<(), StoreError> {
        let kept = self.keep_token_uses();
        // Where nodes share a store it is done with what else is tidied there.
        let settles = !self.is_shared() && self.audit.has_unsettled();
        let settled = if settles { self.settle_audit() } else { Ok(()) };
        let tried = self.try_store();
        kept.and(settled).and(tried)
    }

    /// Writes a row anew that is there, if the store has refused the last write, and forgets that when it is taken. One that nodes share is only
    /// asked: it answers whom it would take a write of, and who waits for that must keep no writer waiting.
    fn try_store(&self) -> Result<(), StoreError> {
        if self.is_shared() {
            if self.fault.latest().is_some() {
                self.store.last_revision()?;
                self.fault.send_replace(None);
            }
            return Ok(());
        }
        // Or the next one might be refused meanwhile, and that be forgotten.
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        if self.fault.latest().is_none() {
            return Ok(());
        }
        let mut batch = Batch::default();
        batch.put(KEY_CHECK, self.vault.key_check()?);
        self.store.commit(&batch)?;
        self.fault.send_replace(None);
        tracing::info!("the store takes writes again");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use culvert_proto::v1;

    use super::*;
    use crate::store::{MemoryStore, Store, Vault};

    /// Takes no writes while it is full, and none at all that are too large for it.
    #[derive(Default)]
    struct Disk {
        rows: MemoryStore,
        full: AtomicBool,
        small: AtomicBool,
    }

    impl Store for Disk {
        fn load(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
            self.rows.load()
        }

        fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
            if self.full.load(Ordering::Relaxed) {
                return Err(StoreError::Disk { path: "catalog.redb".into(), reason: "full".into() });
            }
            if self.small.load(Ordering::Relaxed) {
                return Err(StoreError::TooLarge { limit: 100 });
            }
            self.rows.commit(batch)
        }
    }

    fn create(id: &str) -> v1::CreateTenantRequest {
        v1::CreateTenantRequest { tenant_id: id.to_owned(), ..Default::default() }
    }

    #[test]
    fn a_store_that_refused_a_write_is_well_again_though_nobody_writes() {
        let store = Arc::new(Disk::default());
        let catalog = Catalog::with(Box::new(Arc::clone(&store)), Vault::ephemeral().unwrap()).unwrap();
        catalog.create_tenant(&create("a")).unwrap();
        let (revision, fault) = (catalog.snapshot().revision, catalog.store_fault());
        store.full.store(true, Ordering::Relaxed);
        assert!(catalog.create_tenant(&create("b")).is_err());
        assert!(fault.latest().unwrap().contains("full"));
        assert!(catalog.tend().is_err());
        assert!(fault.latest().is_some());
        store.full.store(false, Ordering::Relaxed);
        catalog.tend().unwrap();
        assert_eq!((fault.latest(), catalog.snapshot().revision), (None, revision));
        catalog.create_tenant(&create("b")).unwrap();
    }

    #[test]
    fn a_store_that_one_change_is_too_large_for_is_well() {
        let store = Arc::new(Disk::default());
        let catalog = Catalog::with(Box::new(Arc::clone(&store)), Vault::ephemeral().unwrap()).unwrap();
        store.small.store(true, Ordering::Relaxed);
        let refused = catalog.create_tenant(&create("a")).unwrap_err();
        assert!(matches!(refused, crate::Error::Exhausted { limit: 100, .. }), "{refused}");
        assert!(catalog.store_fault().latest().is_none());
    }

    #[test]
    fn rows_of_the_audit_log_leave_the_store_though_nobody_writes() {
        let directory = tempfile::tempdir().unwrap();
        let catalog = Catalog::open(directory.path()).unwrap();
        catalog.create_tenant(&create("a")).unwrap();
        catalog.create_tenant(&create("b")).unwrap();
        let rows = || catalog.backup().unwrap().iter().filter(|(key, _)| crate::store::is_audit(key)).count();
        assert_eq!(rows(), 2);
        for _ in 0..2 {
            catalog.tend().unwrap();
            assert_eq!(rows(), 1, "of the last change, which says where numbers go on");
        }
    }
}
