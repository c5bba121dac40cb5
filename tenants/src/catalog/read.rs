//! What is read from the catalog: by name, whole, and by the page. No read waits for the disk.

use std::sync::Arc;

use prost::Message as _;
use zeroize::Zeroizing;

use crate::catalog::{Catalog, state};
use crate::error::Error;
use crate::name::{PeerName, SecretName, TenantName};
use crate::page::{Page, PageRequest};
use crate::peer::Peer;
use crate::secret::Secret;
use crate::tenant::Tenant;
use crate::violation::Violations;

/// The catalog at one revision.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The last change that is in it.
    pub revision: u64,
    /// In the order of names.
    pub tenants: Vec<Arc<Tenant>>,
    /// In the order of names.
    pub peers: Vec<Arc<Peer>>,
}

impl Catalog {
    /// Every tenant and peer at one revision.
    pub fn snapshot(&self) -> Snapshot {
        let state = self.read();
        Snapshot {
            revision: state.counters.revision,
            tenants: state.tenants.values().cloned().collect(),
            peers: state.peers.values().cloned().collect(),
        }
    }

    /// The tenant of that name.
    pub fn get_tenant(&self, name: &TenantName) -> Option<Arc<Tenant>> {
        self.read().tenants.get(name).cloned()
    }

    /// The peer of that name.
    pub fn get_peer(&self, name: &PeerName) -> Option<Arc<Peer>> {
        self.read().peers.get(name).cloned()
    }

    /// The secret of that name, without its value.
    pub fn get_secret(&self, name: &SecretName) -> Option<Arc<Secret>> {
        self.read().secrets.get(name).cloned()
    }

    /// The value of a secret.
    pub fn resolve_secret(&self, name: &SecretName) -> Option<Zeroizing<Vec<u8>>> {
        let secret = self.get_secret(name)?;
        self.vault.open_sealed(&name.to_string(), &secret.sealed)
    }

    /// Every tenant, in the order of names.
    pub fn tenants(&self) -> Vec<Arc<Tenant>> {
        self.read().tenants.values().cloned().collect()
    }

    /// Every peer of every tenant, in the order of names.
    pub fn peers(&self) -> Vec<Arc<Peer>> {
        self.read().peers.values().cloned().collect()
    }

    /// Every secret of every tenant, in the order of names, without the values.
    pub fn secrets(&self) -> Vec<Arc<Secret>> {
        self.read().secrets.values().cloned().collect()
    }

    /// The peers of a tenant, in the order of names.
    pub fn list_peers(&self, tenant: &TenantName) -> Vec<Arc<Peer>> {
        self.read().peers_of(tenant).cloned().collect()
    }

    /// A page of the tenants.
    pub fn page_tenants(&self, page_size: i32, page_token: &str) -> Result<Page<Arc<Tenant>>, Error> {
        let request = PageRequest::parse("tenants", page_size, page_token)?;
        let after = last_name::<TenantName>(&request)?;
        let state = self.read();
        let rest = state::after(&state.tenants, after.as_ref()).cloned();
        let octets = |tenant: &Arc<Tenant>| tenant.to_proto().encoded_len();
        Ok(request.cut_by(rest, |tenant| tenant.name.to_string(), octets))
    }

    /// A page of the peers of `parent`: `tenants/{tenant}`, or `tenants/-` for all.
    pub fn page_peers(
        &self,
        parent: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<Page<Arc<Peer>>, Error> {
        let request = PageRequest::parse(parent, page_size, page_token)?;
        let tenant = self.parse_parent(parent)?;
        let first = tenant.clone().map(PeerName::first_of);
        let after = last_name::<PeerName>(&request)?.or(first);
        let state = self.read();
        let rest = state::after(&state.peers, after.as_ref());
        let rest = rest.take_while(|peer| tenant.as_ref().is_none_or(|tenant| peer.name.tenant() == tenant));
        // Its status names the same subnets once more for each pair that a child has.
        let pairs = |peer: &Peer| peer.spec.children.iter().map(|child| child.resource_sas.max(1)).max();
        let octets = |peer: &Arc<Peer>| {
            peer.to_proto().encoded_len().saturating_mul(1 + usize::from(pairs(peer).unwrap_or(1)))
        };
        Ok(request.cut_by(rest.cloned(), |peer| peer.name.to_string(), octets))
    }

    /// A page of the secrets of `parent`: `tenants/{tenant}`, or `tenants/-` for all.
    pub fn page_secrets(
        &self,
        parent: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<Page<Arc<Secret>>, Error> {
        let request = PageRequest::parse(parent, page_size, page_token)?;
        let tenant = self.parse_parent(parent)?;
        let first = tenant.clone().map(SecretName::first_of);
        let after = last_name::<SecretName>(&request)?.or(first);
        let state = self.read();
        let rest = state::after(&state.secrets, after.as_ref());
        let rest =
            rest.take_while(|secret| tenant.as_ref().is_none_or(|tenant| secret.name.tenant() == tenant));
        let octets = |secret: &Arc<Secret>| secret.to_proto().encoded_len();
        Ok(request.cut_by(rest.cloned(), |secret| secret.name.to_string(), octets))
    }

    /// The tenant that is meant by the parent of a list; `None` for all.
    pub(super) fn parse_parent(&self, parent: &str) -> Result<Option<TenantName>, Error> {
        if parent == "tenants/-" {
            return Ok(None);
        }
        let tenant: TenantName =
            parent.parse().map_err(|error| Error::invalid("parent", format!("{error}")))?;
        match self.get_tenant(&tenant) {
            Some(_) => Ok(Some(tenant)),
            None => Err(Error::NotFound(tenant.to_string())),
        }
    }
}

pub(super) fn last_name<N: std::str::FromStr>(request: &PageRequest) -> Result<Option<N>, Violations> {
    let parse =
        |text: &str| text.parse().map_err(|_| Violations::one("page_token", "not a token of this list"));
    request.after().map(parse).transpose()
}
