//! `[grpc]`: by which doors the API is reached, and who may come in.

use std::collections::HashSet;
use std::fmt;
use std::hash::Hash;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use tenants::{Role, TenantName};

use crate::config::ConfigError;

/// Name of the socket in the state directory.
const SOCKET: &str = "culvertd.sock";
/// Octets of the path of a Unix socket at most: the kernel's `sun_path` has one more, for the zero at its end.
const MAX_SOCKET: usize = 107;
/// Requests of one caller in a second, if nothing else is configured: far more than people and pipelines make, and some
/// percent of what a core can answer.
const RATE_LIMIT: u32 = 2_000;

/// The API.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GrpcConfig {
    /// Address and port of TCP. Absent: the Unix socket alone.
    pub listen: Option<SocketAddr>,
    /// Path of the Unix socket; empty for none. Absent: `culvertd.sock` in the state directory.
    pub socket: Option<PathBuf>,
    /// TLS for `listen`, which any other address than one of loopback needs.
    pub tls: Option<TlsConfig>,
    /// What callers by TCP may do that show neither token nor certificate: `none`, or a role. Absent: `admin` without
    /// `grpc.tls`, as there is loopback alone then; `none` with it.
    pub anonymous: Option<Anonymous>,
    /// Requests of one caller in a second.
    pub rate_limit: u32,
    /// Users of this host that may come by the Unix socket. Root and the daemon's own user may without.
    pub users: Vec<UserRule>,
    /// Certificates of clients.
    pub clients: Vec<ClientRule>,
    /// Tokens whose values are in files, for those that have to be there before anybody can make one.
    pub tokens: Vec<TokenRule>,
}

/// The files of TLS. They are read again when they change.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Certificate of the node and those between it and its CA, in PEM.
    pub cert: PathBuf,
    /// Its key, in PEM.
    pub key: PathBuf,
    /// CAs of clients' certificates, in PEM. Absent: clients need none.
    pub client_ca: Option<PathBuf>,
}

/// A role, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Anonymous(pub Option<Role>);

/// A user of this host.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UserRule {
    /// Number of the user.
    pub uid: u32,
    /// What it may do.
    #[serde(deserialize_with = "role")]
    pub role: Role,
    /// `tenants/{tenant}`: that tenant alone.
    #[serde(default, deserialize_with = "tenant")]
    pub tenant: Option<TenantName>,
}

/// Certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClientRule {
    /// A name of the certificate: a URI (`spiffe://example.org/ns/ops/sa/culvert`) or host name of its subjectAltName, or its common
    /// name where it has neither. `*` at the end stands for any rest.
    pub name: String,
    /// What its holder may do.
    #[serde(deserialize_with = "role")]
    pub role: Role,
    /// `tenants/{tenant}`: that tenant alone.
    #[serde(default, deserialize_with = "tenant")]
    pub tenant: Option<TenantName>,
}

/// A token whose value is in a file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRule {
    /// What it is called in logs.
    pub name: String,
    /// Where its value is; at least 32 characters, read again when it changes.
    pub file: PathBuf,
    /// What its holder may do.
    #[serde(deserialize_with = "role")]
    pub role: Role,
    /// `tenants/{tenant}`: that tenant alone.
    #[serde(default, deserialize_with = "tenant")]
    pub tenant: Option<TenantName>,
}

impl Default for GrpcConfig {
    fn default() -> Self {
        Self {
            listen: None,
            socket: None,
            tls: None,
            anonymous: None,
            rate_limit: RATE_LIMIT,
            users: Vec::new(),
            clients: Vec::new(),
            tokens: Vec::new(),
        }
    }
}

impl GrpcConfig {
    /// Path of the Unix socket of a daemon with this state directory.
    pub fn socket(&self, state_dir: &Path) -> Option<PathBuf> {
        match &self.socket {
            None => Some(state_dir.join(SOCKET)),
            Some(path) => Some(path.clone()).filter(|path| !path.as_os_str().is_empty()),
        }
    }

    /// What callers may do that show nothing.
    pub fn anonymous(&self) -> Option<Role> {
        match self.anonymous {
            Some(Anonymous(role)) => role,
            None => self.tls.is_none().then_some(Role::Admin),
        }
    }

    /// The fields with their values as text.
    pub(super) fn settings(&self, state_dir: &Path) -> Vec<(&'static str, String)> {
        let Self { listen, socket: _, tls, anonymous: _, rate_limit, users, clients, tokens } = self;
        let none = || "none".to_owned();
        let path = |path: Option<&PathBuf>| path.map_or_else(none, |path| path.display().to_string());
        let of = |tenant: &Option<TenantName>| {
            tenant.as_ref().map_or_else(String::new, |tenant| format!(" of {tenant}"))
        };
        let users = users.iter().map(|rule| format!("{}: {}{}", rule.uid, rule.role, of(&rule.tenant)));
        let clients = clients.iter().map(|rule| format!("{}: {}{}", rule.name, rule.role, of(&rule.tenant)));
        let tokens = tokens.iter().map(|rule| {
            format!("{}: {}{} ({})", rule.name, rule.role, of(&rule.tenant), rule.file.display())
        });
        vec![
            ("grpc.listen", listen.map_or_else(none, |address| address.to_string())),
            ("grpc.socket", path(self.socket(state_dir).as_ref())),
            ("grpc.tls.cert", path(tls.as_ref().map(|tls| &tls.cert))),
            ("grpc.tls.key", path(tls.as_ref().map(|tls| &tls.key))),
            ("grpc.tls.client_ca", path(tls.as_ref().and_then(|tls| tls.client_ca.as_ref()))),
            ("grpc.anonymous", self.anonymous().map_or_else(none, |role| role.to_string())),
            ("grpc.rate_limit", rate_limit.to_string()),
            ("grpc.users", list(users)),
            ("grpc.clients", list(clients)),
            ("grpc.tokens", list(tokens)),
        ]
    }

    /// What the types cannot say.
    pub(super) fn check(&self, state_dir: &Path) -> Result<(), ConfigError> {
        let fault = |field, reason: String| Err(ConfigError::Field { field, reason });
        let socket = self.socket(state_dir);
        if let Some(socket) = &socket
            && socket.as_os_str().len() > MAX_SOCKET
        {
            let reason = format!(
                "{} has {} octets; a Unix socket takes {MAX_SOCKET}: name a shorter one",
                socket.display(),
                socket.as_os_str().len()
            );
            return fault("grpc.socket", reason);
        }
        if let Some(listen) = self.listen.filter(|listen| !listen.ip().is_loopback()) {
            if self.tls.is_none() {
                let reason = format!(
                    "{listen} can be reached from other hosts, which takes grpc.tls; without it, expected an address of \
                     loopback, such as 127.0.0.1:{}",
                    listen.port()
                );
                return fault("grpc.listen", reason);
            }
            if let Some(role) = self.anonymous() {
                let reason = format!(
                    "{listen} can be reached from other hosts, who would all be {role}s; expected \"none\""
                );
                return fault("grpc.anonymous", reason);
            }
        }
        if self.listen.is_none() && self.tls.is_some() {
            return fault("grpc.tls", "is there without grpc.listen, which it is for".to_owned());
        }
        if self.listen.is_none() && socket.is_none() {
            return fault(
                "grpc.socket",
                "is empty, and there is no grpc.listen: nobody could come in".to_owned(),
            );
        }
        if !self.clients.is_empty() && self.tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()) {
            let reason = "are there without grpc.tls.client_ca, by which their certificates are checked";
            return fault("grpc.clients", reason.to_owned());
        }
        if let Some(rule) = self.clients.iter().find(|rule| rule.name.is_empty() || rule.name == "*") {
            let reason = format!("{:?} would be every certificate; expected a name", rule.name);
            return fault("grpc.clients", reason);
        }
        let twice = |field, twice: String, each: &str| {
            fault(field, format!("{twice} is there twice; expected one rule for each {each}"))
        };
        if let Some(uid) = first_twice(self.users.iter().map(|rule| rule.uid)) {
            return twice("grpc.users", uid.to_string(), "uid");
        }
        // The second of two would never be looked at.
        if let Some(name) = first_twice(self.clients.iter().map(|rule| &rule.name)) {
            return twice("grpc.clients", format!("{name:?}"), "name");
        }
        // Two would be one for limits and in the audit log, and of one whose file breaks the value of before would be lost.
        if let Some(name) = first_twice(self.tokens.iter().map(|rule| &rule.name)) {
            return twice("grpc.tokens", format!("{name:?}"), "name");
        }
        if self.rate_limit == 0 {
            return fault("grpc.rate_limit", "0 would let nobody in".to_owned());
        }
        Ok(())
    }
}

fn first_twice<T: Eq + Hash + Clone>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let mut seen = HashSet::new();
    items.find(|item| !seen.insert(item.clone()))
}

fn list(items: impl Iterator<Item = String>) -> String {
    let items: Vec<String> = items.collect();
    if items.is_empty() { "none".to_owned() } else { items.join(", ") }
}

fn role<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Role, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

fn tenant<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<TenantName>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(serde::de::Error::custom)
}

impl<'de> Deserialize<'de> for Anonymous {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "none" {
            return Ok(Self(None));
        }
        let role = text.parse().map_err(|fault| serde::de::Error::custom(format!("{fault}, or none")));
        role.map(|role| Self(Some(role)))
    }
}

impl fmt::Display for Anonymous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(role) => role.fmt(f),
            None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("culvertd.toml")).map_err(|error| error.to_string())
    }

    const TLS: &str = "tls = { cert = \"c.pem\", key = \"k.pem\" }";

    #[test]
    fn only_what_is_authenticated_is_reached_from_elsewhere() {
        let grpc = |text: &str| parse(&format!("[grpc]\n{text}\n"));
        assert!(grpc("listen = \"0.0.0.0:50051\"").unwrap_err().contains("takes grpc.tls"));
        assert_eq!(grpc("listen = \"127.0.0.1:50051\"").unwrap().grpc.anonymous(), Some(Role::Admin));
        let remote = format!("listen = \"0.0.0.0:50051\"\n{TLS}");
        assert_eq!(grpc(&remote).unwrap().grpc.anonymous(), None);
        let open = grpc(&format!("{remote}\nanonymous = \"viewer\"")).unwrap_err();
        assert!(open.starts_with("grpc.anonymous") && open.contains("all be viewers"), "{open}");
        let strict = grpc("listen = \"127.0.0.1:1\"\nanonymous = \"none\"").unwrap();
        assert_eq!(strict.grpc.anonymous(), None);
        assert!(grpc("anonymous = \"root\"").unwrap_err().contains("viewer, operator or admin, or none"));
    }

    #[test]
    fn there_is_a_way_in() {
        let grpc = |text: &str| parse(&format!("[grpc]\n{text}\n"));
        assert!(grpc("socket = \"\"").unwrap_err().contains("nobody could come in"));
        assert!(grpc("socket = \"\"\nlisten = \"127.0.0.1:1\"").is_ok());
        let long = grpc(&format!("socket = \"/{}\"", "x".repeat(107))).unwrap_err();
        assert!(long.starts_with("grpc.socket") && long.contains("takes 107"), "{long}");
        let config = parse("state_dir = \"/x\"").unwrap();
        assert_eq!(config.grpc.socket(&config.state_dir.0).unwrap(), Path::new("/x/culvertd.sock"));
        assert!(grpc(TLS).unwrap_err().contains("without grpc.listen"));
    }

    #[test]
    fn no_rule_is_there_twice() {
        let refused = |rules: &str| {
            let text = "[grpc]\nlisten = \"127.0.0.1:1\"\n\
                 [grpc.tls]\ncert = \"c\"\nkey = \"k\"\nclient_ca = \"ca\"\n";
            parse(&format!("{text}{rules}")).err().unwrap_or_default()
        };
        let user = "[[grpc.users]]\nuid = 7\nrole = \"viewer\"\n";
        let client = "[[grpc.clients]]\nname = \"ops\"\nrole = \"viewer\"\n";
        let token = "[[grpc.tokens]]\nname = \"ops\"\nfile = \"/x\"\nrole = \"viewer\"\n";
        for (rule, field) in [(user, "grpc.users"), (client, "grpc.clients"), (token, "grpc.tokens")] {
            assert_eq!(refused(rule), "");
            let other = rule.replace("ops", "dev").replace('7', "8");
            assert_eq!(refused(&format!("{rule}{other}")), "");
            let twice = refused(&format!("{rule}{other}{rule}"));
            assert!(twice.starts_with(field) && twice.contains("is there twice"), "{twice}");
        }
    }

    #[test]
    fn rules_name_roles_and_tenants() {
        let text = "[grpc]\nlisten = \"127.0.0.1:1\"\n[grpc.tls]\ncert = \"c\"\nkey = \"k\"\nclient_ca = \"ca\"\n\
             [[grpc.clients]]\nname = \"spiffe://example.org/acme/*\"\nrole = \"operator\"\ntenant = \"tenants/acme\"\n";
        let config = parse(text).unwrap();
        assert_eq!(config.grpc.clients[0].tenant.as_ref().unwrap().id(), "acme");
        assert!(parse(&text.replace("operator", "boss")).unwrap_err().contains("no role"));
        assert!(parse(&text.replace("tenants/acme", "acme")).unwrap_err().contains("tenants/{tenant}"));
        assert!(parse(&text.replace("client_ca = \"ca\"\n", "")).unwrap_err().starts_with("grpc.clients"));
        assert!(parse(&text.replace("spiffe://example.org/acme/*", "*")).unwrap_err().contains("every"));
    }
}
