//! The control plane's side of a tenant's TUN device.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::IpAddr;

use esp::SelectorPair;
use tracing::warn;

use crate::config::InterfaceAddress;
use crate::error::RouterError;
use crate::prefix::{address_of, prefixes};
use crate::sys;
use crate::sys::netlink::Netlink;

/// A TUN device: its name, and the routes that lead to it. Goes away when its queues are closed.
pub(crate) struct Device {
    name: String,
    index: u32,
    netlink: Netlink,
    /// Routes kept, with the number of their users; `None` when routes are the user's business.
    routes: Option<HashMap<(IpAddr, u8), usize>>,
}

/// What of [`crate::Uplink::Tun`] describes the device.
pub(crate) struct DeviceConfig<'a> {
    pub(crate) name: &'a str,
    pub(crate) netns: Option<&'a str>,
    pub(crate) addresses: &'a [InterfaceAddress],
    pub(crate) mtu: u16,
    pub(crate) routes: bool,
}

impl Device {
    /// Creates the device with one queue per shard.
    pub(crate) fn open(config: &DeviceConfig<'_>, queues: usize) -> Result<(Self, Vec<File>), RouterError> {
        if config.mtu < MIN_MTU {
            let reason = format!("{} is less than {MIN_MTU}, which every IPv4 host must take", config.mtu);
            return Err(RouterError::Config { field: "uplink.tun.mtu", reason });
        }
        sys::netns::within(config.netns, || Self::open_here(config, queues)).map_err(|failure: Failure| {
            RouterError::Tun { name: config.name.to_owned(), step: failure.step, source: failure.source }
        })
    }

    fn open_here(config: &DeviceConfig<'_>, queues: usize) -> Result<(Self, Vec<File>), Failure> {
        let files = sys::tun::open(config.name, queues).map_err(at("opening /dev/net/tun"))?;
        let mut netlink = Netlink::open().map_err(at("opening netlink"))?;
        let index = netlink.index_of(config.name).map_err(at("finding the device"))?;
        netlink.bring_up(index, u32::from(config.mtu)).map_err(at("bringing it up"))?;
        for InterfaceAddress { address, prefix } in config.addresses {
            netlink
                .add_address(index, *address, *prefix)
                .map_err(at(&format!("adding address {address}/{prefix}")))?;
        }
        let routes = config.routes.then(HashMap::new);
        Ok((Self { name: config.name.to_owned(), index, netlink, routes }, files))
    }

    /// Leads the remote networks of a tunnel to the device.
    ///
    /// Not the default route: it would also catch the tunnel's own packets. A failure is logged; the tunnel still works
    /// for those who route by hand.
    pub(crate) fn add_routes(&mut self, selectors: &SelectorPair) {
        let Some(routes) = &mut self.routes else { return };
        for (network, prefix) in networks(selectors) {
            let users = routes.entry((network, prefix)).or_default();
            *users += 1;
            if *users == 1
                && let Err(error) = self.netlink.add_route(self.index, network, prefix)
            {
                warn!(device = %self.name, %network, prefix, %error, "cannot add route");
            }
        }
    }

    /// Undoes [`Device::add_routes`].
    pub(crate) fn remove_routes(&mut self, selectors: &SelectorPair) {
        let Some(routes) = &mut self.routes else { return };
        for (network, prefix) in networks(selectors) {
            let Some(users) = routes.get_mut(&(network, prefix)) else { continue };
            *users -= 1;
            if *users == 0 {
                routes.remove(&(network, prefix));
                if let Err(error) = self.netlink.remove_route(self.index, network, prefix) {
                    warn!(device = %self.name, %network, prefix, %error, "cannot remove route");
                }
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
