//! What other nodes write to the store, taken over.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use crate::author::Author;
use crate::catalog::Catalog;
use crate::catalog::object::{Change, ChangeKind, Object};
use crate::catalog::state::State;
use crate::store::{COUNTERS, Counters, Row, StoreError, is_known, is_use};

/// What a store that is shared has to tell.
#[derive(Debug)]
pub enum News {
    /// The rows of the change that made `revision`: their values, or `None` for what was removed.
    Change {
        /// Of the catalog, as [`Batch::follow_on`](crate::store::Batch::follow_on) has made it.
        revision: u64,
        /// By key.
        rows: Vec<(String, Option<Vec<u8>>)>,
    },
    /// All rows, since what happened in between is not known any more.
    All(Vec<(String, Vec<u8>)>),
}

impl Catalog {
    /// Takes over what was written elsewhere. What is there already, as one's own writes are, changes nothing. An error is one of
    /// the rows: nothing of the news was taken over then. A change that does not follow on what is there is
    /// [`StoreError::Outrun`]: all rows are wanted.
    pub fn follow(&self, news: News) -> Result<(), StoreError> {
        let mut staged = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let (counters, changes) = match news {
            News::Change { revision, .. } if revision <= staged.counters.revision => return Ok(()),
            News::Change { revision, .. } if revision > staged.counters.revision + 1 => {
                return Err(StoreError::Outrun(revision));
            }
            News::Change { revision, rows } => {
                let told = Counters { revision, ..staged.counters };
                of_change(&staged, told, rows)?
            }
            News::All(rows) => {
                let found = of_all(&staged, rows)?;
                if found.0.revision < staged.counters.revision {
                    return Ok(());
                }
                found
            }
        };
        let author = Author::elsewhere();
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        staged.counters = counters;
        state.counters = counters;
        for (kind, object) in &changes {
            for state in [&mut *staged, &mut *state] {
                match kind {
                    ChangeKind::Deleted => state.remove(object),
                    ChangeKind::Created | ChangeKind::Updated => state.put(object.clone()),
                };
            }
            // Told under the lock, as one's own.
            let (object, author) = (object.clone(), Arc::clone(&author));
            let _ = self.changes.send(Change { revision: counters.revision, kind: *kind, object, author });
        }
        drop(state);
        drop(staged);
        self.reached.note(counters.revision);
        // All that a node finds after it was cut off may be a hundred thousand lines: nobody waits for whoever reads the log.
        for (kind, object) in changes {
            tracing::info!(change = ?kind, name = object.name(), revision = counters.revision, by = author.principal, "catalog");
        }
        Ok(())
    }

    /// Takes over when tokens were shown elsewhere: rows that are written without a change of the catalog. Others are passed over.
    pub fn note_uses(&self, rows: &[(String, Option<Vec<u8>>)]) {
        let used = rows.iter().filter(|(key, _)| is_use(key));
        for (key, value) in used.filter_map(|(key, value)| Some((key, value.as_ref()?))) {
            // One that cannot be read is told of where all rows are.
            if let Ok(Row::Used(token, time)) = Row::decode(key, value) {
                note_use(&self.read(), &token, time);
            }
        }
    }
}

/// Changes, in the order in which they may be told.
type Changes = Vec<(ChangeKind, Object)>;

fn of_change(
    state: &State,
    told: Counters,
    rows: Vec<(String, Option<Vec<u8>>)>,
) -> Result<(Counters, Changes), StoreError> {
    let (mut counters, mut changes) = (told, Vec::new());
    for (key, value) in known(rows) {
        let Some(value) = value else {
            // Rows that are no objects are removed too, and nobody here has them.
            changes.extend(state.get(&key).map(|object| (ChangeKind::Deleted, object)));
            continue;
        };
        match Row::decode(&key, &value)? {
            Row::Counters(found) => counters = found,
            Row::Object(object) => put(&mut changes, state.get(&key), object),
            Row::Used(token, time) => note_use(state, &token, time),
            Row::KeyCheck(_) | Row::Audit(..) => {}
        }
    }
    in_order(&mut changes);
    Ok((counters, changes))
}

fn of_all(state: &State, rows: Vec<(String, Vec<u8>)>) -> Result<(Counters, Changes), StoreError> {
    let (mut found, mut changes, mut there) = (None, Vec::new(), BTreeMap::new());
    for (key, value) in known(rows) {
        match Row::decode(&key, &value)? {
            Row::Counters(counters) => found = Some(counters),
            Row::Object(object) => {
                there.insert(key, object);
            }
            Row::Used(token, time) => note_use(state, &token, time),
            Row::KeyCheck(_) | Row::Audit(..) => {}
        }
    }
    // A catalog that was ever written has them: without them it was not its nodes that deleted the rest.
    if found.is_none() && state.counters.revision > 0 {
        let reason =
            "is gone, though nobody here has deleted it: what this node has of the catalog stays as it is";
        return Err(StoreError::corrupt(COUNTERS, reason));
    }
    let counters = found.unwrap_or(state.counters);
    for object in state.objects() {
        if !there.contains_key(&object.name()) {
            changes.push((ChangeKind::Deleted, object));
        }
    }
    for (name, object) in there {
        let known = state.get(&name);
        if known.as_ref().is_none_or(|known| known.meta().revision != object.meta().revision) {
            put(&mut changes, known, object);
        }
    }
    in_order(&mut changes);
    Ok((counters, changes))
}

/// Rows without those of a kind that a newer version has: a node that is upgraded after others goes on with what it knows.
pub(super) fn known<V>(mut rows: Vec<(String, V)>) -> Vec<(String, V)> {
    let all = rows.len();
    rows.retain(|(key, _)| is_known(key));
    if rows.len() < all {
        let unknown = all - rows.len();
        tracing::warn!(
            unknown,
            "rows of a kind that this version does not know are passed over; upgrade this node as well"
        );
    }
    rows
}

/// An object is there now, where `known` has its name.
fn put(changes: &mut Changes, known: Option<Object>, object: Object) {
    let kind = match known {
        Some(known) if known.is_same(&object) => ChangeKind::Updated,
        // It went and another came while nobody looked.
        Some(known) => {
            changes.push((ChangeKind::Deleted, known));
            ChangeKind::Created
        }
        None => ChangeKind::Created,
    };
    changes.push((kind, object));
}

fn note_use(state: &State, token: &crate::name::TokenName, time: u64) {
    if let Some(token) = state.tokens.get(token) {
        token.restore_use(time);
    }
}

/// Deletions before all else, and what refers to others before those; the other way round for what is put.
fn in_order(changes: &mut Changes) {
    changes.sort_by_key(|(kind, object)| {
        let rank = match object {
            Object::Tenant(_) => 0,
            Object::Secret(_) => 1,
            Object::Peer(_) => 2,
            Object::Token(_) => 3,
        };
        if *kind == ChangeKind::Deleted { (0, 3 - rank) } else { (1, rank) }
    });
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::{AtomicUsize, Ordering};

    use tracing::span::{Attributes, Id, Record};
    use tracing::{Event, Metadata, Subscriber};

    use super::*;

    /// Looks at each line whether the catalog can be read and written meanwhile.
    struct Watching {
        catalog: Arc<Catalog>,
        lines: Arc<AtomicUsize>,
        locked: Arc<AtomicUsize>,
    }

    impl Subscriber for Watching {
        fn enabled(&self, _: &Metadata<'_>) -> bool {
            true
        }

        fn new_span(&self, _: &Attributes<'_>) -> Id {
            Id::from_u64(1)
        }

        fn record(&self, _: &Id, _: &Record<'_>) {}

        fn record_follows_from(&self, _: &Id, _: &Id) {}

        fn event(&self, _: &Event<'_>) {
            self.lines.fetch_add(1, Ordering::Relaxed);
            let is_free = self.catalog.state.try_write().is_ok() && self.catalog.writer.try_lock().is_ok();
            self.locked.fetch_add(usize::from(!is_free), Ordering::Relaxed);
        }

        fn enter(&self, _: &Id) {}

        fn exit(&self, _: &Id) {}
    }

    #[test]
    fn whoever_reads_does_not_wait_for_the_log() {
        let (there, here) = (Catalog::in_memory().unwrap(), Arc::new(Catalog::in_memory().unwrap()));
        let create = |tenant_id: &str| culvert_proto::v1::CreateTenantRequest {
            tenant_id: tenant_id.to_owned(),
            ..Default::default()
        };
        there.create_tenant(&create("a")).unwrap();
        there.create_tenant(&create("b")).unwrap();
        let (lines, locked) = (Arc::default(), Arc::default());
        let watching =
            Watching { catalog: Arc::clone(&here), lines: Arc::clone(&lines), locked: Arc::clone(&locked) };
        let rows = there.backup().unwrap();
        tracing::subscriber::with_default(watching, || here.follow(News::All(rows)).unwrap());
        assert_eq!(here.tenants().len(), 2);
        assert_eq!((lines.load(Ordering::Relaxed), locked.load(Ordering::Relaxed)), (2, 0));
    }

    #[test]
    fn what_a_newer_version_has_beside_what_is_known_is_passed_over() {
        let (there, here) = (Catalog::in_memory().unwrap(), Catalog::in_memory().unwrap());
        let create =
            culvert_proto::v1::CreateTenantRequest { tenant_id: "a".to_owned(), ..Default::default() };
        there.create_tenant(&create).unwrap();
        let mut rows = there.backup().unwrap();
        rows.push(("tenants/a/routers/r1".to_owned(), vec![255]));
        here.follow(News::All(rows)).unwrap();
        assert_eq!(here.tenants().len(), 1);
        let rows = vec![("tenants/a/routers/r2".to_owned(), Some(vec![255]))];
        let revision = here.snapshot().revision + 1;
        here.follow(News::Change { revision, rows }).unwrap();
        assert_eq!(here.snapshot().revision, revision);
        // What is known and cannot be read is another matter.
        let rows = vec![("tenants/a/peers/p".to_owned(), Some(vec![255]))];
        assert!(here.follow(News::Change { revision: revision + 1, rows }).is_err());
    }

    #[test]
    fn a_catalog_that_is_gone_is_not_one_that_was_emptied() {
        let (there, here) = (Catalog::in_memory().unwrap(), Catalog::in_memory().unwrap());
        here.follow(News::All(Vec::new())).unwrap();
        let create =
            culvert_proto::v1::CreateTenantRequest { tenant_id: "a".to_owned(), ..Default::default() };
        there.create_tenant(&create).unwrap();
        here.follow(News::All(there.backup().unwrap())).unwrap();
        let error = here.follow(News::All(Vec::new())).unwrap_err().to_string();
        assert!(error.contains("catalog/counters"), "{error}");
        assert_eq!(here.tenants().len(), 1);
    }
}
