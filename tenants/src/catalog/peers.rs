//! Writing peers.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use culvert_proto::v1;
use ike::config::{Mode, Opening};
use ike::verbs::MAX_CANDIDATES;

use crate::catalog::Catalog;
use crate::catalog::object::Object;
use crate::catalog::routes;
use crate::catalog::state::State;
use crate::catalog::write::{
    Changed, EtagRule, Writer, check_etag, check_missing, check_quota, check_request_id, is_repeated,
};
use crate::cidr::Cidr;
use crate::error::Error;
use crate::limits::{MAX_ALIKE, MAX_IN_ONE_PLACE, MAX_PEER_SUBNETS};
use crate::mask;
use crate::name::{PeerName, TenantName};
use crate::peer::claims::Claims;
use crate::peer::{Peer, PeerSpec};
use crate::remote;
use crate::violation::Violations;

impl Catalog {
    /// Creates a peer. Asked again with the same `request_id`, answers what was created.
    pub fn create_peer(&self, request: &v1::CreatePeerRequest) -> Result<Arc<Peer>, Error> {
        let mut faults = Violations::new();
        let tenant: Option<TenantName> = faults.note("parent", request.parent.parse());
        check_request_id(&request.request_id, &mut faults);
        let Some(tenant) = tenant else {
            return Err(faults.into());
        };
        let name = faults.note("peer_id", PeerName::from_id(tenant.clone(), &request.peer_id));
        let spec = parse(&tenant, request.peer.as_ref().unwrap_or(&v1::Peer::default()), &mut faults);
        let (name, spec) = faults.finish(name.zip(spec))?;
        self.write(request.validate_only, |writer| match writer.state().peers.get(&name).cloned() {
            Some(peer) if is_repeated(&request.request_id, &peer.meta) => Ok(peer),
            Some(_) => Err(Error::AlreadyExists(name.to_string())),
            None => writer.insert_peer(name.clone(), spec.clone(), &request.request_id),
        })
    }

    /// Changes a peer. What changes nothing is not written and keeps the etag.
    pub fn update_peer(&self, request: &v1::UpdatePeerRequest) -> Result<Changed<Peer>, Error> {
        self.write(request.validate_only, |writer| writer.update_peer(request, EtagRule::Strict))
    }

    /// Deletes a peer. Names of what went.
    pub fn delete_peer(&self, request: &v1::DeletePeerRequest) -> Result<Vec<String>, Error> {
        self.write(request.validate_only, |writer| {
            writer.delete_peer(request)?;
            Ok(writer.removed())
        })
    }
}

impl Writer<'_> {
    pub(crate) fn update_peer(
        &mut self,
        request: &v1::UpdatePeerRequest,
        rule: EtagRule,
    ) -> Result<Changed<Peer>, Error> {
        let Some(patch) = &request.peer else {
            return Err(Error::invalid("peer", "is missing"));
        };
        let name: PeerName = patch.name.parse().map_err(|e| Error::invalid("peer.name", format!("{e}")))?;
        let mut faults = Violations::new();
        let Some(old) = self.state().peers.get(&name).cloned() else {
            check_missing(request.allow_missing, &patch.etag, &name)?;
            let spec = parse(name.tenant(), patch, &mut faults);
            let spec = faults.finish(spec)?;
            return self.insert_peer(name, spec, "").map(Changed::created);
        };
        let fresh = check_etag(&patch.etag, &old.meta, &name);
        if rule == EtagRule::Strict {
            fresh?;
        }
        let merged = mask::apply("Peer", &old.spec.to_proto(), patch, request.update_mask.as_ref())?;
        let spec = parse(name.tenant(), &merged, &mut faults);
        let spec = faults.finish(spec)?;
        if spec.is_written_as(&old.spec) {
            return Ok(Changed::unchanged(old));
        }
        check_etag(&patch.etag, &old.meta, &name)?;
        let peer = Arc::new(Peer { spec, meta: self.updated(&old.meta), ..Peer::clone(&old) });
        self.put(Object::Peer(Arc::clone(&peer)));
        Ok(Changed { before: Some(old), after: peer })
    }

    pub(crate) fn delete_peer(&mut self, request: &v1::DeletePeerRequest) -> Result<(), Error> {
        let name: PeerName = request.name.parse().map_err(|e| Error::invalid("name", format!("{e}")))?;
        let Some(peer) = self.state().peers.get(&name).cloned() else {
            return check_missing(request.allow_missing, &request.etag, &name);
        };
        check_etag(&request.etag, &peer.meta, &name)?;
        self.remove(Object::Peer(peer));
        Ok(())
    }

    fn insert_peer(&mut self, name: PeerName, spec: PeerSpec, request_id: &str) -> Result<Arc<Peer>, Error> {
        let Some(owner) = self.state().tenants.get(name.tenant()) else {
            return Err(Error::NotFound(name.tenant().to_string()));
        };
        let tenant = owner.number;
        // At a million creations a second this would last for half a million years.
        self.counters().peer += 1;
        let (uid, meta) = (self.counters().peer, self.created(request_id));
        let peer = Arc::new(Peer { name, tenant, uid, spec, meta });
        self.put(Object::Peer(Arc::clone(&peer)));
        Ok(peer)
    }
}

/// What can only be said in view of the other objects.
pub(crate) fn check(state: &State, before: Option<&Peer>, peer: &Peer) -> Result<(), Error> {
    let Peer { name, spec, .. } = peer;
    let tenant = name.tenant();
    if let Some(owner) = state.tenants.get(tenant) {
        check_quota(state.index.peers(tenant), owner.spec.quotas.max_peers.into(), "peers", tenant)?;
    }
    let mut faults = Violations::new();
    for (field, secret) in spec.auth.secrets().filter(|(_, secret)| !state.secrets.contains_key(*secret)) {
        faults.add(format!("peer.{field}"), format!("{secret} does not exist; create it first"));
    }
    let before = before.map(|before| &before.spec);
    check_identities(state, name, before, spec, &mut faults);
    check_crowd(state, name, spec, &mut faults);
    check_subnets(state, name, before, spec, &mut faults);
    check_transport(state, name, spec, &mut faults);
    routes::check_peer(state, name, spec, &mut faults);
    Ok(faults.into_result()?)
}

/// A responder knows a peer by its identities and its address: no two may have these in common, whoever's they are.
fn check_identities(
    state: &State,
    name: &PeerName,
    before: Option<&PeerSpec>,
    spec: &PeerSpec,
    faults: &mut Violations,
) {
    // What was stored before there was a bound stays.
    let identities = |spec: &PeerSpec| (spec.local_identity.clone(), spec.remote_identity.clone());
    let most =
        before.filter(|before| identities(before) == identities(spec)).map_or(MAX_ALIKE, |_| usize::MAX);
    let same = state.index.same_identities(&spec.local_identity, &spec.remote_identity);
    let mut same = same.filter(|other| other.name != *name);
    let mut own = 0;
    // Those of other tenants are not counted: they would tell of each other, and could take a pair away.
    let found = same.find(|other| {
        own += usize::from(other.name.tenant() == name.tenant());
        own > most || remote::overlap(&other.spec.remote_addresses, &spec.remote_addresses)
    });
    let Some(twin) = found else {
        return;
    };
    if own > most {
        let fault = format!(
            "more than {MAX_ALIKE} other peers have the identities {} (local) and {} (remote) too; expected identities of its own",
            spec.local_identity, spec.remote_identity
        );
        return faults.add("peer.remote_identity", fault);
    }
    // The name of another tenant's peer is not this tenant's business.
    let whose = if twin.name.tenant() == name.tenant() {
        twin.name.to_string()
    } else {
        "a peer of another tenant".to_owned()
    };
    faults.add(
        "peer.remote_identity",
        format!(
            "{whose} has the identities {} (local) and {} (remote) too, and remote_addresses in common: \
             a responder could not tell them apart",
            spec.local_identity, spec.remote_identity
        ),
    );
}

/// In Main Mode of IKEv1 the address tells whose keys are tried, and no more than so many are: whoever is beyond them would
/// never be found. How many of them are other tenants' is not this tenant's business.
fn check_crowd(state: &State, name: &PeerName, spec: &PeerSpec, faults: &mut Violations) {
    if spec.ike.opening() != Opening::Main {
        return;
    }
    let origins = state.index.origins.of(Opening::Main);
    let is_full = |place| {
        let mut seen = HashSet::new();
        let all = origins.around(place).filter(|peer| seen.insert(peer.uid));
        // More than are allowed at one place need not be counted.
        let all: Vec<&Arc<Peer>> = all.take(MAX_CANDIDATES + 1).collect();
        let own = all.iter().filter(|peer| peer.name.tenant() == name.tenant()).count();
        all.len() > MAX_CANDIDATES || own > MAX_IN_ONE_PLACE
    };
    let fault = |place: &str| {
        format!(
            "{place} too many peers with {} may come from already, which their keys alone tell apart ({MAX_IN_ONE_PLACE} of a \
             tenant may); expected addresses of its own",
            Opening::Main
        )
    };
    if spec.remote_addresses.is_empty() && is_full(None) {
        faults.add("peer.remote_addresses", fault("is empty, and anywhere is where"));
    }
    for (i, remote) in spec.remote_addresses.iter().enumerate() {
        if is_full(Some(remote)) {
            faults.add(format!("peer.remote_addresses[{i}]"), fault(&format!("{remote} is where")));
        }
    }
}

/// One remote subnet behind two peers: which of them a packet is for could not be told. Whoever writes has the lock for as long as this takes,
/// so there are not more subnets than can be held against those of a hundred thousand peers.
fn check_subnets(
    state: &State,
    name: &PeerName,
    before: Option<&PeerSpec>,
    spec: &PeerSpec,
    faults: &mut Violations,
) {
    let count: usize =
        spec.children.iter().map(|child| child.local_subnets.len() + child.remote_subnets.len()).sum();
    if count > MAX_PEER_SUBNETS {
        let fault = format!("{count} subnets of all of them, local and remote; at most {MAX_PEER_SUBNETS}");
        return faults.add("peer.children", fault);
    }
    let remote = || spec.children.iter().flat_map(|child| &child.remote_subnets);
    let own: HashSet<Cidr> = remote().copied().collect();
    let others = |subnet: &Cidr| state.index.owners(name.tenant(), *subnet).filter(|owner| *owner != name);
    // Of each: so it is refused to the one that is too many, and not to another that changes later. What was stored before there was a bound
    // stays.
    let is_new = before.is_none_or(|before| before.children != spec.children);
    if let Some(subnet) = own.iter().filter(|_| is_new).find(|subnet| others(subnet).nth(MAX_ALIKE).is_some())
    {
        let fault =
            format!("more than {MAX_ALIKE} other peers have {subnet} too; expected one that fewer have");
        return faults.add("peer.children", fault);
    }
    let owners: HashSet<&PeerName> = own.iter().flat_map(others).collect();
    let claims = Claims::of(&spec.children);
    let mut twins: BTreeMap<(usize, usize), &PeerName> = BTreeMap::new();
    for owner in owners.iter().filter_map(|owner| state.peers.get(*owner)) {
        for place in claims.also_of(&owner.spec.children) {
            let twin = twins.entry(place).or_insert(&owner.name);
            *twin = (*twin).min(&owner.name);
        }
    }
    for ((i, k), twin) in twins {
        let subnet = spec.children.get(i).and_then(|child| child.remote_subnets.get(k));
        let Some(subnet) = subnet else { continue };
        let field = format!("peer.children[{i}].remote_subnets[{k}]");
        faults.add(field, format!("{subnet} is behind {twin} too"));
    }
}

/// In transport mode the tenant's device leads to the very address that the node's ESP goes to: only in a network namespace
/// of its own does that ESP not go round in circles.
fn check_transport(state: &State, name: &PeerName, spec: &PeerSpec, faults: &mut Violations) {
    let apart = state.tenants.get(name.tenant()).is_some_and(|tenant| tenant.spec.uplink.has_namespace());
    for (i, child) in spec.children.iter().enumerate() {
        if child.mode == Mode::Transport && !apart {
            let fault = format!(
                "TRANSPORT needs a TUN device in a network namespace of its own as the uplink of {}: set uplink.tun.netns",
                name.tenant()
            );
            faults.add(format!("peer.children[{i}].mode"), fault);
        }
    }
}

/// The values of a message; faults are noted as those of the field `peer`.
fn parse(tenant: &TenantName, peer: &v1::Peer, faults: &mut Violations) -> Option<PeerSpec> {
    PeerSpec::parse(tenant, peer).map_err(|inner| faults.add_all("peer", inner)).ok()
}
