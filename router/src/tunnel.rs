//! Which of its pairs a tunnel sends on: a word that the shards read for every packet and the control plane writes.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use esp::Spi;

use crate::edition::Edition;
use crate::model::TunnelId;

/// A tunnel.
pub(crate) struct Tunnel {
    pub(crate) id: TunnelId,
    /// Inbound SPI of the pair that everybody sends on who has none of its own; 0 when there is none. The SPI says where the
    /// pair is, so this is the whole route.
    current: AtomicU32,
    /// Those of single shards (RFC 9611), by the number of the shard, as soon as there was one. Most tunnels never have any,
    /// and pay for the look at it alone.
    own: OnceLock<Box<[AtomicU32; SHARDS]>>,
    /// Some shard has one at this moment.
    spread: AtomicBool,
    /// A packet that finds no pair asks for one and waits for it.
    on_demand: AtomicBool,
    /// Some shard holds packets for it.
    held: AtomicBool,
    /// One more than the number of the node where it is up; 0 when that is nowhere, or here.
    elsewhere: AtomicU64,
    /// Of the tenant's routes: which tunnels have a pair is a part of them.
    edition: Edition,
}

/// Where a tunnel is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Up {
    /// Here, and everybody sends on this pair.
    Here(Spi),
    /// At this other node.
    Elsewhere(u32),
}

/// As many as an SPI can name.
const SHARDS: usize = Spi::MAX_SHARD as usize + 1;

impl Tunnel {
    pub(crate) fn new(id: TunnelId, edition: &Edition) -> Arc<Self> {
        Arc::new(Self {
            id,
            current: AtomicU32::new(0),
            own: OnceLock::new(),
            spread: AtomicBool::new(false),
            on_demand: AtomicBool::new(false),
            held: AtomicBool::new(false),
            elsewhere: AtomicU64::new(0),
            edition: edition.clone(),
        })
    }

    /// The pair that a shard sends on: its own, if it has one.
    pub(crate) fn pair_for(&self, shard: usize) -> Option<Spi> {
        let own =
            self.own.get().and_then(|own| own.get(shard)).and_then(|word| read(word, Ordering::Acquire));
        own.or_else(|| read(&self.current, Ordering::Acquire))
    }

    /// The pair of everybody who has none of its own.
    pub(crate) fn pair(&self) -> Option<Spi> {
        read(&self.current, Ordering::Acquire)
    }

    /// Whether packets wait for a pair.
    pub(crate) fn is_waited_for(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// Whether shards have pairs of their own, so that a flow may come and go by any.
    pub(crate) fn is_spread(&self) -> bool {
        self.spread.load(Ordering::Relaxed)
    }

    /// Whether some shard sends on this pair.
    pub(crate) fn sends_on(&self, spi: Spi) -> bool {
        let own = self.own.get().into_iter().flat_map(|own| own.iter());
        own.chain([&self.current]).any(|word| read(word, Ordering::Acquire) == Some(spi))
    }

    /// Sends on this pair from now on. True when packets wait for that: the shards must be told.
    pub(crate) fn activate(&self, spi: Spi) -> bool {
        self.current.store(spi.0, Ordering::SeqCst);
        self.edition.next();
        self.held.swap(false, Ordering::SeqCst)
    }

    /// The shard of this pair sends on it from now on, and the others as well where they have nothing else. True as for
    /// [`Tunnel::activate`].
    pub(crate) fn activate_own(&self, spi: Spi) -> bool {
        let own = self.own.get_or_init(|| Box::new([const { AtomicU32::new(0) }; SHARDS]));
        if let Some(word) = own.get(usize::from(spi.shard())) {
            word.store(spi.0, Ordering::Release);
            self.spread.store(true, Ordering::Relaxed);
        }
        // A failure means that there is one already.
        let _ = self.current.compare_exchange(0, spi.0, Ordering::SeqCst, Ordering::Relaxed);
        self.edition.next();
        self.held.swap(false, Ordering::SeqCst)
    }

    /// Whether the shard of this pair sends on one of its own.
    pub(crate) fn sends_for(&self, spi: Spi) -> bool {
        let own = self.own.get().and_then(|own| own.get(usize::from(spi.shard())));
        own.is_some_and(|word| read(word, Ordering::Acquire).is_some())
    }

    /// Whether anybody sends on some pair.
    pub(crate) fn sends(&self) -> bool {
        let own = self.own.get().into_iter().flat_map(|own| own.iter());
        own.chain([&self.current]).any(|word| read(word, Ordering::Acquire).is_some())
    }

    /// Notes that a packet waits. The way to send it after all, when one came up meanwhile: either this sees it, or
    /// [`Tunnel::activate`] or [`Tunnel::set_elsewhere`] sees the note.
    pub(crate) fn note_held(&self) -> Option<Up> {
        self.held.store(true, Ordering::SeqCst);
        read(&self.current, Ordering::SeqCst).map(Up::Here).or_else(|| self.elsewhere().map(Up::Elsewhere))
    }

    /// Whether packets waited until now.
    pub(crate) fn forget_held(&self) -> bool {
        self.held.swap(false, Ordering::SeqCst)
    }

    pub(crate) fn is_on_demand(&self) -> bool {
        self.on_demand.load(Ordering::Relaxed)
    }

    pub(crate) fn set_on_demand(&self, on_demand: bool) {
        self.on_demand.store(on_demand, Ordering::Relaxed);
        self.edition.next();
    }

    /// The other node where it is up.
    pub(crate) fn elsewhere(&self) -> Option<u32> {
        u32::try_from(self.elsewhere.load(Ordering::SeqCst).checked_sub(1)?).ok()
    }

    /// Says where it is up. True when packets wait for that: the shards must be told.
    pub(crate) fn set_elsewhere(&self, node: Option<u32>) -> bool {
        self.elsewhere.store(node.map_or(0, |node| u64::from(node) + 1), Ordering::SeqCst);
        node.is_some() && self.forget_held()
    }

    /// Stops sending on this pair, if the tunnel still does. Where it was the one of everybody, a shard's own takes its place
    /// until there is another. Calls for one tunnel come one after the other.
    pub(crate) fn retire(&self, spi: Spi) {
        let mut left = 0;
        for word in self.own.get().into_iter().flat_map(|own| own.iter()) {
            // A failure means that another pair has taken over, which is as good. So it does below.
            let _ = word.compare_exchange(spi.0, 0, Ordering::AcqRel, Ordering::Relaxed);
            left = if left == 0 { word.load(Ordering::Relaxed) } else { left };
        }
        self.spread.store(left != 0, Ordering::Relaxed);
        let _ = self.current.compare_exchange(spi.0, left, Ordering::AcqRel, Ordering::Relaxed);
        self.edition.next();
    }
}

fn read(word: &AtomicU32, order: Ordering) -> Option<Spi> {
    match word.load(order) {
        0 => None,
        spi => Some(Spi(spi)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    fn spi(shard: u8, index: u32) -> Spi {
        Spi::compose(1, shard, index).unwrap()
    }

    #[test]
    fn each_shard_has_its_own_and_the_others_share_one() {
        let tunnel = Tunnel::new(TunnelId(1), &Edition::default());
        let (shared, own, newer) = (spi(0, 1), spi(1, 2), spi(1, 3));
        assert_eq!(tunnel.pair_for(0), None);
        tunnel.activate(shared);
        tunnel.activate_own(own);
        assert_eq!([0, 1, 2].map(|shard| tunnel.pair_for(shard)), [Some(shared), Some(own), Some(shared)]);
        // A rekeying of either leaves the other.
        tunnel.activate_own(newer);
        tunnel.retire(own);
        assert_eq!([0, 1].map(|shard| tunnel.pair_for(shard)), [Some(shared), Some(newer)]);
        assert!(tunnel.is_spread());
        assert_eq!([shared, own, newer].map(|spi| tunnel.sends_on(spi)), [true, false, true]);
        tunnel.retire(newer);
        assert_eq!((tunnel.pair_for(1), tunnel.is_spread()), (Some(shared), false));
        tunnel.retire(shared);
        assert_eq!(tunnel.pair_for(1), None);
    }

    #[test]
    fn it_is_seen_whether_somebody_sends() {
        let tunnel = Tunnel::new(TunnelId(1), &Edition::default());
        let (shared, own) = (spi(0, 1), spi(1, 2));
        assert!(!tunnel.sends() && !tunnel.sends_for(own));
        tunnel.activate(shared);
        assert!(tunnel.sends() && !tunnel.sends_for(own));
        tunnel.activate_own(own);
        assert!(tunnel.sends_for(own) && !tunnel.sends_for(spi(2, 3)));
        tunnel.retire(shared);
        tunnel.retire(own);
        assert!(!tunnel.sends() && !tunnel.sends_for(own));
    }

    #[test]
    fn without_the_shared_one_nobody_is_cut_off() {
        let tunnel = Tunnel::new(TunnelId(1), &Edition::default());
        let (shared, first, second) = (spi(0, 1), spi(1, 2), spi(2, 3));
        tunnel.activate(shared);
        for own in [first, second] {
            tunnel.activate_own(own);
        }
        tunnel.retire(shared);
        assert_eq!([0, 1, 2].map(|shard| tunnel.pair_for(shard)), [Some(first), Some(first), Some(second)]);
        tunnel.retire(first);
        assert_eq!([0, 1].map(|shard| tunnel.pair_for(shard)), [Some(second); 2]);
        tunnel.activate(shared);
        assert_eq!([0, 2].map(|shard| tunnel.pair_for(shard)), [Some(shared), Some(second)]);
    }

    #[test]
    fn one_that_comes_first_wakes_who_waits() {
        let tunnel = Tunnel::new(TunnelId(1), &Edition::default());
        assert_eq!(tunnel.note_held(), None);
        assert!(tunnel.activate_own(spi(1, 1)));
        assert_eq!((tunnel.note_held(), tunnel.pair_for(0)), (Some(Up::Here(spi(1, 1))), Some(spi(1, 1))));
    }

    #[test]
    fn one_that_is_up_elsewhere_wakes_who_waits_as_well() {
        let tunnel = Tunnel::new(TunnelId(1), &Edition::default());
        assert_eq!(tunnel.note_held(), None);
        assert!(!tunnel.set_elsewhere(None));
        assert!(tunnel.set_elsewhere(Some(0)));
        assert_eq!(tunnel.note_held(), Some(Up::Elsewhere(0)));
    }
}
