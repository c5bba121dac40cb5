//! SecretService. No response has a value.

use std::sync::Arc;

use culvert_proto::v1;
use culvert_proto::v1::secret_service_server::SecretService;
use tenants::{Catalog, Error, SecretName};
use tonic::{Request, Response, Status};

use crate::services::{status, write};

/// SecretService over a catalog.
pub struct Secrets {
    catalog: Arc<Catalog>,
}

impl Secrets {
    /// Serves this catalog.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }
}

#[tonic::async_trait]
impl SecretService for Secrets {
    async fn create_secret(
        &self,
        request: Request<v1::CreateSecretRequest>,
    ) -> Result<Response<v1::Secret>, Status> {
        let request = request.into_inner();
        let secret = write(&self.catalog, "CreateSecret", move |c| c.create_secret(request)).await?;
        Ok(Response::new(secret.to_proto()))
    }

    async fn get_secret(
        &self,
        request: Request<v1::GetSecretRequest>,
    ) -> Result<Response<v1::Secret>, Status> {
        let request = request.into_inner();
        let name: SecretName = request.name.parse().map_err(|error| status::invalid("name", error))?;
        match self.catalog.get_secret(&name) {
            Some(secret) => Ok(Response::new(secret.to_proto())),
            None => Err(status::of_error(&Error::NotFound(name.to_string()))),
        }
    }

    async fn list_secrets(
        &self,
        request: Request<v1::ListSecretsRequest>,
    ) -> Result<Response<v1::ListSecretsResponse>, Status> {
        let request = request.into_inner();
        let page = self.catalog.page_secrets(&request.parent, request.page_size, &request.page_token);
        let page = page.map_err(|error| status::of_error(&error))?;
        Ok(Response::new(v1::ListSecretsResponse {
            secrets: page.items.iter().map(|secret| secret.to_proto()).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn update_secret(
        &self,
        request: Request<v1::UpdateSecretRequest>,
    ) -> Result<Response<v1::Secret>, Status> {
        let request = request.into_inner();
        let secret = write(&self.catalog, "UpdateSecret", move |c| c.update_secret(request)).await?;
        let impact = secret.impact().to_proto();
        Ok(Response::new(v1::Secret { impact: Some(impact), ..secret.to_proto() }))
    }

    async fn delete_secret(
        &self,
        request: Request<v1::DeleteSecretRequest>,
    ) -> Result<Response<v1::DeleteSecretResponse>, Status> {
        let request = request.into_inner();
        let deleted = write(&self.catalog, "DeleteSecret", move |c| c.delete_secret(&request)).await?;
        Ok(Response::new(v1::DeleteSecretResponse { deleted }))
    }
}
