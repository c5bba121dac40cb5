//! The tenants by number, for packets that bring no SA to find theirs by: those that another node passes on, and those whose pair
//! is gone.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::model::TenantId;
use crate::tenant::Tenant;

/// All tenants. Written when one comes or goes. Hardly a packet of a node that is alone ever looks here.
#[derive(Default)]
pub(crate) struct Directory(RwLock<HashMap<TenantId, Arc<Tenant>>>);

impl Directory {
    pub(crate) fn get(&self, id: TenantId) -> Option<Arc<Tenant>> {
        // Under this lock nothing happens that could panic and leave something half done.
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    pub(crate) fn insert(&self, tenant: &Arc<Tenant>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(tenant.id, tenant.clone());
    }

    pub(crate) fn remove(&self, id: TenantId) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}
