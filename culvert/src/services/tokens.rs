//! TokenService.

use std::sync::Arc;

use culvert_proto::v1;
use culvert_proto::v1::token_service_server::TokenService;
use tenants::{Catalog, Error, TokenName};
use tonic::{Request, Response, Status};

use crate::access;
use crate::services::{status, write};

/// TokenService over a catalog.
pub struct Tokens {
    catalog: Arc<Catalog>,
}

impl Tokens {
    /// Serves this catalog.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { catalog }
    }
}

#[tonic::async_trait]
impl TokenService for Tokens {
    async fn create_token(
        &self,
        request: Request<v1::CreateTokenRequest>,
    ) -> Result<Response<v1::Token>, Status> {
        let request = request.into_inner();
        let dry_run = request.validate_only;
        let made = write(&self.catalog, "CreateToken", move |c| c.create_token(&request)).await?;
        let (token, value) = made;
        // Of one that was not made there is no value.
        let value = if dry_run { String::new() } else { value.to_string() };
        Ok(Response::new(v1::Token { value, ..token.to_proto() }))
    }

    async fn get_token(&self, request: Request<v1::GetTokenRequest>) -> Result<Response<v1::Token>, Status> {
        let request = request.into_inner();
        let name: TokenName = request.name.parse().map_err(|error| status::invalid("name", error))?;
        match self.catalog.get_token(&name) {
            Some(token) => Ok(Response::new(token.to_proto())),
            None => Err(status::of_error(&Error::NotFound(name.to_string()))),
        }
    }

    async fn list_tokens(
        &self,
        request: Request<v1::ListTokensRequest>,
    ) -> Result<Response<v1::ListTokensResponse>, Status> {
        let request = request.into_inner();
        let page = self.catalog.page_tokens(&request.parent, request.page_size, &request.page_token);
        let page = page.map_err(|error| status::of_error(&error))?;
        Ok(Response::new(v1::ListTokensResponse {
            tokens: page.items.iter().map(|token| token.to_proto()).collect(),
            next_page_token: page.next_page_token,
        }))
    }

    async fn delete_token(
        &self,
        request: Request<v1::DeleteTokenRequest>,
    ) -> Result<Response<v1::DeleteTokenResponse>, Status> {
        let request = request.into_inner();
        let deleted = write(&self.catalog, "DeleteToken", move |c| c.delete_token(&request)).await?;
        Ok(Response::new(v1::DeleteTokenResponse { deleted }))
    }

    async fn who_am_i(
        &self,
        _request: Request<v1::WhoAmIRequest>,
    ) -> Result<Response<v1::WhoAmIResponse>, Status> {
        let caller = access::current().ok_or_else(|| Status::internal("nobody calls"))?;
        Ok(Response::new(v1::WhoAmIResponse {
            principal: caller.principal(),
            role: caller.role.to_proto().into(),
            tenant: caller.tenant.as_ref().map(ToString::to_string).unwrap_or_default(),
            expire_time: caller.expires().map(Into::into),
            from: caller.from.clone(),
        }))
    }
}
