//! How much lists of SAs hold that are sent as streams, over all who read them.
//!
//! All lists share what there is. Beside that there is room for one list of all tenants, and for one of a tenant or a peer that by itself is
//! larger than a share: whatever others hold and do not read, a node of any size can be listed. What such a list holds is counted by itself, so
//! that all others keep what there is for them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::access::{self, Entry, Ledger};
use crate::runtime::Scope;

/// Octets of the lists that share: one of all SAs of ten nodes with 10,000 peers each is some 150 MB.
const MAX_SHARED: usize = 256 << 20;
/// Those of one caller, or one tenant: such a list, and nobody keeps all others from theirs by not reading. It is enough for some 128,000 peers.
const SHARE: usize = 192 << 20;
/// What other nodes may send for a list that does not share: 1,000,000 SAs are some 750 MB. This node's own have no such bound, as each of them
/// has tunnels here that hold much more.
const MAX_FROM_OTHERS: usize = 1 << 30;

/// What there is for all lists.
pub(super) struct Room {
    shared: Arc<Ledger>,
    share: usize,
    from_others: usize,
    /// For one list of all tenants. Whoever may read only that of a tenant never has it.
    of_all: Arc<Semaphore>,
    /// For one other list that is larger than a share.
    large: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self::of(MAX_SHARED, SHARE, MAX_FROM_OTHERS)
    }
}

impl Room {
    pub(super) fn of(shared: usize, share: usize, from_others: usize) -> Self {
        let one = || Arc::new(Semaphore::new(1));
        Self { shared: Ledger::new(shared, share), share, from_others, of_all: one(), large: one() }
    }
}

/// What a list holds that is gathered from several nodes at once. Given back when it is dropped.
pub(super) struct Memory {
    room: Arc<Room>,
    of_all: bool,
    held: Mutex<Held>,
    full: AtomicBool,
}

struct Held {
    own: usize,
    from_others: usize,
    within: Within,
}

enum Within {
    Shared(Entry),
    /// It is the one for which there is room beside.
    Beside {
        _turn: OwnedSemaphorePermit,
    },
}

impl Memory {
    /// Nothing yet, of whoever is served.
    pub(super) fn of(room: &Arc<Room>, scope: &Scope) -> Self {
        let caller = access::share();
        let within = Within::Shared(Arc::clone(&room.shared).entry(caller));
        Self {
            room: Arc::clone(room),
            of_all: matches!(scope, Scope::All),
            held: Mutex::new(Held { own: 0, from_others: 0, within }),
            full: AtomicBool::default(),
        }
    }

    /// This node's own SAs.
    pub(super) fn begin(&self, octets: usize) -> bool {
        self.add(octets, 0)
    }

    /// What comes from another node. False for good once there was no room: what is left out is not made up for by what is smaller.
    pub(super) fn grow(&self, octets: usize) -> bool {
        let grown = !self.is_full() && self.add(0, octets);
        if !grown {
            self.full.store(true, Ordering::Relaxed);
        }
        grown
    }

    pub(super) fn is_full(&self) -> bool {
        self.full.load(Ordering::Relaxed)
    }

    fn add(&self, own: usize, from_others: usize) -> bool {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let all_own = held.own.saturating_add(own);
        let all_from_others = held.from_others.saturating_add(from_others);
        if all_from_others > self.room.from_others {
            return false;
        }
        if let Within::Shared(entry) = &mut held.within
            && !entry.grow(own.saturating_add(from_others))
        {
            let Some(turn) = self.beside(all_own.saturating_add(all_from_others)) else { return false };
            held.within = Within::Beside { _turn: turn };
        }
        (held.own, held.from_others) = (all_own, all_from_others);
        true
    }

    /// The room beside, for a list of so many octets; `None` if there is none, or another list has it.
    fn beside(&self, octets: usize) -> Option<OwnedSemaphorePermit> {
        let of = match () {
            () if self.of_all => &self.room.of_all,
            () if octets > self.room.share => &self.room.large,
            () => return None,
        };
        Arc::clone(of).try_acquire_owned().ok()
    }
}

#[cfg(test)]
mod tests {
    use tenants::TenantName;

    use super::*;

    fn room() -> Arc<Room> {
        Arc::new(Room::of(100, 60, 500))
    }

    fn of_all(room: &Arc<Room>) -> Memory {
        Memory::of(room, &Scope::All)
    }

    fn of_tenant(room: &Arc<Room>) -> Memory {
        let name: TenantName = "tenants/acme".parse().unwrap();
        Memory::of(room, &Scope::Tenant { name, number: 1 })
    }

    #[test]
    fn one_list_of_all_is_made_whatever_others_hold() {
        let room = room();
        let small = of_tenant(&room);
        assert!(small.begin(1));
        let all = of_all(&room);
        assert!(all.begin(1_000) && all.grow(500) && !all.grow(1), "what others send has a bound");
        assert!(all.is_full());
        let second = of_all(&room);
        assert!(!second.begin(1_000), "one at a time");
        assert!(small.grow(59), "what is beside takes nothing from the rest");
        assert!(!of_all(&room).begin(1), "the share is used up, and so is what is beside");
        drop(all);
        assert!(second.begin(1));
    }

    #[test]
    fn what_was_of_the_shares_goes_back_when_a_list_outgrows_them() {
        let room = room();
        let all = of_all(&room);
        assert!(all.begin(50) && all.grow(300));
        let rest = of_tenant(&room);
        assert!(rest.begin(60));
        assert!(all.grow(200) && !all.grow(1), "and all of what others sent counts");
    }

    #[test]
    fn a_tenant_has_the_room_beside_for_a_list_alone_that_no_share_is_enough_for() {
        let room = room();
        let (held, second) = (of_tenant(&room), of_tenant(&room));
        assert!(held.begin(50) && !second.begin(50), "it has more than a list that is not read");
        let (large, larger) = (of_tenant(&room), of_tenant(&room));
        assert!(large.begin(61) && !larger.begin(100), "one at a time");
        assert!(of_all(&room).begin(1_000), "which is not what there is for all");
    }
}
