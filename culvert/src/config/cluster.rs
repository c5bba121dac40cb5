//! `[cluster]`: what several nodes share.

use std::path::PathBuf;

use serde::Deserialize;

use super::{ConfigError, path};

/// Octets of a node's name.
const MAX_NAME: usize = 63;
/// Members of etcd: more are of no use to it.
const MAX_MEMBERS: usize = 9;

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
}

impl Default for ClusterConfig {
    fn default() -> Self {
        let (etcd, node, prefix) = (Vec::new(), None, "/culvert".to_owned());
        Self { etcd, node, prefix, ca: None, cert: None, key: None }
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

    /// Every field with its value as text.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let Self { etcd, node, prefix, ca, cert, key } = self;
        let or_none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
        vec![
            ("cluster.etcd", or_none(etcd.join(", "))),
            ("cluster.node", node.clone().unwrap_or_else(|| "that of the host".to_owned())),
            ("cluster.prefix", prefix.clone()),
            ("cluster.ca", path(ca.as_deref())),
            ("cluster.cert", path(cert.as_deref())),
            ("cluster.key", path(key.as_deref())),
        ]
    }

    /// What the types cannot say. The key of the secrets is one for all, so `key_file` says whether it is given.
    pub(super) fn check(&self, key_file: bool) -> Result<(), ConfigError> {
        let fault = |field, reason: String| Err(ConfigError::Field { field, reason });
        if !self.is_shared() {
            return Ok(());
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
        if !key_file {
            let reason = "is missing; nodes of a cluster share the key of their secrets, so it is given to all of them";
            return fault("vault.key_file", reason.to_owned());
        }
        Ok(())
    }
}
