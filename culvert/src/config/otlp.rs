//! `[otlp]`: where spans, metrics and records of logs are sent to.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Deserializer};

use super::{ConfigError, path};

/// How often metrics are sent if nothing else is configured: as often as Prometheus commonly reads them.
const DEFAULT_INTERVAL: Duration = Duration::from_secs(15);
/// The shortest interval: each reads the whole node.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
/// The longest: what comes more seldom is missed by every alert.
const MAX_INTERVAL: Duration = Duration::from_secs(3600);
/// How long a collector may take for an answer if nothing else is configured: what OTLP has as its default.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Share of the traces that are kept though nothing failed if nothing else is configured: enough to see how long things take,
/// and not more than a tenth of what all of them would cost.
const DEFAULT_SAMPLE_RATIO: f64 = 0.1;
/// Attributes of the resource: they go with every request.
const MAX_ATTRIBUTES: usize = 32;
/// Octets of each of their values.
const MAX_ATTRIBUTE: usize = 256;

/// Export over OTLP (gRPC).
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OtlpConfig {
    /// The collector, as `http://127.0.0.1:4317` or, with TLS, `https://`. Without one nothing is exported.
    pub endpoint: Option<String>,
    /// For `https://`: the authorities of the collector's certificate. Default: those that the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate, if the collector asks for one.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// Send spans of negotiations and of requests.
    pub traces: bool,
    /// Send metrics too, the same that Prometheus reads.
    pub metrics: bool,
    /// Send entries of the audit log too, and what the log says of tunnels.
    pub logs: bool,
    /// How often metrics are sent.
    #[serde(deserialize_with = "duration")]
    pub interval: Duration,
    /// How long the collector may take for an answer.
    #[serde(deserialize_with = "duration")]
    pub timeout: Duration,
    /// Share of traces that are kept, 0 to 1, unless who begins one says which. Failures are kept all the same.
    pub sample_ratio: f64,
    /// A file with `name: value` on each line: sent with every request, for collectors that ask who is there.
    pub headers_file: Option<PathBuf>,
    /// Attributes of what is sent beside those of the service, such as `"deployment.environment.name" = "prod"`.
    pub resource: BTreeMap<String, String>,
}

impl Eq for OtlpConfig {}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    humantime::parse_duration(&text)
        .map_err(|error| serde::de::Error::custom(format!("{text:?}: {error}; expected such as \"15s\"")))
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: None,
            ca: None,
            cert: None,
            key: None,
            traces: true,
            metrics: true,
            // Who did what is told to nobody else unless that is wanted.
            logs: false,
            interval: DEFAULT_INTERVAL,
            timeout: DEFAULT_TIMEOUT,
            sample_ratio: DEFAULT_SAMPLE_RATIO,
            headers_file: None,
            resource: BTreeMap::new(),
        }
    }
}

impl OtlpConfig {
    /// Every field with its value as text. What is in the file of headers is nobody's business.
    pub(super) fn settings(&self) -> Vec<(&'static str, String)> {
        let Self {
            endpoint,
            ca,
            cert,
            key,
            traces,
            metrics,
            logs,
            interval,
            timeout,
            sample_ratio,
            headers_file,
            resource,
        } = self;
        let none = || "none".to_owned();
        let resource: Vec<_> = resource.iter().map(|(name, value)| format!("{name}={value}")).collect();
        vec![
            ("otlp.endpoint", endpoint.clone().unwrap_or_else(none)),
            ("otlp.ca", path(ca.as_deref())),
            ("otlp.cert", path(cert.as_deref())),
            ("otlp.key", path(key.as_deref())),
            ("otlp.traces", traces.to_string()),
            ("otlp.metrics", metrics.to_string()),
            ("otlp.logs", logs.to_string()),
            ("otlp.interval", humantime::format_duration(*interval).to_string()),
            ("otlp.timeout", humantime::format_duration(*timeout).to_string()),
            ("otlp.sample_ratio", sample_ratio.to_string()),
            ("otlp.headers_file", path(headers_file.as_deref())),
            ("otlp.resource", if resource.is_empty() { none() } else { resource.join(", ") }),
        ]
    }

    /// Whether an endpoint is spoken to over TLS.
    pub(crate) fn is_secure(endpoint: &str) -> bool {
        endpoint.starts_with("https://")
    }

    /// The files for that.
    pub(crate) fn tls_files(&self) -> tls::Files {
        tls::Files { ca: self.ca.clone(), cert: self.cert.clone(), key: self.key.clone() }
    }

    /// What the types cannot say.
    ///
    /// # Errors
    /// The field and what is expected.
    pub fn check(&self) -> Result<(), ConfigError> {
        let fault = |field, reason: String| Err(ConfigError::Field { field, reason });
        if let Some(endpoint) = &self.endpoint {
            let fits =
                |uri: hyper::Uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.port().is_some();
            if !endpoint.parse().is_ok_and(fits) {
                let reason =
                    format!("{endpoint}: expected such as http://127.0.0.1:4317, or https:// with TLS");
                return fault("otlp.endpoint", reason);
            }
        }
        // What is named there would not be used.
        let named = [("otlp.ca", &self.ca), ("otlp.cert", &self.cert), ("otlp.key", &self.key)];
        if let Some((field, _)) = named.iter().find(|(_, file)| file.is_some())
            && !self.endpoint.as_deref().is_some_and(Self::is_secure)
        {
            return fault(field, "goes with an otlp.endpoint that begins with https://".to_owned());
        }
        if self.cert.is_some() != self.key.is_some() {
            return fault("otlp.cert", "otlp.cert and otlp.key go together".to_owned());
        }
        if !(MIN_INTERVAL..=MAX_INTERVAL).contains(&self.interval) {
            let reason = format!("{:?} is not {MIN_INTERVAL:?} to {MAX_INTERVAL:?}", self.interval);
            return fault("otlp.interval", reason);
        }
        if !(MIN_INTERVAL..=MAX_INTERVAL).contains(&self.timeout) {
            let reason = format!("{:?} is not {MIN_INTERVAL:?} to {MAX_INTERVAL:?}", self.timeout);
            return fault("otlp.timeout", reason);
        }
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return fault("otlp.sample_ratio", format!("{} is not 0 to 1", self.sample_ratio));
        }
        if self.resource.len() > MAX_ATTRIBUTES {
            let reason = format!("{} attributes; at most {MAX_ATTRIBUTES}", self.resource.len());
            return fault("otlp.resource", reason);
        }
        let odd = |(name, value): &(&String, &String)| {
            name.is_empty() || name.len().max(value.len()) > MAX_ATTRIBUTE
        };
        if let Some((name, _)) = self.resource.iter().find(odd) {
            return fault(
                "otlp.resource",
                format!("{name:?}: expected names and values of 1 to {MAX_ATTRIBUTE} octets"),
            );
        }
        Ok(())
    }
}
