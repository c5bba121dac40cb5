//! Tokens in the catalog: made, revoked, and known again.

use std::sync::{Arc, PoisonError};
use std::time::SystemTime;

use culvert_proto::v1;
use prost::Message as _;
use zeroize::Zeroizing;

use crate::author::{Author, Role};
use crate::catalog::Catalog;
use crate::catalog::object::Object;
use crate::catalog::read::last_name;
use crate::catalog::state::{self, State};
use crate::catalog::write::{Writer, check_etag, check_missing};
use crate::error::Error;
use crate::limits::MAX_TOKENS;
use crate::name::{TenantName, TokenName};
use crate::page::{Page, PageRequest};
use crate::store::{Batch, StoreError};
use crate::token::{Token, TokenHash, TokenSpec};
use crate::violation::Violations;

/// Why a token is not good.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefused {
    /// There is none of that value: it was never made, or it was revoked.
    #[error("the token is unknown or was revoked")]
    Unknown,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
}

impl Catalog {
    /// Creates a token. With it comes its value, which is not kept. Where there are as many as there may be, the first that has ended makes
    /// room for it.
    pub fn create_token(
        &self,
        request: &v1::CreateTokenRequest,
    ) -> Result<(Arc<Token>, Zeroizing<String>), Error> {
        self.create_token_at(request, SystemTime::now())
    }

    fn create_token_at(
        &self,
        request: &v1::CreateTokenRequest,
        now: SystemTime,
    ) -> Result<(Arc<Token>, Zeroizing<String>), Error> {
        let mut faults = Violations::new();
        let tenant: Option<Option<TenantName>> = match request.parent.as_str() {
            "" => Some(None),
            parent => faults.note("parent", parent.parse()).map(Some),
        };
        let name =
            tenant.and_then(|tenant| faults.note("token_id", TokenName::from_id(tenant, &request.token_id)));
        let token = request.token.clone().unwrap_or_default();
        let spec = TokenSpec::parse(&token, now);
        let spec = spec.map_err(|inner| faults.add_all("token", inner)).ok();
        let (name, spec) = faults.finish(name.zip(spec))?;
        let value = Token::value()?;
        let hash = TokenHash::of(value.as_bytes());
        let token = self.write(request.validate_only, |writer| {
            if writer.state().tokens.contains_key(&name) {
                return Err(Error::AlreadyExists(name.to_string()));
            }
            if let Some(tenant) = name.tenant()
                && !writer.state().tenants.contains_key(tenant)
            {
                return Err(Error::NotFound(tenant.to_string()));
            }
            let others = || of(writer.state(), name.tenant());
            if others().count() >= MAX_TOKENS {
                let ended = others().filter(|other| other.expires <= now).min_by_key(|other| other.expires);
                if let Some(ended) = ended.cloned() {
                    writer.remove(Object::Token(ended));
                }
            }
            let (name, TokenSpec { display_name, role, expires }) = (name.clone(), spec.clone());
            let (meta, used) = (writer.created(""), Arc::default());
            let token = Arc::new(Token { name, display_name, role, expires, meta, hash, used });
            writer.put(Object::Token(Arc::clone(&token)));
            Ok(token)
        })?;
        Ok((token, value))
    }

    /// Revokes a token. Names of what went.
    pub fn delete_token(&self, request: &v1::DeleteTokenRequest) -> Result<Vec<String>, Error> {
        self.write(request.validate_only, |writer| {
            writer.delete_token(request)?;
            Ok(writer.removed())
        })
    }

    /// The token of that name.
    pub fn get_token(&self, name: &TokenName) -> Option<Arc<Token>> {
        self.read().tokens.get(name).cloned()
    }

    /// A page of the tokens of `parent`: empty for those of the node, `tenants/{tenant}`, or `tenants/-` for those of all
    /// tenants.
    pub fn page_tokens(
        &self,
        parent: &str,
        page_size: i32,
        page_token: &str,
    ) -> Result<Page<Arc<Token>>, Error> {
        let request = PageRequest::parse(parent, page_size, page_token)?;
        let tenant = match parent {
            "" => None,
            parent => self.parse_parent(parent)?,
        };
        // Names of the node's tokens come before all others.
        let node = parent.is_empty();
        let after = last_name::<TokenName>(&request)?
            .or_else(|| tenant.clone().map(|t| TokenName::first_of(Some(t))));
        let state = self.read();
        let rest = state::after(&state.tokens, after.as_ref());
        let rest = rest.filter(|token| token.name.tenant().is_none() == node);
        let rest = rest.take_while(|token| tenant.is_none() || token.name.tenant() == tenant.as_ref());
        let octets = |token: &Arc<Token>| token.to_proto().encoded_len();
        Ok(request.cut_by(rest.cloned(), |token| token.name.to_string(), octets))
    }

    /// The token of this value, if it is good at `now`. It counts as used.
    pub fn verify_token(&self, value: &[u8], now: SystemTime) -> Result<Arc<Token>, TokenRefused> {
        let token = self.read().token(TokenHash::of(value)).ok_or(TokenRefused::Unknown)?;
        if token.is_expired(now) {
            return Err(TokenRefused::Expired);
        }
        token.note_use(now);
        Ok(token)
    }

    /// Whether a token that was good before is still so.
    pub fn is_token_good(&self, token: &Token, now: SystemTime) -> bool {
        let state = self.read();
        let there = state.tokens.get(&token.name).is_some_and(|other| other.hash == token.hash);
        there && !token.is_expired(now)
    }

    /// Writes down when tokens were shown last, if that has changed. Called now and then: a write for each use would cost more
    /// than what it is about.
    pub(crate) fn keep_token_uses(&self) -> Result<(), StoreError> {
        // One who writes might delete a token meanwhile, whose use would stay.
        let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        let tokens: Vec<Arc<Token>> = self.read().tokens.values().cloned().collect();
        let news: Vec<_> = tokens.iter().filter_map(|token| Some((token, token.used.news()?))).collect();
        if news.is_empty() {
            return Ok(());
        }
        let mut batch = Batch::default();
        for (token, shown) in &news {
            batch.put(crate::store::used_key(&token.name), shown.to_be_bytes().to_vec());
        }
        self.store.commit(&batch)?;
        for (token, shown) in news {
            token.used.note_kept(shown);
        }
        Ok(())
    }
}

impl Writer<'_> {
    pub(crate) fn delete_token(&mut self, request: &v1::DeleteTokenRequest) -> Result<(), Error> {
        let name: TokenName = request.name.parse().map_err(|e| Error::invalid("name", format!("{e}")))?;
        let Some(token) = self.state().tokens.get(&name).cloned() else {
            return check_missing(request.allow_missing, &request.etag, &name);
        };
        check_etag(&request.etag, &token.meta, &name)?;
        self.remove(Object::Token(token));
        Ok(())
    }
}

/// Those of a tenant, or of the node.
fn of<'a>(state: &'a State, tenant: Option<&TenantName>) -> impl Iterator<Item = &'a Arc<Token>> {
    state.tokens.values().filter(move |token| token.name.tenant() == tenant)
}

/// What can only be said in view of the other objects, and of who writes.
pub(crate) fn check(state: &State, author: &Author, token: &Token) -> Result<(), Error> {
    if token.role > author.role {
        let own: Role = author.role;
        let reason = format!("a token of the role {} is not for {own}s to make", token.role);
        return Err(Error::Denied { name: token.name.to_string(), reason });
    }
    let tenant = token.name.tenant();
    if of(state, tenant).count() <= MAX_TOKENS {
        return Ok(());
    }
    let name = tenant.map_or_else(|| "this node".to_owned(), ToString::to_string);
    Err(Error::Exhausted { name, what: "tokens", limit: MAX_TOKENS as u64 })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Whoever makes one for each run of something has them end by themselves.
    #[test]
    fn tokens_that_have_ended_make_room() {
        let catalog = Catalog::in_memory().unwrap();
        let begun = SystemTime::now();
        let hours = |hours: u64| begun + Duration::from_secs(hours * 60 * 60);
        let create = |id: &str, until: u64, now| {
            let role = Role::Viewer.to_proto().into();
            let token = v1::Token { role, expire_time: Some(hours(until).into()), ..Default::default() };
            let token_id = id.to_owned();
            let request = v1::CreateTokenRequest { token_id, token: Some(token), ..Default::default() };
            catalog.create_token_at(&request, now).map(drop)
        };
        let there = |id: &str| catalog.get_token(&format!("tokens/{id}").parse().unwrap()).is_some();
        for n in 0..MAX_TOKENS {
            let until = if n == 7 { 1 } else { 2 + n as u64 };
            create(&format!("t{n}"), until, begun).unwrap();
        }
        // Nobody who is good goes for it.
        assert!(matches!(create("more", 9, begun), Err(Error::Exhausted { .. })));
        assert!(create("more", 9, hours(1)).is_ok());
        assert!(!there("t7") && there("t0") && there("more"));
        assert!(matches!(create("another", 9, hours(1)), Err(Error::Exhausted { .. })));
        // The first that has ended.
        assert!(create("another", 9, hours(3)).is_ok());
        assert!(!there("t0") && there("t1"));
    }
}
