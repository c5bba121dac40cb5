//! Why two nodes do not speak with each other, in words.

use std::collections::BTreeMap;
use std::time::Duration;

use quinn::ConnectionError;
use rustls::{AlertDescription, CertificateError, Error as TlsError};
use tokio::time::Instant;

use super::peer::MAX_NODES;

/// Of one node something is told again after this, and of all strangers together: whatever the reason, for who is refused chooses it.
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

const OTHER_AUTHORITY: &str = "its certificate is of another authority: other nodes have another cluster.mesh_ca, or another key of the \
                               secrets (vault.key_file)";
const EXPIRED: &str = "its certificate has expired, or a clock is ahead";
const NOT_YET: &str = "its certificate is not valid yet, or a clock is behind";
const OTHER_NODE: &str = "its certificate is of another node";
const NONE_SHOWN: &str = "it has shown no certificate";
const OTHER_VERSION: &str = "it speaks another version of the protocol between nodes";
/// What a node says of another's proof. Of one who has proved nothing nothing else is repeated.
const WORDS: [&str; 6] = [OTHER_AUTHORITY, EXPIRED, NOT_YET, OTHER_NODE, NONE_SHOWN, OTHER_VERSION];

/// What is wrong with the other side's proof, as TLS finds it.
pub(super) fn in_words(error: &TlsError) -> String {
    let reason = match error {
        TlsError::InvalidCertificate(error) => match error {
            CertificateError::UnknownIssuer | CertificateError::BadSignature => OTHER_AUTHORITY,
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => EXPIRED,
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => NOT_YET,
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => OTHER_NODE,
            error => return format!("its certificate is refused: {error}"),
        },
        TlsError::NoCertificatesPresented => NONE_SHOWN,
        TlsError::AlertReceived(AlertDescription::NoApplicationProtocol)
        | TlsError::NoApplicationProtocol => OTHER_VERSION,
        error => return error.to_string(),
    };
    reason.to_owned()
}

/// Whether it is the other side's identity, or ours at the other side, that a connection came to nothing by: then with the reason. What the
/// other side says is repeated as it is only if it has `proved` that it is a node.
pub(super) fn of_identity(error: &ConnectionError, proved: bool) -> Option<String> {
    let told = |octets: &[u8], code: u64| {
        let text = String::from_utf8_lossy(octets.get(..MAX_TOLD).unwrap_or(octets));
        let text = if proved {
            text.chars().filter(|c| !c.is_control()).collect()
        } else {
            let known = WORDS.into_iter().find(|words| *words == text);
            known.map_or_else(|| format!("with code {code:#x} of QUIC"), str::to_owned)
        };
        format!("the other side refuses us: {text}")
    };
    match error {
        ConnectionError::TransportError(error) if is_tls(error.code.into()) => Some(error.reason.clone()),
        ConnectionError::ConnectionClosed(close) if is_tls(close.error_code.into()) => {
            Some(told(&close.reason, close.error_code.into()))
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == code::REFUSED => {
            Some(told(&close.reason, close.error_code.into()))
        }
        _ => None,
    }
}

/// TLS alerts are in this range (RFC 9001 section 4.8).
fn is_tls(code: u64) -> bool {
    (0x100..0x200).contains(&code)
}

/// Of whom something has been told of late: one that tries for hours is told of twice a minute. Nodes by their names; all others, who
/// have none, share one place, or they would have the log for themselves.
#[derive(Debug, Default)]
pub(super) struct Told {
    by: BTreeMap<Option<String>, Last>,
    /// What was told last.
    #[cfg(test)]
    pub(super) last: Option<String>,
}

#[derive(Debug)]
struct Last {
    at: Instant,
    /// How often something was not told since.
    untold: u64,
}

impl Told {
    /// Whether this is to be told now, of a node if one is known: how often something was not since it was last.
    pub(super) fn is_news(&mut self, node: Option<&str>, now: Instant) -> Option<u64> {
        let known = |told: &Self| told.by.contains_key(&node.map(str::to_owned));
        if !known(self) {
            // Those that have come and gone make room; there are never more than there may be nodes, and the strangers.
            self.by.retain(|_, last| now < last.at + AGAIN);
        }
        let node = node.filter(|_| known(self) || self.by.len() < MAX_NODES);
        let last = self.by.entry(node.map(str::to_owned));
        let mut is_new = false;
        let last = last.or_insert_with(|| {
            is_new = true;
            Last { at: now, untold: 0 }
        });
        if !is_new && now < last.at + AGAIN {
            last.untold = last.untold.saturating_add(1);
            return None;
        }
        Some(std::mem::replace(last, Last { at: now, untold: 0 }).untold)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use quinn::{ApplicationClose, ConnectionClose, TransportErrorCode};

    use super::*;

    #[test]
    fn of_one_node_little_is_told_whatever_the_reasons_and_of_all_strangers_together() {
        let (mut told, now) = (Told::default(), Instant::now());
        let mut at = |node, seconds| told.is_news(node, now + Duration::from_secs(seconds));
        // The reason is none of its matters: two that take turns are no more news than one.
        assert_eq!([at(Some("a"), 0), at(Some("a"), 1), at(Some("a"), 29)], [Some(0), None, None]);
        assert_eq!([at(None, 29), at(Some("b"), 29), at(None, 30)], [Some(0), Some(0), None]);
        assert_eq!([at(Some("a"), 30), at(Some("a"), 59), at(Some("a"), 60)], [Some(2), None, Some(1)]);
    }

    #[test]
    fn there_is_room_for_as_many_as_there_may_be_nodes() {
        let (mut told, now) = (Told::default(), Instant::now());
        let told_of =
            (0..1_000).filter(|number| told.is_news(Some(&number.to_string()), now).is_some()).count();
        assert_eq!((told_of, told.by.len()), (MAX_NODES + 1, MAX_NODES + 1));
        let later = now + AGAIN;
        assert_eq!(told.is_news(Some("1000"), later), Some(0));
        assert_eq!(told.by.len(), 1);
    }

    #[test]
    fn who_has_proved_nothing_does_not_write_the_log() {
        let tls = |reason: &'static str| {
            let (error_code, frame_type) = (TransportErrorCode::crypto(48), None);
            let reason = Bytes::from_static(reason.as_bytes());
            ConnectionError::ConnectionClosed(ConnectionClose { error_code, frame_type, reason })
        };
        let words = |error, proved| of_identity(&error, proved);
        assert_eq!(
            words(tls("buy this"), false).as_deref(),
            Some("the other side refuses us: with code 0x130 of QUIC")
        );
        assert_eq!(words(tls(EXPIRED), false), Some(format!("the other side refuses us: {EXPIRED}")));
        assert_eq!(words(tls("so it is"), true).as_deref(), Some("the other side refuses us: so it is"));
        let reason = Bytes::from_static(b"buy that");
        let closed =
            ConnectionError::ApplicationClosed(ApplicationClose { error_code: code::REFUSED, reason });
        assert!(words(closed, false).is_some_and(|words| !words.contains("buy")));
    }
}
