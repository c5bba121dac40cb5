//! The control plane's side of a tenant's TUN device.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;

use esp::SelectorPair;
use tracing::warn;

use crate::config::InterfaceAddress;
use crate::error::RouterError;
use crate::interval::Intervals;
use crate::prefix::{address_of, key_of, mask, prefixes};
use crate::sys;
use crate::sys::clear::ClearSocket;
use crate::sys::netlink::Netlink;

/// A TUN device and the routes that lead to it. Goes away when its queues are closed.
pub(crate) struct Device {
    link: Link,
    /// `None` when routes are the user's business.
    routes: Option<Routes>,
}

/// What a device is opened with.
pub(crate) struct Opened {
    pub(crate) device: Device,
    /// One per shard.
    pub(crate) queues: Vec<File>,
    pub(crate) clear: Option<ClearSocket>,
}

/// What of [`crate::Uplink::Tun`] describes the device.
pub(crate) struct DeviceConfig<'a> {
    pub(crate) name: &'a str,
    pub(crate) netns: Option<&'a str>,
    pub(crate) addresses: &'a [InterfaceAddress],
    pub(crate) mtu: u16,
    pub(crate) routes: bool,
    pub(crate) clear_device: Option<&'a str>,
}

impl Device {
    /// Creates the device with one queue per shard.
    pub(crate) fn open(config: &DeviceConfig<'_>, queues: usize) -> Result<Opened, RouterError> {
        if config.mtu < MIN_MTU {
            let reason = format!("{} is less than {MIN_MTU}, which every IPv4 host must take", config.mtu);
            return Err(RouterError::Config { field: "uplink.tun.mtu", reason });
        }
        sys::netns::within(config.netns, || Self::open_here(config, queues)).map_err(|failure: Failure| {
            RouterError::Tun { name: config.name.to_owned(), step: failure.step, source: failure.source }
        })
    }

    fn open_here(config: &DeviceConfig<'_>, queues: usize) -> Result<Opened, Failure> {
        let queues = sys::tun::open(config.name, queues).map_err(at("opening /dev/net/tun"))?;
        let mut netlink = Netlink::open().map_err(at("opening netlink"))?;
        let index = netlink.index_of(config.name).map_err(at("finding the device"))?;
        netlink.bring_up(index, u32::from(config.mtu)).map_err(at("bringing it up"))?;
        for InterfaceAddress { address, prefix } in config.addresses {
            netlink
                .add_address(index, *address, *prefix)
                .map_err(at(&format!("adding address {address}/{prefix}")))?;
        }
        let clear = config.clear_device.map(ClearSocket::open).transpose();
        let clear = clear.map_err(at("opening the device for packets in the clear"))?;
        let link = Link { name: config.name.to_owned(), index, netlink };
        let device = Self { link, routes: config.routes.then(Routes::default) };
        Ok(Opened { device, queues, clear })
    }

    /// Leads the remote networks of a tunnel to the device.
    ///
    /// Not the default route: it would also catch the tunnel's own packets. A failure is logged; the tunnel still works
    /// for those who route by hand.
    pub(crate) fn add_routes(&mut self, selectors: &SelectorPair) {
        let Some(routes) = &mut self.routes else { return };
        for network in networks(selectors) {
            let users = routes.networks.entry(network).or_default();
            *users += 1;
            if *users == 1 {
                for piece in routes.pieces(network) {
                    self.link.add(routes, piece);
                }
            }
        }
    }

    /// Undoes [`Device::add_routes`].
    pub(crate) fn remove_routes(&mut self, selectors: &SelectorPair) {
        let Some(routes) = &mut self.routes else { return };
        for network in networks(selectors) {
            let Some(users) = routes.networks.get_mut(&network) else { continue };
            *users -= 1;
            if *users == 0 {
                routes.networks.remove(&network);
                for piece in routes.pieces(network) {
                    self.link.remove(routes, piece);
                }
            }
        }
    }

    /// Keeps these addresses, of IPv4 and of IPv6, out of all routes: the kernel forwards their packets by its others.
    pub(crate) fn exclude(&mut self, v4: Intervals, v6: Intervals) {
        let Some(routes) = &mut self.routes else { return };
        if (&routes.without_v4, &routes.without_v6) == (&v4, &v6) {
            return;
        }
        let networks: Vec<_> = routes.networks.keys().copied().collect();
        let before: Vec<_> = networks.iter().flat_map(|network| routes.pieces(*network)).collect();
        (routes.without_v4, routes.without_v6) = (v4, v6);
        // The new ones first, so that what stays protected never has no route.
        let after: Vec<_> = networks.iter().flat_map(|network| routes.pieces(*network)).collect();
        for piece in after {
            self.link.add(routes, piece);
        }
        for piece in before {
            self.link.remove(routes, piece);
        }
    }
}

/// The device in the eyes of the kernel.
struct Link {
    name: String,
    index: u32,
    netlink: Netlink,
}

/// The routes that lead to the device.
#[derive(Default)]
struct Routes {
    /// Networks asked for, with the number of their users.
    networks: HashMap<Network, usize>,
    /// Routes in place, with the number of networks that they are a piece of.
    installed: HashMap<Network, usize>,
    /// Addresses that no route may cover.
    without_v4: Intervals,
    without_v6: Intervals,
}

type Network = (IpAddr, u8);

impl Routes {
    /// What of a network has a route: usually the whole of it.
    fn pieces(&self, network: Network) -> Vec<Network> {
        let v4 = network.0.is_ipv4();
        let without = if v4 { &self.without_v4 } else { &self.without_v6 };
        if without.is_empty() {
            return vec![network];
        }
        let low = key_of(network.0);
        let mut left = Intervals::default();
        left.add(low, low | !mask(network.1));
        left.subtract(without);
        left.prefixes().map(|(key, prefix)| (address_of(key, v4), prefix)).collect()
    }
}

impl Link {
    fn add(&mut self, routes: &mut Routes, (network, prefix): Network) {
        let users = routes.installed.entry((network, prefix)).or_default();
        *users += 1;
        if *users == 1
            && let Err(error) = self.netlink.add_route(self.index, network, prefix)
        {
            warn!(device = %self.name, %network, prefix, %error, "cannot add route");
        }
    }

    fn remove(&mut self, routes: &mut Routes, (network, prefix): Network) {
        let Some(users) = routes.installed.get_mut(&(network, prefix)) else { return };
        *users -= 1;
        if *users == 0 {
            routes.installed.remove(&(network, prefix));
            if let Err(error) = self.netlink.remove_route(self.index, network, prefix) {
                warn!(device = %self.name, %network, prefix, %error, "cannot remove route");
            }
        }
    }
}

/// RFC 791: every IPv4 host takes packets of 576 octets.
const MIN_MTU: u16 = 576;

fn networks(selectors: &SelectorPair) -> impl Iterator<Item = (IpAddr, u8)> {
    selectors.remote.iter().flat_map(|selector| {
        let v4 = selector.start.is_ipv4();
        prefixes(selector)
            .into_iter()
            .filter(|(_, prefix)| *prefix > 0)
            .map(move |(key, prefix)| (address_of(key, v4), prefix))
    })
}

/// A step that failed.
struct Failure {
    step: String,
    source: io::Error,
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        Self { step: "entering the network namespace".to_owned(), source }
    }
}

fn at(step: &str) -> impl FnOnce(io::Error) -> Failure {
    let step = step.to_owned();
    move |source| Failure { step, source }
}
