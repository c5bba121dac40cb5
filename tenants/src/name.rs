//! Resource names (AIP-122): `tenants/acme`, `tenants/acme/peers/branch-12`, `tenants/acme/secrets/psk`.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Characters of one part of a name: a DNS label (RFC 1035 2.3.4), so that it may become one.
const MAX_ID: usize = 63;

/// Name of a tenant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TenantName(Arc<str>);

/// Name of a peer; ordered by tenant first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerName {
    tenant: TenantName,
    id: Arc<str>,
}

/// Name of a secret; ordered by tenant first.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretName {
    tenant: TenantName,
    id: Arc<str>,
}

/// Name of a token; those of the node come first, then by tenant.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenName {
    tenant: Option<TenantName>,
    id: Arc<str>,
}

/// A text that is not a resource name, and what is expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NameError(String);

impl TenantName {
    /// From the last part.
    pub fn from_id(id: &str) -> Result<Self, NameError> {
        Ok(Self(check_id(id)?))
    }

    /// The last part.
    pub fn id(&self) -> &str {
        &self.0
    }

    /// Whether a resource of this name is the tenant, or is the tenant's.
    pub fn owns(&self, name: &str) -> bool {
        let rest = name.strip_prefix("tenants/").and_then(|rest| rest.strip_prefix(self.id()));
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl FromStr for TenantName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split('/').collect::<Vec<_>>().as_slice() {
            ["tenants", id] => Self::from_id(id),
            _ => Err(unlike(text, "tenants/{tenant}")),
        }
    }
}

impl fmt::Display for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "tenants/{}", self.0)
    }
}

macro_rules! child_name {
    ($type:ident, $collection:literal, $pattern:literal) => {
        impl $type {
            /// From the tenant and the last part.
            pub fn from_id(tenant: TenantName, id: &str) -> Result<Self, NameError> {
                Ok(Self { tenant, id: check_id(id)? })
            }

            /// The tenant it belongs to.
            pub fn tenant(&self) -> &TenantName {
                &self.tenant
            }

            /// The last part.
            pub fn id(&self) -> &str {
                &self.id
            }

            /// Before every name of a tenant; names nothing itself.
            pub(crate) fn first_of(tenant: TenantName) -> Self {
                Self { tenant, id: "".into() }
            }
        }

        impl FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                match text.split('/').collect::<Vec<_>>().as_slice() {
                    ["tenants", tenant, $collection, id] => Self::from_id(TenantName::from_id(tenant)?, id),
                    _ => Err(unlike(text, $pattern)),
                }
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!("{}/", $collection, "/{}"), self.tenant, self.id)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

child_name!(PeerName, "peers", "tenants/{tenant}/peers/{peer}");
child_name!(SecretName, "secrets", "tenants/{tenant}/secrets/{secret}");

impl TokenName {
    /// From the tenant, if it is of one, and the last part.
    pub fn from_id(tenant: Option<TenantName>, id: &str) -> Result<Self, NameError> {
        Ok(Self { tenant, id: check_id(id)? })
    }

    /// The tenant it belongs to; `None` if it is good for the whole node.
    pub fn tenant(&self) -> Option<&TenantName> {
        self.tenant.as_ref()
    }

    /// Before every name of a tenant; names nothing itself.
    pub(crate) fn first_of(tenant: Option<TenantName>) -> Self {
        Self { tenant, id: "".into() }
    }
}

impl FromStr for TokenName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split('/').collect::<Vec<_>>().as_slice() {
            ["tokens", id] => Self::from_id(None, id),
            ["tenants", tenant, "tokens", id] => Self::from_id(Some(TenantName::from_id(tenant)?), id),
            _ => Err(unlike(text, "tokens/{token} or tenants/{tenant}/tokens/{token}")),
        }
    }
}

impl fmt::Display for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.tenant {
            Some(tenant) => write!(f, "{tenant}/tokens/{}", self.id),
            None => write!(f, "tokens/{}", self.id),
        }
    }
}

impl fmt::Debug for TokenName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for TenantName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// One part of a name: `[a-z]([a-z0-9-]*[a-z0-9])?`, at most [`MAX_ID`] characters.
pub(crate) fn check_id(id: &str) -> Result<Arc<str>, NameError> {
    let ok = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    if id.is_empty() {
        return Err(NameError("is empty; expected an id such as branch-12".to_owned()));
    }
    if id.len() > MAX_ID {
        return Err(NameError(format!("an id of {} characters; at most {MAX_ID}", id.len())));
    }
    if !id.starts_with(|c: char| c.is_ascii_lowercase()) || !id.chars().all(ok) || id.ends_with('-') {
        return Err(NameError(format!(
            "{id:?} is not an id: expected a-z, 0-9 and '-', beginning with a letter, not ending with '-'"
        )));
    }
    Ok(id.into())
}

fn unlike(text: &str, pattern: &str) -> NameError {
    let shown: String = text.chars().take(80).collect();
    NameError(format!("{shown:?} is not of the form {pattern}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        let peer: PeerName = "tenants/acme/peers/branch-12".parse().unwrap();
        assert_eq!((peer.tenant().id(), peer.id()), ("acme", "branch-12"));
        assert_eq!(peer.to_string(), "tenants/acme/peers/branch-12");
        for name in ["tokens/ops", "tenants/acme/tokens/ci"] {
            assert_eq!(name.parse::<TokenName>().unwrap().to_string(), name);
        }
        assert!("secrets/ops".parse::<TokenName>().is_err());
        assert_eq!("tenants/acme".parse::<TenantName>().unwrap().to_string(), "tenants/acme");
    }

    #[test]
    fn a_tenant_owns_itself_and_what_is_below_it() {
        let acme: TenantName = "tenants/acme".parse().unwrap();
        for own in ["tenants/acme", "tenants/acme/peers/b1", "tenants/acme/"] {
            assert!(acme.owns(own), "{own}");
        }
        for other in
            ["", "tenants/", "tenants/acm", "tenants/acme2", "tenants/acme2/peers/b1", "acme", "tokens/acme"]
        {
            assert!(!acme.owns(other), "{other}");
        }
    }

    #[test]
    fn faults_are_named() {
        let fault = |text: &str| text.parse::<PeerName>().unwrap_err().to_string();
        assert!(fault("tenants/acme").contains("tenants/{tenant}/peers/{peer}"));
        assert!(fault("tenants/acme/peers/").contains("is empty"));
        assert!(fault("tenants/acme/peers/Branch").contains("\"Branch\""));
        assert!(fault("tenants/acme/peers/a/b").contains("form"));
        assert!(fault(&format!("tenants/acme/peers/{}", "a".repeat(64))).contains("at most 63"));
        assert!(fault("tenants/-/peers/a").contains("\"-\""));
    }
}
