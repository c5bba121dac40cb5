//! TLS as a client, for HTTP/2: to etcd, to a collector, and from the command line to a node.
//!
//! It is not the server's side, which has rules of its own (`culvert/src/access/tls.rs`), and knows no protocol above. One
//! [`Connector`] is for one set of [`Files`]; `files.rs` says what is wrong with them.

mod files;

use std::io;
use std::pin::Pin;
use std::sync::Arc;

use http::Uri;
use openssl::ssl::SslConnector;
use tokio::net::TcpStream;
use tokio_openssl::SslStream;

pub use files::{Files, FilesError, Which};

/// Port of `https://` without one (RFC 9110 section 4.2.2).
const PORT: u16 = 443;

/// Makes connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Connector {
    files: Arc<Files>,
    /// That the server's certificate must have, if not that of the address.
    name: Option<Arc<str>>,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody is there.
    #[error(transparent)]
    Tcp(#[from] io::Error),
    /// Files that could be used once cannot any more.
    #[error("TLS: {0}")]
    Files(#[from] FilesError),
    /// The server's certificate is not what it should be.
    #[error("TLS: the server's certificate: {0}")]
    Certificate(&'static str),
    /// Anything else of the handshake, in the words of OpenSSL.
    #[error("TLS: {0}")]
    Handshake(String),
}

impl From<ConnectError> for io::Error {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Tcp(error) => error,
            other => Self::other(other),
        }
    }
}

impl Connector {
    /// With these files, which are read at each connection, so that what is renewed in its place is used by the next.
    ///
    /// # Errors
    /// If they cannot be used as they are now.
    pub fn new(files: Files) -> Result<Self, FilesError> {
        files.read()?;
        Ok(Self { files: Arc::new(files), name: None })
    }

    /// Expects this name in the server's certificate instead of that of the address.
    #[must_use]
    pub fn expecting(self, name: &str) -> Self {
        Self { name: Some(name.into()), ..self }
    }

    /// Connects.
    ///
    /// # Errors
    /// [`ConnectError`] says whose doing it is.
    pub async fn connect(&self, to: &Uri) -> Result<SslStream<TcpStream>, ConnectError> {
        let stream = tcp(to, PORT).await?;
        let files = Arc::clone(&self.files);
        let read = tokio::task::spawn_blocking(move || files.read()).await;
        let connector = read.map_err(io::Error::other)??;
        self.shake(&connector, to, stream).await
    }

    async fn shake(
        &self,
        connector: &SslConnector,
        to: &Uri,
        stream: TcpStream,
    ) -> Result<SslStream<TcpStream>, ConnectError> {
        let library = |error: openssl::error::ErrorStack| ConnectError::Handshake(error.to_string());
        let name = self.name.as_deref().unwrap_or_else(|| host(to));
        let ssl = connector.configure().and_then(|configuration| configuration.into_ssl(name));
        let mut stream = SslStream::new(ssl.map_err(library)?, stream).map_err(library)?;
        let shaken = Pin::new(&mut stream).connect().await;
        shaken.map_err(|error| {
            let verified = stream.ssl().verify_result();
            if verified.as_raw() == 0 {
                ConnectError::Handshake(error.to_string())
            } else {
                ConnectError::Certificate(verified.error_string())
            }
        })?;
        Ok(stream)
    }
}

/// The host of an address, an IPv6 address without its brackets.
pub fn host(uri: &Uri) -> &str {
    uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
}

/// A connection in the clear, to this port if the address names none.
///
/// # Errors
/// As the system says.
pub async fn tcp(to: &Uri, port: u16) -> io::Result<TcpStream> {
    let stream = TcpStream::connect((host(to), to.port_u16().unwrap_or(port))).await?;
    // Requests are small, and somebody waits for each.
    stream.set_nodelay(true)?;
    Ok(stream)
}
