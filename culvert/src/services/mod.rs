//! The gRPC services: each turns a request into one call of the catalog or the runtime, and errors into statuses.

mod audit;
mod batch;
mod node;
mod peers;
mod sas;
mod secrets;
mod tenants;
mod tokens;

use std::sync::Arc;

pub use audit::Audits;
pub use batch::Batches;
pub use node::Nodes;
pub use peers::Peers;
pub use sas::Sas;
pub use secrets::Secrets;
pub use tenants::Tenants;
pub use tokens::Tokens;
use tonic::{Response, Status};

use crate::access;
pub(crate) use crate::status;

use ::tenants::{Catalog, Error};

/// The header that names nodes that were not there to answer, parted by commas.
pub(crate) const AWAY: &str = "culvert-nodes-away";

/// An answer that has no field for the nodes that are away.
fn named_away<T>(answer: T, away: &[String]) -> Response<T> {
    let mut response = Response::new(answer);
    // A name that is not ASCII is not shown: a certificate could not have it either.
    if !away.is_empty()
        && let Ok(names) = away.join(",").parse()
    {
        response.metadata_mut().insert(AWAY, names);
    }
    response
}

/// Runs a write of the catalog where waiting for the disk disturbs no other request.
async fn write<T: Send + 'static>(
    catalog: &Arc<Catalog>,
    operation: &'static str,
    call: impl FnOnce(&Catalog) -> Result<T, Error> + Send + 'static,
) -> Result<T, Status> {
    blocking(catalog, operation, call).await?.map_err(|error| {
        note(operation, &error);
        status::of_error(&error)
    })
}

/// Tells the log why an operation failed.
fn note(operation: &str, error: &Error) {
    if let Error::Store(error) = error {
        // With more than is told to the caller.
        tracing::error!(operation, %error, "the store failed");
    } else {
        tracing::debug!(operation, %error, "refused");
    }
}

/// Runs a call of the catalog on a thread that may wait.
async fn blocking<T: Send + 'static>(
    catalog: &Arc<Catalog>,
    operation: &'static str,
    call: impl FnOnce(&Catalog) -> T + Send + 'static,
) -> Result<T, Status> {
    let catalog = Arc::clone(catalog);
    let result = access::apart(move || call(&catalog)).await;
    result.map_err(|error| {
        tracing::error!(operation, %error, "panicked");
        Status::internal(format!("{operation} failed unexpectedly; see the log of culvertd"))
    })
}
