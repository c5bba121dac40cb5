//! AuditService.

use std::sync::Arc;

use culvert_proto::v1;
use culvert_proto::v1::audit_service_server::AuditService;
use tenants::Catalog;
use tonic::{Request, Response, Status};

use crate::access::{self, Lanes};
use crate::services::{blocking, status};

/// Lists that are read at a time: each may go through all files of the log, on a processor that tunnels want too. The others wait.
const READS: usize = 2;

/// AuditService over the log of a catalog.
pub struct Audits {
    catalog: Arc<Catalog>,
    reads: Lanes,
}

impl Audits {
    /// Serves the log of this catalog.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog, reads: Lanes::new(READS) }
    }
}

#[tonic::async_trait]
impl AuditService for Audits {
    async fn list_audit_entries(
        &self,
        request: Request<v1::ListAuditEntriesRequest>,
    ) -> Result<Response<v1::ListAuditEntriesResponse>, Status> {
        let v1::ListAuditEntriesRequest { parent, page_size, page_token } = request.into_inner();
        let share = access::share();
        let Some(turn) = self.reads.turn(&share, 1).await else {
            let reason = "others are reading the audit log; try again in a moment";
            return Err(Status::resource_exhausted(reason));
        };
        // A reading goes on though nobody waits for it any more, and counts until it ends.
        let page = blocking(&self.catalog, "ListAuditEntries", move |catalog| {
            let _turn = turn;
            catalog.page_audit(&parent, page_size, &page_token)
        });
        let page = page.await?.map_err(|error| status::of_error(&error))?;
        let (entries, next_page_token) = (page.items, page.next_page_token);
        Ok(Response::new(v1::ListAuditEntriesResponse { entries, next_page_token }))
    }
}
