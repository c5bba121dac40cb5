//! Child SAs that should be there and are not: when they are asked for again.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{BACKOFF_LAST, ConnId, Start, State, Supervisor};
use crate::event::ChildEnd;
use crate::resources::resource_of;

/// Wait before a Child SA that should be there is asked for again: long enough that a peer which refuses it is not
/// kept busy, short against anybody's patience.
pub const RESTORE: Duration = Duration::from_secs(2);
/// Lost Child SAs that wait to be asked for again: one for each policy a peer may have.
pub(super) const MAX_RESTORES: usize = 64;

impl Supervisor {
    /// A Child SA of the connection `id` ended; `still` says whether the connection in use has another pair of its policy.
    /// Where it is ours to start, it is asked for again once the last one is gone, whatever took it: the pair that came in
    /// place of a rekeyed one may have been deleted before it.
    pub fn child_ended(&mut self, now: Instant, id: ConnId, name: &Arc<str>, reason: ChildEnd, still: bool) {
        // The end of the connection in use decides for its own pairs. One that was replaced may have had the last pair of
        // a policy.
        let decided = reason == ChildEnd::IkeClosed && self.current().is_none_or(|current| current == id);
        if !decided && !still {
            self.child_missing(now, name);
        }
    }

    /// A Child SA is gone for reasons outside the protocol.
    pub fn child_missing(&mut self, now: Instant, name: &Arc<str>) {
        self.restore(now + RESTORE, name);
    }

    /// A Child SA could not be made. Each time in a row it is asked for later, so that a peer whose configuration does not fit
    /// is not kept busy, nor whoever reads the log.
    pub fn child_refused(&mut self, now: Instant, name: &Arc<str>) {
        let before = self.refusals.get(name).copied().unwrap_or_default();
        let wait = RESTORE.saturating_mul(1 << before.min(10)).min(BACKOFF_LAST);
        let room = before > 0 || self.refusals.len() < MAX_RESTORES;
        if self.restore(now + wait, name) && room {
            self.refusals.insert(name.clone(), before.saturating_add(1));
        }
    }

    /// A Child SA of the connection `id` is in place.
    pub fn child_up(&mut self, now: Instant, id: ConnId, name: &str) {
        self.refusals.remove(name);
        if let Some(up) = self.up.iter_mut().find(|up| up.id == id) {
            up.carried.get_or_insert(now);
        }
    }

    /// Plans to ask for a Child SA, where it is ours to start and not planned already. One for a resource is asked for by its
    /// connection, beside that of its policy.
    fn restore(&mut self, due: Instant, name: &Arc<str>) -> bool {
        let waits = self.restores.iter().any(|r| r.1 == *name);
        let ours = self.begins == Start::Us && self.state == State::Established;
        let planned = ours && !waits && resource_of(name).1 == 0 && self.restores.len() < MAX_RESTORES;
        if planned {
            self.restores.push((due, name.clone()));
        }
        planned
    }
}
