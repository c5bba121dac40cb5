//! Errors as gRPC statuses with the details of google.rpc (AIP-193).

use std::collections::HashMap;

use tenants::store::StoreError;
use tenants::{BatchError, Error, Violations};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::console::failure::DISK_REFUSED;
use crate::runtime::RuntimeError;

/// Violations told in one status: details travel in a header, which clients bound to 16 KiB.
const MAX_VIOLATIONS: usize = 16;
/// Characters of a description, for the same reason.
const MAX_DESCRIPTION: usize = 300;
/// `ErrorInfo.domain` of all errors.
const DOMAIN: &str = "culvert";

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
            details.add_precondition_failure_violation("STATE", name, reason);
            Status::with_error_details(Code::FailedPrecondition, message, details)
        }
        Error::Denied { name, .. } => with(Code::PermissionDenied, message, "PERMISSION_DENIED", name),
        Error::Exhausted { name, what, limit } => {
            let mut details = info("QUOTA_EXCEEDED", name);
            details.add_quota_failure_violation(name, format!("at most {limit} {what}"));
            Status::with_error_details(Code::ResourceExhausted, message, details)
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
            Status::with_error_details(first.code(), all.message(), details)
        }
        _ => all,
    }
}

/// INVALID_ARGUMENT with one violation per field.
pub fn of_violations(faults: &Violations) -> Status {
    let shown = faults.iter().take(MAX_VIOLATIONS).map(|fault| {
        let description: String = fault.description.chars().take(MAX_DESCRIPTION).collect();
        FieldViolation::new(fault.field.clone(), description)
    });
    let shown: Vec<FieldViolation> = shown.collect();
    let mut message = match shown.first() {
        Some(first) => format!("{}: {}", first.field, first.description),
        None => "invalid request".to_owned(),
    };
    match faults.iter().count() {
        0 | 1 => {}
        count => message.push_str(&format!(" (and {} more)", count - 1)),
    }
    Status::with_error_details(Code::InvalidArgument, message, ErrorDetails::with_bad_request(shown))
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
        RuntimeError::Lagged(_) => with(Code::OutOfRange, message, "LAGGED", name),
        RuntimeError::NeverWas { .. } => with(Code::OutOfRange, message, "NEVER_WAS", name),
        RuntimeError::Unavailable(_) => with(Code::Unavailable, message, "UNAVAILABLE", name),
        // It has its reason and its details already.
        RuntimeError::Elsewhere(status) => Status::clone(status),
    }
}

fn with(code: Code, message: String, reason: &str, name: &str) -> Status {
    Status::with_error_details(code, message, info(reason, name))
}

fn info(reason: &str, name: &str) -> ErrorDetails {
    let metadata = HashMap::from([("name".to_owned(), name.to_owned())]);
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
    }
}
