//! Errors as gRPC statuses with the details of google.rpc (AIP-193).

use std::collections::HashMap;

use tenants::store::StoreError;
use tenants::{BatchError, Error, Violations};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::console::failure::{DISK_REFUSED, UNTOLD};
use crate::runtime::RuntimeError;

/// Violations told in one status: details travel in a header, which clients bound to 16 KiB.
const MAX_VIOLATIONS: usize = 16;
/// Octets of a description, for the same reason.
const MAX_DESCRIPTION: usize = 300;
/// Octets of a name or a field: more than any has that there is.
const MAX_NAME: usize = 200;
/// Octets of a message, which may have what a caller has sent in it, as an etag: it is in the details as well.
const MAX_MESSAGE: usize = 1_024;
/// `ErrorInfo.domain` of all errors.
const DOMAIN: &str = "culvert";
/// `ErrorInfo.reason`: the tunnel is at another node by now.
pub(crate) const MOVED: &str = "MOVED";
/// `ErrorInfo.reason`: there are more violations than are told.
const INVALID: &str = "INVALID";
/// In `ErrorInfo.metadata`: the node of a cluster that it is about.
pub(crate) const NODE: &str = "node";

/// The status of an error of the catalog.
pub fn of_error(error: &Error) -> Status {
    let message = error.to_string();
    match error {
        Error::Invalid(faults) => of_violations(faults),
        Error::AlreadyExists(name) => with(Code::AlreadyExists, message, "ALREADY_EXISTS", name),
        Error::NotFound(name) => with(Code::NotFound, message, "NOT_FOUND", name),
        Error::StaleEtag { name, .. } => with(Code::Aborted, message, "STALE_ETAG", name),
        Error::FailedPrecondition { name, reason } => {
            let mut details = info("FAILED_PRECONDITION", name);
            details.add_precondition_failure_violation("STATE", short(name), cut(reason, MAX_MESSAGE));
            told(Code::FailedPrecondition, &message, details)
        }
        Error::Denied { name, .. } => with(Code::PermissionDenied, message, "PERMISSION_DENIED", name),
        Error::Exhausted { name, what, limit } => {
            let mut details = info("QUOTA_EXCEEDED", name);
            details.add_quota_failure_violation(short(name), format!("at most {limit} {what}"));
            told(Code::ResourceExhausted, &message, details)
        }
        Error::Store(StoreError::Disk { .. }) => with(Code::ResourceExhausted, message, DISK_REFUSED, ""),
        Error::Store(StoreError::Away { .. } | StoreError::Outrun(_)) => {
            with(Code::Unavailable, message, "STORE_AWAY", "")
        }
        Error::Store(_) => with(Code::Internal, message, "STORE_FAILED", ""),
    }
}

/// The status of an error about several objects: its code and message are those of the first, its violations those of all.
pub fn of_batch(error: &BatchError) -> Status {
    let faults = match error {
        BatchError::Whole(error) => return of_error(error),
        BatchError::Objects(faults) => faults,
    };
    let mut violations = Violations::new();
    for (at, error) in faults {
        let place = format!("objects[{at}]");
        match error {
            Error::Invalid(inner) => violations.add_all(&place, inner.clone()),
            other => violations.add(place, other.to_string()),
        }
    }
    let all = of_violations(&violations);
    match faults.first().map(|(_, error)| of_error(error)) {
        Some(first) if first.code() != Code::InvalidArgument => {
            let mut details = first.get_error_details();
            if let Some(request) = all.get_details_bad_request() {
                details.set_bad_request(request.field_violations);
            }
            told(first.code(), all.message(), details)
        }
        _ => all,
    }
}

/// INVALID_ARGUMENT with one violation per field.
pub fn of_violations(faults: &Violations) -> Status {
    let shown = faults
        .iter()
        .take(MAX_VIOLATIONS)
        .map(|fault| FieldViolation::new(short(&fault.field), cut(&fault.description, MAX_DESCRIPTION)));
    let shown: Vec<FieldViolation> = shown.collect();
    let mut message = match shown.first() {
        Some(first) => format!("{}: {}", first.field, first.description),
        None => "invalid request".to_owned(),
    };
    match faults.iter().count() {
        0 | 1 => {}
        count => message.push_str(&format!(" (and {} more)", count - 1)),
    }
    let untold = faults.iter().count().saturating_sub(shown.len());
    let mut details = ErrorDetails::with_bad_request(shown);
    if untold > 0 {
        details.set_error_info(INVALID, DOMAIN, HashMap::from([(UNTOLD.to_owned(), untold.to_string())]));
    }
    told(Code::InvalidArgument, &message, details)
}

/// INVALID_ARGUMENT of one field.
pub fn invalid(field: &str, description: impl std::fmt::Display) -> Status {
    of_violations(&Violations::one(field, description.to_string()))
}

/// The status of an error of the runtime about the peer `name`.
pub fn of_runtime(error: &RuntimeError, name: &str) -> Status {
    let message = if name.is_empty() { error.to_string() } else { format!("{name}: {error}") };
    match error {
        RuntimeError::Refused(_) => with(Code::FailedPrecondition, message, "REFUSED", name),
        RuntimeError::Failed(_) => with(Code::FailedPrecondition, message, "NEGOTIATION_FAILED", name),
        RuntimeError::Overloaded(_) => with(Code::ResourceExhausted, message, "OVERLOADED", name),
        RuntimeError::Exhausted(_) => with(Code::ResourceExhausted, message, "TOO_MUCH", name),
        RuntimeError::Lagged(_) | RuntimeError::Behind(_) => with(Code::OutOfRange, message, "LAGGED", name),
        RuntimeError::NeverWas { .. } => with(Code::OutOfRange, message, "NEVER_WAS", name),
        RuntimeError::Moved => with(Code::Unavailable, message, MOVED, name),
        RuntimeError::Unavailable(_) => with(Code::Unavailable, message, "UNAVAILABLE", name),
        // It has its reason and its details already.
        RuntimeError::Elsewhere(status) => Status::clone(status),
    }
}

/// What a node of a cluster answers, with its name in words and as `node` in the metadata of its reason.
pub fn at_node(status: &Status, node: &str) -> Status {
    let mut details = status.get_error_details();
    if let Some(mut info) = details.error_info().cloned() {
        info.metadata.insert(NODE.to_owned(), short(node));
        details.set_error_info(info.reason, info.domain, info.metadata);
    }
    told(status.code(), &format!("node {node}: {}", status.message()), details)
}

fn with(code: Code, message: String, reason: &str, name: &str) -> Status {
    told(code, &message, info(reason, name))
}

/// All statuses with details are made here, so that none is too large for a header.
fn told(code: Code, message: &str, details: ErrorDetails) -> Status {
    Status::with_error_details(code, cut(message, MAX_MESSAGE), details)
}

fn short(text: &str) -> String {
    cut(text, MAX_NAME)
}

/// As much of a text as has so many octets, in whole characters.
fn cut(text: &str, most: usize) -> String {
    let end = (0..=most.min(text.len())).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or(0)).unwrap_or_default().to_owned()
}

fn info(reason: &str, name: &str) -> ErrorDetails {
    let metadata = HashMap::from([("name".to_owned(), short(name))]);
    ErrorDetails::with_error_info(reason, DOMAIN, metadata)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_violations_fit_into_a_header() {
        let mut faults = Violations::new();
        for i in 0..2000 {
            faults.add(format!("peer.children[{i}].remote_subnets[0]"), "x".repeat(1000));
        }
        let status = of_violations(&faults);
        assert!(status.message().ends_with("(and 1999 more)"));
        assert_eq!(status.get_details_bad_request().unwrap().field_violations.len(), MAX_VIOLATIONS);
        assert!(status.details().len() * 4 / 3 + status.message().len() < 12 * 1024);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(info.metadata[UNTOLD], (2000 - MAX_VIOLATIONS).to_string());
    }

    #[test]
    fn faults_that_are_not_told_are_counted() {
        let mut faults = Violations::new();
        (0..200).for_each(|n| faults.add(format!("objects[{n}].peer.auth"), "is missing"));
        let refused = of_violations(&faults);
        for failure in [
            crate::console::failure::Failure::of_status(&refused, "x"),
            crate::console::failure::Failure::of_batch(&refused, "x", &[]),
        ] {
            assert_eq!(failure.details.len(), 17, "{:?}", failure.details);
            assert!(failure.details[16].starts_with("and 184 more"), "{:?}", failure.details);
        }
    }

    #[test]
    fn what_a_caller_has_sent_does_not_fill_the_header() {
        let large = "\u{1F510}".repeat(100_000);
        let mut faults = Violations::new();
        (0..100).for_each(|_| faults.add(large.clone(), large.clone()));
        let stale = Error::StaleEtag { name: large.clone(), given: large.clone(), current: large.clone() };
        let missing = Error::FailedPrecondition { name: large.clone(), reason: large.clone() };
        let all = [
            of_violations(&faults),
            of_error(&stale),
            of_error(&missing),
            of_error(&Error::NotFound(large.clone())),
            of_batch(&BatchError::Objects(vec![(0, stale), (1, missing)])),
        ];
        for status in all {
            let header = status.details().len() * 4 / 3 + status.message().len() * 3;
            assert!(header < 16 * 1024, "{:?} {header}", status.code());
        }
    }
}
