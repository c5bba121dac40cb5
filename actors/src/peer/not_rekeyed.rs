//! A rekeying that was refused is told of while that matters: it is history once there are new keys.

use std::sync::Arc;

use ike::supervise::ConnId;

use super::PeerActor;

/// What was to have new keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Rekeying {
    Ike(ConnId),
    /// A pair of this policy.
    Child(Arc<str>),
}

impl PeerActor {
    /// It was refused; what it is of goes on with the old keys.
    pub(super) fn not_rekeyed(&mut self, what: Rekeying, why: &str) {
        why.clone_into(&mut self.view_mut().last_error);
        self.not_rekeyed = Some((what, why.to_owned()));
    }

    /// There are new keys, or it is gone.
    pub(super) fn new_keys(&mut self, id: ConnId, what: &Rekeying) {
        if let Some((_, why)) = self.not_rekeyed.take_if(|(of, _)| of == what) {
            self.forget_error(id, &why);
        }
    }

    /// This is not so any more. What was told since stays.
    pub(super) fn forget_error(&mut self, id: ConnId, why: &str) {
        if self.view.last_error == why {
            self.view_mut().last_error.clear();
        }
        if self.gaps.is_empty() {
            self.history().recovered(id);
        }
    }
}
