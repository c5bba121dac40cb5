//! Why two nodes do not speak with each other, in words.

use std::time::Duration;

use quinn::ConnectionError;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tokio::time::Instant;

/// A reason is told again after this.
const AGAIN: Duration = Duration::from_secs(30);
/// Most octets of a reason that somebody else has given.
const MAX_TOLD: usize = 300;

/// Codes that a connection is closed with.
pub(super) mod code {
    use quinn::VarInt;

    /// The process ends.
    pub(in crate::mesh) const ENDED: VarInt = VarInt::from_u32(0);
    /// The name is not proved, or what is said is not understood.
    pub(in crate::mesh) const REFUSED: VarInt = VarInt::from_u32(1);
    /// There is a newer connection with the same node.
    pub(in crate::mesh) const REPLACED: VarInt = VarInt::from_u32(2);
    /// A lane is broken, so that a new connection has to begin it anew.
    pub(in crate::mesh) const BROKEN: VarInt = VarInt::from_u32(3);
}

/// What is wrong with the other side's proof, as TLS finds it.
pub(super) fn in_words(error: &TlsError) -> String {
    let other = "its certificate is of another authority: other nodes have another cluster.mesh_ca, or another key of the secrets \
                 (vault.key_file)";
    let reason = match error {
        TlsError::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => other,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired, or a clock is ahead"
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet, or a clock is behind"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is of another node"
            }
            error => return format!("its certificate is refused: {error}"),
        },
        TlsError::NoCertificatesPresented => "it has shown no certificate",
        TlsError::AlertReceived(AlertDescription::NoApplicationProtocol)
        | TlsError::NoApplicationProtocol => "it speaks another version of the protocol between nodes",
        error => return error.to_string(),
    };
    reason.to_owned()
}

/// Whether it is the other side's identity, or ours at the other side, that a connection came to nothing by: then with the reason.
pub(super) fn of_identity(error: &ConnectionError) -> Option<String> {
    let told = |octets: &[u8]| {
        let text = String::from_utf8_lossy(octets.get(..MAX_TOLD).unwrap_or(octets)).into_owned();
        text.chars().filter(|c| !c.is_control()).collect::<String>()
    };
    match error {
        ConnectionError::TransportError(error) if is_tls(error.code.into()) => Some(error.reason.clone()),
        ConnectionError::ConnectionClosed(close) if is_tls(close.error_code.into()) => {
            Some(format!("the other side refuses us: {}", told(&close.reason)))
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == code::REFUSED => {
            Some(format!("the other side refuses us: {}", told(&close.reason)))
        }
        _ => None,
    }
}

/// TLS alerts are in this range (RFC 9001 section 4.8).
fn is_tls(code: u64) -> bool {
    (0x100..0x200).contains(&code)
}

/// What has been told of late: a peer that tries for hours says so twice a minute.
#[derive(Debug, Default)]
pub(super) struct Told(Option<(String, Instant)>);

impl Told {
    /// Whether this is to be told now.
    pub(super) fn is_news(&mut self, reason: &str, now: Instant) -> bool {
        let old = |(before, at): &(String, Instant)| before == reason && now < *at + AGAIN;
        if self.0.as_ref().is_some_and(old) {
            return false;
        }
        self.0 = Some((reason.to_owned(), now));
        true
    }

    /// What was told last.
    #[cfg(test)]
    pub(super) fn last(&self) -> Option<&str> {
        self.0.as_ref().map(|(reason, _)| reason.as_str())
    }
}
