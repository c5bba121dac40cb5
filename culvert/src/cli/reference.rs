//! How objects are named on the command line: `tenants/acme/peers/b1`, `peer acme/b1`, `peers --tenant acme`.

use crate::console::failure::Failure;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tenant,
    Secret,
    Peer,
    Sa,
    Node,
}

/// What is meant: one object, or all of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    pub(crate) kind: Kind,
    /// Resource name of the one object.
    pub(crate) name: Option<String>,
    /// Where to list otherwise: `tenants/acme`, `tenants/acme/peers/b1` for SAs, or `tenants/-`.
    pub(crate) parent: String,
}

impl Reference {
    /// From the words of a command and its `--tenant`.
    pub(crate) fn parse(words: &[String], tenant: Option<&str>) -> Result<Self, Failure> {
        let parent = tenant.map_or("tenants/-".to_owned(), full_tenant);
        let (first, second) = match words {
            [first] => (first.as_str(), None),
            [first, second] => (first.as_str(), Some(second.as_str())),
            _ => return Err(expected("nothing")),
        };
        if first.contains('/') {
            return match (kind_of_name(first), second) {
                (Some(kind), None) => Ok(Self { kind, name: Some(first.to_owned()), parent }),
                _ => Err(expected(first)),
            };
        }
        let kind = match first {
            "tenant" | "tenants" => Kind::Tenant,
            "secret" | "secrets" => Kind::Secret,
            "peer" | "peers" => Kind::Peer,
            "sa" | "sas" => Kind::Sa,
            "node" => Kind::Node,
            _ => return Err(expected(first)),
        };
        let Some(second) = second else {
            return Ok(Self { kind, name: None, parent });
        };
        match kind {
            Kind::Tenant => Ok(Self { kind, name: Some(full_tenant(second)), parent }),
            // `get peers tenants/acme` and `get sas acme/b1` list what is below.
            Kind::Peer | Kind::Secret | Kind::Sa if kind_of_name(second) == Some(Kind::Tenant) => {
                Ok(Self { kind, name: None, parent: second.to_owned() })
            }
            Kind::Sa => Ok(Self { kind, name: None, parent: full_name("peers", second, tenant)? }),
            Kind::Peer => Ok(Self { kind, name: Some(full_name("peers", second, tenant)?), parent }),
            Kind::Secret => Ok(Self { kind, name: Some(full_name("secrets", second, tenant)?), parent }),
            Kind::Node => Err(expected(second)),
        }
    }
}

/// The resource name of a peer given as `tenants/acme/peers/b1` or `acme/b1`.
pub(crate) fn peer(text: &str) -> Result<String, Failure> {
    full_name("peers", text, None)
}

/// Whose events are meant: nothing, a tenant or a peer.
pub(crate) fn scope(text: Option<&str>) -> Result<String, Failure> {
    match text {
        None => Ok("tenants/-".to_owned()),
        Some(text) if text.starts_with("tenants/") => Ok(text.to_owned()),
        Some(text) if text.contains('/') => peer(text),
        Some(text) => Ok(full_tenant(text)),
    }
}

fn full_tenant(text: &str) -> String {
    if text.starts_with("tenants/") { text.to_owned() } else { format!("tenants/{text}") }
}

fn full_name(collection: &str, text: &str, tenant: Option<&str>) -> Result<String, Failure> {
    let parts: Vec<&str> = text.split('/').collect();
    match (parts.as_slice(), tenant) {
        (["tenants", ..], _) => Ok(text.to_owned()),
        ([tenant, id], _) => Ok(format!("tenants/{tenant}/{collection}/{id}")),
        ([id], Some(tenant)) => Ok(format!("{}/{collection}/{id}", full_tenant(tenant))),
        _ => Err(Failure::invalid(format!("{text:?} is not a full name"))
            .hint(format!("write tenants/TENANT/{collection}/ID, TENANT/ID, or use --tenant"))),
    }
}

/// The kind of a resource name.
pub(crate) fn kind_of_name(name: &str) -> Option<Kind> {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        ["tenants", _] => Some(Kind::Tenant),
        ["tenants", _, "peers", _] => Some(Kind::Peer),
        ["tenants", _, "secrets", _] => Some(Kind::Secret),
        _ => None,
    }
}

fn expected(found: &str) -> Failure {
    Failure::invalid(format!("{found:?} names nothing"))
        .hint("expected tenants, peers, secrets, sas, node, or a name such as tenants/acme/peers/b1")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str], tenant: Option<&str>) -> Option<(Kind, Option<String>, String)> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        Reference::parse(&words, tenant).ok().map(|found| (found.kind, found.name, found.parent))
    }

    #[test]
    fn the_forms_mean_what_they_say() {
        let name = Some("tenants/acme/peers/b1".to_owned());
        let all = "tenants/-".to_owned();
        assert_eq!(parse(&["peers"], None), Some((Kind::Peer, None, all.clone())));
        assert_eq!(parse(&["peers"], Some("acme")), Some((Kind::Peer, None, "tenants/acme".into())));
        assert_eq!(parse(&["peers", "tenants/acme"], None), Some((Kind::Peer, None, "tenants/acme".into())));
        assert_eq!(parse(&["tenants/acme/peers/b1"], None), Some((Kind::Peer, name.clone(), all.clone())));
        assert_eq!(parse(&["peer", "acme/b1"], None), Some((Kind::Peer, name.clone(), all.clone())));
        assert_eq!(parse(&["peer", "b1"], Some("acme")), Some((Kind::Peer, name, "tenants/acme".into())));
        assert_eq!(parse(&["sas", "acme/b1"], None), Some((Kind::Sa, None, "tenants/acme/peers/b1".into())));
        assert_eq!(parse(&["tenant", "acme"], None), Some((Kind::Tenant, Some("tenants/acme".into()), all)));
        for wrong in [&["pears"][..], &["peer", "b1"], &["tenants/acme/b1"], &["node", "x"], &[]] {
            assert_eq!(parse(wrong, None), None, "{wrong:?}");
        }
    }
}
