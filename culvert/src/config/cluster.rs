//! `[cluster]`: what several nodes share.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use cluster::mesh::{CredentialError, CredentialFiles, Credentials};
use serde::Deserialize;

use super::{ConfigError, path};

/// Octets of a node's name.
const MAX_NAME: usize = 63;
/// Members of etcd: more are of no use to it.
const MAX_MEMBERS: usize = 9;

/// UDP port by which nodes reach each other.
const MESH_PORT: u16 = 4510;

/// What several nodes share. Without members of etcd the node is alone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterConfig {
    /// Members of etcd, such as `http://10.0.0.1:2379`: tenants, peers and secrets are kept there.
    pub etcd: Vec<String>,
    /// Name of this node among the others. Default: that of the host.
    pub node: Option<String>,
    /// What the keys in etcd begin with; clusters of different prefixes may share an etcd.
    pub prefix: String,
    /// For members with `https://`: the authority of their certificates. Default: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate for them, if they ask for one.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Address and UDP port by which the other nodes reach this one. Default: port 4510 of the first of `ike.listen`.
    pub listen: Option<SocketAddr>,
    /// What the others are told of it, where that is another. Default: `listen`, with the address that this node reaches etcd from where that
    /// is `0.0.0.0` or `::`.
    pub advertise: Option<SocketAddr>,
    /// The authority that all nodes are certified by. Default: one that is derived from the key of the secrets (`vault.key_file`).
    pub mesh_ca: Option<PathBuf>,
    /// Our certificate for the other nodes, with the name `NODE.nodes.culvert`.
    pub mesh_cert: Option<PathBuf>,
    /// Its key.
    pub mesh_key: Option<PathBuf>,
}

impl Default for ClusterConfig {
    fn default() -> Self {
        let (etcd, node, prefix) = (Vec::new(), None, "/culvert".to_owned());
        Self {
            etcd,
            node,
            prefix,
            ca: None,
            cert: None,
            key: None,
            listen: None,
            advertise: None,
            mesh_ca: None,
            mesh_cert: None,
            mesh_key: None,
        }
    }
}

impl ClusterConfig {
    /// Whether there are others.
    pub fn is_shared(&self) -> bool {
        !self.etcd.is_empty()
    }

    /// Name of this node.
    pub fn name(&self) -> String {
        let host =
            || std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned();
        self.node.clone().unwrap_or_else(host)
    }

    /// Where etcd is.
    pub fn etcd(&self) -> cluster::Settings {
        let tls =
            cluster::TlsFiles { ca: self.ca.clone(), certificate: self.cert.clone(), key: self.key.clone() };
        cluster::Settings { endpoints: self.etcd.clone(), prefix: self.prefix.clone(), tls }
    }

    /// Where the other nodes reach this one.
    pub fn mesh_listen(&self, ike: &[IpAddr]) -> SocketAddr {
        let first = ike.first().copied().unwrap_or(Ipv4Addr::UNSPECIFIED.into());
        self.listen.unwrap_or(SocketAddr::new(first, MESH_PORT))
    }

    /// What this node proves its name to the others with. `key_file` has the key of the secrets.
    ///
    /// # Errors
    /// With the setting whose file cannot be used.
    pub fn credentials(&self, key_file: &Path) -> Result<Credentials, ConfigError> {
        let name = self.name();
        let made = match (&self.mesh_ca, &self.mesh_cert, &self.mesh_key) {
            (Some(ca), Some(certificate), Some(key)) => {
                let (ca, certificate, key) = (ca.clone(), certificate.clone(), key.clone());
                Credentials::read(&name, &CredentialFiles { ca, certificate, key })
            }
            _ => Credentials::shared(&name, key_file),
        };
        made.map_err(|error| {
            let is = |setting: &Option<PathBuf>| match &error {
                CredentialError::File { path, .. } => setting.as_ref() == Some(path),
                _ => false,
            };
            let field = match &error {
                _ if is(&self.mesh_ca) => "cluster.mesh_ca",
                _ if is(&self.mesh_cert) => "cluster.mesh_cert",
                _ if is(&self.mesh_key) => "cluster.mesh_key",
                CredentialError::File { .. } => "vault.key_file",
                _ => "cluster.node",
            };
            ConfigError::Field { field, reason: error.to_string() }
        })
    }

    /// Every field with its value as text.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let Self { etcd, node, prefix, ca, cert, key, listen, advertise, mesh_ca, mesh_cert, mesh_key } =
            self;
        let address = |address: &Option<SocketAddr>, default: &str| match address {
            Some(address) => address.to_string(),
            None => default.to_owned(),
        };
        let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        vec![
            ("cluster.etcd", or_none(etcd.join(", "))),
            ("cluster.node", node.clone().unwrap_or_else(|| "that of the host".to_owned())),
            ("cluster.prefix", prefix.clone()),
            ("cluster.ca", path(ca.as_deref())),
            ("cluster.cert", path(cert.as_deref())),
            ("cluster.key", path(key.as_deref())),
            ("cluster.listen", address(listen, "port 4510 of the first of ike.listen")),
            ("cluster.advertise", address(advertise, "cluster.listen")),
            ("cluster.mesh_ca", path(mesh_ca.as_deref())),
            ("cluster.mesh_cert", path(mesh_cert.as_deref())),
            ("cluster.mesh_key", path(mesh_key.as_deref())),
        ]
    }

    /// What the types cannot say. The key of the secrets is one for all, so `key_file` says whether it is given.
    pub(super) fn check(&self, key_file: bool) -> Result<(), ConfigError> {
        let fault = |field, reason: String| Err(ConfigError::Field { field, reason });
        if !self.is_shared() {
            // One that is meant to be of a cluster would begin alone, ready and with nothing.
            let given = [
                ("cluster.node", self.node.is_some()),
                ("cluster.ca", self.ca.is_some()),
                ("cluster.cert", self.cert.is_some()),
                ("cluster.key", self.key.is_some()),
                ("cluster.listen", self.listen.is_some()),
                ("cluster.advertise", self.advertise.is_some()),
                ("cluster.mesh_ca", self.mesh_ca.is_some()),
                ("cluster.mesh_cert", self.mesh_cert.is_some()),
                ("cluster.mesh_key", self.mesh_key.is_some()),
            ];
            return match given.into_iter().find(|(_, given)| *given) {
                Some((field, _)) => fault(field, "goes with cluster.etcd, which names nobody".to_owned()),
                None => Ok(()),
            };
        }
        if self.etcd.len() > MAX_MEMBERS {
            return fault("cluster.etcd", format!("{} members; at most {MAX_MEMBERS}", self.etcd.len()));
        }
        let has_host = |url: &str| {
            let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
            rest.is_some_and(|rest| rest.parse::<http::uri::Authority>().is_ok_and(|at| at.port().is_some()))
        };
        if let Some(odd) = self.etcd.iter().find(|url| !has_host(url)) {
            return fault("cluster.etcd", format!("{odd}: expected such as http://10.0.0.1:2379"));
        }
        let in_the_clear = self.etcd.iter().find(|url| url.starts_with("http://"));
        let files = [("cluster.ca", &self.ca), ("cluster.cert", &self.cert), ("cluster.key", &self.key)];
        let given = files.into_iter().find(|(_, file)| file.is_some());
        if let Some((url, (field, _))) = in_the_clear.zip(given) {
            let reason = format!(
                "goes with members that begin with https, and {url} does not: it is spoken to in the clear"
            );
            return fault(field, reason);
        }
        let name = self.name();
        let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(fits) {
            let reason = format!("{name:?}: expected 1 to {MAX_NAME} of a-z, 0-9, - and .");
            return fault("cluster.node", reason);
        }
        if !self.prefix.starts_with('/') || self.prefix.len() < 2 || self.prefix.ends_with('/') {
            return fault("cluster.prefix", format!("{:?}: expected such as \"/culvert\"", self.prefix));
        }
        if self.cert.is_some() != self.key.is_some() {
            return fault("cluster.cert", "cluster.cert and cluster.key go together".to_owned());
        }
        let given = [&self.mesh_ca, &self.mesh_cert, &self.mesh_key].map(|file| file.is_some());
        if given.contains(&true) && given.contains(&false) {
            let reason = "cluster.mesh_ca, cluster.mesh_cert and cluster.mesh_key go together".to_owned();
            return fault("cluster.mesh_ca", reason);
        }
        if let Some(advertise) = self.advertise.filter(|at| at.ip().is_unspecified() || at.port() == 0) {
            let reason = format!("{advertise}: expected what the other nodes reach, such as 10.0.0.1:4510");
            return fault("cluster.advertise", reason);
        }
        if !key_file {
            let reason = "is missing; nodes of a cluster share the key of their secrets, so it is given to all of them";
            return fault("vault.key_file", reason.to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_certificates_of_nodes_is_told_by_the_setting() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let key = place("vault.key");
        let mut config = ClusterConfig { node: Some("a".to_owned()), ..ClusterConfig::default() };
        let fault = |config: &ClusterConfig| config.credentials(&key).unwrap_err().to_string();
        assert!(fault(&config).starts_with("vault.key_file: "), "{}", fault(&config));
        std::fs::write(&key, [7; 32]).unwrap();
        assert!(config.credentials(&key).is_ok());
        config.node = Some("a..b".to_owned());
        assert!(fault(&config).starts_with("cluster.node: "), "{}", fault(&config));
        (config.mesh_ca, config.mesh_cert, config.mesh_key) =
            (Some(place("ca")), Some(place("cert")), Some(key.clone()));
        assert!(fault(&config).starts_with("cluster.mesh_ca: "), "{}", fault(&config));
    }

    #[test]
    fn what_is_for_a_cluster_is_refused_without_one() {
        let alone = |config: ClusterConfig| config.check(true).map_err(|error| error.to_string());
        assert!(alone(ClusterConfig::default()).is_ok());
        let node = ClusterConfig { node: Some("a".to_owned()), ..ClusterConfig::default() };
        let listen = ClusterConfig { listen: "10.0.0.1:4510".parse().ok(), ..ClusterConfig::default() };
        for (config, field) in [(node, "cluster.node: "), (listen, "cluster.listen: ")] {
            let refused = alone(config).unwrap_err();
            assert!(refused.starts_with(field) && refused.contains("cluster.etcd"), "{refused}");
        }
    }

    #[test]
    fn nodes_are_reached_at_the_first_address_of_ike_unless_it_is_said() {
        let mut config = ClusterConfig::default();
        let ike = [[10, 0, 0, 1].into(), [10, 0, 0, 2].into()];
        assert_eq!(config.mesh_listen(&ike), ([10, 0, 0, 1], 4510).into());
        config.listen = Some(([127, 0, 0, 1], 0).into());
        assert_eq!(config.mesh_listen(&ike), ([127, 0, 0, 1], 0).into());
    }
}
