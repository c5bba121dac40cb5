//! The files that TLS takes.

use std::fs::File;
use std::path::{Path, PathBuf};

use openssl::error::ErrorStack;
use openssl::ssl::{SslConnector, SslConnectorBuilder, SslFiletype, SslMethod};

/// HTTP/2, as ALPN has it (RFC 7301).
const H2: &[u8] = b"\x02h2";

/// Files in PEM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Files {
    /// The authorities that the server's certificate may be of; without it those that the system trusts.
    pub ca: Option<PathBuf>,
    /// Our certificate, with those between it and its authority, if the server asks for one.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The authorities.
    Ca,
    /// Our certificate.
    Cert,
    /// Its key.
    Key,
}

/// What is wrong with them.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// One cannot be used.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which one.
        which: Which,
        /// Where it is.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A certificate without a key, or the other way round.
    #[error("a certificate and its key go together")]
    Half,
    /// None of them.
    #[error("OpenSSL: {0}")]
    Library(#[from] ErrorStack),
}

impl FilesError {
    /// The file that it is about; the certificate, if there is a half of a pair.
    pub const fn which(&self) -> Option<Which> {
        match self {
            Self::File { which, .. } => Some(*which),
            Self::Half => Some(Which::Cert),
            Self::Library(_) => None,
        }
    }
}

impl Files {
    /// As they are now.
    pub(crate) fn read(&self) -> Result<SslConnector, FilesError> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        builder.set_alpn_protos(H2)?;
        match &self.ca {
            Some(ca) => {
                readable(Which::Ca, ca)?;
                builder.set_ca_file(ca).map_err(|_| wrong(Which::Ca, ca, "is no certificate in PEM"))?;
            }
            None => trust_the_system(&mut builder),
        }
        match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => {
                readable(Which::Cert, cert)?;
                readable(Which::Key, key)?;
                let chain = builder.set_certificate_chain_file(cert);
                chain.map_err(|_| wrong(Which::Cert, cert, "is no certificate in PEM"))?;
                let given = builder.set_private_key_file(key, SslFiletype::PEM);
                let given = given.and_then(|()| builder.check_private_key());
                given.map_err(|_| {
                    wrong(Which::Key, key, "is no key in PEM, or not that of the certificate")
                })?;
            }
            (None, None) => {}
            _ => return Err(FilesError::Half),
        }
        Ok(builder.build())
    }
}

/// Our OpenSSL is built along and knows of no system, so it is looked for where systems keep their authorities. Where there are
/// none nobody is trusted, and the handshake says so.
fn trust_the_system(builder: &mut SslConnectorBuilder) {
    let found = openssl_probe::probe();
    // One file that cannot be read does not forbid the others.
    if let Some(file) = &found.cert_file {
        let _ = builder.load_verify_locations(Some(file), None);
    }
    for directory in &found.cert_dir {
        let _ = builder.load_verify_locations(None, Some(directory));
    }
}

/// OpenSSL does not say in one word that a file is not there.
fn readable(which: Which, path: &Path) -> Result<(), FilesError> {
    File::open(path).map(drop).map_err(|error| wrong(which, path, error))
}

fn wrong(which: Which, path: &Path, reason: impl ToString) -> FilesError {
    FilesError::File { which, path: path.to_owned(), reason: reason.to_string() }
}
