//! AuditService.

use std::sync::Arc;

use culvert_proto::v1;
use culvert_proto::v1::audit_service_server::AuditService;
use tenants::Catalog;
use tonic::{Request, Response, Status};

use crate::services::{blocking, status};

/// AuditService over the log of a catalog.
pub struct Audits {
    catalog: Arc<Catalog>,
}

impl Audits {
    /// Serves the log of this catalog.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }
}

#[tonic::async_trait]
impl AuditService for Audits {
    async fn list_audit_entries(
        &self,
        request: Request<v1::ListAuditEntriesRequest>,
    ) -> Result<Response<v1::ListAuditEntriesResponse>, Status> {
        let v1::ListAuditEntriesRequest { parent, page_size, page_token } = request.into_inner();
        // It reads files.
        let page = blocking(&self.catalog, "ListAuditEntries", move |catalog| {
            catalog.audit().page(&parent, page_size, &page_token)
        });
        let page = page.await?.map_err(|error| status::of_error(&error))?;
        let (entries, next_page_token) = (page.items, page.next_page_token);
        Ok(Response::new(v1::ListAuditEntriesResponse { entries, next_page_token }))
    }
}
