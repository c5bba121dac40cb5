//! What an entry says.

use std::time::SystemTime;

use culvert_proto::v1;
use culvert_proto::v1::audited_value::Kind;
use prost::Message as _;

use crate::author::Author;
use crate::catalog::{ChangeKind, Object};
use crate::limits::{MAX_AUDIT_ENTRY, MAX_AUDITED};

/// Characters of a reason: as many as the API tells.
const MAX_MESSAGE: usize = 300;
/// Characters of what a caller has written himself, such as a name: more than any that there is, so that nobody fills the log.
const MAX_TEXT: usize = 200;
/// Octets that a value takes beside its own: its tag and its length, and what the length of the object around it grows by.
const FIELD: usize = 8;
/// Names of a refused request that are noted, for the same reason.
const MAX_REFUSED: usize = 16;

/// What somebody else has written: cut, and without what would grow in JSON.
fn text(given: &str, most: usize) -> String {
    given.chars().take(most).map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// Something that was done without changing the catalog, or that was refused.
#[derive(Clone, Debug)]
pub struct Deed {
    /// Who.
    pub author: Author,
    /// Name of the gRPC code.
    pub result: &'static str,
    /// Why it was refused.
    pub message: String,
    /// Names of what it was about.
    pub names: Vec<String>,
    /// Deeds like this that were not noted.
    pub suppressed: u64,
}

impl Deed {
    pub(crate) fn into_entry(self, sequence: u64) -> v1::AuditEntry {
        let more = self.names.len().saturating_sub(MAX_REFUSED);
        let names = self.names.iter().take(MAX_REFUSED).map(|name| text(name, MAX_TEXT));
        let objects = names.map(|name| v1::AuditedObject { name, ..Default::default() }).collect();
        v1::AuditEntry {
            result: self.result.to_owned(),
            message: text(&self.message, MAX_MESSAGE),
            objects,
            more_objects: u32::try_from(more).unwrap_or(u32::MAX),
            suppressed: self.suppressed,
            ..of(&self.author, sequence)
        }
    }
}

/// The entry of a change: what was done to each object, and what was there before.
pub(crate) fn of_change<'a>(
    author: &Author,
    sequence: u64,
    done: impl ExactSizeIterator<Item = (ChangeKind, &'a Object, Option<&'a Object>)>,
) -> v1::AuditEntry {
    let more = done.len().saturating_sub(MAX_AUDITED);
    let done: Vec<_> = done.take(MAX_AUDITED).collect();
    let mut entry = v1::AuditEntry {
        result: "OK".to_owned(),
        objects: done.iter().map(|(kind, object, before)| named(*kind, object, *before)).collect(),
        more_objects: u32::try_from(more).unwrap_or(u32::MAX),
        values_left_out: true,
        ..of(author, sequence)
    };
    // The names are there in any case, the values as far as there is room.
    let mut room = MAX_AUDIT_ENTRY.saturating_sub(entry.encoded_len());
    let mut left_out = false;
    for (shown, (kind, object, before)) in entry.objects.iter_mut().zip(done) {
        let (before, after) = values(kind, object, before);
        let octets = [&before, &after].into_iter().flatten().map(|value| value.encoded_len() + FIELD).sum();
        match room.checked_sub(octets) {
            Some(rest) => (room, shown.before, shown.after) = (rest, before, after),
            None => left_out = true,
        }
    }
    entry.values_left_out = left_out;
    entry
}

fn of(author: &Author, sequence: u64) -> v1::AuditEntry {
    v1::AuditEntry {
        sequence,
        time: Some(SystemTime::now().into()),
        principal: author.principal.clone(),
        from: author.from.clone(),
        method: text(&author.method, MAX_TEXT),
        trace_id: author.trace_id().to_owned(),
        span_id: author.span_id().to_owned(),
        ..Default::default()
    }
}

/// An object of an entry, without what was configured of it.
fn named(kind: ChangeKind, object: &Object, before: Option<&Object>) -> v1::AuditedObject {
    let value_changed = match (object, before) {
        (Object::Secret(new), Some(Object::Secret(old))) => new.sealed != old.sealed,
        _ => false,
    };
    v1::AuditedObject {
        name: object.name(),
        change: match kind {
            ChangeKind::Created => "CREATED",
            ChangeKind::Updated => "UPDATED",
            ChangeKind::Deleted => "DELETED",
        }
        .to_owned(),
        before: None,
        after: None,
        value_changed,
    }
}

/// What was configured of an object before, and is now.
fn values(
    kind: ChangeKind,
    object: &Object,
    before: Option<&Object>,
) -> (Option<v1::AuditedValue>, Option<v1::AuditedValue>) {
    let deleted = kind == ChangeKind::Deleted;
    let before = before.or(Some(object).filter(|_| deleted)).map(value);
    (before, Some(object).filter(|_| !deleted).map(value))
}

/// What is configured of an object. Nothing secret is: neither has a secret its value in it, nor a token.
fn value(object: &Object) -> v1::AuditedValue {
    let name = object.name();
    let kind = match object {
        Object::Tenant(tenant) => Kind::Tenant(v1::Tenant { name, ..tenant.spec.to_proto() }),
        Object::Peer(peer) => Kind::Peer(v1::Peer { name, ..peer.spec.to_proto() }),
        Object::Secret(secret) => {
            let display_name = secret.display_name.clone();
            Kind::Secret(v1::Secret { name, display_name, ..Default::default() })
        }
        Object::Token(token) => Kind::Token(token.spec_to_proto()),
    };
    v1::AuditedValue { kind: Some(kind) }
}
