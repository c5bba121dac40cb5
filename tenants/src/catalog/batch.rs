//! Many objects in one write: all of them or none.

use std::collections::HashSet;
use std::fmt;

use culvert_proto::v1;
use culvert_proto::v1::object::Kind;
use zeroize::Zeroize as _;

use crate::catalog::Catalog;
use crate::catalog::write::{Changed, EtagRule, Writer};
use crate::error::Error;
use crate::impact::Impact;
use crate::limits::MAX_BATCH;
use crate::name::{PeerName, SecretName, TenantName, TokenName};
use crate::peer::Peer;
use crate::secret::Secret;
use crate::tenant::Tenant;

/// What became of an object of [`Catalog::apply`].
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// Its resource name.
    pub name: String,
    /// What was done.
    pub action: Action,
    /// What a change does to tunnels that are up.
    pub impact: Option<Impact>,
    /// What was configured before and is now, if it was updated; no output-only fields, no value of a secret.
    pub values: Option<(v1::Object, v1::Object)>,
    /// The value of a secret is another one now.
    pub value_changed: bool,
    /// What is weaker than it could be, whether it changed or not.
    pub warnings: Vec<String>,
}

/// What was done to an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was not there.
    Created,
    /// Something of it is different now.
    Updated,
    /// It was so already.
    Unchanged,
}

/// Why several objects were refused. Nothing was changed.
#[derive(Debug)]
pub enum BatchError {
    /// Some of the objects are at fault, each told with its place in the request. In the order of the request.
    Objects(Vec<(usize, Error)>),
    /// The request as a whole, or the store.
    Whole(Error),
}

impl From<Error> for BatchError {
    fn from(error: Error) -> Self {
        Self::Whole(error)
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(error) => error.fmt(f),
            Self::Objects(faults) => {
                for (i, (at, error)) in faults.iter().enumerate() {
                    let separator = if i == 0 { "" } else { "; " };
                    write!(f, "{separator}objects[{at}]: {error}")?;
                }
                Ok(())
            }
        }
    }
}

impl std::error::Error for BatchError {}

impl Catalog {
    /// Makes the catalog have these objects as they are given, in one transaction. The values of secrets are moved out of
    /// the request and wiped.
    pub fn apply(&self, mut request: v1::ApplyRequest) -> Result<Vec<Applied>, BatchError> {
        if !self.is_shared() {
            return self.apply_once(request);
        }
        let applied = self.attempt(|| self.apply_once(request.clone()));
        for object in &mut request.objects {
            if let Some(Kind::Secret(secret)) = &mut object.kind {
                secret.value.zeroize();
            }
        }
        applied
    }

    fn apply_once(&self, request: v1::ApplyRequest) -> Result<Vec<Applied>, BatchError> {
        check_size(request.objects.len(), "objects")?;
        let named: Vec<(String, Option<Kind>)> =
            request.objects.into_iter().map(|object| (name_of(object.kind.as_ref()), object.kind)).collect();
        check_twice(named.iter().map(|(name, _)| name.as_str()))?;
        check_existing(&request.existing, &named)?;
        let existing: HashSet<String> = request.existing.into_iter().collect();
        let mut order: Vec<_> = named.into_iter().enumerate().collect();
        // A peer needs its secret, and that its tenant.
        order.sort_by_key(|(_, (_, kind))| match kind {
            Some(Kind::Tenant(_)) | None => 0,
            Some(Kind::Secret(_)) => 1,
            Some(Kind::Peer(_)) => 2,
        });
        let mut writer = self.writer();
        let mut applied = Vec::with_capacity(order.len());
        let (mut faults, mut refused) = (Vec::new(), HashSet::new());
        for (at, (name, kind)) in order {
            writer.at = at;
            let allow_missing = !existing.contains(&name);
            match writer.apply(name.clone(), kind, allow_missing) {
                Ok(one) => applied.push((at, one)),
                // It is not there because it was refused, which was told.
                Err(Error::NotFound(missing)) if refused.contains(&missing) => {
                    refused.insert(name);
                }
                Err(error @ Error::Store(_)) => return Err(error.into()),
                Err(error) => {
                    refused.insert(name);
                    faults.push((at, error));
                }
            }
        }
        if faults.is_empty() {
            faults = writer.check();
        }
        finish(writer, faults, request.validate_only)?;
        applied.sort_by_key(|(at, _)| *at);
        Ok(applied.into_iter().map(|(_, one)| one).collect())
    }

    /// Deletes the objects of these names in one transaction. Names of all that went, in this order.
    pub fn delete(&self, request: &v1::DeleteRequest) -> Result<Vec<String>, BatchError> {
        self.attempt(|| self.delete_once(request))
    }

    fn delete_once(&self, request: &v1::DeleteRequest) -> Result<Vec<String>, BatchError> {
        check_size(request.names.len(), "names")?;
        check_twice(request.names.iter().map(String::as_str))?;
        let mut writer = self.writer();
        let mut faults = Vec::new();
        // What refers to others goes before them.
        for rank in [Deletion::Peer, Deletion::Secret, Deletion::Token, Deletion::Tenant] {
            for (at, name) in request.names.iter().enumerate().filter(|(_, name)| rank_of(name) == Some(rank))
            {
                writer.at = at;
                let deleted = writer.delete(rank, name.clone(), request);
                faults.extend(deleted.err().map(|error| (at, error)));
            }
        }
        for (at, name) in request.names.iter().enumerate().filter(|(_, name)| rank_of(name).is_none()) {
            let fault = format!("{name:?} is no name of a tenant, peer, secret or token");
            faults.push((at, Error::invalid("name", fault)));
        }
        if faults.is_empty() {
            faults = writer.check();
        }
        let removed = writer.removed();
        finish(writer, faults, request.validate_only)?;
        Ok(removed)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Deletion {
    Peer,
    Secret,
    Token,
    Tenant,
}

fn rank_of(name: &str) -> Option<Deletion> {
    if name.parse::<TenantName>().is_ok() {
        Some(Deletion::Tenant)
    } else if name.parse::<PeerName>().is_ok() {
        Some(Deletion::Peer)
    } else if name.parse::<SecretName>().is_ok() {
        Some(Deletion::Secret)
    } else if name.parse::<TokenName>().is_ok() {
        Some(Deletion::Token)
    } else {
        None
    }
}

/// Commits what was staged, unless something is wrong with it or it is a dry run.
fn finish(
    writer: Writer<'_>,
    mut faults: Vec<(usize, Error)>,
    validate_only: bool,
) -> Result<(), BatchError> {
    if !faults.is_empty() {
        faults.sort_by_key(|(at, _)| *at);
        return Err(BatchError::Objects(faults));
    }
    if !validate_only {
        writer.commit()?;
    }
    Ok(())
}

fn check_size(count: usize, field: &str) -> Result<(), Error> {
    if count <= MAX_BATCH {
        return Ok(());
    }
    Err(Error::invalid(field, format!("{count} of them; at most {MAX_BATCH}")))
}

fn check_twice<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), BatchError> {
    let mut seen = HashSet::new();
    let twice = names.enumerate().filter(|(_, name)| !name.is_empty() && !seen.insert(*name));
    let faults: Vec<_> = twice.map(|(at, _)| (at, Error::invalid("name", "is there twice"))).collect();
    if faults.is_empty() { Ok(()) } else { Err(BatchError::Objects(faults)) }
}

/// A name of none of the objects would be a slip that lets one be created.
fn check_existing(existing: &[String], objects: &[(String, Option<Kind>)]) -> Result<(), Error> {
    let names: HashSet<&str> = objects.iter().map(|(name, _)| name.as_str()).collect();
    match existing.iter().find(|name| !names.contains(name.as_str())) {
        Some(name) => Err(Error::invalid("existing", format!("{name:?} is none of the objects"))),
        None => Ok(()),
    }
}

fn name_of(kind: Option<&Kind>) -> String {
    match kind {
        Some(Kind::Tenant(tenant)) => tenant.name.clone(),
        Some(Kind::Secret(secret)) => secret.name.clone(),
        Some(Kind::Peer(peer)) => peer.name.clone(),
        None => String::new(),
    }
}

/// All fields.
fn everything() -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: vec!["*".to_owned()] })
}

impl Writer<'_> {
    fn apply(&mut self, name: String, kind: Option<Kind>, allow_missing: bool) -> Result<Applied, Error> {
        let (update_mask, rule) = (everything(), EtagRule::IfChanged);
        match kind {
            None => Err(Error::invalid("kind", "is missing; expected tenant, secret or peer")),
            Some(Kind::Tenant(tenant)) => {
                let request = v1::UpdateTenantRequest {
                    tenant: Some(without_vain_etag(tenant, self.has(&name), |tenant| &mut tenant.etag)),
                    update_mask,
                    allow_missing,
                    ..Default::default()
                };
                let changed = self.update_tenant(&request, rule)?;
                let object = |tenant: &Tenant| {
                    Kind::Tenant(v1::Tenant { name: tenant.name.to_string(), ..tenant.spec.to_proto() })
                };
                Ok(applied(name, &changed, changed.impact(), object))
            }
            Some(Kind::Peer(peer)) => {
                let request = v1::UpdatePeerRequest {
                    peer: Some(without_vain_etag(peer, self.has(&name), |peer| &mut peer.etag)),
                    update_mask,
                    allow_missing,
                    ..Default::default()
                };
                let changed = self.update_peer(&request, rule)?;
                let object = |peer: &Peer| {
                    Kind::Peer(v1::Peer { name: peer.name.to_string(), ..peer.spec.to_proto() })
                };
                let warnings = changed.after.spec.warnings();
                Ok(Applied { warnings, ..applied(name, &changed, changed.impact(), object) })
            }
            Some(Kind::Secret(secret)) => {
                let mut request = v1::UpdateSecretRequest {
                    secret: Some(without_vain_etag(secret, self.has(&name), |secret| &mut secret.etag)),
                    update_mask,
                    allow_missing,
                    ..Default::default()
                };
                let changed = self.update_secret(&mut request, rule)?;
                let object = |secret: &Secret| {
                    let (name, display_name) = (secret.name.to_string(), secret.display_name.clone());
                    Kind::Secret(v1::Secret { name, display_name, ..Default::default() })
                };
                let value_changed = changed.value_changed();
                Ok(Applied { value_changed, ..applied(name, &changed, changed.impact(), object) })
            }
        }
    }

    fn has(&self, name: &str) -> bool {
        let state = self.state();
        name.parse().is_ok_and(|name| state.tenants.contains_key(&name))
            || name.parse().is_ok_and(|name| state.peers.contains_key(&name))
            || name.parse().is_ok_and(|name| state.secrets.contains_key(&name))
    }

    fn delete(&mut self, rank: Deletion, name: String, request: &v1::DeleteRequest) -> Result<(), Error> {
        let (allow_missing, force) = (request.allow_missing, request.force);
        match rank {
            Deletion::Peer => {
                self.delete_peer(&v1::DeletePeerRequest { name, allow_missing, ..Default::default() })
            }
            Deletion::Secret => {
                self.delete_secret(&v1::DeleteSecretRequest { name, allow_missing, ..Default::default() })
            }
            Deletion::Token => {
                self.delete_token(&v1::DeleteTokenRequest { name, allow_missing, ..Default::default() })
            }
            Deletion::Tenant => self.delete_tenant(&v1::DeleteTenantRequest {
                name,
                allow_missing,
                force,
                ..Default::default()
            }),
        }
    }
}

/// An etag speaks of an object that is there: what was deleted meanwhile is created again, as a manifest says that it
/// shall be there.
fn without_vain_etag<M>(mut message: M, is_there: bool, etag: fn(&mut M) -> &mut String) -> M {
    if !is_there {
        etag(&mut message).clear();
    }
    message
}

fn applied<T>(name: String, changed: &Changed<T>, impact: Impact, object: impl Fn(&T) -> Kind) -> Applied {
    let object = |object_of: &T| v1::Object { kind: Some(object(object_of)) };
    let (action, impact, values) = match &changed.before {
        None => (Action::Created, None, None),
        Some(_) if changed.is_unchanged() => (Action::Unchanged, Some(impact), None),
        Some(before) => (Action::Updated, Some(impact), Some((object(before), object(&changed.after)))),
    };
    Applied { name, action, impact, values, value_changed: false, warnings: Vec::new() }
}
