//! Who may come from where, kept apart by how their negotiations open: the first message tells it, and a peer is spoken to in
//! the version and the mode that it is configured with alone.

use std::net::IpAddr;
use std::sync::Arc;

use ike::config::Opening;

use crate::catalog::callers::{Callers, Origins};
use crate::cidr::Cidr;
use crate::host_name::{HostName, Names};
use crate::peer::Peer;

/// The peers by how they open, and by where they may come from.
#[derive(Clone, Default)]
pub(crate) struct Openings {
    init: Origins,
    main: Origins,
    aggressive: Origins,
}

impl Openings {
    pub(crate) fn add(&mut self, peer: &Arc<Peer>) {
        self.of_mut(peer.spec.ike.opening()).add(peer);
    }

    pub(crate) fn remove(&mut self, peer: &Arc<Peer>) {
        self.of_mut(peer.spec.ike.opening()).remove(peer);
    }

    /// Those who open like this.
    pub(crate) const fn of(&self, opening: Opening) -> &Origins {
        match opening {
            Opening::Init => &self.init,
            Opening::Main => &self.main,
            Opening::Aggressive => &self.aggressive,
        }
    }

    const fn of_mut(&mut self, opening: Opening) -> &mut Origins {
        match opening {
            Opening::Init => &mut self.init,
            Opening::Main => &mut self.main,
            Opening::Aggressive => &mut self.aggressive,
        }
    }

    fn all(&self) -> [&Origins; 3] {
        Opening::ALL.map(|opening| self.of(opening))
    }

    /// Those who may open like this from `address`.
    pub(crate) fn callers(&self, address: IpAddr, opening: Opening, names: &Names) -> Callers {
        self.of(opening).callers(address, names)
    }

    /// How those open who may come from `address`.
    pub(crate) fn in_use(&self, address: IpAddr, names: &Names) -> Vec<Opening> {
        let used = |opening: &Opening| self.of(*opening).from(address, names).next().is_some();
        Opening::ALL.into_iter().filter(used).collect()
    }

    /// The addresses of a subnet that peers are configured with, or their names resolve to, and those peers.
    pub(crate) fn within(&self, subnet: Cidr, names: &Names) -> impl Iterator<Item = (IpAddr, &Arc<Peer>)> {
        self.all().into_iter().flat_map(move |origins| origins.within(subnet, names))
    }

    /// The peers that are configured with the very address or a name of it. One may be there twice.
    pub(crate) fn at(&self, address: IpAddr, names: &Names) -> impl Iterator<Item = &Arc<Peer>> {
        self.all().into_iter().flat_map(move |origins| origins.at(address, names))
    }

    /// Whether a peer is configured with the name.
    pub(crate) fn has_name(&self, name: &HostName) -> bool {
        self.all().into_iter().any(|origins| origins.has_name(name))
    }

    /// How many names peers are configured with, or some more: one may be there with each opening.
    pub(crate) fn names(&self) -> usize {
        self.all().into_iter().map(Origins::names).sum()
    }
}
