//! The connection to the collector: made when something is sent, and made again when it is lost.

use std::path::Path;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::resource::v1::Resource;
use tls::{Connector, FilesError, Which};
use tonic::metadata::{Ascii, MetadataKey, MetadataMap, MetadataValue};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::values::text;
use crate::config::OtlpConfig;

/// A collector that does not accept a connection within this is away.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which an answer is waited for is asked for a sign of life this often, ...
const KEEPALIVE: Duration = Duration::from_secs(20);
/// ... and made again when there is none for this long: a path that was cut tells nobody.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Headers of one file: whoever asks who is there asks for one or two.
const MAX_HEADERS: usize = 32;

/// See the module. Cheap to clone.
#[derive(Clone)]
pub(super) struct Collector {
    pub(super) channel: Channel,
    /// Perhaps secret: never shown.
    headers: MetadataMap,
    timeout: Duration,
    resource: Resource,
}

/// A file of the settings cannot be used. What is in that of headers is not told.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    /// It cannot be read.
    #[error("otlp.headers_file {0}: {1}")]
    Read(String, std::io::Error),
    /// A line is not a header.
    #[error("otlp.headers_file {0}: line {1}: expected name: value, at most {MAX_HEADERS} of them")]
    Line(String, usize),
    /// The endpoint is none.
    #[error("otlp.endpoint: {0}")]
    Endpoint(#[from] tonic::transport::Error),
    /// A file of TLS cannot be used.
    #[error("{0}: {1}")]
    Tls(&'static str, FilesError),
}

impl From<FilesError> for CollectorError {
    fn from(error: FilesError) -> Self {
        let field = match error.which() {
            Some(Which::Ca) => "otlp.ca",
            Some(Which::Cert) => "otlp.cert",
            Some(Which::Key) => "otlp.key",
            None => "otlp.endpoint",
        };
        Self::Tls(field, error)
    }
}

impl Collector {
    pub(super) fn new(endpoint: &str, config: &OtlpConfig) -> Result<Self, CollectorError> {
        let headers = match &config.headers_file {
            None => MetadataMap::new(),
            Some(path) => read_headers(path)?,
        };
        let channel = channel(endpoint, config)?;
        Ok(Self { channel, headers, timeout: config.timeout, resource: resource(config) })
    }

    /// Over a connection of a test's own.
    #[cfg(test)]
    pub(super) fn over(channel: Channel, config: &OtlpConfig) -> Self {
        Self { channel, headers: MetadataMap::new(), timeout: config.timeout, resource: resource(config) }
    }

    /// What all of it is about.
    pub(super) fn resource(&self) -> Resource {
        self.resource.clone()
    }

    /// A request with what goes with every one.
    pub(super) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        *request.metadata_mut() = self.headers.clone();
        request.set_timeout(self.timeout);
        request
    }

    /// Waits for an answer as long as is worth it, whatever the collector does.
    pub(super) async fn answer<T>(&self, call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let outcome = tokio::time::timeout(self.timeout, call).await;
        outcome.unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))
    }
}

/// A connection that is made when it is needed.
fn channel(address: &str, config: &OtlpConfig) -> Result<Channel, CollectorError> {
    if !OtlpConfig::is_secure(address) {
        return Ok(endpoint(address)?.connect_lazy());
    }
    let connector = Connector::new(config.tls_files())?;
    let origin = endpoint(address)?.uri().clone();
    // To tonic it is plain, for the stream that it gets is; to the collector it is what it is.
    let plain = endpoint(&address.replacen("https://", "http://", 1))?.origin(origin);
    Ok(plain.connect_with_connector_lazy(tower::service_fn(move |uri: http::Uri| {
        let connector = connector.clone();
        async move { connector.connect(&uri).await.map(TokioIo::new).map_err(std::io::Error::from) }
    })))
}

/// How a collector is reached.
pub(super) fn endpoint(address: &str) -> Result<Endpoint, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(address.to_owned())?.connect_timeout(CONNECT_TIMEOUT);
    Ok(endpoint.http2_keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE_TIMEOUT))
}

/// Why, in words: of a connection that broke or was never made the innermost cause, as the others are names of layers; else what the
/// code means. What a collector says itself may be anything, and is not told.
pub(super) fn words(status: &Status) -> String {
    let mut innermost = std::error::Error::source(status);
    while let Some(deeper) = innermost.and_then(std::error::Error::source) {
        innermost = Some(deeper);
    }
    innermost.map_or_else(|| status.code().description().to_owned(), ToString::to_string)
}

/// Whether the same may be taken at another time (OTLP, "Failures"). Nonsense that is no gRPC shows as unknown, or internal.
pub(super) const fn may_pass(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted
    )
}

/// What is wrong with the files that the settings name.
pub(crate) fn check_files(config: &OtlpConfig) -> Vec<CollectorError> {
    let headers = config.headers_file.as_deref().and_then(|path| read_headers(path).err());
    let secure = config.endpoint.as_deref().is_some_and(OtlpConfig::is_secure);
    let tls = secure.then(|| Connector::new(config.tls_files()).err()).flatten();
    headers.into_iter().chain(tls.map(CollectorError::from)).collect()
}

fn read_headers(path: &Path) -> Result<MetadataMap, CollectorError> {
    let shown = path.display().to_string();
    let contents =
        std::fs::read_to_string(path).map_err(|error| CollectorError::Read(shown.clone(), error))?;
    let mut headers = MetadataMap::new();
    for (number, line) in contents.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let header = line.split_once(':').and_then(|(name, value)| {
            let name = MetadataKey::<Ascii>::from_bytes(name.trim().to_ascii_lowercase().as_bytes()).ok()?;
            let mut value = MetadataValue::<Ascii>::try_from(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((name, value))
        });
        match header.filter(|_| headers.len() < MAX_HEADERS) {
            Some((name, value)) => {
                headers.insert(name, value);
            }
            None => return Err(CollectorError::Line(shown, number + 1)),
        }
    }
    Ok(headers)
}

fn resource(config: &OtlpConfig) -> Resource {
    use opentelemetry_semantic_conventions::resource::{SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION};
    let own = [
        (SERVICE_NAME, "culvertd".to_owned()),
        (SERVICE_VERSION, env!("CARGO_PKG_VERSION").to_owned()),
        // Of this process: another one on this host, or after a restart, counts from zero.
        (SERVICE_INSTANCE_ID, format!("{:032x}", rand::random::<u128>())),
    ];
    let own = own.into_iter().filter(|(name, _)| !config.resource.contains_key(*name));
    let own = own.map(|(name, value)| text(name, value));
    let configured = config.resource.iter().map(|(name, value)| text(name, value.clone()));
    Resource { attributes: own.chain(configured).collect(), ..Resource::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_faults_do_not_tell_them() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("headers");
        std::fs::write(&path, "Authorization: Bearer s3cret\n\nx-tenant: a\n").unwrap();
        let headers = read_headers(&path).unwrap();
        assert_eq!(headers.get("authorization").unwrap().to_str().unwrap(), "Bearer s3cret");
        assert!(!format!("{headers:?}").contains("s3cret"));
        std::fs::write(&path, "x: y\ns3cret\n").unwrap();
        let error = read_headers(&path).unwrap_err().to_string();
        assert!(error.contains("line 2") && !error.contains("s3cret"), "{error}");
    }
}
