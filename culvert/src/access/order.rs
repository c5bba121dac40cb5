//! An order to the node that is not answered yet: it is given whether or not its caller stays for the answer.

use std::sync::Arc;

use tenants::Author;
use tonic::Status;

use crate::access::Access;

/// Noted as given when it goes without an answer: a caller who goes away, or whose time is over, has had it carried out all the same.
pub(super) struct Order {
    access: Arc<Access>,
    open: Option<(Arc<Author>, Vec<String>)>,
}

impl Order {
    /// By this author, about these names.
    pub(super) fn new(access: Arc<Access>, author: Arc<Author>, names: Vec<String>) -> Self {
        Self { access, open: Some((author, names)) }
    }

    /// There is an answer. What it was about.
    pub(super) fn answered(mut self) -> Vec<String> {
        self.open.take().map(|(_, names)| names).unwrap_or_default()
    }
}

impl Drop for Order {
    fn drop(&mut self) {
        // Without a runtime the node goes down, and takes no orders.
        if let Some((author, names)) = self.open.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let access = Arc::clone(&self.access);
            let status = Status::cancelled("given, and its caller did not wait for the answer");
            runtime.spawn(async move { access.note(&author, &status, names).await });
        }
    }
}
