//! Whether a store is whole, without changing it.

use std::fs::{File, TryLockError};
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use crate::catalog::Object;
use crate::store::disk::{Image, Medium};
use crate::store::{RedbStore, Row, Store as _, StoreError, Vault};

/// What is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Tenants.
    pub tenants: usize,
    /// Peers.
    pub peers: usize,
    /// Secrets.
    pub secrets: usize,
    /// Tokens.
    pub tokens: usize,
    /// Revision of the catalog.
    pub revision: u64,
    /// What is wrong, row by row.
    pub faults: Vec<String>,
}

/// Reads every page and row of the store at `path`, and opens every secret if `vault` is given. Works on a copy in memory,
/// so that the file stays as it is.
///
/// # Errors
/// If the file cannot be read at all, or no row of it. What is wrong with single rows is in the report.
pub fn check(path: &Path, vault: Option<&Vault>) -> Result<Report, StoreError> {
    let store = image(path)?;
    let mut report = Report::default();
    let mut objects = Vec::new();
    for (key, value) in store.load()? {
        match Row::decode(&key, &value) {
            Ok(Row::Counters(counters)) => report.revision = counters.revision,
            Ok(Row::KeyCheck(sealed)) => {
                if vault.is_some_and(|vault| !vault.sealed_by(&sealed)) {
                    report.faults.push("the key is not the key of this store".to_owned());
                }
            }
            Ok(Row::Object(object)) => objects.push(object),
            Ok(Row::Used(..) | Row::Audit(..)) => {}
            Err(error) => report.faults.push(error.to_string()),
        }
    }
    let names: std::collections::HashSet<String> = objects.iter().map(Object::name).collect();
    for object in &objects {
        let (count, needs) = match object {
            Object::Tenant(_) => (&mut report.tenants, Vec::new()),
            Object::Peer(peer) => {
                let secrets = peer.spec.auth.secrets().map(|(_, secret)| secret.to_string());
                let tenant = peer.name.tenant().to_string();
                (&mut report.peers, std::iter::once(tenant).chain(secrets).collect())
            }
            Object::Secret(secret) => (&mut report.secrets, vec![secret.name.tenant().to_string()]),
            Object::Token(token) => {
                (&mut report.tokens, token.name.tenant().map(ToString::to_string).into_iter().collect())
            }
        };
        *count += 1;
        let missing = needs.into_iter().filter(|needed| !names.contains(needed));
        report.faults.extend(missing.map(|needed| format!("{}: {needed} is missing", object.name())));
        if object.meta().revision > report.revision {
            let fault =
                format!("{}: of revision {}, which is to come", object.name(), object.meta().revision);
            report.faults.push(fault);
        }
        if let (Object::Secret(secret), Some(vault)) = (object, vault)
            && vault.open_sealed(&object.name(), &secret.sealed).is_none()
        {
            report.faults.push(format!("{}: does not open with the key", object.name()));
        }
    }
    Ok(report)
}

/// Every row of the store at `path`, which stays as it is.
pub fn read(path: &Path) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    image(path)?.load()
}

/// A store on a copy in memory of the file at `path`.
fn image(path: &Path) -> Result<RedbStore, StoreError> {
    let fail = |error: std::io::Error| StoreError::file(path, error);
    let mut file = File::open(path).map_err(fail)?;
    match file.try_lock_shared() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => return Err(fail(error)),
    }
    let mut octets = Vec::new();
    file.read_to_end(&mut octets).map_err(fail)?;
    if octets.is_empty() {
        return Err(StoreError::damaged(path, "it is empty"));
    }
    RedbStore::on(path, Medium(Arc::new(Image::new(octets))))
}
