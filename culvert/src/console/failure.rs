//! How a command fails: a message, hints what to do, and an exit code that scripts can tell apart.

use std::io::ErrorKind;
use std::process::ExitCode;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::console::beside::tell;
use crate::console::stream::broken;

/// The innermost error: the one that says "connection refused".
pub(crate) fn root_cause(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

/// What OpenSSL says of a connection, in words, where it is known what that means.
pub(crate) fn tls_words(reason: &str) -> Option<&'static str> {
    let has = |words: &[&str]| words.iter().any(|word| reason.contains(word));
    if has(&["alert certificate expired"]) {
        Some("TLS: the node refused the certificate of --cert: it has expired")
    } else if has(&["alert unknown ca"]) {
        Some("TLS: the node refused the certificate of --cert: it is of a CA that the node does not know")
    } else if has(&["alert certificate revoked"]) {
        Some("TLS: the node refused the certificate of --cert: it was revoked")
    } else if has(&[
        "alert bad certificate",
        "alert certificate unknown",
        "alert unsupported certificate",
        "alert decrypt error",
    ]) {
        Some("TLS: the node refused the certificate of --cert")
    } else if has(&["certificate required"]) {
        Some("TLS: the node takes nobody without a certificate")
    } else if has(&["wrong version number", "packet length too long"]) {
        Some("TLS: the node does not speak it there")
    } else {
        None
    }
}

/// What to do about an error of TLS, or about one that comes of TLS on one side alone.
pub(crate) fn tls_hint(reason: &str) -> Option<&'static str> {
    if reason.contains("certificate of --cert: it has expired") {
        Some(
            "name a new one with --cert and --key; `openssl x509 -enddate -noout -in FILE` shows when one ends",
        )
    } else if reason.contains("certificate of --cert") || reason.contains("nobody without a certificate") {
        Some("--cert and --key name a certificate that grpc.tls.client_ca of the node has made")
    } else if reason.contains("TLS: the node closed the connection") {
        Some(
            "it may have refused the certificate of --cert: is it of grpc.tls.client_ca of the node, and has it not expired?",
        )
    } else if reason.contains("the node speaks TLS there") {
        Some("name it as https://")
    } else if reason.contains("the node closed the connection before it said anything") {
        Some("if it speaks TLS there, name it as https://")
    } else if reason.contains("does not speak it there") {
        Some("name it as http://")
    } else if reason.contains("hostname mismatch") || reason.contains("IP address mismatch") {
        Some("--server-name says which name its certificate has")
    } else if reason.contains("certificate of the node") {
        Some("--ca names the file with the CA that its certificate is of")
    } else {
        None
    }
}

/// `ErrorInfo.reason` where the disk of the node did not take a write.
pub(crate) const DISK_REFUSED: &str = "DISK_REFUSED";
/// In `ErrorInfo.metadata`: how many violations are not told.
pub(crate) const UNTOLD: &str = "untold";

/// Exit codes. 2 is clap's, for a command line that cannot be parsed.
pub(crate) mod exit {
    /// Anything else.
    pub(crate) const FAILED: u8 = 1;
    /// There is nothing of that name.
    pub(crate) const NOT_FOUND: u8 = 3;
    /// A value is wrong: in a file, or in the request made of it.
    pub(crate) const INVALID: u8 = 4;
    /// The state of things forbids it: the name is taken, the etag stale, the tunnel not up, a quota full.
    pub(crate) const CONFLICT: u8 = 5;
    /// The node cannot be reached or does not answer, or a program that is needed is not installed.
    pub(crate) const UNAVAILABLE: u8 = 6;
    /// Not known to the node, or not allowed to do this.
    pub(crate) const DENIED: u8 = 8;
    /// Done, but for what was told.
    pub(crate) const PARTLY: u8 = 7;
}

/// Why a command failed.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit code.
    pub(crate) code: u8,
    /// What went wrong; empty if it was told already.
    pub(crate) message: String,
    /// More of what went wrong, one per line.
    pub(crate) details: Vec<String>,
    /// What to do about it.
    pub(crate) hints: Vec<String>,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), details: Vec::new(), hints: Vec::new() }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(exit::FAILED, message)
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(exit::INVALID, message)
    }

    /// With something to do about it.
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// The failure of a request about the object `name`. Fields are shown as they stand in a manifest.
    pub(crate) fn of_status(status: &Status, name: &str) -> Self {
        // What tonic makes of a connection that broke; in TLS 1.3 a client learns that it is refused when it first reads.
        if let (Code::Unknown | Code::Cancelled, Some(source)) =
            (status.code(), std::error::Error::source(status))
            && (status.code() == Code::Unknown || broken().is_some())
        {
            let reason = broken().unwrap_or_else(|| root_cause(source));
            let mut failure = Self::new(exit::UNAVAILABLE, format!("the connection broke: {reason}"));
            failure.hints.extend(tls_hint(&reason).map(str::to_owned));
            return failure;
        }
        let (code, hint) = match status.code() {
            Code::NotFound => {
                (exit::NOT_FOUND, Some("`culvert get tenants` and `culvert get peers` list what there is"))
            }
            Code::InvalidArgument | Code::OutOfRange => (exit::INVALID, None),
            Code::Aborted => {
                (exit::CONFLICT, Some("read it again (`culvert get NAME -o yaml`) and repeat the change"))
            }
            Code::Unauthenticated => (
                exit::DENIED,
                Some(
                    "`culvert login` keeps a token or certificate for a node; `culvert whoami` says who one is there",
                ),
            ),
            Code::PermissionDenied => (exit::DENIED, None),
            Code::AlreadyExists => (exit::CONFLICT, Some("`culvert apply` changes what is there")),
            Code::FailedPrecondition => (exit::CONFLICT, None),
            Code::ResourceExhausted if reason(status) == DISK_REFUSED => {
                (exit::FAILED, Some("make room on the disk of the node, then repeat it"))
            }
            Code::ResourceExhausted => {
                (exit::CONFLICT, Some("raise the quota of the tenant, or try again later"))
            }
            // tonic makes Cancelled of a deadline of its own.
            Code::DeadlineExceeded | Code::Cancelled => {
                (exit::UNAVAILABLE, Some("the node did not answer in time; see --timeout"))
            }
            Code::Unavailable => (exit::UNAVAILABLE, None),
            Code::Unimplemented => (exit::FAILED, Some("the node is of another version than this command")),
            _ => (exit::FAILED, None),
        };
        let mut failure = Self::new(code, status.message());
        let violations =
            status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
        if !violations.is_empty() {
            failure.message = format!("{name}: invalid");
            failure.details = violations
                .iter()
                .map(|violation| format!("{}: {}", in_manifest(&violation.field), violation.description))
                .chain(untold(status))
                .collect();
        }
        failure.hints.extend(hint.map(str::to_owned));
        failure
    }

    /// The failure of a request about several objects, of which these are the places in files, or the names. Nothing was
    /// changed.
    pub(crate) fn of_batch(status: &Status, what: &str, places: &[String]) -> Self {
        let mut failure = Self::of_status(status, what);
        let violations =
            status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
        if !violations.is_empty() {
            failure.message = format!("{what}: refused as a whole, nothing was changed");
            failure.details = violations
                .iter()
                .map(|violation| match in_batch(&violation.field, places) {
                    Some((place, "")) => format!("{place}: {}", violation.description),
                    Some((place, field)) => {
                        format!("{place}: {}: {}", in_manifest(field), violation.description)
                    }
                    None => format!("{}: {}", violation.field, violation.description),
                })
                .chain(untold(status))
                .collect();
        }
        failure
    }

    /// Prints it and gives the exit code.
    pub(crate) fn report(&self) -> ExitCode {
        self.print();
        ExitCode::from(self.code)
    }

    /// Prints it to standard error.
    pub(crate) fn print(&self) {
        if self.message.is_empty() {
            return;
        }
        tell(format_args!("error: {}", self.message));
        for detail in &self.details {
            tell(format_args!("  {detail}"));
        }
        for hint in &self.hints {
            tell(format_args!("hint: {hint}"));
        }
    }
}

impl From<std::io::Error> for Failure {
    /// A reader that went away (`culvert get peers | head`) is no failure.
    fn from(error: std::io::Error) -> Self {
        match error.kind() {
            ErrorKind::BrokenPipe => Self::new(0, ""),
            _ => Self::failed(format!("writing the output: {error}")),
        }
    }
}

/// `objects[3].peer.children[0]` as the fourth of `places` and the rest.
fn in_batch<'a>(field: &'a str, places: &'a [String]) -> Option<(&'a str, &'a str)> {
    let (index, rest) = field.strip_prefix("objects[")?.split_once(']')?;
    let place = places.get(index.parse::<usize>().ok()?)?;
    Some((place, rest.strip_prefix('.').unwrap_or(rest)))
}

/// That there are more faults than were told, if there are.
fn untold(status: &Status) -> Option<String> {
    let count = status.get_details_error_info()?.metadata.remove(UNTOLD)?;
    Some(format!("and {count} more of which nothing is told: mend these first"))
}

/// The reason in `google.rpc.ErrorInfo`.
fn reason(status: &Status) -> String {
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// `peer.children[0].remote_subnets[1]` as `children[0].remoteSubnets[1]`.
fn in_manifest(field: &str) -> String {
    let inner =
        ["tenant.", "peer.", "secret."].iter().find_map(|prefix| field.strip_prefix(prefix)).unwrap_or(field);
    let mut camel = String::with_capacity(inner.len());
    let mut upper = false;
    for c in inner.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                camel.extend(c.to_uppercase());
                upper = false;
            }
            c => camel.push(c),
        }
    }
    camel
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_shown_as_in_a_manifest() {
        assert_eq!(in_manifest("peer.children[0].remote_subnets[1]"), "children[0].remoteSubnets[1]");
        assert_eq!(in_manifest("update_mask"), "updateMask");
        let places = ["a".to_owned(), "b".to_owned()];
        assert_eq!(in_batch("objects[1].peer.auth.psk", &places), Some(("b", "peer.auth.psk")));
        assert_eq!(in_batch("objects[0]", &places), Some(("a", "")));
        assert_eq!(in_batch("objects[2]", &places), None);
        assert_eq!(in_batch("objects", &places), None);
    }
}
