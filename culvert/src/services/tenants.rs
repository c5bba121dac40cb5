//! TenantService.

use std::sync::Arc;

use culvert_proto::v1;
use culvert_proto::v1::tenant_service_server::TenantService;
use tenants::{Catalog, Error, Tenant, TenantName, effective_rules};
use tonic::{Request, Response, Status};

use crate::access::{self, Lanes};
use crate::runtime::Runtime;
use crate::services::{status, write};

/// Tenants that are looked through at a time for the rules that packets meet: each may have a hundred thousand peers, on a processor that
/// tunnels want too. The others wait.
const READS: usize = 2;

/// TenantService over a catalog.
pub struct Tenants {
    catalog: Arc<Catalog>,
    runtime: Arc<dyn Runtime>,
    reads: Lanes,
}

impl Tenants {
    /// Serves this catalog, with what the runtime says of uplinks.
    pub fn new(catalog: Arc<Catalog>, runtime: Arc<dyn Runtime>) -> Self {
        Self { catalog, runtime, reads: Lanes::new(READS) }
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
                let Some(turn) = self.reads.turn(&access::share(), 1).await else {
                    let reason = "others are reading tenants; try again in a moment";
                    return Err(Status::resource_exhausted(reason));
                };
                // A tenant may have a hundred thousand peers, and others want this thread. It goes on though nobody waits for it any more,
                // and counts until it ends.
                let (of, catalog) = (Arc::clone(&tenant), Arc::clone(&self.catalog));
                let rules = access::apart(move || {
                    let _turn = turn;
                    effective_rules(&of, &catalog.list_peers(&name))
                });
                let rules = rules.await;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::NoRuntime;

    /// As those who list the audit log do: no tenant keeps others from theirs by what it has.
    #[tokio::test(start_paused = true)]
    async fn tenants_are_looked_through_in_turn() {
        let catalog = Arc::new(Catalog::in_memory().unwrap());
        let request = v1::CreateTenantRequest { tenant_id: "acme".to_owned(), ..Default::default() };
        catalog.create_tenant(&request).unwrap();
        let service = Tenants::new(catalog, Arc::new(NoRuntime));
        let get = || {
            let request = v1::GetTenantRequest { name: "tenants/acme".to_owned() };
            service.get_tenant(Request::new(request))
        };
        let mut others = Vec::new();
        for _ in 0..READS {
            others.push(service.reads.turn("tenants/globex", 1).await.unwrap());
        }
        assert_eq!(get().await.unwrap_err().code(), tonic::Code::ResourceExhausted);
        others.pop();
        assert_eq!(get().await.unwrap().into_inner().effective_rule_count, 1);
        assert_eq!(get().await.unwrap().into_inner().effective_rule_count, 1, "its turn went back");
    }
}
