//! What tests do to it, besides what simulations do.

use std::sync::Arc;
use std::time::Duration;

use super::{Etcd, Line, Member, Memory, Path, State, Way};

/// Requests and answers take no time.
#[derive(Debug)]
pub(crate) struct AtOnce;

impl Path for AtOnce {
    fn time(&self) -> Option<Duration> {
        Some(Duration::ZERO)
    }
}

impl Memory {
    /// A client of several members, each on a way of its own.
    pub(crate) fn client_of(&self, paths: impl IntoIterator<Item = Arc<dyn Path>>) -> Etcd {
        let member = |(at, path)| {
            Member::of(&format!("memory://m{at}"), Way::Memory(Line { store: self.clone(), path }))
        };
        Etcd::of(paths.into_iter().enumerate().map(member).collect(), "/simulated")
    }

    /// Watches that are there are told nothing more, and do not end.
    pub(crate) fn mute(&self) {
        let mut state = self.state();
        let watches = std::mem::take(&mut state.watches);
        state.mute.extend(watches);
    }

    /// All that it knew is lost, and it goes on with this revision, as one whose data were deleted or replaced by an older copy.
    pub(crate) fn set_back(&self, revision: i64) {
        let mut state = self.state();
        let last_lease = state.last_lease;
        *state = State { revision, last_lease, ..State::default() };
    }

    /// From now on those who ask take no answer of more octets.
    pub(crate) fn set_most(&self, octets: usize) {
        self.state().most = Some(octets);
    }
}
