//! What a connection holds of the node: SPIs of IKE and of ESP, and places of pairs in the router. Each is a value whose drop
//! gives back exactly that, so that none is left behind on whatever way an actor ends.

use actix::prelude::*;
use esp::Spi;
use ike::supervise::Few;
use router::RouterHandle;

use crate::datagram::Deliver;
use crate::table::{Registration, Table};

/// An IKE SPI of ours that leads to an actor.
pub(crate) type IkeSpi = Registration<u64, Recipient<Deliver>>;

/// The SPIs of one connection.
#[derive(Default)]
pub(crate) struct Held {
    ike: Few<u64, IkeSpi>,
    /// Reserved, and not installed yet.
    esp: Few<u32, ReservedSpi>,
}

impl Held {
    /// Reserves an IKE SPI for `owner`; false if it is taken.
    pub(crate) fn reserve_ike(
        &mut self,
        table: &Table<u64, Recipient<Deliver>>,
        spi: u64,
        owner: &Recipient<Deliver>,
    ) -> bool {
        let place = table.reserve(spi, owner.clone());
        let reserved = place.is_some();
        if let Some(place) = place {
            self.ike.insert(spi, place);
        }
        reserved
    }

    /// ESP SPIs that are reserved, and have no pair.
    pub(crate) fn reserved(&self) -> Vec<u32> {
        self.esp.keys().copied().collect()
    }

    /// All IKE SPIs lead to `owner` from now on.
    pub(crate) fn lead_to(&self, owner: &Recipient<Deliver>) {
        for place in self.ike.values() {
            place.set(owner.clone());
        }
    }

    /// Takes over what another connection holds, which joins this one.
    pub(crate) fn join(&mut self, other: Self) {
        for (spi, place) in other.ike {
            self.ike.insert(spi, place);
        }
        for (spi, reserved) in other.esp {
            self.esp.insert(spi, reserved);
        }
    }

    /// Gives an IKE SPI back.
    pub(crate) fn release_ike(&mut self, spi: u64) {
        self.ike.remove(&spi);
    }

    /// Keeps an ESP SPI that the router has reserved.
    pub(crate) fn hold_esp(&mut self, router: &RouterHandle, spi: Spi) {
        self.esp.insert(spi.0, ReservedSpi { router: Some(router.clone()), spi });
    }

    /// Gives an ESP SPI back.
    pub(crate) fn release_esp(&mut self, spi: u32) {
        self.esp.remove(&spi);
    }

    /// The pair of this SPI is in the router now: its place is the caller's.
    pub(crate) fn installed(&mut self, spi: u32) -> Option<Pair> {
        self.esp.remove(&spi).and_then(ReservedSpi::installed)
    }
}

/// An ESP SPI that no pair is installed under.
struct ReservedSpi {
    /// `None` once a pair has it.
    router: Option<RouterHandle>,
    spi: Spi,
}

impl ReservedSpi {
    /// The pair gives the SPI back with its place.
    fn installed(mut self) -> Option<Pair> {
        Some(Pair { router: Some(self.router.take()?), spi: self.spi })
    }
}

impl Drop for ReservedSpi {
    fn drop(&mut self) {
        if let Some(router) = &self.router {
            router.release_spi(self.spi);
        }
    }
}

/// The place of an installed pair in the router. Dropping it wipes the keys.
pub(crate) struct Pair {
    /// `None` once another node has the pair.
    router: Option<RouterHandle>,
    spi: Spi,
}

impl Pair {
    /// Of a pair that came from another node and is in the router.
    pub(crate) fn moved(router: &RouterHandle, spi: Spi) -> Self {
        Self { router: Some(router.clone()), spi }
    }

    /// Another node has it: it may come back, and then it is another's to remove.
    pub(crate) fn given(&mut self) {
        self.router = None;
    }

    /// Its inbound SPI.
    pub(crate) const fn spi(&self) -> Spi {
        self.spi
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        if let Some(router) = &self.router {
            router.remove(self.spi);
        }
    }
}
