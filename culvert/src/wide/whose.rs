//! Whose tunnels another node is asked for. A name may have been given to somebody else, and a node that does not follow what is written may know
//! nothing of that yet: it would show what is of whoever had the name before.

use tonic::Request;
use tonic::metadata::{MetadataMap, MetadataValue};

use crate::runtime::Scope;

/// The header that says it, in a number ([`Scope::number`]).
const WHOSE: &str = "culvert-whose";

/// A question to another node about these.
pub(super) fn asking<T>(scope: &Scope, message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert(WHOSE, MetadataValue::from(scope.number()));
    request
}

/// Whether the node that asks knows of one that has the name by now, and this node of one before alone.
pub(crate) fn is_of_another(scope: &Scope, metadata: &MetadataMap) -> bool {
    let asked = metadata.get(WHOSE).and_then(|number| number.to_str().ok()?.parse().ok());
    asked.is_some_and(|asked: u64| asked > scope.number())
}
