//! How a write goes: staged on a copy of the catalog, checked as a whole, committed to the store, made visible, told.
//!
//! A [`Writer`] changes the copy and remembers how to undo that. Whatever is not committed, be it a dry run, a refusal, a
//! store that failed or a panic, is undone when the writer goes. So what is visible is never ahead of the disk, and a
//! dry run says what the same request would do.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::audit;
use crate::author::Author;
use crate::catalog::mostly::Mostly;
use crate::catalog::object::{Change, ChangeKind, Object};
use crate::catalog::state::State;
use crate::catalog::{Catalog, peers, reach, secrets, tenants, tokens};
use crate::error::Error;
use crate::impact::{self, Impact};
use crate::limits::MAX_REQUEST_ID;
use crate::meta::{Meta, etag};
use crate::peer::Peer;
use crate::secret::Secret;
use crate::store::{Batch, Counters, StoreError};
use crate::tenant::Tenant;
use crate::violation::Violations;
use certificates::Credentials;

/// The one who writes. Nothing changes between its checks and its commit.
pub(crate) struct Writer<'a> {
    catalog: &'a Catalog,
    staged: MutexGuard<'a, State>,
    /// As they were before.
    counters: Counters,
    done: Vec<Done>,
    /// Which object of the request is being worked on.
    pub(crate) at: usize,
    /// Who writes.
    author: Arc<Author>,
}

/// A staged change.
struct Done {
    at: usize,
    kind: ChangeKind,
    object: Object,
    /// What was there.
    before: Option<Object>,
}

/// What a write did to an object. Derefs to the object as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed<T> {
    /// The object before the write; `None` if it was created.
    pub before: Option<Arc<T>>,
    /// The object now; the same as before if the write changed nothing.
    pub after: Arc<T>,
}

impl<T> Changed<T> {
    pub(crate) fn created(after: Arc<T>) -> Self {
        Self { before: None, after }
    }

    pub(crate) fn unchanged(object: Arc<T>) -> Self {
        Self { before: Some(Arc::clone(&object)), after: object }
    }

    /// Whether the object was there and stays as it was.
    pub fn is_unchanged(&self) -> bool {
        self.before.as_ref().is_some_and(|before| Arc::ptr_eq(before, &self.after))
    }
}

impl Changed<Tenant> {
    /// What the write does to tunnels that are up.
    pub fn impact(&self) -> Impact {
        self.before.as_ref().map(|old| impact::of_tenant(&old.spec, &self.after.spec)).unwrap_or_default()
    }
}

impl Changed<Peer> {
    /// What the write does to the tunnel if it is up.
    pub fn impact(&self) -> Impact {
        self.before.as_ref().map(|old| impact::of_peer(&old.spec, &self.after.spec)).unwrap_or_default()
    }
}

impl Changed<Secret> {
    /// Whether the value is another one: what was not given anew keeps its seal, and that is never the same twice.
    pub fn value_changed(&self) -> bool {
        self.before.as_ref().is_some_and(|old| old.sealed != self.after.sealed)
    }

    /// What the write does to tunnels that are up.
    pub fn impact(&self) -> Impact {
        impact::of_secret(self.value_changed())
    }
}

impl<T> std::ops::Deref for Changed<T> {
    type Target = Arc<T>;

    fn deref(&self) -> &Arc<T> {
        &self.after
    }
}

/// What is made of an etag that is not the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EtagRule {
    /// It is refused.
    Strict,
    /// It is refused if something would change: a manifest that was printed before may be applied again.
    IfChanged,
}

impl<'a> Writer<'a> {
    /// The catalog with what was staged so far.
    pub(crate) fn state(&self) -> &State {
        &self.staged
    }

    pub(crate) fn vault(&self) -> &'a crate::store::Vault {
        &self.catalog.vault
    }

    /// The counters with this write: its revision, and the numbers that it gives out.
    pub(crate) fn counters(&mut self) -> &mut Counters {
        &mut self.staged.counters
    }

    /// Version and times of an object that this write creates.
    pub(crate) fn created(&self, request_id: &str) -> Meta {
        let now = SystemTime::now();
        Meta {
            revision: self.staged.counters.revision,
            created: now,
            updated: now,
            request_id: request_id.to_owned(),
        }
    }

    /// Version and times of an object that this write changes.
    pub(crate) fn updated(&self, old: &Meta) -> Meta {
        Meta { revision: self.staged.counters.revision, updated: SystemTime::now(), ..old.clone() }
    }

    /// Adds or replaces an object.
    pub(crate) fn put(&mut self, object: Object) {
        let before = self.staged.put(object.clone());
        let kind = if before.is_some() { ChangeKind::Updated } else { ChangeKind::Created };
        self.done.push(Done { at: self.at, kind, object, before });
    }

    /// Removes an object.
    pub(crate) fn remove(&mut self, object: Object) {
        let before = self.staged.remove(&object);
        self.done.push(Done { at: self.at, kind: ChangeKind::Deleted, object, before });
    }

    /// Names of what was removed, in the order it went.
    pub(crate) fn removed(&self) -> Vec<String> {
        let removed = self.done.iter().filter(|done| done.kind == ChangeKind::Deleted);
        removed.map(|done| done.object.name()).collect()
    }

    /// What can only be said in view of the other objects, of all that was put or removed: each fault with its place in the request.
    /// Checked once everything is staged, so that two peers may exchange a subnet, and a secret may go with the peers that refer to it.
    pub(crate) fn check(&self) -> Vec<(usize, Error)> {
        let mut faults = Vec::new();
        // Read once, however many peers have them.
        let mut held = Vec::new();
        for done in &self.done {
            let reached = reach::check(&self.author, done.kind, &done.object, done.before.as_ref());
            if let Err(error) = reached {
                faults.push((done.at, error));
                continue;
            }
            let checked = match &done.object {
                Object::Secret(secret) if done.kind == ChangeKind::Deleted => {
                    secrets::check_gone(self.state(), &secret.name)
                }
                _ if done.kind == ChangeKind::Deleted => Ok(()),
                Object::Tenant(tenant) => {
                    let before = match &done.before {
                        Some(Object::Tenant(before)) => Some(before.as_ref()),
                        _ => None,
                    };
                    tenants::check(self.state(), &self.author, before, tenant)
                }
                Object::Peer(peer) => {
                    let before = match &done.before {
                        Some(Object::Peer(before)) => Some(before.as_ref()),
                        _ => None,
                    };
                    let checked = peers::check(self.state(), before, peer);
                    checked.and_then(|()| self.check_certificates(peer, &mut held))
                }
                Object::Secret(secret) => secrets::check(self.state(), secret)
                    .and_then(|()| self.check_users(secret, done.before.is_some(), &mut held)),
                Object::Token(token) => tokens::check(self.state(), &self.author, token),
            };
            faults.extend(checked.err().map(|error| (done.at, error)));
        }
        faults
    }

    /// That the certificates of a peer are some, and fit.
    fn check_certificates(&self, peer: &Peer, held: &mut Vec<Credentials>) -> Result<(), Error> {
        let mut faults = Violations::new();
        let shelf = &self.catalog.shelf;
        held.extend(shelf.check(self.vault(), self.state(), &peer.spec, &mut faults));
        Ok(faults.into_result()?)
    }

    /// That those who have a secret can do with its new value.
    fn check_users(
        &self,
        secret: &Secret,
        was_there: bool,
        held: &mut Vec<Credentials>,
    ) -> Result<(), Error> {
        let users = self.state().index.users(&secret.name).filter(|_| was_there);
        for name in users.into_iter().flat_map(Mostly::keys) {
            let Some(peer) = self.state().peers.get(name) else { continue };
            let mut faults = Violations::new();
            held.extend(self.catalog.shelf.check(self.vault(), self.state(), &peer.spec, &mut faults));
            if let Some(fault) = faults.iter().next() {
                return Err(Error::invalid("secret.value", format!("for {name}, {}", fault.description)));
            }
        }
        Ok(())
    }

    /// Commits what was staged to the store, then to memory, then tells it. Nothing staged is nothing to commit.
    pub(crate) fn commit(mut self) -> Result<(), Error> {
        use prost::Message as _;
        if self.done.is_empty() {
            return Ok(());
        }
        let counters = self.staged.counters;
        let mut batch = Batch::default();
        batch.follow_on(self.counters.revision);
        batch.put(crate::store::COUNTERS, counters.encode_to_vec());
        for done in &self.done {
            match done.kind {
                ChangeKind::Deleted => {
                    batch.delete(done.object.name());
                    if let Object::Token(token) = &done.object {
                        batch.delete(crate::store::used_key(&token.name));
                    }
                }
                ChangeKind::Created | ChangeKind::Updated => {
                    let (key, value) = crate::store::encode(&done.object);
                    batch.put(key, value);
                }
            }
        }
        let audit = &self.catalog.audit;
        let done = self.done.iter().map(|done| (done.kind, &done.object, done.before.as_ref()));
        let entry = audit::of_change(&self.author, audit.number(), done);
        let node = self.catalog.node.as_deref();
        batch.put(crate::store::audit_key(node, entry.sequence), entry.encode_to_vec());
        let settled = audit.take_settled();
        for sequence in &settled {
            batch.delete(crate::store::audit_key(node, *sequence));
        }
        let committed = self.catalog.store.commit(&batch);
        // Of these it would take another one.
        let passes =
            |error: &&StoreError| matches!(error, StoreError::Outrun(_) | StoreError::TooLarge { .. });
        let fault = committed.as_ref().err().filter(|error| !passes(error));
        let fault = fault.map(|fault| format!("the store does not take writes: {}", fault.told()));
        self.catalog.fault.send_replace(fault);
        if let Err(error) = committed {
            audit.not_removed(settled);
            return Err(error.into());
        }
        audit.stored(entry);

        // From here on there is nothing to undo.
        self.counters = counters;
        let done = std::mem::take(&mut self.done);
        {
            let mut state = self.catalog.state.write().unwrap_or_else(PoisonError::into_inner);
            state.counters = counters;
            for Done { kind, object, .. } in &done {
                match kind {
                    ChangeKind::Deleted => state.remove(object),
                    ChangeKind::Created | ChangeKind::Updated => state.put(object.clone()),
                };
                let (object, author) = (object.clone(), Arc::clone(&self.author));
                let change = Change { revision: counters.revision, kind: *kind, object, author };
                // Told under the lock, so that a snapshot and the changes after it fit together. No receiver is no fault.
                let _ = self.catalog.changes.send(change);
            }
        }
        self.catalog.reached.note(counters.revision);
        // Readers need not wait for whoever reads the log.
        for Done { kind, object, before, .. } in &done {
            let (name, by) = (object.name(), &self.author.principal);
            tracing::info!(change = ?kind, name, revision = counters.revision, by, "catalog");
            if *kind != ChangeKind::Deleted {
                warn_of(object, before.as_ref());
            }
        }
        Ok(())
    }
}

/// Tells the log what is weaker than it could be, once: when it is written and was not so before.
fn warn_of(object: &Object, before: Option<&Object>) {
    let warnings = |object: &Object| match object {
        Object::Peer(peer) => peer.spec.warnings(),
        Object::Tenant(_) | Object::Secret(_) | Object::Token(_) => Vec::new(),
    };
    let known = before.map(warnings).unwrap_or_default();
    for warning in warnings(object).iter().filter(|warning| !known.contains(warning)) {
        tracing::warn!(name = object.name(), warning, "weaker than it could be");
    }
}

impl Drop for Writer<'_> {
    fn drop(&mut self) {
        for done in std::mem::take(&mut self.done).into_iter().rev() {
            match done.before {
                Some(before) => self.staged.put(before),
                None => self.staged.remove(&done.object),
            };
        }
        self.staged.counters = self.counters;
    }
}

impl Catalog {
    /// Waits for the writers before and becomes the one who writes.
    pub(crate) fn writer(&self) -> Writer<'_> {
        let mut staged = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = staged.counters;
        staged.counters.revision += 1;
        Writer { catalog: self, staged, counters, done: Vec::new(), at: 0, author: Author::current() }
    }

    /// One write of one object: staged, checked, and committed unless it is a dry run. Staged again when another node wrote first.
    pub(crate) fn write<T>(
        &self,
        validate_only: bool,
        mut stage: impl FnMut(&mut Writer<'_>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        self.attempt(|| {
            let mut writer = self.writer();
            let value = stage(&mut writer)?;
            if let Some((_, error)) = writer.check().into_iter().next() {
                return Err(error);
            }
            if !validate_only {
                writer.commit()?;
            }
            Ok(value)
        })
    }
}

/// Refuses a stale etag; an empty one fits always.
pub(crate) fn check_etag(given: &str, object: &Meta, name: impl ToString) -> Result<(), Error> {
    if given.is_empty() || given == object.etag() {
        return Ok(());
    }
    Err(Error::StaleEtag { name: name.to_string(), given: given.to_owned(), current: etag(object.revision) })
}

/// Refuses an update or deletion by etag of what is not there, even if missing objects are allowed.
pub(crate) fn check_missing(allow_missing: bool, etag: &str, name: impl ToString) -> Result<(), Error> {
    if allow_missing && etag.is_empty() { Ok(()) } else { Err(Error::NotFound(name.to_string())) }
}

/// True if the object is what this very request has created before.
pub(crate) fn is_repeated(request_id: &str, object: &Meta) -> bool {
    !request_id.is_empty() && object.request_id == request_id
}

pub(crate) fn check_request_id(request_id: &str, faults: &mut Violations) {
    if request_id.len() > MAX_REQUEST_ID {
        faults.add("request_id", format!("{} octets; at most {MAX_REQUEST_ID}", request_id.len()));
    }
}

/// Refuses more than there may be.
pub(crate) fn check_quota(
    count: usize,
    limit: u64,
    what: &'static str,
    name: impl ToString,
) -> Result<(), Error> {
    if (count as u64) <= limit {
        Ok(())
    } else {
        Err(Error::Exhausted { name: name.to_string(), what, limit })
    }
}
