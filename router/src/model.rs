//! The values that pass between the router and the control plane.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use esp::transport::Hosts;
use esp::{Lease, Limits, Mode, SaKeys, SelectorPair, Spi, Suite};
use zeroize::Zeroize;

use crate::options::{Encapsulation, TunnelOptions};
use crate::unreachable::Unreachable;
use crate::uplink::UplinkStatus;

/// A tenant, by the number that the control plane gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TenantId(pub u32);

/// A tunnel: the succession of Child SAs that replace one another by rekeying. Unique within the router.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TunnelId(pub u64);

/// A tunnel as it is configured, whether or not it has SAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TunnelConfig {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its number.
    pub tunnel: TunnelId,
    /// What it protects; `local` is our side. Such traffic goes through this tunnel or nowhere.
    pub selectors: SelectorPair,
    /// Whether a packet without an SA asks for one ([`RouterEvent::Wanted`]) and waits for it.
    pub on_demand: bool,
}

/// A pair of ESP SAs to install. The inbound SPI names the pair from then on.
pub struct ChildSa {
    /// Whose it is.
    pub tenant: TenantId,
    /// The tunnel it carries.
    pub tunnel: TunnelId,
    /// From [`crate::RouterHandle::allocate_spi`].
    pub inbound_spi: Spi,
    /// One of several of its tunnel (RFC 9611): the shard that its SPI names sends on it, the others on that of the tunnel.
    pub own: bool,
    /// Where shards have pairs of their own: a flow that comes by this pair goes by its shard from then on. For one of the two ends, as where both
    /// did so each would move the flow after the other for ever. The other has the kernel choose by a hash.
    pub follows: bool,
    /// What the peer chose.
    pub outbound_spi: u32,
    /// The algorithms, for both directions.
    pub suite: Suite,
    /// Keys of what the peer sends.
    pub inbound_keys: SaKeys,
    /// Keys of what we send.
    pub outbound_keys: SaKeys,
    /// Random and secret: where unpredictable IVs come from. Wiped when the value is dropped.
    pub iv_seed: [u8; 32],
    /// Tunnel or transport. In transport mode each side of the selectors is one address, of the family of `remote`.
    pub mode: Mode,
    /// What the pair carries; `local` is our side.
    pub selectors: SelectorPair,
    /// Packets of the replay window, 64..=8192.
    pub replay_window: u32,
    /// Limits in octets and packets, counted for each direction.
    pub limits: Limits,
    /// Our address. Its IP must be one that the router listens on; the port is always that of NAT traversal.
    pub local: SocketAddr,
    /// The peer's address and port for UDP-encapsulated ESP. With raw ESP the port means nothing.
    pub remote: SocketAddr,
    /// What carries our packets. The peer's are taken either way (RFC 7296 section 2.23).
    pub encapsulation: Encapsulation,
    /// How packets are wrapped.
    pub options: TunnelOptions,
    /// How far it may count.
    pub reserve: Reserve,
}

/// How far a pair may count before somebody else has to know, and where it says that this comes to its end. The default has no
/// bound and says nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserve {
    /// The last number that may be sent.
    pub lease: Lease,
    /// [`RouterEvent::NumbersLow`] comes when this number is sent, or with the next packet where it is sent already.
    pub warn_at: u64,
}

impl Default for Reserve {
    fn default() -> Self {
        Self { lease: Lease::UNBOUNDED, warn_at: u64::MAX }
    }
}

/// Where a pair's packets come and go.
pub(crate) struct Ends {
    pub(crate) local: IpAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) encapsulation: Encapsulation,
    pub(crate) mode: Mode,
}

impl Ends {
    /// The two ends of a pair in transport mode.
    pub(crate) fn hosts(&self, selectors: &SelectorPair) -> Option<Hosts> {
        let hosts = Hosts::of(selectors).filter(|_| self.mode == Mode::Transport)?;
        // The header outside is that of the packet.
        (hosts.is_ipv4() == self.remote.is_ipv4()).then_some(hosts)
    }
}

impl ChildSa {
    pub(crate) fn ends(&self) -> Ends {
        let Self { local, remote, encapsulation, mode, .. } = *self;
        Ends { local: local.ip(), remote, encapsulation, mode }
    }
}

impl Drop for ChildSa {
    fn drop(&mut self) {
        self.iv_seed.zeroize();
    }
}

impl fmt::Debug for ChildSa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSa")
            .field("tenant", &self.tenant)
            .field("tunnel", &self.tunnel)
            .field("inbound_spi", &self.inbound_spi)
            .field("outbound_spi", &Spi(self.outbound_spi))
            .field("suite", &self.suite)
            .field("remote", &self.remote)
            .finish_non_exhaustive()
    }
}

/// An IKE message with its addresses, without the non-ESP marker of RFC 3948 section 2.2.
#[derive(Clone, PartialEq, Eq)]
pub struct IkeDatagram {
    /// Our address. The port says which of the two IKE ports it is.
    pub local: SocketAddr,
    /// The peer's address.
    pub remote: SocketAddr,
    /// The message.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for IkeDatagram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IkeDatagram({} octets, {} -> {})", self.bytes.len(), self.remote, self.local)
    }
}

/// What the router tells the control plane.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum RouterEvent {
    /// An IKE message arrived. These are dropped (and counted) when the receiver is full: peers retransmit.
    Ike(IkeDatagram),
    /// The pair reached a soft limit in one direction: rekey it. Once per pair.
    SoftLimit {
        /// Inbound SPI of the pair.
        spi: Spi,
    },
    /// The pair reached a hard limit in one direction and carries nothing more in it. Once per pair.
    HardLimit {
        /// Inbound SPI of the pair.
        spi: Spi,
    },
    /// The numbers that were reserved for the pair come to their end: reserve more. Once for each [`Reserve`].
    NumbersLow {
        /// Inbound SPI of the pair.
        spi: Spi,
        /// The last number that was sent.
        sequence: u64,
    },
    /// The first authentic packet came in on this pair: the peer uses it, so it may be used towards the peer. Once more where a
    /// pair is restored that is not sent by, for whoever was told may have gone.
    FirstInbound {
        /// Inbound SPI of the pair.
        spi: Spi,
    },
    /// The newest authentic packet came from another address than the pair's remote: a NAT mapping changed
    /// (RFC 7296 section 2.23). Once per address, and every ten seconds while it is not followed; the router changes nothing by itself. Where either side of the comparison
    /// is raw ESP only the IP address counts, and the port of `remote` is 0 when the packet was raw.
    RemoteMoved {
        /// Inbound SPI of the pair.
        spi: Spi,
        /// Where the packet came from.
        remote: SocketAddr,
    },
    /// ESP arrived for an SPI that is not there (RFC 7296 section 1.5). At most a few per second, whatever arrives.
    UnknownSpi {
        /// The SPI in the packet.
        spi: Spi,
        /// Where it came from.
        remote: SocketAddr,
    },
    /// An ICMP error came back for what was sent. Anyone can forge it: it explains, and must never end or delay anything. Of
    /// one remote at most one a second, and not many of all.
    Unreachable(Unreachable),
    /// A packet waits for an SA of this tunnel, which is to be brought up on demand. At most once a second for a tunnel
    /// and shard. Answered by [`crate::RouterHandle::activate`], or [`crate::RouterHandle::drop_held`].
    Wanted {
        /// Whose it is.
        tenant: TenantId,
        /// The tunnel.
        tunnel: TunnelId,
    },
    /// A tenant's TUN device came up, could not be made, went, or has other routes refused than before. The status is as
    /// [`crate::RouterHandle::uplink`] says it.
    Uplink {
        /// Whose it is.
        tenant: TenantId,
        /// How it stands.
        status: Arc<UplinkStatus>,
    },
    /// The pair is gone and its keys are wiped. The last event of a pair.
    Removed {
        /// Inbound SPI of the pair.
        spi: Spi,
        /// Its final figures.
        stats: SaStats,
    },
}

/// Packets and octets that have gone by a pair of SAs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Carried {
    /// Packets opened.
    pub packets_in: u64,
    /// Octets of the inner packets opened.
    pub bytes_in: u64,
    /// Packets sealed.
    pub packets_out: u64,
    /// Octets of the inner packets sealed.
    pub bytes_out: u64,
}

/// Figures of one pair of SAs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaStats {
    /// Inbound SPI, which names the pair.
    pub spi: Spi,
    /// The SPI that the peer chose.
    pub outbound_spi: Spi,
    /// Whose it is.
    pub tenant: TenantId,
    /// The tunnel it carries.
    pub tunnel: TunnelId,
    /// Whether the tunnel sends on this pair.
    pub active: bool,
    /// The peer's address.
    pub remote: SocketAddr,
    /// What carries our packets.
    pub encapsulation: Encapsulation,
    /// Largest inner packet in octets that the path takes in one piece, as far as is known.
    pub inner_mtu: usize,
    /// Packets opened and found to be inside the selectors.
    pub packets_in: u64,
    /// Octets of the inner packets opened.
    pub bytes_in: u64,
    /// Packets sealed.
    pub packets_out: u64,
    /// Octets of the inner packets sealed.
    pub bytes_out: u64,
    /// How much of these four other nodes have carried, as far as is known here: they have counted it as theirs.
    pub elsewhere: Carried,
    /// Highest sequence number opened.
    pub sequence_in: u64,
    /// Sequence number of the last packet sealed.
    pub sequence_out: u64,
    /// Packets dropped on this pair, by name; only names with a count.
    pub drops: Vec<(&'static str, u64)>,
    /// When the last packet was opened.
    pub last_used_in: Option<Instant>,
    /// When the last packet was sealed.
    pub last_used_out: Option<Instant>,
}
