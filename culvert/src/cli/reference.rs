//! How objects are named on the command line: `tenants/acme/peers/b1`, `peer acme/b1`, `peers --tenant acme`.

use crate::console::failure::Failure;
use crate::console::name::{check_owner, full_name, full_tenant, own_name};

/// The parent of what all tenants have.
pub(crate) const ALL: &str = "tenants/-";

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Tenant,
    Secret,
    Peer,
    Token,
    Sa,
    Audit,
    Node,
    Nodes,
    Slots,
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
    /// From the words of a command and its `--tenant`:
    ///
    /// * a kind: all of it; `tenants peers`, or `tenants,peers`, are two;
    /// * a kind and names behind it: `peers acme/b1 acme/b2`;
    /// * a kind before a slash: `peer/acme/b1`;
    /// * a full name, or the short one of a peer, by itself: `tenants/acme/secrets/psk`, `acme/b1`.
    pub(crate) fn parse_all(words: &[String], tenant: Option<&str>) -> Result<Vec<Self>, Failure> {
        let mut found = Vec::new();
        let mut words = words.iter().map(String::as_str).peekable();
        while let Some(word) = words.next() {
            if let Some(kind) = Kind::of_word(word) {
                let mut alone = true;
                // After the word for one object there is its name, whatever it is.
                let named = |next: &str, first: bool| {
                    Kind::of_word(next).is_none() || (first && !word.ends_with('s'))
                };
                while let Some(name) = words.next_if(|next| named(next, alone)) {
                    found.push(Self::of(kind, name, tenant)?);
                    alone = false;
                }
                if alone {
                    found.push(Self { kind, name: None, parent: parent(tenant) });
                }
            } else if word.contains(',') {
                for kind in word.split(',') {
                    let kind = Kind::of_word(kind).ok_or_else(|| expected(kind))?;
                    found.push(Self { kind, name: None, parent: parent(tenant) });
                }
            } else {
                found.push(Self::by_name(word, tenant)?);
            }
        }
        Ok(found)
    }

    /// The one object that the words name.
    pub(crate) fn parse_one(words: &[String], tenant: Option<&str>) -> Result<(Kind, String), Failure> {
        let mut found = Self::parse_all(words, tenant)?;
        match (found.pop(), found.is_empty()) {
            (Some(Self { kind, name: Some(name), .. }), true) => Ok((kind, name)),
            _ => Err(Failure::invalid("the name of one object is needed")
                .hint("for example `acme/branch-12`, `tenant/acme` or `tenants/acme/secrets/psk`")),
        }
    }

    /// A name without a kind in front of it.
    fn by_name(word: &str, tenant: Option<&str>) -> Result<Self, Failure> {
        if let Some(kind) = kind_of_name(word) {
            check_owner(word, tenant)?;
            return Ok(Self { kind, name: Some(word.to_owned()), parent: parent(tenant) });
        }
        match word.split_once('/') {
            Some(("tenants", _)) | None => Err(expected(word)),
            Some((kind, rest)) => match Kind::of_word(kind) {
                Some(kind) => Self::of(kind, rest, tenant),
                None => Self::of(Kind::Peer, word, tenant),
            },
        }
    }

    /// A name, in any of its forms, behind a kind.
    fn of(kind: Kind, text: &str, tenant: Option<&str>) -> Result<Self, Failure> {
        let named = |name| Self { kind, name: Some(name), parent: parent(tenant) };
        let below = |parent| Self { kind, name: None, parent };
        match kind {
            Kind::Tenant if kind_of_name(&full_tenant(text)) == Some(Kind::Tenant) => {
                Ok(named(full_tenant(text)))
            }
            // `get peers tenants/acme` and `get sas acme/b1` list what is below.
            Kind::Peer | Kind::Secret | Kind::Sa if kind_of_name(text) == Some(Kind::Tenant) => {
                Ok(below(text.to_owned()))
            }
            Kind::Sa => Ok(below(own_name("peers", text, tenant)?)),
            Kind::Peer => Ok(named(own_name("peers", text, tenant)?)),
            Kind::Secret => Ok(named(own_name("secrets", text, tenant)?)),
            Kind::Token if kind_of_name(text) == Some(Kind::Tenant) => Ok(below(text.to_owned())),
            Kind::Token => Ok(named(token_name(text, tenant)?)),
            Kind::Audit => Ok(below(full_tenant(text))),
            Kind::Tenant | Kind::Node | Kind::Nodes | Kind::Slots => Err(expected(text)),
        }
    }
}

impl Kind {
    fn of_word(word: &str) -> Option<Self> {
        match word {
            "tenant" | "tenants" => Some(Self::Tenant),
            "secret" | "secrets" => Some(Self::Secret),
            "peer" | "peers" => Some(Self::Peer),
            "sa" | "sas" => Some(Self::Sa),
            "token" | "tokens" => Some(Self::Token),
            "audit" => Some(Self::Audit),
            "node" => Some(Self::Node),
            "nodes" => Some(Self::Nodes),
            "slots" => Some(Self::Slots),
            _ => None,
        }
    }
}

fn parent(tenant: Option<&str>) -> String {
    tenant.map_or(ALL.to_owned(), full_tenant)
}

/// The resource name of a peer given as `tenants/acme/peers/b1`, `acme/b1` or `peer/acme/b1`.
pub(crate) fn peer(text: &str) -> Result<String, Failure> {
    full_name("peers", text, None)
}

/// Whose events are meant: nothing, a tenant or a peer.
pub(crate) fn scope(text: Option<&str>) -> Result<String, Failure> {
    match text {
        None => Ok(ALL.to_owned()),
        Some(text) if text.starts_with("tenants/") => Ok(text.to_owned()),
        Some(text) => match text.split_once('/') {
            None => Ok(full_tenant(text)),
            Some(("tenant", id)) => Ok(full_tenant(id)),
            Some(_) => peer(text),
        },
    }
}

/// The resource name of a token: as [`full_name`], and `ops` or `tokens/ops` for one of the node.
pub(crate) fn token_name(text: &str, tenant: Option<&str>) -> Result<String, Failure> {
    match (text.split('/').collect::<Vec<_>>().as_slice(), tenant) {
        (["tokens", _], _) => {
            check_owner(text, tenant)?;
            Ok(text.to_owned())
        }
        ([id], None) => Ok(format!("tokens/{id}")),
        _ => own_name("tokens", text, tenant),
    }
}

/// The kind of a resource name.
pub(crate) fn kind_of_name(name: &str) -> Option<Kind> {
    match name.split('/').collect::<Vec<_>>().as_slice() {
        ["tenants", _] => Some(Kind::Tenant),
        ["tenants", _, "peers", _] => Some(Kind::Peer),
        ["tenants", _, "secrets", _] => Some(Kind::Secret),
        ["tenants", _, "tokens", _] | ["tokens", _] => Some(Kind::Token),
        _ => None,
    }
}

fn expected(found: &str) -> Failure {
    Failure::invalid(format!("{found:?} names nothing")).hint(
        "expected tenants, peers, secrets, tokens, sas, audit, node, nodes, slots, or a name such as tenants/acme/peers/b1",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    type Found = (Kind, Option<String>, String);

    fn all(words: &[&str], tenant: Option<&str>) -> Option<Vec<Found>> {
        let words: Vec<String> = words.iter().map(ToString::to_string).collect();
        let found = Reference::parse_all(&words, tenant).ok()?;
        Some(found.into_iter().map(|found| (found.kind, found.name, found.parent)).collect())
    }

    fn parse(words: &[&str], tenant: Option<&str>) -> Option<Found> {
        let mut found = all(words, tenant)?;
        assert_eq!(found.len(), 1, "{words:?}: {found:?}");
        found.pop()
    }

    #[test]
    fn the_forms_mean_what_they_say() {
        let name = Some("tenants/acme/peers/b1".to_owned());
        let all = ALL.to_owned();
        assert_eq!(parse(&["peers"], None), Some((Kind::Peer, None, all.clone())));
        assert_eq!(parse(&["peers"], Some("acme")), Some((Kind::Peer, None, "tenants/acme".into())));
        assert_eq!(parse(&["peers", "tenants/acme"], None), Some((Kind::Peer, None, "tenants/acme".into())));
        for form in [
            &["tenants/acme/peers/b1"][..],
            &["acme/b1"],
            &["peer/acme/b1"],
            &["peer", "acme/b1"],
            &["peers", "acme/b1"],
            &["peer", "tenants/acme/peers/b1"],
        ] {
            assert_eq!(parse(form, None), Some((Kind::Peer, name.clone(), all.clone())), "{form:?}");
        }
        assert_eq!(
            parse(&["peer", "b1"], Some("acme")),
            Some((Kind::Peer, name.clone(), "tenants/acme".into()))
        );
        assert_eq!(parse(&["peer/b1"], Some("acme")), Some((Kind::Peer, name, "tenants/acme".into())));
        let secret = Some("tenants/acme/secrets/psk".to_owned());
        for form in [&["secret/acme/psk"][..], &["secret", "acme/psk"], &["tenants/acme/secrets/psk"]] {
            assert_eq!(parse(form, None), Some((Kind::Secret, secret.clone(), all.clone())), "{form:?}");
        }
        for form in [&["sas", "acme/b1"][..], &["sa/acme/b1"]] {
            assert_eq!(parse(form, None), Some((Kind::Sa, None, "tenants/acme/peers/b1".into())), "{form:?}");
        }
        for (form, name) in [
            (&["token", "acme/ci"][..], "tenants/acme/tokens/ci"),
            (&["token/acme/ci"], "tenants/acme/tokens/ci"),
            (&["token", "ops"], "tokens/ops"),
            (&["tokens/ops"], "tokens/ops"),
        ] {
            assert_eq!(parse(form, None), Some((Kind::Token, Some(name.into()), all.clone())), "{form:?}");
        }
        assert_eq!(parse(&["audit", "acme"], None), Some((Kind::Audit, None, "tenants/acme".into())));
        let tenant = |id: &str| Some((Kind::Tenant, Some(format!("tenants/{id}")), all.clone()));
        for form in [&["tenant", "acme"][..], &["tenant/acme"], &["tenants/acme"], &["tenants", "acme"]] {
            assert_eq!(parse(form, None), tenant("acme"), "{form:?}");
        }
        // A name may be a word for a kind.
        assert_eq!(parse(&["tenant", "peers"], None), tenant("peers"));
        for wrong in
            [&["pears"][..], &["peer", "b1"], &["tenants/acme/b1"], &["node", "x"], &["tenants", "a/b"]]
        {
            assert_eq!(super::tests::all(wrong, None), None, "{wrong:?}");
        }
    }

    /// A token of the node would be made, or revoked, where one of a tenant is meant.
    #[test]
    fn what_is_said_to_be_two_owners_is_nobodys() {
        for wrong in [
            &["tokens/ci"][..],
            &["token", "tokens/ci"],
            &["acme/b1"],
            &["secret", "acme/psk"],
            &["tenants/acme/peers/b1"],
            &["tenants/acme/tokens/ci"],
            &["sas", "acme/b1"],
        ] {
            assert_eq!(all(wrong, Some("other")), None, "{wrong:?}");
        }
        assert!(token_name("tokens/ci", Some("acme")).is_err());
        assert_eq!(token_name("ci", Some("acme")).unwrap(), "tenants/acme/tokens/ci");
        assert_eq!(token_name("acme/ci", Some("tenants/acme")).unwrap(), "tenants/acme/tokens/ci");
        let named = parse(&["tenants/acme/peers/b1"], Some("acme")).unwrap();
        assert_eq!(named.1.as_deref(), Some("tenants/acme/peers/b1"));
    }

    #[test]
    fn several_may_be_meant() {
        let kinds = |words: &[&str]| -> Vec<(Kind, bool)> {
            all(words, None).unwrap().into_iter().map(|(kind, name, _)| (kind, name.is_some())).collect()
        };
        let three = [(Kind::Tenant, false), (Kind::Peer, false), (Kind::Secret, false)];
        assert_eq!(kinds(&["tenants", "peers", "secrets"]), three);
        assert_eq!(kinds(&["tenants,peers,secrets"]), three);
        assert_eq!(kinds(&["peers", "acme/b1", "acme/b2"]), [(Kind::Peer, true), (Kind::Peer, true)]);
        assert_eq!(
            kinds(&["tenant", "acme", "peers", "acme/b1", "secrets"]),
            [(Kind::Tenant, true), (Kind::Peer, true), (Kind::Secret, false)]
        );
        assert_eq!(all(&["tenants,pears"], None), None);
    }

    #[test]
    fn a_scope_is_a_tenant_or_a_peer() {
        for (text, expected) in [
            ("acme", "tenants/acme"),
            ("tenant/acme", "tenants/acme"),
            ("tenants/acme", "tenants/acme"),
            ("acme/b1", "tenants/acme/peers/b1"),
            ("peer/acme/b1", "tenants/acme/peers/b1"),
        ] {
            assert_eq!(scope(Some(text)).unwrap(), expected);
        }
    }
}
