//! What the control plane wants of a tenant's device, and what of it the device's thread has not seen yet.
//!
//! The registry changes a wish under its lock and never waits; the thread takes what has changed when it comes to it. So
//! whatever happens meanwhile is done in one go, and what waits is bounded by the networks there are.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use esp::SelectorPair;

use super::device::DeviceConfig;
use super::nudge::{Key, Nudge, Nudges};
use crate::interval::Intervals;
use crate::model::TunnelId;
use crate::prefix::{address_of, prefixes};
use crate::registry::Lead;

/// A network by its first address and the length of its prefix.
pub(crate) type Network = (IpAddr, u8);

/// What is wanted of one device. When it is dropped the device goes.
pub(crate) struct Wish {
    key: Key,
    nudges: Nudges,
    config: Arc<DeviceConfig>,
    /// Networks to lead to the device, with the number of their users.
    networks: HashMap<Network, usize>,
    /// Addresses of IPv4 and of IPv6 that no route may cover.
    without: Holes,
    changed: HashSet<Network>,
    holes_changed: bool,
    /// A tunnel has, or had, several pairs: their flows need the kernel's own choice of the queue.
    left_to_kernel: bool,
    /// Tunnels that are to be led when they have been up for a while.
    late: HashSet<TunnelId>,
    /// The thread knows that something has changed.
    announced: bool,
}

/// Addresses of IPv4 and of IPv6.
pub(crate) type Holes = (Intervals, Intervals);

/// What has changed since it was last asked.
pub(crate) struct Changes {
    pub(super) added: Vec<Network>,
    pub(super) removed: Vec<Network>,
    pub(super) without: Option<Holes>,
    pub(super) left_to_kernel: bool,
    /// By which queues packets are to come, of a device that is new.
    pub(crate) leads: Vec<Lead>,
}

impl Wish {
    /// Wants a device.
    pub(crate) fn new(key: Key, nudges: Nudges, config: DeviceConfig) -> Self {
        let mut wish = Self {
            key,
            nudges,
            config: Arc::new(config),
            networks: HashMap::new(),
            without: Holes::default(),
            changed: HashSet::new(),
            holes_changed: false,
            left_to_kernel: false,
            late: HashSet::new(),
            announced: false,
        };
        wish.announce();
        wish
    }

    /// Wants the remote networks of a tunnel led to the device. Not the default route: it would also catch the tunnels' own
    /// packets.
    pub(crate) fn add_routes(&mut self, selectors: &SelectorPair) {
        if !self.config.routes {
            return;
        }
        for network in networks(selectors) {
            let users = self.networks.entry(network).or_default();
            *users += 1;
            if *users == 1 {
                self.changed.insert(network);
                self.announce();
            }
        }
    }

    /// Undoes [`Wish::add_routes`].
    pub(crate) fn remove_routes(&mut self, selectors: &SelectorPair) {
        if !self.config.routes {
            return;
        }
        for network in networks(selectors) {
            let Some(users) = self.networks.get_mut(&network) else { continue };
            *users -= 1;
            if *users == 0 {
                self.networks.remove(&network);
                self.changed.insert(network);
                self.announce();
            }
        }
    }

    /// Keeps these addresses out of all routes: the kernel forwards their packets by its others.
    pub(crate) fn exclude(&mut self, holes: Holes) {
        if self.without != holes {
            self.without = holes;
            self.holes_changed = true;
            self.announce();
        }
    }

    /// Wants the kernel to choose the queue of each packet, for as long as a device is wanted.
    pub(crate) fn leave_to_kernel(&mut self) {
        if !self.left_to_kernel {
            self.left_to_kernel = true;
            self.announce();
        }
    }

    /// Wants a tunnel led when its device is looked at next.
    pub(crate) fn lead_late(&mut self, tunnel: TunnelId) {
        self.late.insert(tunnel);
    }

    /// Up to so many tunnels that are to be led now.
    pub(crate) fn take_late(&mut self, most: usize) -> Vec<TunnelId> {
        let some: Vec<TunnelId> = self.late.iter().copied().take(most).collect();
        for tunnel in &some {
            self.late.remove(tunnel);
        }
        some
    }

    /// What the device shall be.
    pub(crate) fn config(&self) -> &Arc<DeviceConfig> {
        &self.config
    }

    pub(crate) fn key(&self) -> Key {
        self.key
    }

    /// What has changed since the last time, or everything, for a device that is new.
    pub(crate) fn take(&mut self, everything: bool) -> Changes {
        self.announced = false;
        let changed = std::mem::take(&mut self.changed);
        let holes_changed = std::mem::take(&mut self.holes_changed);
        let (left_to_kernel, leads) = (self.left_to_kernel, Vec::new());
        if everything {
            let added = self.networks.keys().copied().collect();
            let without = Some(self.without.clone());
            return Changes { added, removed: Vec::new(), without, left_to_kernel, leads };
        }
        let (added, removed) = changed.into_iter().partition(|network| self.networks.contains_key(network));
        let without = holes_changed.then(|| self.without.clone());
        Changes { added, removed, without, left_to_kernel, leads }
    }

    fn announce(&mut self) {
        if !self.announced {
            self.announced = true;
            self.nudges.send(Nudge::Changed(self.key));
        }
    }
}

impl Drop for Wish {
    fn drop(&mut self) {
        self.nudges.send(Nudge::Gone(self.key));
    }
}

fn networks(selectors: &SelectorPair) -> impl Iterator<Item = Network> {
    selectors.remote.iter().flat_map(|selector| {
        let v4 = selector.start.is_ipv4();
        prefixes(selector)
            .into_iter()
            .filter(|(_, prefix)| *prefix > 0)
            .map(move |(key, prefix)| (address_of(key, v4), prefix))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::sync::mpsc::Receiver;

    use esp::Selector;

    use super::*;
    use crate::model::TenantId;

    fn wish() -> (Wish, Receiver<Nudge>) {
        let (nudges, nudged) = Nudges::new();
        let config = DeviceConfig {
            name: "tun".to_owned(),
            netns: None,
            addresses: Vec::new(),
            mtu: 1400,
            routes: true,
            clear_device: None,
        };
        (Wish::new(Key { tenant: TenantId(1), number: 7 }, nudges, config), nudged)
    }

    fn selectors(network: [u8; 4], prefix: u8) -> SelectorPair {
        let remote = vec![Selector::subnet(IpAddr::from(network), prefix)];
        SelectorPair { local: Vec::new(), remote }
    }

    #[test]
    fn whatever_happens_is_announced_once_and_comes_down_to_what_is_left() {
        let (mut wish, nudged) = wish();
        let (first, second) = (selectors([10, 1, 0, 0], 16), selectors([10, 2, 0, 0], 16));
        for _ in 0..1000 {
            wish.add_routes(&first);
            wish.add_routes(&second);
            wish.remove_routes(&first);
        }
        wish.add_routes(&selectors([0, 0, 0, 0], 0));
        assert_eq!(nudged.try_iter().count(), 1, "one nudge waits, however much there is to do");
        let changes = wish.take(false);
        assert_eq!(changes.added, [(IpAddr::from([10, 2, 0, 0]), 16)], "and never the default route");
        assert_eq!(changes.removed, [(IpAddr::from([10, 1, 0, 0]), 16)]);
        assert!(changes.without.is_none());
        for _ in 0..999 {
            wish.remove_routes(&second);
        }
        assert_eq!(nudged.try_iter().count(), 0, "a user is left");
        wish.remove_routes(&second);
        assert_eq!(nudged.try_iter().count(), 1);
        assert_eq!(wish.take(true).added, []);
        drop(wish);
        assert!(matches!(nudged.try_recv(), Ok(Nudge::Gone(Key { number: 7, .. }))));
    }
}
