//! The catalog: every tenant, peer and secret of the node, in memory and on disk.
//!
//! Reads never wait for the disk. A write is checked against everything that is there, committed to the store, then
//! made visible, then announced; writes follow one another. Write operations take the request messages of the API
//! and may block for a disk sync: call them outside of async tasks (`spawn_blocking`).
//!
//! To follow the catalog: [`Catalog::subscribe`] first, then [`Catalog::snapshot`], then skip the changes up to the
//! snapshot's revision. Do the same again when the receiver lagged behind.

mod batch;
mod callers;
mod credentials;
mod follow;
mod group;
mod index;
mod inherit;
mod lookup;
mod mostly;
mod object;
mod openings;
mod peers;
mod reach;
mod read;
mod routes;
mod secrets;
mod shared;
mod state;
mod tenants;
mod tend;
mod tokens;
mod write;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use culvert_proto::v1;
use tokio::sync::{broadcast, watch};

pub use batch::{Action, Applied, BatchError};
pub use callers::Callers;
pub use follow::News;
pub use lookup::LookupError;
pub use object::{Change, ChangeKind, Object};
pub use read::Snapshot;
pub use tokens::TokenRefused;
pub use write::Changed;

use crate::audit::{self, AuditLimits, AuditLog, AuditSink};
use crate::author::Author;
use crate::error::Error;
use crate::limits::CHANGE_BACKLOG;
use crate::name::TenantName;
use crate::page::Page;
use crate::store::{
    Batch, COUNTERS, Counters, KEY_CHECK, KEY_FILE, MemoryStore, RedbStore, Row, STORE_FILE, Store,
    StoreError, Vault,
};
use shared::Reached;
use state::State;

/// Every tenant, peer and secret of the node. See the module for the rules.
pub struct Catalog {
    store: Box<dyn Store>,
    vault: Vault,
    state: RwLock<State>,
    /// The catalog once more, held by the one who writes from the checks to the announcement: a write is staged here.
    writer: Mutex<State>,
    changes: broadcast::Sender<Change>,
    audit: AuditLog,
    /// What the store said to the last write, if it did not take it.
    fault: watch::Sender<Option<String>>,
    /// Which of the nodes this is, where several share the store.
    node: Option<String>,
    reached: Reached,
    /// What was read of secrets with certificates.
    shelf: credentials::Shelf,
}

/// How a catalog is opened.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How much of the audit log is kept.
    pub audit: AuditLimits,
    /// Who learns of what is written to it.
    pub audit_sink: Option<Arc<dyn AuditSink>>,
    /// A file with the key of the secrets that somebody else keeps. Without one the key is the directory's own.
    pub key_file: Option<PathBuf>,
}

impl Options {
    fn open_audit(&self, directory: &Path, stored: Vec<v1::AuditEntry>) -> Result<AuditLog, StoreError> {
        AuditLog::open(&directory.join(audit::FOLDER), self.audit, self.audit_sink.clone(), stored)
    }
}

impl Catalog {
    /// Opens the catalog in `directory`, which is created if it is missing: the store `catalog.redb` and the key
    /// of the secrets `secrets.key`. Fails if another process has it open.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, &Options::default())
    }

    /// As [`Self::open`].
    pub fn open_with(directory: &Path, options: &Options) -> Result<Self, StoreError> {
        make(directory)?;
        if let Some(key) = &options.key_file {
            // It is there before the first start, so a store that was lost cannot be told from one that is new.
            let vault = Vault::open_provided(key)?;
            let store = RedbStore::open(&directory.join(STORE_FILE))?;
            let rows = store.load()?;
            return Self::opened(directory, key, store, &rows, vault, options);
        }
        let (path, key) = (directory.join(STORE_FILE), directory.join(KEY_FILE));
        let vault = Vault::open(&key)?;
        if vault.is_some() && std::fs::metadata(&path).map_or(0, |metadata| metadata.len()) == 0 {
            return Err(lost(&path, "is empty or missing"));
        }
        // The store before a new key: its lock keeps a second process from making a second one.
        let store = RedbStore::open(&path)?;
        let rows = store.load()?;
        let vault = match vault {
            Some(_) if rows.is_empty() => return Err(lost(&path, "has nothing in it")),
            Some(vault) => vault,
            None if rows.iter().any(|(name, _)| name.contains("/secrets/")) => {
                return Err(StoreError::file(
                    &key,
                    "missing, but there are secrets that were sealed with it; restore it",
                ));
            }
            None => {
                let vault = Vault::ephemeral()?;
                // Before the key: a key beside a store that knows of none means that the store was lost.
                keep_key_check(&store, &vault)?;
                vault.save(&key)?;
                vault
            }
        };
        Self::opened(directory, &key, store, &rows, vault, options)
    }

    /// With what is in `directory`; errors name the files.
    fn opened(
        directory: &Path,
        key: &Path,
        store: RedbStore,
        rows: &[(String, Vec<u8>)],
        vault: Vault,
        options: &Options,
    ) -> Result<Self, StoreError> {
        let knows_key = rows.iter().any(|(name, _)| name == KEY_CHECK);
        let audit = |stored| options.open_audit(directory, stored);
        let catalog =
            Self::load(Box::new(store), vault, None, audit).map_err(|error| error.within(directory, key))?;
        if !knows_key {
            keep_key_check(&*catalog.store, &catalog.vault)?;
        }
        Ok(catalog)
    }

    /// A catalog that lives as long as the process.
    pub fn in_memory() -> Result<Self, StoreError> {
        Self::with(Box::new(MemoryStore::default()), Vault::ephemeral()?)
    }

    /// A catalog of any store.
    pub fn with(store: Box<dyn Store>, vault: Vault) -> Result<Self, StoreError> {
        Self::load(store, vault, None, |_| Ok(AuditLog::in_memory()))
    }

    /// The catalog of a store that nodes share, of which this is `node`. The audit log of what is done at this node is in
    /// `directory`. The key of the secrets is one for all, so it is given: [`StoreError::WrongKey`] if it is not that of the others.
    pub fn open_shared(
        directory: &Path,
        store: Box<dyn Store>,
        node: &str,
        options: &Options,
    ) -> Result<Self, StoreError> {
        make(directory)?;
        let Some(key) = &options.key_file else {
            return Err(StoreError::file(
                directory.join(KEY_FILE),
                "nodes that share a catalog share the key of its secrets: name its file by vault.key_file",
            ));
        };
        let vault = Vault::open_provided(key)?;
        claim_key(&*store, &vault)?;
        let audit = |stored| options.open_audit(directory, stored);
        Self::load(store, vault, Some(node.to_owned()), audit).map_err(|error| error.of_key(key))
    }

    fn load(
        store: Box<dyn Store>,
        vault: Vault,
        node: Option<String>,
        audit: impl FnOnce(Vec<v1::AuditEntry>) -> Result<AuditLog, StoreError>,
    ) -> Result<Self, StoreError> {
        let mut state = State::default();
        let (mut uses, mut deeds) = (Vec::new(), Vec::new());
        let mut rows = store.load()?;
        if node.is_some() {
            // Another node may be of a newer version: one that follows passes them over too.
            rows = follow::known(rows);
        }
        for (key, value) in rows {
            match Row::decode(&key, &value)? {
                Row::Counters(counters) => state.counters = counters,
                Row::KeyCheck(sealed) if vault.sealed_by(&sealed) => {}
                Row::KeyCheck(_) => return Err(StoreError::WrongKey(key)),
                Row::Used(token, time) => uses.push((token, time)),
                Row::Audit(None, entry) if node.is_none() => deeds.push(*entry),
                // Of a store that is shared they are asked for by themselves.
                Row::Audit(..) => {}
                Row::Object(object) => {
                    state.put(object);
                }
            }
        }
        // One key fits all or none, so one secret tells.
        if let Some(secret) = state.secrets.values().next()
            && vault.open_sealed(&secret.name.to_string(), &secret.sealed).is_none()
        {
            return Err(StoreError::WrongKey(secret.name.to_string()));
        }
        // The rows come in an order of their own.
        for (name, time) in uses {
            if let Some(token) = state.tokens.get(&name) {
                token.restore_use(time);
            }
        }
        if let Some(node) = &node {
            deeds = inherit::entries(store.load_audit(node)?)?.into_iter().map(|(_, entry)| entry).collect();
        }
        let audit = audit(deeds)?;
        let (changes, _) = broadcast::channel(CHANGE_BACKLOG);
        let writer = Mutex::new(state.clone());
        let reached = Reached::default();
        reached.note(state.counters.revision);
        let (state, fault) = (RwLock::new(state), watch::Sender::new(None));
        let shelf = credentials::Shelf::default();
        Ok(Self { store, vault, state, writer, changes, audit, fault, node, reached, shelf })
    }

    /// Who did what.
    pub fn audit(&self) -> &AuditLog {
        &self.audit
    }

    /// A page of the audit log as it is for whoever acts ([`Author::current`]): of the entries about what is of the tenant `parent`, or of all. To a
    /// tenant's caller what was done to another tenant that had the name before is not its own.
    pub fn page_audit(
        &self,
        parent: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<Page<v1::AuditEntry>, Error> {
        let created = |tenant: &TenantName| {
            let tenant = self.get_tenant(tenant).ok_or_else(|| Error::NotFound(tenant.to_string()))?;
            Ok::<_, Error>(tenant.meta.created)
        };
        let since = Author::current().tenant.as_ref().map(created).transpose()?;
        self.audit.page(parent, page_size, page_token, since)
    }

    /// Every row as it is on disk now, for [`crate::store::write_backup`]; of a store that nodes share without audit entries, which
    /// are each node's own. Values of secrets are sealed with the key of
    /// this directory, which is not among them.
    pub fn backup(&self) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.store.load()
    }

    /// That the store did not take the last write, and why. The next one that it takes makes it well again, or [`Self::tend`].
    pub fn store_fault(&self) -> watch::Receiver<Option<String>> {
        self.fault.subscribe()
    }

    /// Changes from now on. A receiver that falls [`CHANGE_BACKLOG`] behind is told that it lagged.
    pub fn subscribe(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the state directory, for the user of the process alone, if it is not there.
fn make(directory: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let created = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
    created.map_err(|error| StoreError::file(directory, error))
}

/// The store is not there, but its key is: the node had a catalog once.
fn lost(path: &Path, what: &str) -> StoreError {
    let reason = format!(
        "{what}, but {KEY_FILE} beside it was made for one; restore it from a copy that `culvertd backup` made, or move \
         {KEY_FILE} away to start an empty node"
    );
    StoreError::file(path, reason)
}

/// Notes in a store that is shared which key goes with it, if nobody has. The first change of all, so that of two nodes that
/// start together with different keys one finds the other's.
fn claim_key(store: &dyn Store, vault: &Vault) -> Result<(), StoreError> {
    use prost::Message as _;
    if store.last_revision()? > 0 {
        return Ok(());
    }
    let mut batch = Batch::default();
    batch.follow_on(0);
    batch.put(COUNTERS, Counters { revision: 1, ..Counters::default() }.encode_to_vec());
    batch.put(KEY_CHECK, vault.key_check()?);
    match store.commit(&batch) {
        // It has one now.
        Err(StoreError::Outrun(_)) => Ok(()),
        done => done,
    }
}

/// Notes in the store which key goes with it.
fn keep_key_check(store: &dyn Store, vault: &Vault) -> Result<(), StoreError> {
    let mut batch = Batch::default();
    batch.put(KEY_CHECK, vault.key_check()?);
    store.commit(&batch)
}
