//! Names as people write them, in full.

use crate::console::failure::Failure;

/// The resource name of a tenant given in full or as its ID.
pub(crate) fn full_tenant(text: &str) -> String {
    if text.starts_with("tenants/") { text.to_owned() } else { format!("tenants/{text}") }
}

/// That a name does not say of itself whose it is, and is said to be another's.
pub(crate) fn check_owner(name: &str, tenant: Option<&str>) -> Result<(), Failure> {
    let Some(tenant) = tenant.map(full_tenant) else { return Ok(()) };
    let own = name.strip_prefix("tenants/").and_then(|rest| rest.split('/').next()).map(full_tenant);
    let whose = match own {
        Some(own) if own == tenant => return Ok(()),
        Some(own) => own,
        None if name.starts_with("tokens/") => "the node".to_owned(),
        None => return Ok(()),
    };
    let hint = "leave --tenant out, or write the last part of the name alone";
    Err(Failure::invalid(format!("{name} is of {whose}, and --tenant says {tenant}")).hint(hint))
}

/// The resource name of what is in `collection`, given in full, as `acme/b1` or `peer/acme/b1`, or as `b1` of `tenant`.
pub(crate) fn full_name(collection: &str, text: &str, tenant: Option<&str>) -> Result<String, Failure> {
    let parts: Vec<&str> = text.split('/').collect();
    match (parts.as_slice(), tenant) {
        (["tenants", ..], _) => Ok(text.to_owned()),
        ([kind, tenant, id], _) if collection.strip_suffix('s') == Some(*kind) => {
            Ok(format!("tenants/{tenant}/{collection}/{id}"))
        }
        ([tenant, id], _) => Ok(format!("tenants/{tenant}/{collection}/{id}")),
        ([id], Some(tenant)) => Ok(format!("{}/{collection}/{id}", full_tenant(tenant))),
        _ => Err(Failure::invalid(format!("{text:?} is not a full name"))
            .hint(format!("write tenants/TENANT/{collection}/ID, TENANT/ID, or use --tenant"))),
    }
}

/// As [`full_name`], where `tenant` is whose it is said to be.
pub(crate) fn own_name(collection: &str, text: &str, tenant: Option<&str>) -> Result<String, Failure> {
    let name = full_name(collection, text, tenant)?;
    check_owner(&name, tenant)?;
    Ok(name)
}
