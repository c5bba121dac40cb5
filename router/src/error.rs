//! Why the router refuses something.

use std::io;
use std::net::{IpAddr, SocketAddr};

use esp::{RestoreError, SaError, Spi};
use thiserror::Error;

use crate::model::TenantId;

/// What can go wrong between the control plane and the router. Nothing in here comes from a peer.
#[derive(Debug, Error)]
pub enum RouterError {
    /// A value of the configuration is out of its range.
    #[error("{field}: {reason}")]
    Config {
        /// The field of [`crate::RouterConfig`] or [`crate::Uplink`].
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A UDP socket cannot be opened.
    #[error("cannot listen on {address} (UDP): {source}{}", hint(.source))]
    Listen {
        /// Address and port.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A thread cannot be started.
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
    /// Another resource of the system is missing (epoll, eventfd).
    #[error("cannot set up I/O: {0}")]
    Io(io::Error),
    /// The tenant is already there.
    #[error("tenant {} already exists in the router", .0.0)]
    TenantExists(TenantId),
    /// The tenant is not there.
    #[error("tenant {} is not in the router", .0.0)]
    UnknownTenant(TenantId),
    /// The SPI was not given out by [`crate::RouterHandle::allocate_spi`], is already installed, or is of a slot that is not
    /// open here.
    #[error("SPI {0} is not reserved for a new SA")]
    SpiNotReserved(Spi),
    /// A pair of another node cannot be put where its SPI says.
    #[error(
        "SPI {0} cannot be taken over: its slot is not open here, it is in use, or this node has fewer shards than the one before"
    )]
    SpiNotFree(Spi),
    /// What came from another node is no pair.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The number is none that a slot can have.
    #[error("there is no slot {0}: slots are 1 to 63")]
    NoSlot(u8),
    /// There is no socket with this local address.
    #[error("the router does not listen on {0}")]
    NotLocal(IpAddr),
    /// Raw ESP is asked for, but there is no socket for it at this address.
    #[error("there is no raw ESP at {0} (it needs CAP_NET_RAW and has to be configured)")]
    NoRawEsp(IpAddr),
    /// What is sent to the peer would go into a tenant's device.
    #[error(
        "what is sent to {remote} would go into {device}, a TUN device in the node's own network namespace"
    )]
    Swallowed {
        /// The peer's address.
        remote: IpAddr,
        /// Name of the device.
        device: String,
    },
    /// Transport mode is asked for, but not between two hosts.
    #[error("transport mode needs one address on each side, of the family of the outer header")]
    NotHosts,
    /// The keys or the replay window do not fit the suite.
    #[error(transparent)]
    Sa(#[from] SaError),
    /// The router has been shut down.
    #[error("the router has stopped")]
    Stopped,
}

/// What a user can do about the usual errors.
fn hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => " (needs more privilege, or a port above 1023)",
        io::ErrorKind::AddrInUse => " (another process listens there)",
        _ => "",
    }
}
