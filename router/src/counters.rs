//! Everything the router counts, by name. Whatever is dropped is counted here, once.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use esp::{OpenError, SealError};

macro_rules! counters {
    ($($(#[$doc:meta])* $variant:ident = $name:literal,)*) => {
        /// What is counted besides the drops of `esp`, which have names of their own ([`OpenError::name`],
        /// [`SealError::name`]).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Counter {
            $($(#[$doc])* $variant,)*
        }

        impl Counter {
            /// Every counter, in declaration order.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name, stable across versions.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

counters! {
    /// ESP packets taken from the network.
    EspReceived = "esp_received",
    /// ESP packets given to the network.
    EspSent = "esp_sent",
    /// Inner packets switched from one tunnel to another.
    Switched = "switched",
    /// Inner packets written to a TUN device.
    TunWritten = "tun_written",
    /// Inner packets read from a TUN device.
    TunRead = "tun_read",
    /// IKE messages passed on to the control plane.
    IkeReceived = "ike_received",
    /// IKE messages sent.
    IkeSent = "ike_sent",
    /// NAT keepalives (RFC 3948 section 2.3), which mean nothing to the receiver.
    NatKeepalive = "nat_keepalive",
    /// Packets handed to another shard.
    HandedOver = "handed_over",
    /// System calls that sent ESP; several packets share one by segmentation offload.
    SendCalls = "send_calls",
    /// System calls that received ESP.
    ReceiveCalls = "receive_calls",
    /// System calls that read from a TUN device; several packets of a flow share one by segmentation offload.
    TunReadCalls = "tun_read_calls",
    /// System calls that wrote to a TUN device; several packets of a flow share one by segmentation offload.
    TunWriteCalls = "tun_write_calls",
    /// Times that a TUN device was not read any more because whoever was to seal its packets had no room.
    TunHeldBack = "tun_held_back",
    /// Dropped: datagram too short to be anything.
    Runt = "drop_runt",
    /// Dropped: no SA has this SPI.
    UnknownSpi = "drop_unknown_spi",
    /// ESP and inner packets given to the node of the cluster that they are for.
    PassedOn = "passed_on",
    /// Dropped: for another node of the cluster, to which there is no way now.
    NotPassedOn = "drop_not_passed_on",
    /// ESP and inner packets that another node of the cluster passed on to this one.
    PassedIn = "passed_in",
    /// Dropped: another node passed it on, and the queue of its shard was full.
    PassedInFull = "drop_passed_in_full",
    /// Dropped: another node passed it on, but it is for a third one.
    PassedTwice = "drop_passed_twice",
    /// Dropped: another node passed on what is of a tenant that is not here.
    UnknownTenant = "drop_unknown_tenant",
    /// Packets that waited because a slot changes hands; each goes on, is passed on or dropped later.
    SlotHeld = "slot_held",
    /// Dropped: a slot changes hands, and as many packets wait for that as may.
    SlotHoldFull = "drop_slot_hold_full",
    /// Dropped: it waited for a slot to change hands, which took too long.
    SlotHoldExpired = "drop_slot_hold_expired",
    /// Dropped: the tenant has neither a tunnel nor an uplink for the destination.
    NoRoute = "drop_no_route",
    /// Dropped: the tunnel has no SA to send on, or had one when the packet was routed but not any more.
    NoOutboundSa = "drop_no_outbound_sa",
    /// Packets that the policy lets leave in the clear, and that did.
    PolicyBypass = "policy_bypass",
    /// Dropped: a rule of the policy discards it, or there are rules and none matches.
    PolicyDiscard = "drop_policy_discard",
    /// Dropped: a rule protects it, but by tunnels that do not carry it.
    PolicyNoTunnel = "drop_policy_no_tunnel",
    /// Dropped: a later fragment met a rule with ports, which it does not show (RFC 4301 section 7).
    PolicyFragment = "drop_policy_fragment",
    /// Dropped: it came through a tunnel that the policy does not protect it by (RFC 4301 section 5.2).
    PolicyInboundMismatch = "drop_policy_inbound",
    /// Dropped: more came out of the tenant's tunnels than it may have per second.
    TenantLimitIn = "drop_tenant_limit_in",
    /// Dropped: more was for the tenant's tunnels than it may have per second.
    TenantLimitOut = "drop_tenant_limit_out",
    /// Dropped: the policy bypasses it, but there is no device to send it in the clear.
    BypassNoDevice = "drop_bypass_no_device",
    /// Dropped: the device for packets in the clear refused it.
    BypassFailed = "drop_bypass_failed",
    /// Packets that wait for an SA on demand; each is sent or dropped later.
    Held = "held",
    /// Dropped: as many packets wait for this tunnel, for its tenant, or for all of them, as may.
    HoldFull = "drop_hold_full",
    /// Dropped: it waited, but a tunnel or tenant for which fewer wait needed the place.
    HoldDisplaced = "drop_hold_displaced",
    /// Dropped: no SA came up in time.
    HoldExpired = "drop_hold_expired",
    /// Dropped: the negotiation on demand failed.
    HoldFailed = "drop_hold_failed",
    /// Dropped: outside the selectors of the SA that the tunnel sends on.
    OutboundSelector = "drop_outbound_selector",
    /// Dropped: the hop limit was used up in the hub.
    TtlExpired = "drop_ttl_expired",
    /// Dropped: larger than the tunnel's path takes, and not to be fragmented.
    PacketTooBig = "drop_packet_too_big",
    /// Dropped: the kernel knew of a smaller MTU of the path than we did. From then on we know it as well.
    OuterTooBig = "drop_outer_too_big",
    /// Inner packets cut into fragments before they were sealed.
    InnerFragmented = "inner_fragmented",
    /// ESP packets larger than the path takes, left to the IP layer to fragment.
    OuterFragmented = "outer_fragmented",
    /// ICMP errors sent to the senders of inner packets.
    IcmpSent = "icmp_sent",
    /// ICMP errors not sent because the pair had its share of this second.
    IcmpLimited = "icmp_limited",
    /// ICMP errors not sent because nothing leads back to the sender: no selector or rule of the policy.
    IcmpNoWay = "icmp_no_way",
    /// TCP connections whose maximum segment size was lowered, each direction for itself.
    MssClamped = "mss_clamped",
    /// Dummy packets sent (RFC 4303 section 2.6).
    DummySent = "dummy_sent",
    /// ESP packets that came in UDP for a pair of raw ESP, or the reverse. They are processed all the same.
    OtherEncapsulation = "other_encapsulation",
    /// Dropped: congestion was marked on the path, but the inner transport does not know ECN (RFC 6040 section 4.2).
    EcnNotCapable = "drop_ecn_not_capable",
    /// Dropped: the packet does not parse as IP.
    BadInner = "drop_bad_inner",
    /// Dropped: the ring to another shard was full.
    HandoffFull = "drop_handoff_full",
    /// Dropped: the socket's send buffer or the network device's queue was full.
    SendBufferFull = "drop_send_buffer_full",
    /// Dropped: the receive buffer of a socket was full, of ESP or IKE. The kernel says so with the next packet that it has room for;
    /// packets that it had joined (UDP GRO) count once. Those with a wrong checksum are among them.
    ReceiveBufferFull = "drop_receive_buffer_full",
    /// Dropped: the system refused to send.
    SendFailed = "drop_send_failed",
    /// Dropped: the TUN device's queue was full.
    TunFull = "drop_tun_full",
    /// Dropped: the tenant's TUN device is not there, or not yet.
    TunAway = "drop_tun_away",
    /// Dropped: the TUN device refused the packet.
    TunFailed = "drop_tun_failed",
    /// Dropped: the control plane did not take the IKE message in time.
    IkeOverload = "drop_ike_overload",
    /// Dropped: a first message, while so many IKE messages waited that the rest of the room is for SAs that exist.
    IkeFirstOverload = "drop_ike_first_overload",
    /// Moves of peers that were not reported because the pair had its share of this second.
    MoveLimited = "move_limited",
    /// Dropped: an IKE message could not be sent.
    IkeSendFailed = "drop_ike_send_failed",
    /// Dropped: an IKE message would have gone into a tenant's TUN device, whose route holds the peer's address.
    IkeSwallowed = "drop_ike_swallowed",
    /// ICMP errors about what was sent, told to the control plane.
    UnreachableTold = "unreachable_told",
    /// ICMP errors about what was sent that were not told: about a remote that was told of in this second, or one of too many.
    UnreachableLimited = "unreachable_limited",
    /// Errors of receiving system calls.
    ReceiveFailed = "receive_failed",
    /// Events that the control plane did not take in time and that did not fit into the backlog either.
    EventLost = "event_lost",
    /// TUN devices that could not be made, each attempt for itself.
    UplinkFailed = "uplink_failed",
    /// TUN devices that went while they were in use.
    UplinkLost = "uplink_lost",
    /// A device was set down and up, and was given its addresses and routes again.
    UplinkReinstated = "uplink_reinstated",
    /// Threads of the router that ended though nobody stopped them.
    ThreadDied = "router_thread_died",
    /// SPIs asked for when all of a shard were in use, or of a slot that is not open.
    SpiExhausted = "spi_exhausted",
}

/// The counters of one thread. Only that thread writes, so an increment needs no atomic read-modify-write.
pub(crate) struct Counters {
    own: [AtomicU64; Counter::ALL.len()],
    open: [AtomicU64; OpenError::ALL.len()],
    seal: [AtomicU64; SealError::ALL.len()],
}

impl Counters {
    pub(crate) fn new() -> Self {
        Self {
            own: [const { AtomicU64::new(0) }; Counter::ALL.len()],
            open: [const { AtomicU64::new(0) }; OpenError::ALL.len()],
            seal: [const { AtomicU64::new(0) }; SealError::ALL.len()],
        }
    }

    /// Counts one. For the thread that owns these counters.
    pub(crate) fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Whether a receive that ended so may be made again at once. What is out of the ordinary is counted.
    pub(crate) fn still_readable(&self, error: &io::Error) -> bool {
        if error.kind() != io::ErrorKind::WouldBlock && error.kind() != io::ErrorKind::Interrupted {
            self.count(Counter::ReceiveFailed);
        }
        error.kind() == io::ErrorKind::Interrupted
    }

    /// Counts several. For the thread that owns these counters.
    pub(crate) fn add(&self, counter: Counter, by: u64) {
        bump(self.own.get(counter as usize), by);
    }

    /// Counts one, from any thread.
    pub(crate) fn count_shared(&self, counter: Counter) {
        if let Some(cell) = self.own.get(counter as usize) {
            cell.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(crate) fn count_open(&self, error: OpenError) {
        bump(self.open.get(error.index()), 1);
    }

    pub(crate) fn count_seal(&self, error: SealError) {
        self.add_seal(error, 1);
    }

    /// Counts several.
    pub(crate) fn add_seal(&self, error: SealError, by: u64) {
        bump(self.seal.get(error.index()), by);
    }

    fn values(&self) -> impl Iterator<Item = u64> {
        self.own.iter().chain(&self.open).chain(&self.seal).map(|cell| cell.load(Ordering::Relaxed))
    }
}

/// The sums over all threads, with their names.
pub(crate) fn total<'a>(threads: impl IntoIterator<Item = &'a Counters>) -> Vec<(&'static str, u64)> {
    let names = Counter::ALL
        .iter()
        .map(|counter| counter.name())
        .chain(OpenError::ALL.iter().map(|error| error.name()))
        .chain(SealError::ALL.iter().map(|error| error.name()));
    let mut sums: Vec<_> = names.map(|name| (name, 0)).collect();
    for counters in threads {
        for ((_, sum), value) in sums.iter_mut().zip(counters.values()) {
            *sum += value;
        }
    }
    sums
}

fn bump(cell: Option<&AtomicU64>, by: u64) {
    if let Some(cell) = cell {
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn sums_have_their_names() {
        let (first, second) = (Counters::new(), Counters::new());
        first.count(Counter::NoRoute);
        second.add(Counter::NoRoute, 2);
        second.count_open(OpenError::Dummy);
        second.count_seal(SealError::Crypto);
        second.count_shared(Counter::SpiExhausted);
        let nonzero: Vec<_> = total([&first, &second]).into_iter().filter(|(_, sum)| *sum > 0).collect();
        assert_eq!(
            nonzero,
            [("drop_no_route", 3), ("spi_exhausted", 1), ("esp_dummy", 1), ("esp_outbound_crypto", 1)]
        );
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = total([]).into_iter().map(|(name, _)| name).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
