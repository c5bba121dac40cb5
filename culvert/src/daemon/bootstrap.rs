//! `bootstrap.file`: what the node has from its first start on.
//!
//! What of the manifest is missing is created. What is there belongs to whoever works with the API and stays as it is; the log
//! says what of it differs. So what is deleted over the API comes back at the next start, as long as the manifest has it.

use std::path::Path;

use anyhow::{anyhow, bail};
use culvert_proto::v1;
use culvert_proto::v1::object::Kind;
use tenants::{Action, BatchError, Catalog};

use crate::console::Failure;
use crate::manifest::{Manifest, changes, read_all};
use crate::services::status;

/// Objects that differ and are told one by one. A fleet whose manifest is of yesterday would fill the log at each start.
const MAX_TOLD: usize = 100;

/// What the manifest has, with the place of each in it.
type Placed = (String, v1::Object);

/// Creates what of the manifest `file` is missing, in one transaction.
///
/// # Errors
/// If the manifest cannot be read, or what is missing cannot be created; with the file and the field of every fault.
pub fn run(catalog: &Catalog, file: &Path) -> anyhow::Result<()> {
    let all = read(file)?.into_iter().map(|manifest| (manifest.place, manifest.object));
    let (there, missing): (Vec<Placed>, Vec<Placed>) = all.partition(|(_, object)| is_there(catalog, object));
    let differing = compare(catalog, there)?;
    let (places, objects): (Vec<_>, Vec<_>) = missing.into_iter().unzip();
    let created = objects.len();
    if created > 0 {
        let request = v1::ApplyRequest { objects, validate_only: false };
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
fn compare(catalog: &Catalog, there: Vec<Placed>) -> anyhow::Result<usize> {
    let mut differing = 0;
    for (place, object) in there {
        // One by one, so that a fault of one leaves the others to be compared.
        let tried = catalog.apply(v1::ApplyRequest { objects: vec![object], validate_only: true });
        let changes = match tried {
            Ok(applied) => match applied.into_iter().next() {
                Some(one) if one.action == Action::Updated => {
                    let (before, after) = one.values.unzip();
                    changes(before.as_ref(), after.as_ref(), one.value_changed)
                        .map_err(|failure| told(&failure))?
                        .join("; ")
                }
                _ => continue,
            },
            Err(error) => error.to_string(),
        };
        differing += 1;
        if differing <= MAX_TOLD {
            tracing::warn!(object = place, changes, "bootstrap: differs, and stays as it is");
        }
    }
    if differing > MAX_TOLD {
        tracing::warn!(more = differing - MAX_TOLD, "bootstrap: differ as well, and stay as they are");
    }
    Ok(differing)
}

fn refused(error: &BatchError, places: &[String]) -> anyhow::Error {
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
}
