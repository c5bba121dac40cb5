//! Which device has which networks and addresses in a network namespace: one main routing table for all tenants in it.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::nudge::Key;
use super::wish::Network;
use crate::prefix::{address_of, key_of, mask, width};
use crate::sys::netns::NamespaceId;

/// Whose something is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) key: Key,
    /// Name of the device.
    pub(super) device: String,
}

/// The namespaces with devices of ours. Written by the device thread, never while it waits for the kernel, and read by
/// whoever sends.
#[derive(Default)]
pub(crate) struct Book(Mutex<HashMap<NamespaceId, Namespace>>);

#[derive(Default)]
struct Namespace {
    /// Routes in the main table: family, first address, length of the prefix.
    routes: BTreeMap<(bool, u128, u8), Arc<Owner>>,
    addresses: HashMap<IpAddr, Arc<Owner>>,
}

impl Book {
    /// Another device that has a route to some address of the network.
    pub(super) fn holder(&self, namespace: NamespaceId, network: Network, me: &Owner) -> Option<Arc<Owner>> {
        let book = self.lock();
        let routes = &book.get(&namespace)?.routes;
        let (v4, low, length) = place(network);
        // Shorter prefixes and the same, which contain it; then the longer ones within.
        let around = (0..=length).filter_map(|length| routes.get(&(v4, low & mask(length), length)));
        let within =
            routes.range((v4, low, length)..=(v4, low | !mask(length), u8::MAX)).map(|(_, owner)| owner);
        around.chain(within).find(|owner| ***owner != *me).cloned()
    }

    /// The name of the device that packets to an address are led to.
    pub(crate) fn leads(&self, namespace: NamespaceId, to: IpAddr) -> Option<String> {
        let book = self.lock();
        let routes = &book.get(&namespace)?.routes;
        let (v4, low, length) = place((to, width(to)));
        let longest = (0..=length).rev().find_map(|length| routes.get(&(v4, low & mask(length), length)));
        longest.map(|owner| owner.device.clone())
    }

    pub(super) fn claim(&self, namespace: NamespaceId, network: Network, me: &Arc<Owner>) {
        self.lock().entry(namespace).or_default().routes.insert(place(network), me.clone());
    }

    pub(super) fn release(&self, namespace: NamespaceId, network: Network, me: &Owner) {
        let mut book = self.lock();
        let Some(here) = book.get_mut(&namespace) else { return };
        if here.routes.get(&place(network)).is_some_and(|owner| **owner == *me) {
            here.routes.remove(&place(network));
        }
        prune(&mut book, namespace);
    }

    /// The device that has an address, if it is another.
    pub(super) fn address_holder(
        &self,
        namespace: NamespaceId,
        address: IpAddr,
        me: &Owner,
    ) -> Option<Arc<Owner>> {
        self.lock().get(&namespace)?.addresses.get(&address).filter(|owner| ***owner != *me).cloned()
    }

    pub(super) fn claim_address(&self, namespace: NamespaceId, address: IpAddr, me: &Arc<Owner>) {
        self.lock().entry(namespace).or_default().addresses.insert(address, me.clone());
    }

    pub(super) fn release_address(&self, namespace: NamespaceId, address: IpAddr, me: &Owner) {
        let mut book = self.lock();
        let Some(here) = book.get_mut(&namespace) else { return };
        if here.addresses.get(&address).is_some_and(|owner| **owner == *me) {
            here.addresses.remove(&address);
        }
        prune(&mut book, namespace);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<NamespaceId, Namespace>> {
        // Every change is one insertion or removal, so there is no half of one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn prune(book: &mut HashMap<NamespaceId, Namespace>, namespace: NamespaceId) {
    if book.get(&namespace).is_some_and(|here| here.routes.is_empty() && here.addresses.is_empty()) {
        book.remove(&namespace);
    }
}

fn place((address, prefix): Network) -> (bool, u128, u8) {
    (address.is_ipv4(), key_of(address), prefix)
}

/// The network that an address with a prefix lies in.
pub(super) fn network_of(address: IpAddr, prefix: u8) -> Network {
    (address_of(key_of(address) & mask(prefix), address.is_ipv4()), prefix)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::TenantId;

    const HERE: NamespaceId = NamespaceId { device: 1, inode: 1 };

    fn owner(number: u64) -> Arc<Owner> {
        Arc::new(Owner { key: Key { tenant: TenantId(number as u32), number }, device: "tun".to_owned() })
    }

    proptest! {
        /// Against the plain reading: some other's network that has an address in common.
        #[test]
        fn an_overlap_is_found(claims in prop::collection::vec((any::<u16>(), 1u8..=16, 0u64..3), 0..20),
                               asked in (any::<u16>(), 1u8..=16)) {
            let network = |bits: u16, prefix: u8| {
                network_of(IpAddr::V4(u32::from(bits).wrapping_shl(16).into()), prefix)
            };
            let book = Book::default();
            let mut plain = HashMap::new();
            for (bits, prefix, owner) in claims {
                book.claim(HERE, network(bits, prefix), &self::owner(owner));
                plain.insert(network(bits, prefix), owner);
            }
            let asked = network(asked.0, asked.1);
            let overlaps = |other: &Network| {
                let short = mask(asked.1.min(other.1));
                key_of(asked.0) & short == key_of(other.0) & short
            };
            let expected = plain.iter().any(|(other, owner)| *owner != 0 && overlaps(other));
            prop_assert_eq!(book.holder(HERE, asked, &owner(0)).is_some(), expected);
            let elsewhere = NamespaceId { inode: 2, ..HERE };
            prop_assert!(book.holder(elsewhere, asked, &owner(0)).is_none());
        }
    }
}
