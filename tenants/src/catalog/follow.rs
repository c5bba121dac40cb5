//! What other nodes write to the store, taken over.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};

use crate::author::Author;
use crate::catalog::Catalog;
use crate::catalog::object::{Change, ChangeKind, Object};
use crate::catalog::state::State;
use crate::store::{Counters, Row, StoreError};

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
        for (kind, object) in changes {
            for state in [&mut *staged, &mut *state] {
                match kind {
                    ChangeKind::Deleted => state.remove(&object),
                    ChangeKind::Created | ChangeKind::Updated => state.put(object.clone()),
                };
            }
            tracing::info!(change = ?kind, name = object.name(), revision = counters.revision, by = author.principal, "catalog");
            // Told under the lock, as one's own.
            let author = Arc::clone(&author);
            let _ = self.changes.send(Change { revision: counters.revision, kind, object, author });
        }
        drop(state);
        drop(staged);
        self.reached.note(counters.revision);
        Ok(())
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
    for (key, value) in rows {
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
    let (mut counters, mut changes, mut there) = (state.counters, Vec::new(), BTreeMap::new());
    for (key, value) in rows {
        match Row::decode(&key, &value)? {
            Row::Counters(found) => counters = found,
            Row::Object(object) => {
                there.insert(key, object);
            }
            Row::Used(token, time) => note_use(state, &token, time),
            Row::KeyCheck(_) | Row::Audit(..) => {}
        }
    }
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
        token.used.restore(time);
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
