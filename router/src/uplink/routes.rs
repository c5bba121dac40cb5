//! The routes that lead to a device.
//!
//! They are in the main table of the namespace, for whoever sends there to find. A route that is there already stays,
//! whosever it is, and so does what another tenant's device was given first: such a network goes to a table of the device,
//! which only packets from the device's addresses, or bound to the device, are held against. When the main table is free
//! again the route moves there.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;

use super::book::{Book, network_of};
use super::device::Link;
use super::own_table::{self, OwnTable};
use super::status::{RefusedRoute, RouteRefusal};
use super::wish::{Changes, Holes, Network};
use crate::interval::Intervals;
use crate::prefix::{address_of, key_of, mask};
use crate::sys::netlink::MAIN_TABLE;

/// The routes of a device.
#[derive(Default)]
pub(super) struct Routes {
    /// Networks asked for.
    networks: HashSet<Network>,
    /// What of them has a route, or should have.
    pieces: HashMap<Network, Piece>,
    /// Those whose place is not in the main table.
    refused: BTreeSet<Network>,
    /// Addresses that no route may cover.
    without: Holes,
    own: OwnTable,
}

struct Piece {
    /// Networks that it is a piece of.
    users: usize,
    place: Place,
}

/// Where a route is.
enum Place {
    Main,
    Own(RouteRefusal),
    Nowhere(RouteRefusal),
}

impl Place {
    /// The table that it is in.
    fn table(&self, link: &Link) -> Option<u32> {
        match self {
            Self::Main => Some(MAIN_TABLE),
            Self::Own(_) => Some(own_table::number(link.index)),
            Self::Nowhere(_) => None,
        }
    }

    fn refusal(&self) -> Option<&RouteRefusal> {
        match self {
            Self::Main => None,
            Self::Own(refusal) | Self::Nowhere(refusal) => Some(refusal),
        }
    }
}

impl Routes {
    /// Leads the networks of the device's addresses to it.
    pub(super) fn add_connected(&mut self, link: &mut Link, networks: Vec<Network>, book: &Book) {
        for network in networks {
            self.add(link, network, book);
        }
    }

    /// The new routes first, so that what stays protected never has none.
    pub(super) fn apply(&mut self, link: &mut Link, changes: Changes, book: &Book) {
        for network in changes.added {
            if self.networks.insert(network) {
                for piece in self.pieces_of(network) {
                    self.add(link, piece, book);
                }
            }
        }
        if let Some(without) = changes.without.filter(|without| *without != self.without) {
            let networks: Vec<_> = self.networks.iter().copied().collect();
            let before: Vec<_> = networks.iter().flat_map(|network| self.pieces_of(*network)).collect();
            self.without = without;
            let after: Vec<_> = networks.iter().flat_map(|network| self.pieces_of(*network)).collect();
            for piece in after {
                self.add(link, piece, book);
            }
            for piece in before {
                self.remove(link, piece, book);
            }
        }
        for network in changes.removed {
            if self.networks.remove(&network) {
                for piece in self.pieces_of(network) {
                    self.remove(link, piece, book);
                }
            }
        }
    }

    /// Tries again what was refused.
    pub(super) fn retry(&mut self, link: &mut Link, book: &Book) {
        for network in self.refused.clone() {
            if let Err(refusal) = to_main(link, network, book) {
                if let Some(Piece { place: Place::Own(old) | Place::Nowhere(old), .. }) =
                    self.pieces.get_mut(&network)
                {
                    *old = refusal;
                }
                continue;
            }
            self.refused.remove(&network);
            let Some(piece) = self.pieces.get_mut(&network) else { continue };
            if let Place::Own(_) = std::mem::replace(&mut piece.place, Place::Main) {
                self.own.remove(link, network);
            }
        }
    }

    /// Puts every route in its place again, whether or not it is still there.
    pub(super) fn reinstate(&mut self, link: &mut Link, book: &Book) {
        for network in self.pieces.keys().copied().collect::<Vec<_>>() {
            let Some(mut piece) = self.pieces.remove(&network) else { continue };
            self.displace(link, network, &piece.place, book);
            piece.place = self.settle(link, network, book);
            self.pieces.insert(network, piece);
        }
    }

    /// Whether the kernel has taken the routes away. It does that with all of a family, so one of each tells: one that can
    /// be added was not there.
    pub(super) fn are_gone(&self, link: &mut Link) -> bool {
        [true, false].into_iter().any(|v4| {
            let mut of_family = self.pieces.iter().filter(|(network, _)| network.0.is_ipv4() == v4);
            let placed = of_family.find_map(|(network, piece)| Some((*network, piece.place.table(link)?)));
            placed.is_some_and(|(network, table)| link.netlink.add_route(table, link.index, network).is_ok())
        })
    }

    /// Takes everything out of the book, and the rules out of the kernel. The routes go with the device.
    pub(super) fn withdraw(&mut self, link: &mut Link, book: &Book) {
        for (network, piece) in self.pieces.drain() {
            if matches!(piece.place, Place::Main) {
                book.release(link.namespace, network, &link.owner);
            }
        }
        self.own.withdraw(link);
    }

    /// Up to so many refused routes, and how many there are.
    pub(super) fn refused(&self, most: usize) -> (Vec<RefusedRoute>, usize) {
        let shown = self.refused.iter().take(most).filter_map(|(address, prefix)| {
            let place = &self.pieces.get(&(*address, *prefix))?.place;
            let by_source = matches!(place, Place::Own(_));
            let reason = place.refusal()?.clone();
            Some(RefusedRoute { network: *address, prefix: *prefix, reason, by_source })
        });
        (shown.collect(), self.refused.len())
    }

    /// What of a network has a route: usually the whole of it.
    fn pieces_of(&self, network: Network) -> Vec<Network> {
        let v4 = network.0.is_ipv4();
        let without = if v4 { &self.without.0 } else { &self.without.1 };
        if without.is_empty() {
            return vec![network];
        }
        let low = key_of(network.0);
        let mut left = Intervals::default();
        left.add(low, low | !mask(network.1));
        left.subtract(without);
        left.prefixes().map(|(key, prefix)| (address_of(key, v4), prefix)).collect()
    }

    fn add(&mut self, link: &mut Link, network: Network, book: &Book) {
        match self.pieces.get_mut(&network) {
            Some(piece) => piece.users += 1,
            None => {
                let place = self.settle(link, network, book);
                self.pieces.insert(network, Piece { users: 1, place });
            }
        }
    }

    fn remove(&mut self, link: &mut Link, network: Network, book: &Book) {
        let Some(piece) = self.pieces.get_mut(&network) else { return };
        piece.users -= 1;
        if piece.users == 0
            && let Some(piece) = self.pieces.remove(&network)
        {
            self.displace(link, network, &piece.place, book);
        }
    }

    /// Gives a network the best place there is.
    fn settle(&mut self, link: &mut Link, network: Network, book: &Book) -> Place {
        let Err(refusal) = to_main(link, network, book) else { return Place::Main };
        self.refused.insert(network);
        let (address, prefix) = network;
        tracing::warn!(device = %link.owner.device, network = %address, prefix, %refusal, "no route to the device");
        if !matches!(refusal, RouteRefusal::Tenant { .. } | RouteRefusal::Host) {
            return Place::Nowhere(refusal);
        }
        match self.own.add(link, network) {
            Ok(()) => Place::Own(refusal),
            Err(error) => {
                tracing::warn!(device = %link.owner.device, %error, "no routing table of its own either");
                Place::Nowhere(refusal)
            }
        }
    }

    fn displace(&mut self, link: &mut Link, network: Network, place: &Place, book: &Book) {
        match place {
            Place::Main => {
                book.release(link.namespace, network, &link.owner);
                if let Err(error) = link.netlink.remove_route(MAIN_TABLE, link.index, network) {
                    tracing::debug!(device = %link.owner.device, network = %network.0, %error, "cannot remove route");
                }
            }
            Place::Own(_) => self.own.remove(link, network),
            Place::Nowhere(_) => {}
        }
        self.refused.remove(&network);
    }
}

/// Puts a route into the main table, unless it is somebody else's place.
fn to_main(link: &mut Link, network: Network, book: &Book) -> Result<(), RouteRefusal> {
    if let Some(listen) = &link.listen {
        let (address, prefix) = network;
        if prefix < broadest(address) {
            return Err(RouteRefusal::TooBroad);
        }
        let inside = |ours: &&IpAddr| network_of(**ours, prefix) == network;
        let specific =
            listen.iter().filter(|ours| ours.is_ipv4() == address.is_ipv4() && !ours.is_unspecified());
        if let Some(ours) =
            specific.filter(|ours| !link.addresses.iter().any(|a| a.address == **ours)).find(inside)
        {
            return Err(RouteRefusal::Swallows(*ours));
        }
    }
    if let Some(holder) = book.holder(link.namespace, network, &link.owner) {
        return Err(RouteRefusal::Tenant { device: holder.device.clone() });
    }
    match link.netlink.add_route(MAIN_TABLE, link.index, network) {
        Ok(()) => {
            book.claim(link.namespace, network, &link.owner);
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(RouteRefusal::Host),
        Err(error) => Err(RouteRefusal::System(error.to_string())),
    }
}

/// The shortest prefix that a route in the node's own namespace may have: that of the largest private networks, 10.0.0.0/8
/// (RFC 1918) and fc00::/7 (RFC 4193). Anything larger would hold most of what the node itself sends to.
fn broadest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 8 } else { 7 }
}
