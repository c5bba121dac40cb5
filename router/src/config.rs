//! What the router is started with, and what a tenant's uplink is.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use crate::elsewhere::Elsewhere;
use crate::entrance::Entrance;
use crate::huge_pages::HugePages;

/// How to start a router. [`RouterConfig::default`] listens on every IPv4 address with the ports of RFC 7296 and
/// RFC 3948.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouterConfig {
    /// Addresses to listen on; `0.0.0.0` and `::` listen on all of their family.
    pub listen: Vec<IpAddr>,
    /// UDP port of IKE, 500. With 0 the system chooses ([`crate::RouterHandle::ike_port`] says which).
    pub ike_port: u16,
    /// UDP port of IKE and ESP behind a NAT, 4500. With 0 the system chooses.
    pub natt_port: u16,
    /// Threads that carry traffic, 1..=64. One per core that shall carry traffic.
    pub shards: usize,
    /// The slot of the cluster that is open at start, 1..=63: this router's SPIs are of it, until others are opened
    /// ([`crate::RouterHandle::open_slot`]). 0 where there are other nodes and none was free: then none is open.
    pub slot: u8,
    /// Whether to open raw sockets for ESP without UDP ([`crate::Encapsulation::Raw`]). Without `CAP_NET_RAW` the router
    /// starts all the same and [`crate::RouterHandle::has_raw_esp`] says no.
    pub raw_esp: bool,
    /// Whether TUN devices hand over and take runs of packets as one (segmentation offload). Where the kernel cannot, packets
    /// come and go one by one. Off is for looking for faults: bulk data goes three to four times
    /// as fast with it.
    pub tun_offload: bool,
    /// The way to the other nodes of the cluster, if there are any.
    pub elsewhere: Option<Arc<dyn Elsewhere>>,
    /// Who is given IKE messages at once. Without it, all are events.
    pub entrance: Option<Arc<dyn Entrance>>,
    /// How long a packet waits for a slot that changes hands ([`crate::RouterHandle::expect_slot`]).
    pub slot_wait: Duration,
    /// Has the process get huge pages while there are many pairs. Without it that is the system's to say.
    pub huge_pages: Option<HugePages>,
}

/// A slot moves within milliseconds; where all processors are busy it may take 60, and a bound of 50 lost packets then. This is what TCP
/// waits for at least before it sends again.
const SLOT_WAIT: Duration = Duration::from_millis(200);

impl Default for RouterConfig {
    fn default() -> Self {
        Self {
            listen: vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)],
            ike_port: 500,
            natt_port: 4500,
            shards: 1,
            slot: 1,
            raw_esp: false,
            tun_offload: true,
            elsewhere: None,
            entrance: None,
            slot_wait: SLOT_WAIT,
            huge_pages: None,
        }
    }
}

/// Where a tenant's packets go that are for none of its tunnels.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Uplink {
    /// Nowhere: packets are switched among the tenant's tunnels, in process and without privilege.
    Hub,
    /// Into a TUN device, besides the switching among tunnels. Needs `CAP_NET_ADMIN`.
    Tun {
        /// Name of the device, at most 15 octets.
        name: String,
        /// Name of the network namespace (as in `/run/netns`) or path to one, in which the device shall be. The
        /// router's own when absent.
        netns: Option<String>,
        /// Addresses of the device.
        addresses: Vec<InterfaceAddress>,
        /// Largest inner packet, 576..=65535. 1400 leaves room for the ESP and UDP headers in 1500.
        mtu: u16,
        /// Whether to keep a route to the device for every remote network of the tenant's tunnels.
        routes: bool,
        /// Device by which packets leave in the clear that the policy bypasses by protocol or port. Needs `CAP_NET_RAW`.
        /// What is bypassed by destination alone has no route to the TUN device and needs none of this.
        clear_device: Option<String>,
    },
}

/// An address with the length of its network's prefix, as `10.1.0.1/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct InterfaceAddress {
    /// The address.
    pub address: IpAddr,
    /// Length of the prefix, at most 32 or 128.
    pub prefix: u8,
}

impl FromStr for InterfaceAddress {
    type Err = ParseAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseAddressError(text.to_owned());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| error())?;
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| error())?,
            None => width,
        };
        if prefix > width { Err(error()) } else { Ok(Self { address, prefix }) }
    }
}

impl fmt::Display for InterfaceAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// Text that is no address with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("`{0}` is not an address with a prefix such as 10.1.0.1/24")]
pub struct ParseAddressError(String);

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn addresses_parse_and_print() {
        for text in ["10.1.0.1/24", "2001:db8::1/64", "0.0.0.0/0"] {
            assert_eq!(text.parse::<InterfaceAddress>().unwrap().to_string(), text);
        }
        assert_eq!("10.1.0.1".parse::<InterfaceAddress>().unwrap().prefix, 32);
        for text in ["10.1.0.1/33", "10.1.0/24", "10.1.0.1/", "/24", "2001:db8::1/129"] {
            assert!(text.parse::<InterfaceAddress>().unwrap_err().to_string().contains(text));
        }
    }
}
