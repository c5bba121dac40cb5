//! BatchService: several objects in one transaction.

use std::sync::Arc;

use culvert_proto::v1;
use culvert_proto::v1::batch_service_server::BatchService;
use tenants::{Action, Applied, BatchError, Catalog};
use tonic::{Request, Response, Status};

use crate::services::{blocking, note, status};

/// BatchService over a catalog.
pub struct Batches {
    catalog: Arc<Catalog>,
}

impl Batches {
    /// Serves this catalog.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }

    async fn write<T: Send + 'static>(
        &self,
        operation: &'static str,
        call: impl FnOnce(&Catalog) -> Result<T, BatchError> + Send + 'static,
    ) -> Result<T, Status> {
        let done = blocking(&self.catalog, operation, call).await?;
        match &done {
            Ok(_) => tracing::debug!(operation, "done"),
            Err(BatchError::Whole(error)) => note(operation, error),
            Err(BatchError::Objects(faults)) => tracing::debug!(operation, faults = faults.len(), "refused"),
        }
        done.map_err(|error| status::of_batch(&error))
    }
}

#[tonic::async_trait]
impl BatchService for Batches {
    async fn apply(&self, request: Request<v1::ApplyRequest>) -> Result<Response<v1::ApplyResponse>, Status> {
        let request = request.into_inner();
        let without_values = request.without_values;
        let applied = self.write("Apply", move |catalog| catalog.apply(request)).await?;
        let told = applied.into_iter().map(|mut applied| {
            applied.values.take_if(|_| without_values);
            to_proto(applied)
        });
        Ok(Response::new(v1::ApplyResponse { objects: told.collect() }))
    }

    async fn delete(
        &self,
        request: Request<v1::DeleteRequest>,
    ) -> Result<Response<v1::DeleteResponse>, Status> {
        let request = request.into_inner();
        let deleted = self.write("Delete", move |catalog| catalog.delete(&request)).await?;
        Ok(Response::new(v1::DeleteResponse { deleted }))
    }
}

fn to_proto(applied: Applied) -> v1::AppliedObject {
    let action = match applied.action {
        Action::Created => v1::AppliedAction::Created,
        Action::Updated => v1::AppliedAction::Updated,
        Action::Unchanged => v1::AppliedAction::Unchanged,
    };
    let (before, after) = applied.values.unzip();
    v1::AppliedObject {
        name: applied.name,
        action: action.into(),
        impact: applied.impact.as_ref().map(tenants::Impact::to_proto),
        before,
        after,
        value_changed: applied.value_changed,
        warnings: applied.warnings,
    }
}
