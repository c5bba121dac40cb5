//! TLS to etcd, on the OpenSSL that is there.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;

use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::EtcdError;

/// HTTP/2, as ALPN has it (RFC 7301).
const H2: &[u8] = b"\x02h2";

/// Files for `https://`, in PEM.
#[derive(Clone, Debug, Default)]
pub struct TlsFiles {
    /// The authority that etcd's certificate is of; without it those that the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate, if etcd asks for one.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

#[derive(Clone)]
pub(crate) struct Connector(SslConnector);

impl Connector {
    pub(crate) fn new(files: &TlsFiles) -> Result<Self, EtcdError> {
        let wrong = |field: &'static str, path: &PathBuf, error: openssl::error::ErrorStack| {
            let error = error
                .errors()
                .first()
                .and_then(|error| error.reason())
                .unwrap_or("cannot be used")
                .to_owned();
            EtcdError::Setting {
                field,
                reason: format!("{}: {error}; expected a file in PEM", path.display()),
            }
        };
        let library = |error: openssl::error::ErrorStack| EtcdError::Setting {
            field: "tls",
            reason: error.to_string(),
        };
        let mut builder = SslConnector::builder(SslMethod::tls_client()).map_err(library)?;
        builder.set_alpn_protos(H2).map_err(library)?;
        if let Some(ca) = &files.ca {
            builder.set_ca_file(ca).map_err(|error| wrong("tls.ca", ca, error))?;
        }
        match (&files.certificate, &files.key) {
            (Some(certificate), Some(key)) => {
                let chain = builder.set_certificate_chain_file(certificate);
                chain.map_err(|error| wrong("tls.certificate", certificate, error))?;
                let given = builder.set_private_key_file(key, SslFiletype::PEM);
                given.map_err(|error| wrong("tls.key", key, error))?;
                builder.check_private_key().map_err(|error| wrong("tls.key", key, error))?;
            }
            (None, None) => {}
            _ => {
                let reason = "certificate and key go together".to_owned();
                return Err(EtcdError::Setting { field: "tls.certificate", reason });
            }
        }
        Ok(Self(builder.build()))
    }

    pub(crate) async fn connect(&self, uri: &http::Uri) -> io::Result<SslStream<TcpStream>> {
        let host = uri.host().unwrap_or_default();
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, uri.port_u16().unwrap_or(443))).await?;
        stream.set_nodelay(true)?;
        let configuration = self.0.configure().and_then(|configuration| configuration.into_ssl(bare));
        let mut stream =
            SslStream::new(configuration.map_err(io::Error::other)?, stream).map_err(io::Error::other)?;
        Pin::new(&mut stream).connect().await.map_err(io::Error::other)?;
        Ok(stream)
    }
}
