//! A member of etcd, as a client sees it.

use std::time::Duration;

use hyper_util::rt::TokioIo;
use tonic::Status;
use tonic::transport::Endpoint;

use super::EtcdError;
use super::calls::Way;
use super::tls::{Connector, TlsFiles};

/// A member that accepts no connection within this is not there.
const CONNECT: Duration = Duration::from_secs(1);
/// A connection is tried so often: a machine that is gone says nothing. Not more often, for etcd ends connections that are tried more
/// often than every five seconds (`--grpc-keepalive-min-time`).
const ALIVE: Duration = Duration::from_secs(6);
/// How long the answer to that may take.
const ANSWER: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(crate) struct Member {
    url: String,
    way: Way,
}

impl Member {
    pub(crate) fn new(url: &str, tls: &TlsFiles) -> Result<Self, EtcdError> {
        let wrong =
            |reason: String| EtcdError::Setting { field: "endpoints", reason: format!("{url}: {reason}") };
        let plain = url.replacen("https://", "http://", 1);
        if !plain.starts_with("http://") {
            return Err(wrong("expected http:// or https://, such as http://127.0.0.1:2379".to_owned()));
        }
        let endpoint = Endpoint::from_shared(plain).map_err(|error| wrong(error.to_string()))?;
        let endpoint = endpoint
            .connect_timeout(CONNECT)
            .http2_keep_alive_interval(ALIVE)
            .keep_alive_timeout(ANSWER)
            .keep_alive_while_idle(true)
            .tcp_nodelay(true);
        let channel = if url.starts_with("https://") {
            let connector = Connector::new(tls)?;
            endpoint.connect_with_connector_lazy(tower::service_fn(move |uri: http::Uri| {
                let connector = connector.clone();
                async move { connector.connect(&uri).await.map(TokioIo::new) }
            }))
        } else {
            endpoint.connect_lazy()
        };
        Ok(Self::of(url, Way::Network(channel)))
    }

    pub(super) fn of(url: &str, way: Way) -> Self {
        Self { url: url.to_owned(), way }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    pub(super) fn way(&self) -> &Way {
        &self.way
    }

    /// What went wrong: of an error of the transport the innermost cause, which is the one that says something.
    pub(crate) fn words(&self, status: &Status) -> String {
        let mut innermost = std::error::Error::source(status);
        while let Some(deeper) = innermost.and_then(std::error::Error::source) {
            innermost = Some(deeper);
        }
        innermost.map_or_else(|| status.message().to_owned(), ToString::to_string)
    }
}
