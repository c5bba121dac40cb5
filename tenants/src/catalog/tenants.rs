//! Writing tenants.

use std::sync::Arc;

use culvert_proto::v1;
use ike::config::Mode;
use prost::Message as _;

use crate::author::Author;
use crate::catalog::Catalog;
use crate::catalog::object::Object;
use crate::catalog::routes;
use crate::catalog::state::State;
use crate::catalog::write::{
    Changed, EtagRule, Writer, check_etag, check_missing, check_quota, check_request_id, is_repeated,
};
use crate::error::Error;
use crate::limits::{MAX_POLICY_OCTETS, MAX_TENANTS};
use crate::mask;
use crate::name::TenantName;
use crate::peer::Peer;
use crate::policy::Policy;
use crate::tenant::{Tenant, TenantSpec, Uplink};
use crate::violation::Violations;

impl Catalog {
    /// Creates a tenant. Asked again with the same `request_id`, answers what was created.
    pub fn create_tenant(&self, request: &v1::CreateTenantRequest) -> Result<Arc<Tenant>, Error> {
        let mut faults = Violations::new();
        let name = faults.note("tenant_id", TenantName::from_id(&request.tenant_id));
        check_request_id(&request.request_id, &mut faults);
        // Names of peers in it are compared with the tenant's; without that there is nothing to compare with.
        let Some(name) = name else { return Err(faults.into()) };
        let spec = parse(&name, request.tenant.as_ref().unwrap_or(&v1::Tenant::default()), &mut faults);
        let spec = faults.finish(spec)?;
        self.write(request.validate_only, |writer| match writer.state().tenants.get(&name).cloned() {
            Some(tenant) if is_repeated(&request.request_id, &tenant.meta) => Ok(tenant),
            Some(_) => Err(Error::AlreadyExists(name.to_string())),
            None => writer.insert_tenant(name.clone(), spec.clone(), &request.request_id),
        })
    }

    /// Changes a tenant. What changes nothing is not written and keeps the etag.
    pub fn update_tenant(&self, request: &v1::UpdateTenantRequest) -> Result<Changed<Tenant>, Error> {
        self.write(request.validate_only, |writer| writer.update_tenant(request, EtagRule::Strict))
    }

    /// Deletes a tenant; with `force` its peers and secrets too. Names of what went, in this order.
    pub fn delete_tenant(&self, request: &v1::DeleteTenantRequest) -> Result<Vec<String>, Error> {
        self.write(request.validate_only, |writer| {
            writer.delete_tenant(request)?;
            Ok(writer.removed())
        })
    }
}

impl Writer<'_> {
    pub(crate) fn update_tenant(
        &mut self,
        request: &v1::UpdateTenantRequest,
        rule: EtagRule,
    ) -> Result<Changed<Tenant>, Error> {
        let Some(patch) = &request.tenant else {
            return Err(Error::invalid("tenant", "is missing"));
        };
        let name: TenantName =
            patch.name.parse().map_err(|e| Error::invalid("tenant.name", format!("{e}")))?;
        let mut faults = Violations::new();
        let Some(old) = self.state().tenants.get(&name).cloned() else {
            check_missing(request.allow_missing, &patch.etag, &name)?;
            let spec = parse(&name, patch, &mut faults);
            let spec = faults.finish(spec)?;
            return self.insert_tenant(name, spec, "").map(Changed::created);
        };
        let fresh = check_etag(&patch.etag, &old.meta, &name);
        if rule == EtagRule::Strict {
            fresh?;
        }
        let merged = mask::apply("Tenant", &old.spec.to_proto(), patch, request.update_mask.as_ref())?;
        let spec = parse(&name, &merged, &mut faults);
        let spec = faults.finish(spec)?;
        if spec == old.spec {
            return Ok(Changed::unchanged(old));
        }
        check_etag(&patch.etag, &old.meta, &name)?;
        let tenant = Arc::new(Tenant { spec, meta: self.updated(&old.meta), ..Tenant::clone(&old) });
        self.put(Object::Tenant(Arc::clone(&tenant)));
        Ok(Changed { before: Some(old), after: tenant })
    }

    pub(crate) fn delete_tenant(&mut self, request: &v1::DeleteTenantRequest) -> Result<(), Error> {
        let name: TenantName = request.name.parse().map_err(|e| Error::invalid("name", format!("{e}")))?;
        let Some(tenant) = self.state().tenants.get(&name).cloned() else {
            return check_missing(request.allow_missing, &request.etag, &name);
        };
        check_etag(&request.etag, &tenant.meta, &name)?;
        let state = self.state();
        let (peers, secrets) = (state.index.peers(&name), state.index.secrets(&name));
        if !request.force && peers + secrets > 0 {
            let reason = format!("has {peers} peers and {secrets} secrets; delete them first, or use force");
            return Err(Error::FailedPrecondition { name: name.to_string(), reason });
        }
        let mut below: Vec<Object> = state.peers_of(&name).cloned().map(Object::Peer).collect();
        below.extend(state.secrets_of(&name).cloned().map(Object::Secret));
        // Without asking: who has one has it for this tenant alone.
        below.extend(state.tokens_of(&name).cloned().map(Object::Token));
        for object in below {
            self.remove(object);
        }
        self.remove(Object::Tenant(tenant));
        Ok(())
    }

    fn insert_tenant(
        &mut self,
        name: TenantName,
        spec: TenantSpec,
        request_id: &str,
    ) -> Result<Arc<Tenant>, Error> {
        let Some(number) = self.counters().tenant.checked_add(1) else {
            return Err(Error::Exhausted {
                name: "this node".to_owned(),
                what: "tenants ever",
                limit: u32::MAX.into(),
            });
        };
        self.counters().tenant = number;
        let tenant = Arc::new(Tenant { name, number, spec, meta: self.created(request_id) });
        self.put(Object::Tenant(Arc::clone(&tenant)));
        Ok(tenant)
    }
}

/// What can only be said in view of the other objects, and of who writes.
pub(crate) fn check(
    state: &State,
    author: &Author,
    before: Option<&Tenant>,
    tenant: &Tenant,
) -> Result<(), Error> {
    let Tenant { name, spec, .. } = tenant;
    check_quota(state.tenants.len(), MAX_TENANTS as u64, "tenants", "this node")?;
    let mut faults = Violations::new();
    for (field, quota, count) in [
        ("tenant.quotas.max_peers", spec.quotas.max_peers, state.index.peers(name)),
        ("tenant.quotas.max_secrets", spec.quotas.max_secrets, state.index.secrets(name)),
    ] {
        if (quota as usize) < count {
            faults.add(field, format!("{quota} is below the {count} there are"));
        }
    }
    // What was stored before there was a bound stays: it is held to it when it changes.
    if before.is_none_or(|before| before.spec.policy != spec.policy) {
        check_size(&spec.policy, &mut faults);
    }
    if !spec.uplink.has_namespace() {
        let transport = |peer: &&Arc<Peer>| peer.spec.children.iter().any(|c| c.mode == Mode::Transport);
        if let Some(peer) = state.peers_of(name).find(transport) {
            let fault = format!("{} has a child in mode TRANSPORT, which needs uplink.tun.netns", peer.name);
            faults.add("tenant.uplink", fault);
        }
    }
    if let Uplink::Tun(tun) = &spec.uplink {
        let same = |other: &&Arc<Tenant>| {
            let Uplink::Tun(theirs) = &other.spec.uplink else {
                return false;
            };
            other.name != *name && (&theirs.device, &theirs.netns) == (&tun.device, &tun.netns)
        };
        if state.tenants.values().any(|other| same(&other)) {
            let fault = format!("the device {:?} is the uplink of another tenant", tun.device);
            faults.add("tenant.uplink.tun.device", fault);
        }
    }
    routes::check_tenant(state, author, before.map(|before| &before.spec), tenant, &mut faults);
    Ok(faults.into_result()?)
}

/// What is larger could not be stored where nodes share the catalog, and that would be told without saying what is too large.
fn check_size(policy: &Policy, faults: &mut Violations) {
    let octets = policy.to_proto().map_or(0, |policy| policy.encoded_len());
    if octets > MAX_POLICY_OCTETS {
        let fault = format!("take {octets} octets together; at most {MAX_POLICY_OCTETS}: use wider subnets");
        faults.add("tenant.policy.rules", fault);
    }
}

/// The values of a message; faults are noted as those of the field `tenant`.
fn parse(name: &TenantName, tenant: &v1::Tenant, faults: &mut Violations) -> Option<TenantSpec> {
    TenantSpec::parse(name, tenant).map_err(|inner| faults.add_all("tenant", inner)).ok()
}
