//! Who may send a first message from an address, as far as it matters before anybody knows who has: the proposals, and
//! whether ESP is to go in UDP; and where the address alone tells who it may be, those peers. Kept so that the answer costs the
//! same however many peers there are.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use ike::proposal::{Candidates, Likely};

use crate::catalog::group::Group;
use crate::cidr::Cidr;
use crate::host_name::{HostName, Names};
use crate::name::SecretName;
use crate::peer::Peer;
use crate::remote::RemoteAddress;

/// Those who may have sent a first message.
#[derive(Clone, Debug)]
pub struct Callers {
    /// Their proposals.
    pub candidates: Arc<Candidates>,
    /// All of them want ESP in UDP whether or not there is a NAT.
    pub force_encapsulation: bool,
}

/// The peers by where they may come from.
#[derive(Clone, Default)]
pub(crate) struct Origins {
    /// Single addresses.
    hosts: BTreeMap<IpAddr, Group>,
    /// Those that names resolve to.
    named: HashMap<HostName, Group>,
    /// Subnets, by family and length: at most one look-up for each length that is in use.
    nets: BTreeMap<(bool, u8), HashMap<Cidr, Group>>,
    anywhere: Group,
}

impl Origins {
    pub(crate) fn add(&mut self, peer: &Arc<Peer>) {
        let spec = &peer.spec;
        if spec.remote_addresses.is_empty() {
            self.anywhere.add(peer, Likely::Possible);
        }
        for remote in &spec.remote_addresses {
            match remote {
                RemoteAddress::Host(address, _) => {
                    self.hosts.entry(*address).or_default().add(peer, Likely::Near);
                }
                RemoteAddress::Name(name, _) => {
                    self.named.entry(name.clone()).or_default().add(peer, Likely::Near);
                }
                RemoteAddress::Subnet(subnet) => {
                    let nets = self.nets.entry((subnet.is_ipv4(), subnet.prefix())).or_default();
                    nets.entry(*subnet).or_default().add(peer, Likely::Possible);
                }
            }
        }
    }

    pub(crate) fn remove(&mut self, peer: &Arc<Peer>) {
        let spec = &peer.spec;
        if spec.remote_addresses.is_empty() {
            self.anywhere.empties(peer, Likely::Possible);
        }
        for remote in &spec.remote_addresses {
            match remote {
                RemoteAddress::Host(address, _) => {
                    if self.hosts.get_mut(address).is_some_and(|group| group.empties(peer, Likely::Near)) {
                        self.hosts.remove(address);
                    }
                }
                RemoteAddress::Name(name, _) => {
                    if self.named.get_mut(name).is_some_and(|group| group.empties(peer, Likely::Near)) {
                        self.named.remove(name);
                    }
                }
                RemoteAddress::Subnet(subnet) => {
                    let length = (subnet.is_ipv4(), subnet.prefix());
                    let Some(nets) = self.nets.get_mut(&length) else { continue };
                    if nets.get_mut(subnet).is_some_and(|group| group.empties(peer, Likely::Possible)) {
                        nets.remove(subnet);
                    }
                    if nets.is_empty() {
                        self.nets.remove(&length);
                    }
                }
            }
        }
    }

    /// The groups of the very address, and those of subnets with it, the longest first, and of everywhere.
    fn groups(&self, address: IpAddr, names: &Names) -> (Vec<&Group>, impl Iterator<Item = &Group>) {
        let v4 = address.is_ipv4();
        let nets = self.nets.range((v4, 0)..=(v4, u8::MAX)).rev();
        let nets = nets.filter_map(move |((_, prefix), nets)| nets.get(&Cidr::truncated(address, *prefix)?));
        let anywhere = (!self.anywhere.is_empty()).then_some(&self.anywhere);
        (self.exact(address, names).collect(), nets.chain(anywhere))
    }

    /// The peers that may come from `address`, those first that are configured the closest to it. One may be there twice.
    pub(crate) fn from(&self, address: IpAddr, names: &Names) -> impl Iterator<Item = &Arc<Peer>> {
        let (near, wide) = self.groups(address, names);
        near.into_iter().chain(wide).flat_map(Group::peers)
    }

    /// The secrets with the authorities of those who may come from `address` with a certificate, those first that are configured the closest
    /// to it. One may be there several times.
    pub(crate) fn authorities(&self, address: IpAddr, names: &Names) -> impl Iterator<Item = &SecretName> {
        let (near, wide) = self.groups(address, names);
        near.into_iter().chain(wide).flat_map(Group::authorities)
    }

    /// The peers that may come from all of a place, where there is one: those that have the very address, name or subnet, and those that
    /// have more than it. One may be there twice.
    pub(crate) fn around(&self, place: Option<&RemoteAddress>) -> impl Iterator<Item = &Arc<Peer>> {
        let exact = match place {
            Some(RemoteAddress::Host(address, _)) => self.hosts.get(address),
            Some(RemoteAddress::Name(name, _)) => self.named.get(name),
            Some(RemoteAddress::Subnet(_)) | None => None,
        };
        let subnet = place.and_then(RemoteAddress::subnet);
        let nets = subnet.into_iter().flat_map(|subnet| {
            let lengths = self.nets.range((subnet.is_ipv4(), 0)..=(subnet.is_ipv4(), subnet.prefix()));
            lengths
                .filter_map(move |((_, prefix), nets)| nets.get(&Cidr::truncated(subnet.first(), *prefix)?))
        });
        exact.into_iter().chain(nets).chain([&self.anywhere]).flat_map(Group::peers)
    }

    /// Those who may come from `address`.
    ///
    /// Where peers are configured with the very address they alone decide on UDP, and their proposals go first: whoever may
    /// come from anywhere is hardly the one that does.
    pub(crate) fn callers(&self, address: IpAddr, names: &Names) -> Callers {
        let (near, wide) = self.groups(address, names);
        let wide: Vec<&Group> = wide.collect();
        let deciding = if near.is_empty() { &wide } else { &near };
        let force = !deciding.is_empty() && deciding.iter().all(|group| group.is_forced());
        let candidates = match (near.as_slice(), wide.as_slice()) {
            ([], []) => Arc::default(),
            ([only], []) => only.candidates(Likely::Near),
            ([], [only]) => only.candidates(Likely::Possible),
            _ => {
                let mut all = Candidates::default();
                near.into_iter().for_each(|group| all.add_all(&group.candidates(Likely::Near)));
                wide.into_iter().for_each(|group| all.add_all(&group.candidates(Likely::Possible)));
                Arc::new(all)
            }
        };
        Callers { candidates, force_encapsulation: force }
    }

    /// The addresses of a subnet that peers are configured with, or their names resolve to, and those peers.
    pub(crate) fn within(&self, subnet: Cidr, names: &Names) -> impl Iterator<Item = (IpAddr, &Arc<Peer>)> {
        let hosts = self.hosts.range(subnet.first()..=subnet.last());
        let hosts = hosts.map(|(address, group)| (*address, group));
        let named = names.within(subnet).into_iter();
        let named = named.filter_map(|(address, name)| Some((address, self.named.get(&name)?)));
        hosts.chain(named).flat_map(|(address, group)| group.peers().map(move |peer| (address, peer)))
    }

    /// The peers that are configured with the very address or a name of it. One may be there twice.
    pub(crate) fn at(&self, address: IpAddr, names: &Names) -> impl Iterator<Item = &Arc<Peer>> {
        self.exact(address, names).flat_map(Group::peers)
    }

    /// Whether a peer is configured with the name.
    pub(crate) fn has_name(&self, name: &HostName) -> bool {
        self.named.contains_key(name)
    }

    /// How many names peers are configured with.
    pub(crate) fn names(&self) -> usize {
        self.named.len()
    }

    /// The groups of an address, and of the names that have resolved to it.
    fn exact(&self, address: IpAddr, names: &Names) -> impl Iterator<Item = &Group> {
        let named = names.at(address).into_iter().filter_map(|name| self.named.get(&name));
        self.hosts.get(&address).into_iter().chain(named)
    }
}
