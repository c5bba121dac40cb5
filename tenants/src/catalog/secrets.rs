//! Writing secrets.

use std::sync::Arc;
use std::time::SystemTime;

use culvert_proto::v1;
use zeroize::Zeroizing;

use crate::catalog::Catalog;
use crate::catalog::object::Object;
use crate::catalog::state::State;
use crate::catalog::write::{
    Changed, EtagRule, Writer, check_etag, check_missing, check_quota, check_request_id, is_repeated,
};
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
        self.write(request.validate_only, |writer| match writer.state().secrets.get(&name).cloned() {
            Some(secret) if is_repeated(&request.request_id, &secret.meta) => Ok(secret),
            Some(_) => Err(Error::AlreadyExists(name.to_string())),
            None => writer.insert_secret(name.clone(), &spec, &request.request_id),
        })
    }

    /// Changes a secret. What changes nothing is not written and keeps the etag.
    /// The value is moved out of the request and wiped.
    pub fn update_secret(&self, mut request: v1::UpdateSecretRequest) -> Result<Changed<Secret>, Error> {
        // Each attempt moves the value out, and where there are others who write there may be several.
        let value = request.secret.as_ref().filter(|_| self.is_shared());
        let value = value.map(|secret| Zeroizing::new(secret.value.clone()));
        self.write(request.validate_only, |writer| {
            if let (Some(secret), Some(value)) = (&mut request.secret, &value) {
                secret.value.clone_from(value);
            }
            writer.update_secret(&mut request, EtagRule::Strict)
        })
    }

    /// Deletes a secret that no peer refers to. Names of what went.
    pub fn delete_secret(&self, request: &v1::DeleteSecretRequest) -> Result<Vec<String>, Error> {
        self.write(request.validate_only, |writer| {
            writer.delete_secret(request)?;
            Ok(writer.removed())
        })
    }
}

impl Writer<'_> {
    /// The value is moved out of the request and wiped.
    pub(crate) fn update_secret(
        &mut self,
        request: &mut v1::UpdateSecretRequest,
        rule: EtagRule,
    ) -> Result<Changed<Secret>, Error> {
        let Some(patch) = &mut request.secret else {
            return Err(Error::invalid("secret", "is missing"));
        };
        let mut faults = Violations::new();
        let given = parse(patch, &mut faults);
        let given = faults.finish(given)?;
        let name: SecretName =
            patch.name.parse().map_err(|e| Error::invalid("secret.name", format!("{e}")))?;
        let Some(old) = self.state().secrets.get(&name).cloned() else {
            check_missing(request.allow_missing, &patch.etag, &name)?;
            return self.insert_secret(name, &given, "").map(Changed::created);
        };
        let fresh = check_etag(&patch.etag, &old.meta, &name);
        if rule == EtagRule::Strict {
            fresh?;
        }
        // The mask is for the fields but the value, which the store does not show.
        let base = v1::Secret { display_name: old.display_name.clone(), ..Default::default() };
        let merged = mask::apply("Secret", &base, patch, request.update_mask.as_ref())?;
        let paths = request.update_mask.as_ref().map(|mask| mask.paths.as_slice()).unwrap_or_default();
        let wanted = paths.is_empty() || paths.iter().any(|path| path == "*" || path == "value");
        if given.value.is_none() && paths.iter().any(|path| path == "value") {
            return Err(Error::invalid("secret.value", "is empty"));
        }
        let value = given.value.filter(|_| wanted).filter(|value| {
            let current = self.vault().open_sealed(&name.to_string(), &old.sealed);
            current.is_none_or(|current| !same(&current, value))
        });
        if value.is_none() && merged.display_name == old.display_name {
            return Ok(Changed::unchanged(old));
        }
        check_etag(&patch.etag, &old.meta, &name)?;
        let (sealed, ends) = match &value {
            Some(value) => self.seal(&name, value)?,
            None => (old.sealed.clone(), old.ends),
        };
        let meta = self.updated(&old.meta);
        let secret = Arc::new(Secret { name, display_name: merged.display_name, ends, meta, sealed });
        self.put(Object::Secret(Arc::clone(&secret)));
        Ok(Changed { before: Some(old), after: secret })
    }

    pub(crate) fn delete_secret(&mut self, request: &v1::DeleteSecretRequest) -> Result<(), Error> {
        let name: SecretName = request.name.parse().map_err(|e| Error::invalid("name", format!("{e}")))?;
        let Some(secret) = self.state().secrets.get(&name).cloned() else {
            return check_missing(request.allow_missing, &request.etag, &name);
        };
        check_etag(&request.etag, &secret.meta, &name)?;
        self.remove(Object::Secret(secret));
        Ok(())
    }

    /// A value as it is stored, and what is said of it.
    fn seal(&self, name: &SecretName, value: &[u8]) -> Result<(Vec<u8>, Option<SystemTime>), Error> {
        Ok((self.vault().seal(&name.to_string(), value)?, certificates::first_end(value)))
    }

    fn insert_secret(
        &mut self,
        name: SecretName,
        spec: &SecretSpec,
        request_id: &str,
    ) -> Result<Arc<Secret>, Error> {
        let Some(value) = &spec.value else {
            return Err(Error::invalid("secret.value", "is empty"));
        };
        if !self.state().tenants.contains_key(name.tenant()) {
            return Err(Error::NotFound(name.tenant().to_string()));
        }
        let (sealed, ends) = self.seal(&name, value)?;
        let meta = self.created(request_id);
        let secret = Arc::new(Secret { name, display_name: spec.display_name.clone(), ends, meta, sealed });
        self.put(Object::Secret(Arc::clone(&secret)));
        Ok(secret)
    }
}

/// That nothing refers to one that has gone, now that all has gone that goes with it.
pub(crate) fn check_gone(state: &State, name: &SecretName) -> Result<(), Error> {
    let Some(users) = state.index.users(name) else { return Ok(()) };
    let mut shown: Vec<_> = users.keys().take(SHOWN_USERS).map(ToString::to_string).collect();
    if users.len() > SHOWN_USERS {
        shown.push(format!("{} more", users.len() - SHOWN_USERS));
    }
    let reason = format!("is in use by {}", shown.join(", "));
    Err(Error::FailedPrecondition { name: name.to_string(), reason })
}

/// What can only be said in view of the other objects.
pub(crate) fn check(state: &State, secret: &Secret) -> Result<(), Error> {
    let tenant = secret.name.tenant();
    let Some(owner) = state.tenants.get(tenant) else { return Ok(()) };
    check_quota(state.index.secrets(tenant), owner.spec.quotas.max_secrets.into(), "secrets", tenant)
}

/// Compares in a time that tells the length only.
fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && openssl::memcmp::eq(a, b)
}

/// The values of a message; faults are noted as those of the field `secret`.
fn parse(secret: &mut v1::Secret, faults: &mut Violations) -> Option<SecretSpec> {
    SecretSpec::parse(secret).map_err(|inner| faults.add_all("secret", inner)).ok()
}
