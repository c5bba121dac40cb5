//! A catalog that takes the place of one in which nothing is: that of a node that was alone, in a store that nodes share.

use std::path::Path;

use prost::Message as _;

use crate::store::{COUNTERS, Counters, RedbStore, Row, StoreError, Vault};

/// What keys of tenants begin with.
const TENANTS: &str = "tenants/";

/// The revision of the store at `path`; `None` if it has no tenant, or is not there. Reads no more of its rows than that takes.
///
/// # Errors
/// If it cannot be read.
pub fn revision_with_tenants(path: &Path) -> Result<Option<u64>, StoreError> {
    if !path.exists() {
        return Ok(None);
    }
    let store = RedbStore::open(path)?;
    if !store.has_some(TENANTS)? {
        return Ok(None);
    }
    let counters = store.get(COUNTERS)?.unwrap_or_default();
    let counters = Counters::decode(&*counters).map_err(|error| StoreError::corrupt(COUNTERS, error))?;
    Ok(Some(counters.revision))
}

/// Makes the rows of a catalog those that follow on `there`, in which there is nothing but what a node writes that starts on an empty store, and
/// numbers that were given out: the revision that they are at then. `None` if there is something.
///
/// # Errors
/// If a row cannot be read, or what is there was written by who has another key than `vault`.
pub fn succeed(
    rows: &mut [(String, Vec<u8>)],
    there: &[(String, Vec<u8>)],
    vault: &Vault,
) -> Result<Option<u64>, StoreError> {
    let mut before = Counters::default();
    for (key, value) in there {
        match Row::decode(key, value)? {
            Row::Counters(counters) => before = counters,
            Row::KeyCheck(sealed) if vault.sealed_by(&sealed) => {}
            Row::KeyCheck(_) => return Err(StoreError::WrongKey(key.clone())),
            // A node may write down when a token was shown in the moment in which another deletes it: that row stays, and is of nothing.
            Row::Audit(..) | Row::Used(..) => {}
            Row::Object(_) => return Ok(None),
        }
    }
    let Some((key, value)) = rows.iter_mut().find(|(key, _)| key == COUNTERS) else {
        // Nothing was ever written to it.
        return Ok(Some(before.revision + 1));
    };
    let own = Counters::decode(&**value).map_err(|error| StoreError::corrupt(key, error))?;
    // What is seen by who follows goes forward, and no number is given out twice. It is later than where it came from, too: that it was
    // brought along is told by that.
    let after = Counters {
        revision: (own.revision + 1).max(before.revision + 1),
        tenant: own.tenant.max(before.tenant),
        peer: own.peer.max(before.peer),
    };
    *value = after.encode_to_vec();
    Ok(Some(after.revision))
}

#[cfg(test)]
mod tests {
    use culvert_proto::v1;

    use super::*;
    use crate::Catalog;
    use crate::store::{KEY_CHECK, STORE_FILE, used_key};

    fn tenant(id: &str) -> v1::CreateTenantRequest {
        v1::CreateTenantRequest { tenant_id: id.to_owned(), ..Default::default() }
    }

    #[test]
    fn a_store_says_whether_it_has_tenants_and_at_which_revision_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(STORE_FILE);
        assert_eq!(revision_with_tenants(&path).unwrap(), None);
        assert!(!path.exists());
        let catalog = Catalog::open(directory.path()).unwrap();
        assert!(revision_with_tenants(&path).is_err(), "it is in use");
        drop(catalog);
        assert_eq!(revision_with_tenants(&path).unwrap(), None);
        let catalog = Catalog::open(directory.path()).unwrap();
        catalog.create_tenant(&tenant("acme")).unwrap();
        catalog.create_tenant(&tenant("zeta")).unwrap();
        let revision = catalog.snapshot().revision;
        drop(catalog);
        assert_eq!(revision_with_tenants(&path).unwrap(), Some(revision));
    }

    #[test]
    fn what_follows_on_nothing_goes_forward_and_what_is_there_stays() {
        let (catalog, vault) = (Catalog::in_memory().unwrap(), Vault::ephemeral().unwrap());
        catalog.create_tenant(&tenant("acme")).unwrap();
        let (rows, revision) = (catalog.backup().unwrap(), catalog.snapshot().revision);
        let counters = |counters: Counters| (COUNTERS.to_owned(), counters.encode_to_vec());
        let key = |vault: &Vault| (KEY_CHECK.to_owned(), vault.key_check().unwrap());
        let follows = |there: &[(String, Vec<u8>)]| {
            let mut rows = rows.clone();
            let revision = succeed(&mut rows, there, &vault).unwrap()?;
            let (_, value) = rows.iter().find(|(key, _)| key == COUNTERS).unwrap();
            let counters = Counters::decode(&**value).unwrap();
            assert_eq!(counters.revision, revision);
            Some((counters.revision, counters.tenant, counters.peer))
        };
        let own = follows(&[]).unwrap();
        assert_eq!(own.0, revision + 1, "it is told from the one that was not brought along");
        let first = counters(Counters { revision: 1, ..Counters::default() });
        assert_eq!(follows(&[first.clone(), key(&vault)]).unwrap().0, revision + 1);
        let emptied = counters(Counters { revision: 70, tenant: 8, peer: 9 });
        assert_eq!(follows(&[emptied, key(&vault)]), Some((71, 8, 9)));
        let used = (used_key(&"tokens/gone".parse().unwrap()), 7_u64.to_be_bytes().to_vec());
        assert_eq!(follows(&[first.clone(), used]).unwrap().0, revision + 1);
        assert_eq!(follows(&rows), None, "there is a tenant");
        let other = [first, key(&Vault::ephemeral().unwrap())];
        assert!(matches!(succeed(&mut rows.clone(), &other, &vault), Err(StoreError::WrongKey(_))));
    }
}
