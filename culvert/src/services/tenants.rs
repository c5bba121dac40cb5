//! TenantService.

use std::sync::Arc;

use culvert_proto::v1;
use culvert_proto::v1::tenant_service_server::TenantService;
use tenants::{Catalog, Error, Tenant, TenantName, effective_rules};
use tonic::{Request, Response, Status};

use crate::access;
use crate::runtime::Runtime;
use crate::services::{status, write};

/// TenantService over a catalog.
pub struct Tenants {
    catalog: Arc<Catalog>,
    runtime: Arc<dyn Runtime>,
}

impl Tenants {
    /// Serves this catalog, with what the runtime says of uplinks.
    pub fn new(catalog: Arc<Catalog>, runtime: Arc<dyn Runtime>) -> Self {
        Self { catalog, runtime }
    }

    /// The tenant as it is configured, and how it stands.
    fn whole(&self, tenant: &Tenant) -> v1::Tenant {
        let (conditions, refused_routes) = self.runtime.uplink(tenant).unzip();
        v1::Tenant {
            conditions: conditions.into_iter().collect(),
            refused_routes: refused_routes.unwrap_or_default(),
            ..tenant.to_proto()
        }
    }
}

#[tonic::async_trait]
impl TenantService for Tenants {
    async fn create_tenant(
        &self,
        request: Request<v1::CreateTenantRequest>,
    ) -> Result<Response<v1::Tenant>, Status> {
        let request = request.into_inner();
        let tenant = write(&self.catalog, "CreateTenant", move |c| c.create_tenant(&request)).await?;
        Ok(Response::new(tenant.to_proto()))
    }

    async fn get_tenant(
        &self,
        request: Request<v1::GetTenantRequest>,
    ) -> Result<Response<v1::Tenant>, Status> {
        let request = request.into_inner();
        let name: TenantName = request.name.parse().map_err(|error| status::invalid("name", error))?;
        match self.catalog.get_tenant(&name) {
            Some(tenant) => {
                // A tenant may have a hundred thousand peers, and others want this thread.
                let (of, peers) = (Arc::clone(&tenant), self.catalog.list_peers(&name));
                let rules = access::apart(move || effective_rules(&of, &peers)).await;
                let (rules, count) = rules.map_err(|error| Status::internal(error.to_string()))?;
                Ok(Response::new(v1::Tenant {
                    effective_rules: rules,
                    effective_rule_count: u32::try_from(count).unwrap_or(u32::MAX),
                    ..self.whole(&tenant)
                }))
            }
            None => Err(status::of_error(&Error::NotFound(name.to_string()))),
        }
    }

    async fn list_tenants(
        &self,
        request: Request<v1::ListTenantsRequest>,
    ) -> Result<Response<v1::ListTenantsResponse>, Status> {
        let request = request.into_inner();
        if let Some(tenant) = access::current().and_then(|caller| caller.tenant.clone()) {
            // To a tenant's caller there is no other.
            let tenants = self.catalog.get_tenant(&tenant).iter().map(|tenant| self.whole(tenant)).collect();
            return Ok(Response::new(v1::ListTenantsResponse { tenants, ..Default::default() }));
        }
        let page = self.catalog.page_tenants(request.page_size, &request.page_token);
        let page = page.map_err(|error| status::of_error(&error))?;
        Ok(Response::new(v1::ListTenantsResponse {
            tenants: page.items.iter().map(|tenant| self.whole(tenant)).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_tenant(
        &self,
        request: Request<v1::UpdateTenantRequest>,
    ) -> Result<Response<v1::Tenant>, Status> {
        let request = request.into_inner();
        let tenant = write(&self.catalog, "UpdateTenant", move |c| c.update_tenant(&request)).await?;
        let impact = tenant.impact().to_proto();
        Ok(Response::new(v1::Tenant { impact: Some(impact), ..tenant.to_proto() }))
    }

    async fn delete_tenant(
        &self,
        request: Request<v1::DeleteTenantRequest>,
    ) -> Result<Response<v1::DeleteTenantResponse>, Status> {
        let request = request.into_inner();
        let deleted = write(&self.catalog, "DeleteTenant", move |c| c.delete_tenant(&request)).await?;
        Ok(Response::new(v1::DeleteTenantResponse { deleted }))
    }
}
