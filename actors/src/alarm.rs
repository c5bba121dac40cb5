//! The one timer of an actor. Nothing else in this crate arms one, so timers cannot pile up.

use std::time::{Duration, Instant};

use actix::prelude::*;

/// At most one pending call of an actor's own, and for when.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Option<(Instant, SpawnHandle)>);

impl Alarm {
    /// Calls `ring` at that time instead of whatever was set before; at no time if that is `None`. It is always the same that is called.
    pub(crate) fn set<A: Actor<Context = Context<A>>>(
        &mut self,
        ctx: &mut Context<A>,
        at: Option<Instant>,
        ring: fn(&mut A, &mut Context<A>),
    ) {
        // It rings no sooner than that. What is due may have rung already, and rings once more.
        if self.0.as_ref().map(|(set, _)| *set) == at && at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        if let Some((_, pending)) = self.0.take() {
            ctx.cancel_future(pending);
        }
        if let Some(at) = at {
            // At least a millisecond, as finely as timers go: what is due by a hair less must not spin.
            let wait = at.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            #[allow(clippy::disallowed_methods)] // The only place.
            let handle = ctx.run_later(wait, ring);
            self.0 = Some((at, handle));
        }
    }
}
