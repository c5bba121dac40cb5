//! Notices when an actor ends without having been told to: by a panic in its code.

use actix::prelude::*;

/// An actor of this key ended by a panic.
#[derive(Clone, Debug, Message)]
#[rtype(result = "()")]
pub(crate) struct Died(pub(crate) u64);

/// Lives inside an actor. When the actor is dropped while still armed, its supervisor is told.
pub(crate) struct DeathWatch<A: Actor<Context = Context<A>> + Handler<Died>> {
    key: u64,
    supervisor: Addr<A>,
    armed: bool,
}

impl<A: Actor<Context = Context<A>> + Handler<Died>> DeathWatch<A> {
    pub(crate) const fn new(key: u64, supervisor: Addr<A>) -> Self {
        Self { key, supervisor, armed: true }
    }

    /// Who is told.
    pub(crate) const fn supervisor(&self) -> &Addr<A> {
        &self.supervisor
    }

    /// The actor ends in the orderly way. Called from `stopping`, which actix also calls while it drops an actor that
    /// panicked; then the watch stays armed.
    pub(crate) fn disarm(&mut self) {
        self.armed = std::thread::panicking();
    }
}

impl<A: Actor<Context = Context<A>> + Handler<Died>> Drop for DeathWatch<A> {
    fn drop(&mut self) {
        if self.armed {
            // A full or closed mailbox means that the supervisor is going down as well.
            let _ = self.supervisor.try_send(Died(self.key));
        }
    }
}
