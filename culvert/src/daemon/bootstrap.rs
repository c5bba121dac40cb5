//! `bootstrap.file`: what the node has from its first start on.
//!
//! What of the manifest is missing is created. What is there belongs to whoever works with the API and stays as it is; the log
//! says what of it differs. So what is deleted over the API comes back at the next start, as long as the manifest has it.

use std::collections::HashSet;
use std::path::Path;

use anyhow::{anyhow, bail};
use culvert_proto::v1;
use culvert_proto::v1::object::Kind;
use tenants::{Action, Applied, BatchError, Catalog};
use zeroize::Zeroize as _;

use crate::console::Failure;
use crate::manifest::{Manifest, changes, read_all};
use crate::services::status;

/// Objects that differ and are told one by one. A fleet whose manifest is of yesterday would fill the log at each start.
const MAX_TOLD: usize = 100;

/// How often what is there is compared as a whole, each time without what was refused the time before: once for faults of objects
/// themselves, once for those in view of others, and once for the rest. Where nodes share the catalog each asks the store, which for a hundred thousand
/// objects one by one would take minutes.
const ROUNDS: usize = 3;

/// What the manifest has, with the place of each in it.
type Placed = (String, v1::Object);

/// Creates what of the manifest `file` is missing, in one transaction.
///
/// # Errors
/// If the manifest cannot be read, or what is missing cannot be created; with the file and the field of every fault.
pub fn run(catalog: &Catalog, file: &Path) -> anyhow::Result<()> {
    let of = |name: &str| Some(catalog.get_tenant(&name.parse().ok()?)?.to_proto());
    let whole = |manifest: Manifest| {
        let tenant = manifest.part_of().and_then(of);
        manifest.whole(tenant).map_err(|failure| told(&failure))
    };
    let all = read(file)?.into_iter().map(whole).collect::<anyhow::Result<Vec<Placed>>>()?;
    let (there, missing): (Vec<Placed>, Vec<Placed>) =
        all.into_iter().partition(|(_, object)| is_there(catalog, object));
    let differing = compare(catalog, there)?;
    let (places, objects): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
    let created = objects.len();
    if created > 0 {
        let request = v1::ApplyRequest { objects, ..Default::default() };
        for applied in catalog.apply(request).map_err(|error| refused(&error, &places))? {
            for warning in applied.warnings {
                tracing::warn!(object = applied.name, warning, "bootstrap: weaker than it could be");
            }
        }
    }
    tracing::info!(file = %file.display(), created, differing, "bootstrap");
    Ok(())
}

/// Reads the manifest.
///
/// # Errors
/// If it cannot be read, or has faults, with the field of each.
pub(crate) fn read(file: &Path) -> anyhow::Result<Vec<Manifest>> {
    // The command line reads it from standard input.
    if file == Path::new("-") {
        bail!("bootstrap.file: expected a file or a directory, not `-`");
    }
    read_all(&[file.to_owned()]).map_err(|failure| told(&failure))
}

fn is_there(catalog: &Catalog, object: &v1::Object) -> bool {
    match &object.kind {
        Some(Kind::Tenant(tenant)) => {
            tenant.name.parse().is_ok_and(|name| catalog.get_tenant(&name).is_some())
        }
        Some(Kind::Secret(secret)) => {
            secret.name.parse().is_ok_and(|name| catalog.get_secret(&name).is_some())
        }
        Some(Kind::Peer(peer)) => peer.name.parse().is_ok_and(|name| catalog.get_peer(&name).is_some()),
        None => false,
    }
}

/// Tells what the catalog has otherwise than the manifest says; how many objects that are.
fn compare(catalog: &Catalog, mut there: Vec<Placed>) -> anyhow::Result<usize> {
    let mut told = Told(0);
    for _ in 0..ROUNDS {
        if there.is_empty() {
            break;
        }
        let objects = there.iter().map(|(_, object)| object.clone()).collect();
        match catalog.apply(v1::ApplyRequest { objects, validate_only: true, ..Default::default() }) {
            Ok(applied) => {
                for ((place, mut object), one) in there.drain(..).zip(applied) {
                    wipe(&mut object);
                    told.applied(&place, one)?;
                }
            }
            // A fault of one leaves the others to be compared.
            Err(BatchError::Objects(faults)) => {
                for (at, error) in &faults {
                    if let Some((place, _)) = there.get(*at) {
                        told.differs(place, &error.to_string());
                    }
                }
                let at_fault: HashSet<usize> = faults.into_iter().map(|(at, _)| at).collect();
                let mut at = 0..;
                there.retain_mut(|(_, object)| {
                    let stays = at.next().is_none_or(|at| !at_fault.contains(&at));
                    if !stays {
                        wipe(object);
                    }
                    stays
                });
            }
            Err(BatchError::Whole(_)) => break,
        }
    }
    for (place, object) in there {
        match catalog.apply(v1::ApplyRequest {
            objects: vec![object],
            validate_only: true,
            ..Default::default()
        }) {
            Ok(applied) => applied.into_iter().try_for_each(|one| told.applied(&place, one))?,
            Err(error) => told.differs(&place, &error.to_string()),
        }
    }
    if told.0 > MAX_TOLD {
        tracing::warn!(more = told.0 - MAX_TOLD, "bootstrap: differ as well, and stay as they are");
    }
    Ok(told.0)
}

/// The value of a secret is not needed any more.
fn wipe(object: &mut v1::Object) {
    if let Some(Kind::Secret(secret)) = &mut object.kind {
        secret.value.zeroize();
    }
}

/// How many objects differ. The first are told.
struct Told(usize);

impl Told {
    fn applied(&mut self, place: &str, one: Applied) -> anyhow::Result<()> {
        if one.action == Action::Updated {
            let (before, after) = one.values.unzip();
            let changes = changes(before.as_ref(), after.as_ref(), one.value_changed);
            self.differs(place, &changes.map_err(|failure| told(&failure))?.join("; "));
        }
        Ok(())
    }

    fn differs(&mut self, place: &str, changes: &str) {
        self.0 += 1;
        if self.0 <= MAX_TOLD {
            tracing::warn!(object = place, changes, "bootstrap: differs, and stays as it is");
        }
    }
}

fn refused(error: &BatchError, places: &[String]) -> anyhow::Error {
    if let BatchError::Whole(tenants::Error::Store(error)) = error {
        // With more than callers are told.
        tracing::error!(%error, "bootstrap: the store failed");
    }
    told(&Failure::of_batch(&status::of_batch(error), "the manifest", places))
}

/// All of a failure in one error.
fn told(failure: &Failure) -> anyhow::Error {
    let mut text = format!("bootstrap.file: {}", failure.message);
    for detail in &failure.details {
        text.push_str("\n  ");
        text.push_str(detail);
    }
    anyhow!(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(catalog: &Catalog, text: &str) -> Result<(), String> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("m.yaml");
        std::fs::write(&file, text).unwrap();
        run(catalog, &file).map_err(|error| error.to_string())
    }

    const TENANT: &str = "kind: Tenant\nname: acme\ndisplayName: NAME\n";
    const SECRET: &str = "---\nkind: Secret\nname: acme/psk\nvalue: VALUE\n";

    #[test]
    fn what_is_missing_is_made_and_what_is_there_stays() {
        let catalog = Catalog::in_memory().unwrap();
        apply(&catalog, &(TENANT.to_owned() + SECRET)).unwrap();
        let other = (TENANT.replace("NAME", "other") + &SECRET.replace("VALUE", "other"))
            + "---\nkind: Secret\nname: acme/new\nvalue: new\n";
        apply(&catalog, &other).unwrap();
        let value = |name: &str| catalog.resolve_secret(&name.parse().unwrap()).unwrap().to_vec();
        assert_eq!(value("tenants/acme/secrets/psk"), b"VALUE");
        assert_eq!(value("tenants/acme/secrets/new"), b"new");
        assert_eq!(catalog.tenants()[0].spec.to_proto().display_name, "NAME");
    }

    #[test]
    fn a_fault_of_what_is_missing_is_told_with_file_and_field_and_nothing_is_made() {
        let catalog = Catalog::in_memory().unwrap();
        let text = TENANT.to_owned() + "---\nkind: Peer\nname: acme/b1\nremoteIdentity: b1.example\n";
        let error = apply(&catalog, &text).unwrap_err();
        assert!(error.starts_with("bootstrap.file: the manifest: refused as a whole"), "{error}");
        assert!(error.contains("m.yaml, document 2 (Peer acme/b1): auth"), "{error}");
        assert!(catalog.tenants().is_empty());
        let error = apply(&catalog, "kind: Tenant\nname: acme\ncolour: red\n").unwrap_err();
        assert!(error.contains("m.yaml, document 1 (Tenant acme): colour: unknown field"), "{error}");
        let error = run(&catalog, Path::new("-")).unwrap_err().to_string();
        assert!(error.starts_with("bootstrap.file: expected a file"), "{error}");
    }

    #[test]
    fn a_manifest_that_would_be_refused_today_does_not_stop_what_is_there() {
        let catalog = Catalog::in_memory().unwrap();
        apply(&catalog, TENANT).unwrap();
        apply(&catalog, &TENANT.replace("NAME", &"x".repeat(10_000))).unwrap();
        assert_eq!(catalog.tenants()[0].spec.to_proto().display_name, "NAME");
    }

    /// What a store is asked, as where nodes share it.
    #[derive(Default)]
    struct Asked {
        rows: tenants::store::MemoryStore,
        times: std::sync::atomic::AtomicUsize,
    }

    impl tenants::store::Store for Asked {
        fn load(&self) -> Result<Vec<(String, Vec<u8>)>, tenants::store::StoreError> {
            self.rows.load()
        }

        fn commit(&self, batch: &tenants::store::Batch) -> Result<(), tenants::store::StoreError> {
            self.rows.commit(batch)
        }

        fn is_shared(&self) -> bool {
            true
        }

        fn last_revision(&self) -> Result<u64, tenants::store::StoreError> {
            self.times.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            Ok(0)
        }
    }

    #[test]
    fn what_is_there_is_compared_at_once_whatever_is_refused_of_it() {
        let store = std::sync::Arc::new(Asked::default());
        let vault = tenants::store::Vault::ephemeral().unwrap();
        let catalog = Catalog::with(Box::new(std::sync::Arc::clone(&store)), vault).unwrap();
        let tenant = |at: usize, name: &str| {
            format!("---\n{}", TENANT.replace("acme", &format!("t{at}")).replace("NAME", name))
        };
        let manifest = |name: &str| (0..500).map(|at| tenant(at, name)).collect::<String>();
        apply(&catalog, &manifest("one")).unwrap();
        let asked = || store.times.swap(0, std::sync::atomic::Ordering::Relaxed);
        asked();
        apply(&catalog, &manifest("one")).unwrap();
        assert_eq!(asked(), 1);
        let there: Vec<Placed> = read_objects(&(tenant(500, &"x".repeat(10_000)) + &manifest("other")));
        catalog
            .create_tenant(&v1::CreateTenantRequest { tenant_id: "t500".into(), ..Default::default() })
            .unwrap();
        asked();
        assert_eq!(compare(&catalog, there).unwrap(), 501);
        assert_eq!(asked(), 2);
    }

    fn read_objects(text: &str) -> Vec<Placed> {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("m.yaml");
        std::fs::write(&file, text).unwrap();
        read(&file).unwrap().into_iter().map(|manifest| manifest.whole(None).unwrap()).collect()
    }
}
