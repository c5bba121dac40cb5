//! Notices when an actor ends without having been told to: by a panic in its code.

use actix::prelude::*;

use crate::vocabulary::Died;

/// Lives inside an actor, and knows whom it reports to. When the actor is dropped while still armed, that one is told.
pub(crate) struct DeathWatch<M>
where
    M: From<Died> + Message<Result = ()> + Send + 'static,
{
    key: u64,
    supervisor: Recipient<M>,
    armed: bool,
}

impl<M: From<Died> + Message<Result = ()> + Send + 'static> DeathWatch<M> {
    pub(crate) const fn new(key: u64, supervisor: Recipient<M>) -> Self {
        Self { key, supervisor, armed: true }
    }

    /// Who is told.
    pub(crate) const fn supervisor(&self) -> &Recipient<M> {
        &self.supervisor
    }

    /// The actor ends in the orderly way. Called from `stopping`, which actix also calls while it drops an actor that
    /// panicked; then the watch stays armed.
    pub(crate) fn disarm(&mut self) {
        self.armed = std::thread::panicking();
    }
}

impl<M: From<Died> + Message<Result = ()> + Send + 'static> Drop for DeathWatch<M> {
    fn drop(&mut self) {
        if self.armed {
            // A closed mailbox means that the supervisor is going down as well. A full one does not, and whoever is not told starts nobody again.
            #[allow(clippy::disallowed_methods, reason = "once in the life of an actor, which is the bound")]
            self.supervisor.do_send(Died(self.key).into());
        }
    }
}
