//! A shard without sockets to receive by, and parts of the packet path by themselves: what the crate `bench` measures.
//!
//! What is measured is the code that a shard runs. Only the ends differ: datagrams are passed in, and what is sealed for the
//! network is thrown away.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use esp::ip::PacketInfo;
use esp::{SelectorPair, Spi};
use mio::{Poll, Token, Waker};
use tokio::sync::mpsc::{self, Receiver};

use super::core::{Core, CoreParts};
use super::sa::Sa;
use super::thread::WAKER;
#[cfg(test)]
use crate::command::Command;
use crate::command::CommandSender;
use crate::config::Uplink;
use crate::counters::{Counter, Counters};
use crate::datagram::Datagram;
use crate::directory::Directory;
use crate::error::RouterError;
use crate::events::{EventSink, unknown_spi_events};
use crate::forwarding::{Forwarding, Route, Target};
use crate::handoff;
use crate::huge_pages::HugePages;
use crate::model::{ChildSa, RouterEvent, TenantId, TunnelId};
use crate::options::Encapsulation;
use crate::path_mtu::PathMtu;
use crate::policy::Tunnels;
use crate::port::{Listener, Origin, Path, TOGETHER};
use crate::published::Reading;
use crate::registry::{Listing, Registry};
use crate::shard_port::ShardPort;
use crate::slots::Slots;
use crate::spis::Spis;
use crate::tunnel::Tunnel;
use crate::uplink::Nudges;

/// A shard that takes datagrams from its caller, with the control plane's book-keeping.
pub struct MemoryShard {
    core: Core,
    registry: Registry,
    events: Receiver<RouterEvent>,
    counters: Arc<Counters>,
    local: SocketAddr,
    /// The shard wakes nobody, but its waker wants to be registered somewhere.
    _poll: Poll,
    /// A shard whose commands have no sender ends.
    #[cfg_attr(not(test), allow(dead_code, reason = "kept, and used by tests"))]
    commands: CommandSender,
}

impl MemoryShard {
    /// A shard without tenants, in a process that has huge pages where these say so.
    pub fn new(huge_pages: Option<HugePages>) -> Result<Self, RouterError> {
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let Listener { natt_control, natt_shards, natt_fragmenting, .. } = Listener::open(address, 0, 0, 1)?;
        let ports = natt_shards.into_iter().zip(natt_fragmenting);
        let ports = ports.map(|(udp, fragmenting)| ShardPort::new(udp, fragmenting, None)).collect();
        let poll = Poll::new().map_err(RouterError::Io)?;
        let waker = Arc::new(Waker::new(poll.registry(), Token(WAKER)).map_err(RouterError::Io)?);
        let (sender, commands) = CommandSender::new(waker.clone());
        let (events_in, events) = mpsc::channel(EVENTS);
        let counters = Arc::new(Counters::new());
        let nudges = Nudges::new().0;
        let slots = Arc::new(Slots::new(SLOT));
        let tenants = Arc::<Directory>::default();
        let core = Core::new(CoreParts {
            id: 0,
            slots: slots.clone(),
            elsewhere: None,
            passed: None,
            slot_wait: Duration::ZERO,
            tenants: tenants.clone(),
            ports,
            counters: counters.clone(),
            events: EventSink::new(events_in, unknown_spi_events(), counters.clone()),
            commands,
            mailboxes: handoff::connect(2).into_iter().next().ok_or(RouterError::Stopped)?,
            peers: [waker.clone(), waker].into(),
            nudges: nudges.clone(),
        });
        let registry = Registry::new(Spis::new(slots, 1, 0), tenants, nudges, huge_pages);
        let local = natt_control.local();
        Ok(Self { core, registry, events, counters, local, _poll: poll, commands: sender })
    }

    /// Our address of the NAT traversal port.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// Enters a tenant whose packets are switched among its tunnels.
    pub fn add_tenant(&mut self, tenant: TenantId) -> Result<(), RouterError> {
        self.registry.add_tenant(tenant, Uplink::Hub)
    }

    /// An SPI for a pair to come.
    pub fn allocate_spi(&mut self) -> Option<Spi> {
        self.registry.spis.allocate(SLOT, self.local.ip())
    }

    /// Installs a pair and sends on it.
    pub fn install(&mut self, child: &ChildSa) -> Result<(), RouterError> {
        let path =
            Path { listener: 0, source: None, remote: child.remote, encapsulation: child.encapsulation };
        let mtu = PathMtu::new(child.remote.is_ipv6(), child.options.outer_mtu, None, self.core.now);
        let enlisted = self.registry.enlist(&Listing::from(child))?;
        enlisted.tunnel.activate(child.inbound_spi);
        let sa = Sa::new(child, enlisted, path, mtu)?;
        self.core.install(Box::new(sa));
        Ok(())
    }

    /// Tells of a tunnel that is configured, and whether it comes up when a packet wants it.
    #[cfg(test)]
    pub(crate) fn declare(
        &mut self,
        tenant: TenantId,
        tunnel: TunnelId,
        selectors: SelectorPair,
        on_demand: bool,
    ) -> Result<(), RouterError> {
        self.registry.declare(crate::model::TunnelConfig { tenant, tunnel, selectors, on_demand })
    }

    /// Removes a pair when the shard carries out its commands, as the control plane has it done.
    #[cfg(test)]
    #[allow(clippy::unwrap_used, reason = "of tests alone")]
    pub(crate) fn remove_later(&self, spi: Spi) {
        self.commands.send(crate::command::Command::Remove(spi)).unwrap();
    }

    /// Seals an inner packet on a pair that it was routed to a moment ago.
    #[cfg(test)]
    pub(crate) fn seal(&mut self, spi: Spi, tenant: TenantId, packet: &[u8]) {
        self.core.seal_here(spi, tenant, crate::came_from::CameFrom::Device, packet, None, None);
    }

    /// What is known of the slots, which the shard is told of later.
    #[cfg(test)]
    pub(crate) fn slots(&self) -> &Slots {
        &self.core.slots
    }

    /// An SPI of such a slot.
    #[cfg(test)]
    pub(crate) fn allocate_in(&mut self, slot: u8) -> Option<Spi> {
        self.registry.spis.allocate(slot, self.local.ip())
    }

    /// The shard hears that a slot is open, or that it is not.
    #[cfg(test)]
    pub(crate) fn told_of(&mut self, slot: u8, open: bool) {
        let command = if open { Command::OpenSlot(slot) } else { Command::CloseSlot(slot) };
        let _ = self.commands.send(command);
        self.core.run_commands();
        self.core.open_waiting();
    }

    /// A packet that another node passes on.
    #[cfg(test)]
    pub(crate) fn inner_in(&mut self, tenant: TenantId, packet: &[u8]) {
        if let Some(tenant) = self.core.tenants.get(tenant) {
            self.core.inner_in(&tenant, crate::came_from::CameFrom::Node, packet.to_vec());
        }
    }

    /// Removes a pair and gives its SPI back.
    pub fn remove(&mut self, spi: Spi) {
        self.core.remove(spi);
        self.registry.delist(spi);
        while self.events.try_recv().is_ok() {}
    }

    /// A datagram of the NAT traversal port, all the way: also out again, if it is for another tunnel.
    pub fn receive(&mut self, datagram: &mut [u8], from: SocketAddr) {
        self.core.received(datagram, self.origin(from));
    }

    fn origin(&self, from: SocketAddr) -> Origin {
        Origin { from, local: self.local, class: 0, encapsulation: Encapsulation::Udp, relayed: false }
    }

    /// Datagrams as they come from a socket, so many at a time as one call brings.
    pub fn receive_batches(&mut self, datagrams: &mut [Vec<u8>], from: SocketAddr) {
        let (_turn, origin) = (Reading::new(), self.origin(from));
        for some in datagrams.chunks_mut(TOGETHER) {
            let mut group = std::array::from_fn::<_, TOGETHER, _>(|_| (<&mut [u8]>::default(), origin));
            let count = some.len();
            for (place, datagram) in group.iter_mut().zip(some) {
                place.0 = datagram;
            }
            self.core.received_together(group.get_mut(..count).unwrap_or_default());
        }
    }

    /// Ends a turn, without sending what was sealed: so many packets of it. After [`MemoryShard::TURN`] packets at the latest, or
    /// the shard sends of itself.
    pub fn end_turn(&mut self) -> usize {
        self.core.now = Instant::now();
        while self.events.try_recv().is_ok() {}
        self.core.queue.discard()
    }

    /// How often something was counted.
    pub fn counted(&self, counter: Counter) -> u64 {
        crate::counters::total([&*self.counters])
            .into_iter()
            .find(|(name, _)| *name == counter.name())
            .map_or(0, |(_, count)| count)
    }

    /// Packets that a turn may have, whatever they are: as many as there are batches, and of 1,500 octets as many as a batch takes.
    pub const TURN: usize = 32;
}

/// Which shard a datagram is for; `None` when it is none of ESP.
pub fn owner(datagram: &[u8]) -> Option<u8> {
    match Datagram::classify(datagram) {
        Datagram::Esp(spi) => Some(spi.shard()),
        Datagram::Ike | Datagram::Keepalive | Datagram::Runt => None,
    }
}

/// The routes of one tenant.
#[derive(Default)]
pub struct RouteTable(Forwarding);

impl RouteTable {
    /// Adds a route to a tunnel that sends on `spi`.
    pub fn add(&self, spi: Spi, selectors: SelectorPair) {
        let tunnel = Tunnel::new(TunnelId(spi.0.into()), self.0.edition());
        tunnel.activate(spi);
        let selectors = Arc::new(selectors);
        self.0.add(&Arc::new(Route::new(tunnel, selectors, false)));
    }

    /// The pair that a packet goes by.
    pub fn lookup(&self, packet: &PacketInfo) -> Option<Spi> {
        match self.0.lookup(0, packet, &Tunnels::Any, None)? {
            Target::Pair(spi, _) => Some(spi),
            Target::Down(_) => None,
        }
    }
}

/// Any that is not zero.
const SLOT: u8 = 1;
/// More than the events that a turn has.
const EVENTS: usize = 4096;
