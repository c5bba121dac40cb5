//! The routing table of one device, for networks that the main table has another way to.
//!
//! It is asked before the main table, but only for packets that say whose they are: those from an address of the device
//! and those of sockets that are bound to it. So what answers on one tenant's device never leaves by another's. Most
//! devices have none, and then there are no rules either.

use std::io;
use std::net::IpAddr;

use super::device::Link;
use super::wish::Network;
use crate::sys::netlink::RuleFor;

/// What is in the table. The routes go with the device; the rules do not.
#[derive(Default)]
pub(super) struct OwnTable {
    /// Routes of IPv6 and of IPv4. There are rules for a family while it has some.
    routes: [usize; 2],
}

impl OwnTable {
    pub(super) fn add(&mut self, link: &mut Link, network: Network) -> io::Result<()> {
        let v4 = network.0.is_ipv4();
        let Some(routes) = self.routes.get_mut(usize::from(v4)) else { return Ok(()) };
        if *routes == 0 {
            add_rules(link, v4)?;
        }
        let added = link.netlink.add_route(number(link.index), link.index, network);
        if added.is_ok() {
            *routes += 1;
        } else if *routes == 0 {
            remove_rules(link, v4);
        }
        added
    }

    pub(super) fn remove(&mut self, link: &mut Link, network: Network) {
        let v4 = network.0.is_ipv4();
        if let Err(error) = link.netlink.remove_route(number(link.index), link.index, network) {
            tracing::debug!(device = %link.owner.device, network = %network.0, %error, "cannot remove route");
        }
        let Some(routes) = self.routes.get_mut(usize::from(v4)) else { return };
        *routes = routes.saturating_sub(1);
        if *routes == 0 {
            remove_rules(link, v4);
        }
    }

    /// Takes the rules away, before the device goes.
    pub(super) fn withdraw(&mut self, link: &mut Link) {
        let [v6, v4] = std::mem::take(&mut self.routes);
        for (routes, v4) in [(v6, false), (v4, true)] {
            if routes > 0 {
                remove_rules(link, v4);
            }
        }
    }
}

fn add_rules(link: &mut Link, v4: bool) -> io::Result<()> {
    // Their tables are empty, so they do nothing but get more.
    link.netlink.remove_stale_rules(|netlink, table| {
        let index = table.checked_sub(FIRST_TABLE).filter(|index| *index < TABLES);
        let gone = |error: io::Error| error.raw_os_error() == Some(libc::ENODEV);
        index.is_some_and(|index| netlink.is_up(index).is_err_and(gone))
    })?;
    for rule in rules(&link.owner.device, &own_addresses(link, v4), v4) {
        match link.netlink.add_rule(number(link.index), &rule) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                remove_rules(link, v4);
                return Err(error);
            }
            _ => {}
        }
    }
    Ok(())
}

fn remove_rules(link: &mut Link, v4: bool) {
    for rule in rules(&link.owner.device, &own_addresses(link, v4), v4) {
        if let Err(error) = link.netlink.remove_rule(number(link.index), &rule) {
            tracing::debug!(device = %link.owner.device, %error, "cannot remove a routing rule");
        }
    }
}

fn own_addresses(link: &Link, v4: bool) -> Vec<IpAddr> {
    link.addresses.iter().map(|own| own.address).filter(|address| address.is_ipv4() == v4).collect()
}

fn rules<'a>(device: &'a str, addresses: &[IpAddr], v4: bool) -> Vec<RuleFor<'a>> {
    let from = addresses.iter().map(|address| RuleFor::From(*address));
    std::iter::once(RuleFor::BoundTo(device, v4)).chain(from).collect()
}

/// The table of a device. Numbers of interfaces are unique in a namespace and so are these, whoever else makes devices.
pub(super) fn number(index: u32) -> u32 {
    FIRST_TABLE.wrapping_add(index)
}

/// Far from the numbers that people give; the numbers of interfaces are counted up from here.
const FIRST_TABLE: u32 = 0x4300_0000;
const TABLES: u32 = 1 << 24;
