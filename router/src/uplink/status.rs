//! How a tenant's TUN device stands, as the control plane is told.

use std::fmt;
use std::net::IpAddr;

use thiserror::Error;

/// A tenant's uplink as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UplinkStatus {
    /// Whether packets get out.
    pub state: UplinkState,
    /// Networks of the tenant's tunnels that are not led to the device, the first [`MAX_REFUSED_SHOWN`] of them. They are
    /// tried again by themselves.
    pub refused: Vec<RefusedRoute>,
    /// How many there are.
    pub refused_total: usize,
}

/// The most refused routes that a status names: what a person reads.
pub const MAX_REFUSED_SHOWN: usize = 16;

impl UplinkStatus {
    pub(crate) fn new(state: UplinkState) -> Self {
        Self { state, refused: Vec::new(), refused_total: 0 }
    }
}

/// Whether a tenant's device works. A hub is always up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UplinkState {
    /// The device is being made.
    Pending,
    /// It works.
    Up,
    /// It is there, but somebody has set it down. Its addresses and routes come back when it is up again.
    Down,
    /// It could not be made. That is tried again, at growing intervals.
    Failed(UplinkError),
    /// It was there and went, for this reason. It is made anew.
    Lost(String),
}

impl fmt::Display for UplinkState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("the device is being made"),
            Self::Up => f.write_str("up"),
            Self::Down => f.write_str("the interface is set down"),
            Self::Failed(error) => error.fmt(f),
            Self::Lost(reason) => write!(f, "the device is gone: {reason}"),
        }
    }
}

/// A TUN device that cannot be made. Nothing of it is left behind.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("cannot set up TUN device {device}: {reason}{}", .fault.advice())]
pub struct UplinkError {
    /// Name of the device.
    pub device: String,
    /// What kind of thing is wrong.
    pub fault: UplinkFault,
    /// Which step failed, and what the system says.
    pub reason: String,
}

/// Why a TUN device cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UplinkFault {
    /// The network namespace is not there, is none, or is the node's own.
    Namespace,
    /// There is an interface of this name already.
    NameTaken,
    /// The process may not do it.
    Privilege,
    /// The kernel has no TUN devices.
    NoTun,
    /// An address is refused, or another tenant's device in the namespace has it.
    Address,
    /// The device for packets in the clear is not there, or cannot be used.
    ClearDevice,
    /// Something else that the system says.
    System,
}

impl UplinkFault {
    /// What a user can do about it.
    fn advice(self) -> &'static str {
        match self {
            Self::Namespace => " (`ip netns list` shows those there are)",
            Self::NameTaken => " (choose another name, or remove that interface)",
            Self::Privilege => " (needs CAP_NET_ADMIN; a namespace also CAP_SYS_ADMIN)",
            Self::NoTun => " (the kernel module tun, and /dev/net/tun)",
            Self::Address | Self::ClearDevice | Self::System => "",
        }
    }
}

/// A network that is not led to a tenant's device by the main routing table of its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRoute {
    /// The network's address.
    pub network: IpAddr,
    /// Length of its prefix.
    pub prefix: u8,
    /// Why.
    pub reason: RouteRefusal,
    /// Whether a table of the device leads packets there that come from an address of the device or are bound to it.
    pub by_source: bool,
}

impl fmt::Display for RefusedRoute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}: {}", self.network, self.prefix, self.reason)?;
        if self.by_source {
            f.write_str("; only packets from the device's own addresses are led to it")?;
        }
        Ok(())
    }
}

/// Why a network is not led to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteRefusal {
    /// Another tenant's device in the same network namespace has a route that it overlaps.
    Tenant {
        /// Name of that device.
        device: String,
    },
    /// The host has a route to this network, which stays.
    Host,
    /// It is so large that it would take the node's own packets, ESP and IKE among them.
    TooBroad,
    /// It would take the packets between the node and what is next to this address, on which the node listens.
    Swallows(IpAddr),
    /// What the system says.
    System(String),
}

impl fmt::Display for RouteRefusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant { device } => {
                write!(
                    f,
                    "{device}, another tenant's device in this network namespace, has it; use uplink.tun.netns"
                )
            }
            Self::Host => f.write_str("the host has a route to it already, which stays"),
            Self::TooBroad => {
                f.write_str("it would take the node's own packets; use uplink.tun.netns or smaller networks")
            }
            Self::Swallows(address) => {
                write!(f, "it contains {address}, on which the node listens; use uplink.tun.netns")
            }
            Self::System(reason) => f.write_str(reason),
        }
    }
}
