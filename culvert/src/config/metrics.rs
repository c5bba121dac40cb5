//! `[metrics]`: what Prometheus reads, and the probes of whatever runs the daemon.

use std::net::SocketAddr;

use serde::Deserialize;

use super::ConfigError;

/// Peers with series of their own if nothing else is configured: at a dozen series each about 10 MB of text, which
/// Prometheus takes in a fraction of the usual 10 s between two scrapes.
const DEFAULT_MAX_PEERS: usize = 10_000;
/// Tenants with series of their own if nothing else is configured: at some forty series each as much again.
const DEFAULT_MAX_TENANTS: usize = 2_000;
/// What both may be raised to: more than a node carries.
const MOST: usize = 1_000_000;

/// Metrics and probes over HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MetricsConfig {
    /// Address and port of `/metrics`, `/livez`, `/readyz`, `/servez` and `/startupz`. Without one nothing listens.
    pub listen: Option<SocketAddr>,
    /// Peers of the node up to which each has series of its own; with more of them their tenants' sums are all there is.
    pub max_peers: usize,
    /// Tenants up to which each has series of its own; with more of them the node's sums are all there is.
    pub max_tenants: usize,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self { listen: None, max_peers: DEFAULT_MAX_PEERS, max_tenants: DEFAULT_MAX_TENANTS }
    }
}

impl MetricsConfig {
    /// Every field with its value as text.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let Self { listen, max_peers, max_tenants } = self;
        vec![
            ("metrics.listen", listen.map_or("none".to_owned(), |listen| listen.to_string())),
            ("metrics.max_peers", max_peers.to_string()),
            ("metrics.max_tenants", max_tenants.to_string()),
        ]
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (field, number) in
            [("metrics.max_peers", self.max_peers), ("metrics.max_tenants", self.max_tenants)]
        {
            if number > MOST {
                return Err(ConfigError::Field { field, reason: format!("{number} is not 0 to {MOST}") });
            }
        }
        Ok(())
    }
}
