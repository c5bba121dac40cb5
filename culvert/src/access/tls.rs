//! TLS for the API: the node's certificate, read again when its files change, and what a client's certificate says.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use openssl::nid::Nid;
use openssl::ssl::{
    AlpnError, SslAcceptor, SslFiletype, SslMethod, SslOptions, SslSessionCacheMode, SslVerifyMode,
    select_next_proto,
};
use openssl::x509::{X509, X509Ref, X509VerifyResult};

use crate::access::files::{Look, Watched};
use crate::config::TlsConfig;

/// HTTP/2, which gRPC is spoken over, as ALPN has it (RFC 7301).
const H2: &[u8] = b"\x02h2";
/// Certificates of a file of CAs at most: a handshake tells the client all their names.
const MAX_CAS: usize = 128;

/// Why TLS cannot be spoken.
#[derive(Debug, thiserror::Error)]
#[error("{field} {}: {reason}", path.display())]
pub struct TlsError {
    field: &'static str,
    path: PathBuf,
    reason: String,
}

/// TLS as it is spoken at a door.
pub struct Tls {
    config: TlsConfig,
    watched: Watched,
    current: RwLock<Current>,
    /// The files as they are now can be used.
    usable: AtomicBool,
}

#[derive(Clone)]
struct Current {
    acceptor: Arc<SslAcceptor>,
    expires: Option<SystemTime>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// [`TlsError`] names the file.
    pub fn open(config: &TlsConfig) -> Result<Self, TlsError> {
        let TlsConfig { cert, key, client_ca } = config;
        let watched =
            Watched::new([Some(cert), Some(key), client_ca.as_ref()].into_iter().flatten().cloned());
        let current = RwLock::new(read(config)?);
        Ok(Self { config: config.clone(), watched, current, usable: AtomicBool::new(true) })
    }

    /// As the next connection is accepted.
    pub(crate) fn acceptor(&self) -> Arc<SslAcceptor> {
        Arc::clone(&self.current.read().unwrap_or_else(PoisonError::into_inner).acceptor)
    }

    /// When the certificate of the node ends.
    pub fn expires(&self) -> Option<SystemTime> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).expires
    }

    /// Whether the files as they were found last could be used.
    pub fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    /// Reads the files again if they have changed, or could not be used. What cannot be used changes nothing. False in that case, if it is news.
    pub fn refresh(&self) -> bool {
        let look = self.watched.look(self.is_usable());
        if look == Look::Same {
            return true;
        }
        let new = read(&self.config);
        self.usable.store(new.is_ok(), Ordering::Relaxed);
        match new {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = new;
                tracing::info!(cert = %self.config.cert.display(), "the certificate of the API was read again");
                true
            }
            Err(_) if look == Look::Again => true,
            Err(error) => {
                tracing::error!(%error, "the certificate of the API cannot be read again; the one before stays");
                false
            }
        }
    }
}

fn read(config: &TlsConfig) -> Result<Current, TlsError> {
    let fault = |field, path: &PathBuf, error: &dyn std::fmt::Display| TlsError {
        field,
        path: path.clone(),
        reason: error.to_string(),
    };
    let internal = |error: openssl::error::ErrorStack| fault("grpc.tls", &config.cert, &error);
    // Before OpenSSL, which does not name the file in its errors.
    for (field, path) in [
        ("grpc.tls.cert", Some(&config.cert)),
        ("grpc.tls.key", Some(&config.key)),
        ("grpc.tls.client_ca", config.client_ca.as_ref()),
    ] {
        if let Some(path) = path {
            std::fs::File::open(path).map_err(|error| fault(field, path, &error))?;
        }
    }
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).map_err(internal)?;
    builder
        .set_certificate_chain_file(&config.cert)
        .map_err(|_| fault("grpc.tls.cert", &config.cert, &"is no certificate in PEM"))?;
    builder
        .set_private_key_file(&config.key, SslFiletype::PEM)
        .map_err(|_| fault("grpc.tls.key", &config.key, &"is no key in PEM, or not that of grpc.tls.cert"))?;
    builder
        .check_private_key()
        .map_err(|_| fault("grpc.tls.key", &config.key, &"is not the key of grpc.tls.cert"))?;
    builder
        .set_alpn_select_callback(|_, offered| select_next_proto(H2, offered).ok_or(AlpnError::ALERT_FATAL));
    // A connection lives long, so there is nothing to resume, and nothing that a certificate that was withdrawn could resume.
    builder.set_session_cache_mode(SslSessionCacheMode::OFF);
    builder.set_options(SslOptions::NO_TICKET);
    builder.set_num_tickets(0).map_err(internal)?;
    if let Some(path) = &config.client_ca {
        let pem = std::fs::read(path).map_err(|error| fault("grpc.tls.client_ca", path, &error))?;
        let cas = X509::stack_from_pem(&pem).unwrap_or_default();
        if cas.is_empty() || cas.len() > MAX_CAS {
            let reason = format!("has {} certificates in PEM; expected 1 to {MAX_CAS}", cas.len());
            return Err(fault("grpc.tls.client_ca", path, &reason));
        }
        for ca in cas {
            builder.add_client_ca(&ca).map_err(internal)?;
            builder.cert_store_mut().add_cert(ca).map_err(internal)?;
        }
        // Without FAIL_IF_NO_PEER_CERT: who has none may have a token.
        builder.set_verify(SslVerifyMode::PEER);
    }
    let acceptor = builder.build();
    let expires = acceptor.context().certificate().and_then(certificates::not_after);
    Ok(Current { acceptor: Arc::new(acceptor), expires })
}

/// What a client's certificate says, which was checked in the handshake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ClientCertificate {
    /// URIs first, as they are the most telling, then host names; the common name where there are none of these, for CAs that look at them may
    /// let anybody choose it (RFC 6125 section 6.4.4).
    pub(crate) names: Vec<String>,
    /// How many of `names` are URIs.
    uris: usize,
    /// Which of `names` are host names.
    hosts: Range<usize>,
    pub(crate) expires: SystemTime,
}

impl ClientCertificate {
    pub(crate) fn read(cert: &X509Ref) -> Option<Self> {
        let others = cert.subject_alt_names();
        let others = || others.iter().flatten();
        let uris = others().filter_map(|name| name.uri());
        let hosts = others().filter_map(|name| name.dnsname());
        let mut names: Vec<String> = uris.map(str::to_owned).collect();
        let uris = names.len();
        names.extend(hosts.map(str::to_owned));
        let hosts = uris..names.len();
        if names.is_empty() {
            let common = cert.subject_name().entries_by_nid(Nid::COMMONNAME);
            names.extend(common.filter_map(|entry| entry.data().to_string().ok()));
        }
        Some(Self { names, uris, hosts, expires: certificates::not_after(cert)? })
    }

    /// The name by which it fits a pattern, in which `*` at the end stands for any rest. Host names are the same in capitals and small
    /// letters (RFC 5280 section 7.2). What looks like a URI stands for URIs alone, whatever text others are.
    pub(crate) fn matching(&self, pattern: &str) -> Option<&str> {
        let same = |host: bool, a: &str, b: &str| if host { a.eq_ignore_ascii_case(b) } else { a == b };
        let fits = |(at, name): &(usize, &String)| {
            let host = self.hosts.contains(at);
            if pattern.contains("://") && *at >= self.uris {
                return false;
            }
            match pattern.strip_suffix('*') {
                Some(prefix) => name.get(..prefix.len()).is_some_and(|start| same(host, start, prefix)),
                None => same(host, name, pattern),
            }
        };
        self.names.iter().enumerate().find(fits).map(|(_, name)| name.as_str())
    }
}

/// Why a client's certificate was refused in the handshake; `None` if it was not, or there was none.
pub(crate) fn why_refused(result: X509VerifyResult) -> Option<String> {
    if result == X509VerifyResult::OK {
        return None;
    }
    // By the numbers that OpenSSL has for them (X509_V_ERR_... in x509_vfy.h), which the crate does not name.
    let why = match result.as_raw() {
        9 => "it is not valid yet; are the clocks right?",
        10 => "it has expired",
        // No issuer, here or in what came with it; nothing to check it by; a self-signed one at the end of its chain, or alone.
        2 | 18 | 19 | 20 | 21 => "no CA of grpc.tls.client_ca has made it",
        26 => "it is not for clients",
        _ => result.error_string(),
    };
    Some(format!("the certificate of the client was refused: {why}"))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use openssl::asn1::Asn1Time;
    use openssl::x509::X509NameBuilder;
    use openssl::x509::extension::SubjectAlternativeName;

    use super::*;

    #[test]
    fn host_names_are_the_same_in_capitals_and_nothing_else_is() {
        let names = ["spiffe://example.org/a", "Ops.Example.net", "Viewer"].map(str::to_owned).to_vec();
        let certificate = ClientCertificate { names, uris: 1, hosts: 1..2, expires: UNIX_EPOCH };
        assert_eq!(certificate.matching("ops.example.NET"), Some("Ops.Example.net"));
        assert_eq!(certificate.matching("OPS.*"), Some("Ops.Example.net"));
        assert_eq!(certificate.matching("spiffe://example.org/*"), Some("spiffe://example.org/a"));
        assert_eq!(certificate.matching("Viewer"), Some("Viewer"));
        for other in ["viewer", "spiffe://example.org/A", "SPIFFE://*", "example.net"] {
            assert_eq!(certificate.matching(other), None, "{other}");
        }
    }

    /// Whoever asks a CA for a certificate may often choose its common name.
    #[test]
    fn a_common_name_stands_for_nothing_that_others_vouch_for() {
        let issue = |common: &str, uri: Option<&str>| {
            let mut name = X509NameBuilder::new().unwrap();
            name.append_entry_by_nid(Nid::COMMONNAME, common).unwrap();
            let mut builder = X509::builder().unwrap();
            builder.set_subject_name(&name.build()).unwrap();
            builder.set_not_after(&Asn1Time::days_from_now(1).unwrap()).unwrap();
            if let Some(uri) = uri {
                let others =
                    SubjectAlternativeName::new().uri(uri).build(&builder.x509v3_context(None, None));
                builder.append_extension(others.unwrap()).unwrap();
            }
            ClientCertificate::read(&builder.build()).unwrap()
        };
        let (ops, ci) = ("spiffe://example.org/ops", "spiffe://example.org/ci");
        assert_eq!(issue("ops", None).matching("ops"), Some("ops"));
        assert_eq!(issue(ops, None).matching("spiffe://example.org/*"), None);
        let both = issue(ops, Some(ci));
        assert_eq!((both.matching(ops), both.matching(ci)), (None, Some(ci)));
        assert_eq!(issue("ops", Some(ci)).matching("ops"), None);
    }
}
