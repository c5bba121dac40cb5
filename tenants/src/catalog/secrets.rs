//! Writing secrets.

use std::sync::Arc;

use culvert_proto::v1;

use crate::catalog::Catalog;
use crate::catalog::object::{ChangeKind, Object};
use crate::catalog::write::{Writer, check_etag, check_missing, check_quota, check_request_id, is_repeated};
use crate::error::Error;
use crate::mask;
use crate::name::{SecretName, TenantName};
use crate::secret::{Secret, SecretSpec};
use crate::violation::Violations;

/// Peers named in the refusal to delete a secret; the rest is counted.
const SHOWN_USERS: usize = 5;

impl Catalog {
    /// Creates a secret. Asked again with the same `request_id`, answers what was created.
    /// The value is moved out of the request and wiped.
    pub fn create_secret(&self, mut request: v1::CreateSecretRequest) -> Result<Arc<Secret>, Error> {
        let mut faults = Violations::new();
        let tenant: Option<TenantName> = faults.note("parent", request.parent.parse());
        check_request_id(&request.request_id, &mut faults);
        let spec = parse(request.secret.get_or_insert_default(), &mut faults);
        let name = tenant
            .and_then(|tenant| faults.note("secret_id", SecretName::from_id(tenant, &request.secret_id)));
        let (name, spec) = faults.finish(name.zip(spec))?;
        let writer = self.writer();
        match self.get_secret(&name) {
            Some(secret) if is_repeated(&request.request_id, &secret.meta) => Ok(secret),
            Some(_) => Err(Error::AlreadyExists(name.to_string())),
            None => self.insert_secret(writer, name, &spec, &request.request_id, request.validate_only),
        }
    }

    /// Changes a secret. What changes nothing is not written and keeps the etag.
    /// The value is moved out of the request and wiped.
    pub fn update_secret(&self, mut request: v1::UpdateSecretRequest) -> Result<Arc<Secret>, Error> {
        let Some(patch) = &mut request.secret else {
            return Err(Error::invalid("secret", "is missing"));
        };
        let mut faults = Violations::new();
        let given = parse(patch, &mut faults);
        let given = faults.finish(given)?;
        let name: SecretName =
            patch.name.parse().map_err(|e| Error::invalid("secret.name", format!("{e}")))?;
        let writer = self.writer();
        let Some(old) = self.get_secret(&name) else {
            check_missing(request.allow_missing, &patch.etag, &name)?;
            return self.insert_secret(writer, name, &given, "", request.validate_only);
        };
        check_etag(&patch.etag, &old.meta, &name)?;
        // The mask is for the fields but the value, which the store does not show.
        let base = v1::Secret { display_name: old.display_name.clone(), ..Default::default() };
        let merged = mask::apply("Secret", &base, patch, request.update_mask.as_ref())?;
        let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let wanted = paths.is_empty() || paths.iter().any(|path| path == "*" || path == "value");
        if given.value.is_none() && paths.iter().any(|path| path == "value") {
            return Err(Error::invalid("secret.value", "is empty"));
        }
        let value = given.value.filter(|_| wanted).filter(|value| {
            let current = self.vault.open_sealed(&name.to_string(), &old.sealed);
            current.is_none_or(|current| !same(&current, value))
        });
        if value.is_none() && merged.display_name == old.display_name {
            return Ok(old);
        }
        let sealed = match &value {
            Some(value) => self.vault.seal(&name.to_string(), value)?,
            None => old.sealed.clone(),
        };
        let meta = writer.updated(&old.meta);
        let secret = Arc::new(Secret { name, display_name: merged.display_name, meta, sealed });
        if !request.validate_only {
            self.commit(writer, vec![(ChangeKind::Updated, Object::Secret(Arc::clone(&secret)))])?;
        }
        Ok(secret)
    }

    /// Deletes a secret that no peer refers to.
    pub fn delete_secret(&self, request: &v1::DeleteSecretRequest) -> Result<(), Error> {
        let name: SecretName = request.name.parse().map_err(|e| Error::invalid("name", format!("{e}")))?;
        let writer = self.writer();
        let Some(secret) = self.get_secret(&name) else {
            return check_missing(request.allow_missing, &request.etag, &name);
        };
        check_etag(&request.etag, &secret.meta, &name)?;
        if let Some(users) = self.read().index.users(&name) {
            let mut shown: Vec<_> = users.iter().take(SHOWN_USERS).map(ToString::to_string).collect();
            if users.len() > SHOWN_USERS {
                shown.push(format!("{} more", users.len() - SHOWN_USERS));
            }
            let reason = format!("is in use by {}", shown.join(", "));
            return Err(Error::FailedPrecondition { name: name.to_string(), reason });
        }
        if request.validate_only {
            return Ok(());
        }
        self.commit(writer, vec![(ChangeKind::Deleted, Object::Secret(secret))])
    }

    fn insert_secret(
        &self,
        writer: Writer<'_>,
        name: SecretName,
        spec: &SecretSpec,
        request_id: &str,
        validate_only: bool,
    ) -> Result<Arc<Secret>, Error> {
        let Some(value) = &spec.value else {
            return Err(Error::invalid("secret.value", "is empty"));
        };
        let tenant = name.tenant();
        let Some(owner) = self.get_tenant(tenant) else {
            return Err(Error::NotFound(tenant.to_string()));
        };
        check_quota(
            self.read().index.secrets(tenant),
            owner.spec.quotas.max_secrets.into(),
            "secrets",
            tenant,
        )?;
        let sealed = self.vault.seal(&name.to_string(), value)?;
        let meta = writer.created(request_id);
        let secret = Arc::new(Secret { name, display_name: spec.display_name.clone(), meta, sealed });
        if !validate_only {
            self.commit(writer, vec![(ChangeKind::Created, Object::Secret(Arc::clone(&secret)))])?;
        }
        Ok(secret)
    }
}

/// Compares in a time that tells the length only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && openssl::memcmp::eq(a, b)
}

/// The values of a message; faults are noted as those of the field `secret`.
fn parse(secret: &mut v1::Secret, faults: &mut Violations) -> Option<SecretSpec> {
    SecretSpec::parse(secret).map_err(|inner| faults.add_all("secret", inner)).ok()
}
