//! One TUN device: made, looked after and taken away by the device thread.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use super::book::{Book, Owner, network_of};
use super::nudge::Key;
use super::routes::Routes;
use super::status::{RefusedRoute, UplinkError, UplinkFault};
use super::wish::{Changes, Network};
use crate::config::{InterfaceAddress, Uplink};
use crate::error::RouterError;
use crate::prefix::width;
use crate::sys;
use crate::sys::clear::ClearSocket;
use crate::sys::device_steering::DeviceSteering;
use crate::sys::netlink::Netlink;
use crate::sys::netns::NamespaceId;
use crate::sys::tun::Offload;
use crate::tenant::Attached;

/// What of [`crate::Uplink::Tun`] describes the device.
#[derive(Debug)]
pub(crate) struct DeviceConfig {
    pub(crate) name: String,
    pub(crate) netns: Option<String>,
    pub(crate) addresses: Vec<InterfaceAddress>,
    pub(crate) mtu: u16,
    pub(crate) routes: bool,
    pub(crate) clear_device: Option<String>,
}

impl DeviceConfig {
    /// The device of an uplink; `None` for a hub.
    pub(crate) fn of(uplink: Uplink) -> Result<Option<Self>, RouterError> {
        let Uplink::Tun { name, netns, addresses, mtu, routes, clear_device } = uplink else {
            return Ok(None);
        };
        if mtu < MIN_MTU {
            let reason = format!("{mtu} is less than {MIN_MTU}, which every IPv4 host must take");
            return Err(RouterError::Config { field: "uplink.tun.mtu", reason });
        }
        Ok(Some(Self { name, netns, addresses, mtu, routes, clear_device }))
    }
}

/// How the shards reach a device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Queues {
    /// One for each shard.
    pub(crate) count: usize,
    /// With segmentation offload, where the kernel has it.
    pub(crate) offload: bool,
}

/// A device that is there. Its queues are closed when the last of [`Attached`] goes, and the device with them.
pub(super) struct Device {
    pub(super) link: Link,
    /// `None` when routes are the user's business.
    routes: Option<Routes>,
    pub(super) attached: Arc<Attached>,
    /// `None` where there is one queue, or the kernel or our privileges have nothing like it.
    pub(super) steering: Option<Arc<DeviceSteering>>,
}

/// The device in the eyes of the kernel.
pub(super) struct Link {
    pub(super) owner: Arc<Owner>,
    pub(super) index: u32,
    pub(super) netlink: Netlink,
    pub(super) namespace: NamespaceId,
    pub(super) addresses: Vec<InterfaceAddress>,
    /// The addresses that the node listens on, if the device is in the node's namespace.
    pub(super) listen: Option<Arc<[IpAddr]>>,
}

/// What a look at the device says.
pub(super) enum Health {
    Up,
    /// It is up, but addresses or routes of it are not there: it was set down and up since the last look.
    Bare,
    Down,
    Gone(String),
}

impl Device {
    /// Makes the device with one queue per shard. Whatever fails, nothing is left: a device goes with its queues.
    pub(super) fn open(
        key: Key,
        config: &DeviceConfig,
        queues: Queues,
        listen: &Arc<[IpAddr]>,
        book: &Book,
    ) -> Result<Self, UplinkError> {
        let owner = Arc::new(Owner { key, device: config.name.clone() });
        let listen = config.netns.is_none().then(|| listen.clone());
        let opened = sys::netns::within(config.netns.as_deref(), || {
            Self::open_here(config, queues, owner, listen, book)
        });
        let mut device = opened.map_err(|failure: Failure| UplinkError {
            device: config.name.clone(),
            fault: failure.fault,
            reason: failure.reason,
        })?;
        for own in &device.link.addresses {
            book.claim_address(device.link.namespace, own.address, &device.link.owner);
        }
        if let Some(routes) = &mut device.routes {
            let connected: Vec<_> = connected(&device.link.addresses).collect();
            routes.add_connected(&mut device.link, connected, book);
        }
        Ok(device)
    }

    fn open_here(
        config: &DeviceConfig,
        Queues { count, offload }: Queues,
        owner: Arc<Owner>,
        listen: Option<Arc<[IpAddr]>>,
        book: &Book,
    ) -> Result<Self, Failure> {
        let namespace = sys::netns::current()?;
        for own in &config.addresses {
            if let Some(holder) = book.address_holder(namespace, own.address, &owner) {
                let text = "another tenant's device in this network namespace, has it; use uplink.tun.netns";
                let reason = format!("adding address {own}: {}, {text}", holder.device);
                return Err(Failure { fault: UplinkFault::Address, reason });
            }
        }
        let opened =
            sys::tun::open(&config.name, count, offload).map_err(at("opening /dev/net/tun", None))?;
        if offload && opened.offload == Offload::None {
            tracing::warn!(
                device = config.name,
                "this kernel has no segmentation offload for TUN devices: packets go one by one, and bulk data at a third of the rate or less"
            );
        }
        if opened.offload == Offload::Tcp {
            tracing::info!(
                device = config.name,
                "this kernel has segmentation offload for TCP alone on TUN devices (UDP since Linux 6.2): packets of UDP go one by one"
            );
        }
        if count > 1 && opened.aside.is_none() {
            tracing::warn!(
                device = config.name,
                "this kernel draws every flow to the queue that wrote to it last: flows of tunnels with several SAs may be put out of order"
            );
        }
        let steering = steer(&config.name, &opened.queues);
        let mut netlink = Netlink::open().map_err(at("opening netlink", None))?;
        let index = netlink.index_of(&config.name).map_err(at("finding the device", None))?;
        netlink.bring_up(index, u32::from(config.mtu), QUEUE_LEN).map_err(at("bringing it up", None))?;
        for own in &config.addresses {
            // The route to its network is one of ours, so that it takes nothing from anybody else's.
            netlink
                .add_address(index, own.address, own.prefix, !config.routes)
                .map_err(at(&format!("adding address {own}"), Some(UplinkFault::Address)))?;
        }
        let clear = config.clear_device.as_deref().map(ClearSocket::open).transpose();
        let clear = clear.map_err(at(
            &format!(
                "opening {} for packets in the clear",
                config.clear_device.as_deref().unwrap_or_default()
            ),
            Some(UplinkFault::ClearDevice),
        ))?;
        Ok(Self {
            link: Link { owner, index, netlink, namespace, addresses: config.addresses.clone(), listen },
            routes: config.routes.then(Routes::default),
            attached: Arc::new(Attached::new(opened, clear)),
            steering: steering.map(Arc::new),
        })
    }

    /// Does what has changed in the wish.
    pub(super) fn apply(&mut self, mut changes: Changes, book: &Book) {
        if let Some(steering) = &self.steering {
            if changes.left_to_kernel {
                self.leave_to_kernel(steering);
            }
            for (network, queue) in std::mem::take(&mut changes.leads) {
                // Others may have been said meanwhile, which are newer.
                steering.lead_first(network, queue);
            }
        }
        if let Some(routes) = &mut self.routes {
            routes.apply(&mut self.link, changes, book);
        }
    }

    /// Takes the program off, if it is on.
    fn leave_to_kernel(&self, steering: &DeviceSteering) {
        let queue = self.attached.queue(0).filter(|_| steering.is_asked());
        let device = &self.link.owner.device;
        match queue.map(|queue| steering.detach(queue)) {
            Some(Ok(())) => tracing::info!(
                device,
                "a tunnel has several SAs: the kernel chooses the queue of a packet from now on"
            ),
            Some(Err(error)) => {
                tracing::warn!(device, %error, "cannot take the program off that chooses the queue");
            }
            None => {}
        }
    }

    /// Tries refused routes again.
    pub(super) fn retry_refused(&mut self, book: &Book) {
        if let Some(routes) = &mut self.routes {
            routes.retry(&mut self.link, book);
        }
    }

    /// Up to so many refused routes, and how many there are.
    pub(super) fn refused(&self, most: usize) -> (Vec<RefusedRoute>, usize) {
        self.routes.as_ref().map(|routes| routes.refused(most)).unwrap_or_default()
    }

    /// Looks at the device, and at the namespace that it was made in under the name `netns`.
    pub(super) fn check(&mut self, netns: Option<&str>) -> Health {
        if let Some(reason) = netns.and_then(|netns| self.stranded(netns)) {
            return Health::Gone(reason);
        }
        match self.link.netlink.is_up(self.link.index) {
            Ok(true) if self.is_bare() => Health::Bare,
            Ok(true) => Health::Up,
            Ok(false) => Health::Down,
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                Health::Gone("somebody deleted the interface, or moved it to another namespace".to_owned())
            }
            // A busy system says nothing of the device.
            Err(_) => Health::Up,
        }
    }

    /// Why the device is not where its configuration says. A deleted namespace lives on without a name as long as we hold
    /// a socket in it, so only its name tells, and its inode is nobody else's meanwhile.
    fn stranded(&self, netns: &str) -> Option<String> {
        match sys::netns::named(netns) {
            Ok(namespace) if namespace == self.link.namespace => None,
            Ok(_) => Some(format!("{netns} is another network namespace now")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Some(format!("somebody deleted the network namespace {netns}"))
            }
            // As below: it says nothing of the device.
            Err(_) => None,
        }
    }

    /// Whether the kernel has taken something away, as it does with all routes and the IPv6 addresses of a device that is
    /// set down. What can be added was not there; [`Device::reinstate`] sees to the rest.
    fn is_bare(&mut self) -> bool {
        let (link, routed) = (&mut self.link, self.routes.is_none());
        let mut addresses = link.addresses.iter();
        addresses.any(|own| {
            link.netlink.add_address(link.index, own.address, own.prefix, routed).is_ok_and(|added| added)
        }) || self.routes.as_ref().is_some_and(|routes| routes.are_gone(link))
    }

    /// Gives the device back what the kernel took from it when it was set down.
    pub(super) fn reinstate(&mut self, book: &Book) {
        let (link, routed) = (&mut self.link, self.routes.is_none());
        for own in &link.addresses {
            if let Err(error) = link.netlink.add_address(link.index, own.address, own.prefix, routed) {
                tracing::warn!(device = %link.owner.device, address = %own, %error, "cannot add address again");
            }
        }
        if let Some(routes) = &mut self.routes {
            routes.reinstate(&mut self.link, book);
        }
    }

    /// Takes out of the book and of the kernel what would outlive the device.
    pub(super) fn withdraw(&mut self, book: &Book) {
        if let Some(routes) = &mut self.routes {
            routes.withdraw(&mut self.link, book);
        }
        for own in &self.link.addresses {
            book.release_address(self.link.namespace, own.address, &self.link.owner);
        }
    }
}

/// Has packets come by the queue of the shard that they are for, if the system lets us.
fn steer(device: &str, queues: &[File]) -> Option<DeviceSteering> {
    let queue = queues.first().filter(|_| queues.len() > 1)?;
    match DeviceSteering::attach(queue) {
        Ok(steering) => Some(steering),
        Err(error) => {
            tracing::warn!(
                device,
                %error,
                "no program that chooses the queue of a packet (it needs CAP_BPF and Linux 4.16): flows whose packets are partly fragments, or are answered, may be put out of order"
            );
            None
        }
    }
}

/// The networks that the addresses lie in.
fn connected(addresses: &[InterfaceAddress]) -> impl Iterator<Item = Network> {
    let networks = addresses.iter().filter(|own| own.prefix > 0 && own.prefix < width(own.address));
    networks.map(|own| network_of(own.address, own.prefix))
}

/// RFC 791: every IPv4 host takes packets of 576 octets.
const MIN_MTU: u16 = 576;

/// A step that failed.
struct Failure {
    fault: UplinkFault,
    reason: String,
}

impl From<io::Error> for Failure {
    fn from(source: io::Error) -> Self {
        at("entering the network namespace", Some(UplinkFault::Namespace))(source)
    }
}

/// Of a step that may fail in ways of its own.
fn at(step: &str, own: Option<UplinkFault>) -> impl FnOnce(io::Error) -> Failure {
    move |error| {
        let fault = match (error.raw_os_error(), own) {
            (Some(libc::EPERM), _) => UplinkFault::Privilege,
            // An address of IPv6 is refused like this where there is no IPv6.
            (_, Some(own)) => own,
            (Some(libc::EACCES), None) => UplinkFault::Privilege,
            (Some(libc::EBUSY), None) => UplinkFault::NameTaken,
            (Some(libc::ENOENT | libc::ENODEV | libc::ENXIO), None) => UplinkFault::NoTun,
            _ => UplinkFault::System,
        };
        let reason = if fault == UplinkFault::NameTaken {
            format!("{step}: there is an interface of this name")
        } else {
            format!("{step}: {error}")
        };
        Failure { fault, reason }
    }
}
/// Packets that wait in the kernel at each queue of a device, of which the shard reads: 500, as devices have it, are half a
/// millisecond of small packets, less than a shard is away when another thread has its core.
const QUEUE_LEN: u32 = 4096;
