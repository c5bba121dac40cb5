//! TLS to etcd: which files, and what their settings are called.

use std::io;
use std::path::PathBuf;

use tls::{FilesError, Which};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

use super::EtcdError;

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
pub(crate) struct Connector(tls::Connector);

impl Connector {
    pub(crate) fn new(files: &TlsFiles) -> Result<Self, EtcdError> {
        let TlsFiles { ca, certificate, key } = files.clone();
        tls::Connector::new(tls::Files { ca, cert: certificate, key }).map(Self).map_err(setting)
    }

    pub(crate) async fn connect(&self, uri: &http::Uri) -> io::Result<SslStream<TcpStream>> {
        Ok(self.0.connect(uri).await?)
    }
}

fn setting(error: FilesError) -> EtcdError {
    let field = match error.which() {
        Some(Which::Ca) => "tls.ca",
        Some(Which::Cert) => "tls.certificate",
        Some(Which::Key) => "tls.key",
        None => "tls",
    };
    EtcdError::Setting { field, reason: error.to_string() }
}
