//! Listing what was done, the newest first.

use std::time::SystemTime;

use culvert_proto::v1;
use prost::Message;

use crate::audit::file::entries;
use crate::audit::{AuditLog, Kept};
use crate::error::Error;
use crate::name::TenantName;
use crate::page::{Page, PageRequest};
use crate::violation::Violations;

impl AuditLog {
    /// A page of the entries about what is of a tenant, or of all entries; none from before `since`.
    pub(crate) fn page(
        &self,
        parent: &str,
        page_size: i32,
        page_token: &str,
        since: Option<SystemTime>,
    ) -> Result<Page<v1::AuditEntry>, Error> {
        let request = PageRequest::parse(parent, page_size, page_token)?;
        let tenant: Option<TenantName> = match parent {
            "" | "tenants/-" => None,
            name => Some(name.parse().map_err(|error| Error::invalid("parent", format!("{error}")))?),
        };
        let before: u64 = match request.after() {
            None => u64::MAX,
            Some(text) => {
                text.parse().map_err(|_| Violations::one("page_token", "not a token of this list"))?
            }
        };
        let files = match &self.lock().kept {
            Kept::Memory(entries) => {
                let entries: Vec<_> = entries.iter().rev().cloned().collect();
                return Ok(cut(&request, before, since, tenant.as_ref(), entries.into_iter()));
            }
            Kept::Files(files) => files.greatest_first()?,
        };
        // A file is read once what was read of others comes down to it, so that a page of the newest ones mostly reads no more than one. What is
        // not of the tenant is passed over unread.
        let mark = tenant.as_ref().map(ToString::to_string);
        let (mut files, mut read, mut failed) = (files.into_iter().peekable(), Vec::new(), None);
        let newest_first = std::iter::from_fn(|| {
            let next = |read: &[v1::AuditEntry]| read.last().map_or(0, |entry| entry.sequence);
            while let Some((_, path)) = files.next_if(|(greatest, _)| *greatest >= next(&read)) {
                match entries(&path, mark.as_deref()) {
                    Ok(of_file) => read.extend(of_file),
                    Err(error) => drop(failed.get_or_insert(error)),
                }
                read.sort_by_key(|entry| entry.sequence);
            }
            read.pop()
        });
        let page = cut(&request, before, since, tenant.as_ref(), newest_first);
        match failed {
            Some(error) => Err(error.into()),
            None => Ok(page),
        }
    }
}

fn cut(
    request: &PageRequest,
    before: u64,
    since: Option<SystemTime>,
    tenant: Option<&TenantName>,
    newest_first: impl Iterator<Item = v1::AuditEntry>,
) -> Page<v1::AuditEntry> {
    let is_wanted =
        |entry: &v1::AuditEntry| entry.sequence < before && since.is_none_or(|since| is_of(entry, since));
    let wanted = newest_first.filter(is_wanted).filter_map(|entry| match tenant {
        None => Some(entry),
        Some(tenant) => about(entry, tenant),
    });
    request.cut_by(wanted, |entry| entry.sequence.to_string(), Message::encoded_len)
}

/// Whether an entry is of this time or later.
fn is_of(entry: &v1::AuditEntry, since: SystemTime) -> bool {
    entry.time.is_some_and(|time| SystemTime::try_from(time).is_ok_and(|time| time >= since))
}

/// What of an entry is about a tenant: the objects of others in it are not its business.
fn about(mut entry: v1::AuditEntry, tenant: &TenantName) -> Option<v1::AuditEntry> {
    let all = entry.objects.len();
    entry.objects.retain(|object| tenant.owns(&object.name));
    if entry.objects.len() < all {
        entry.more_objects = 0;
    }
    (!entry.objects.is_empty()).then_some(entry)
}
