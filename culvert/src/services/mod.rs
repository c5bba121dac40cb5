//! The gRPC services: each turns a request into one call of the catalog or the runtime, and errors into statuses.

mod node;
mod peers;
mod sas;
mod secrets;
pub mod status;
mod tenants;

use std::sync::Arc;

pub use node::Nodes;
pub use peers::Peers;
pub use sas::Sas;
pub use secrets::Secrets;
pub use tenants::Tenants;
use tonic::Status;

use ::tenants::{Catalog, Error};

/// Runs a write of the catalog where waiting for the disk disturbs no other request.
async fn write<T: Send + 'static>(
    catalog: &Arc<Catalog>,
    operation: &'static str,
    call: impl FnOnce(&Catalog) -> Result<T, Error> + Send + 'static,
) -> Result<T, Status> {
    let catalog = Arc::clone(catalog);
    let result = tokio::task::spawn_blocking(move || call(&catalog)).await;
    match result {
        Ok(Ok(value)) => {
            tracing::debug!(operation, "done");
            Ok(value)
        }
        Ok(Err(error)) => {
            if matches!(error, Error::Store(_)) {
                tracing::error!(operation, %error, "the store failed");
            } else {
                tracing::debug!(operation, %error, "refused");
            }
            Err(status::of_error(&error))
        }
        Err(error) => {
            tracing::error!(operation, %error, "panicked");
            Err(Status::internal(format!("{operation} failed unexpectedly; see the log of culvertd")))
        }
    }
}
