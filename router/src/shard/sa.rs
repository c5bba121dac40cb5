//! A pair of SAs as a shard owns it.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use esp::transport::{Hosts, Upper};
use esp::{InboundSa, LimitEvent, OpenError, OutboundSa, RestoreError, Resume, SaError, SealError, Spi};

use crate::allowance::{Allowance, Reminder};
use crate::events::EventSink;
use crate::model::{Carried, ChildSa, Ends, Reserve, RouterEvent, SaStats, TunnelId};
use crate::options::{Encapsulation, TunnelOptions};
use crate::pair_snapshot::{PairSnapshot, Parts, Restored, WindowSnapshot};
use crate::path_mtu::PathMtu;
use crate::port::{Origin, Path};
use crate::registry::Enlisted;
use crate::shard::batch::BATCH_OCTETS;
use crate::shard::drops::Drops;
use crate::shard::last_flow::LastFlow;
use crate::shard::moves::Moves;
use crate::sys;
use crate::sys::prefetch::fetch_between;
use crate::tenant::Tenant;
use crate::tunnel::Tunnel;

/// A pair of SAs. Made by the control plane, used and dropped by its shard; dropping wipes the keys.
///
/// The fields stand as packets use them: first what one that comes in does, then what either does, then what one that goes out does, then what few
/// do. So with a million pairs, where each packet meets one that is in no cache, it waits for as little of it as can be
/// ([`Sa::fetch_inbound`], [`Sa::fetch_outbound`]).
#[repr(C, align(64))]
pub(crate) struct Sa {
    /// Where what came in goes.
    pub(super) last_flow: LastFlow,
    drops: Drops,
    pub(crate) last_in: Option<Instant>,
    /// Ends with the selectors, which packets that go out ask as well.
    pub(crate) inbound: InboundSa,
    /// What to do before a packet is opened.
    pub(crate) mark: Mark,
    /// That packets come in is still to be told, though there was a first one.
    first_owed: bool,
    /// Packets come from elsewhere, and something of that is told.
    strays: bool,
    /// It is the one of its shard, beside that of the tunnel.
    own: bool,
    /// Flows that come by it go by its shard.
    follows: bool,
    pub(crate) tenant: Arc<Tenant>,
    /// That of `tunnel`.
    pub(super) tunnel_id: TunnelId,
    tunnel: Arc<Tunnel>,
    /// The two ends, in transport mode.
    pub(crate) hosts: Option<Box<Hosts>>,
    pub(crate) path: Path,
    pub(crate) options: TunnelOptions,
    /// The largest inner packet that fits `mtu`.
    max_inner: u32,
    mtu: PathMtu,
    pub(crate) outbound: OutboundSa,
    pub(crate) last_out: Option<Instant>,
    soft_raised: bool,
    hard_raised: bool,
    seldom: Box<Seldom>,
}

/// What most packets of a pair have no use for.
struct Seldom {
    /// ICMP errors about packets of this pair, so that no tenant uses up those of another.
    icmp: Allowance,
    /// Our address.
    local: IpAddr,
    /// By other nodes, before this one had it.
    elsewhere: Carried,
    /// What is told of the peer's moves.
    moves: Moves,
    /// What stands in the way of packets.
    stuck: Reminder,
}

/// What to do before a packet of a pair is opened, or once one is sealed: one look in the usual case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nothing: the pair is on the list of those that have moved on, or there is no such list.
    Quiet,
    /// To put it on that list.
    Clean,
    /// To wait: its slot is not open yet.
    Early,
}

/// What a pair is made of.
struct SaParts {
    tenant: Arc<Tenant>,
    tunnel: Arc<Tunnel>,
    inbound: InboundSa,
    outbound: OutboundSa,
    path: Path,
    mtu: PathMtu,
    local: IpAddr,
    own: bool,
    follows: bool,
    hosts: Option<Hosts>,
    options: TunnelOptions,
}

impl Sa {
    pub(crate) fn new(
        child: &ChildSa,
        enlisted: Enlisted,
        path: Path,
        mtu: PathMtu,
    ) -> Result<Self, SaError> {
        let Enlisted { tenant, tunnel, selectors } = enlisted;
        let inbound = InboundSa::new(
            child.inbound_spi,
            child.suite,
            &child.inbound_keys,
            selectors,
            child.replay_window,
            &child.limits,
        )?;
        let outbound = OutboundSa::new(
            Spi(child.outbound_spi),
            child.suite,
            &child.outbound_keys,
            &child.iv_seed,
            &child.limits,
        )?;
        let (ends, options) = (child.ends(), child.options);
        let hosts = ends.hosts(&child.selectors);
        let parts = SaParts {
            tenant,
            tunnel,
            inbound,
            outbound,
            path,
            mtu,
            local: ends.local,
            own: child.own,
            follows: child.follows,
            hosts,
            options,
        };
        Ok(Self::of(parts, &child.reserve))
    }

    /// Goes on with a pair of another node.
    pub(crate) fn restore(
        from: &Restored<'_>,
        resume: Resume,
        reserve: &Reserve,
        enlisted: Enlisted,
        path: Path,
        mtu: PathMtu,
    ) -> Result<Self, RestoreError> {
        let Enlisted { tenant, tunnel, selectors } = enlisted;
        let hosts = from.ends.hosts(&selectors);
        let mut inbound = InboundSa::restore(from.inbound, |_| selectors)?;
        let mut outbound = OutboundSa::restore(from.outbound, resume, reserve.lease)?;
        // What the node before was told in the last moment may have met nobody there any more.
        inbound.tell_soft_again();
        outbound.tell_soft_again();
        let (local, own, follows, options) = (from.ends.local, from.own, from.follows, from.options);
        let parts =
            SaParts { tenant, tunnel, inbound, outbound, path, mtu, local, own, follows, hosts, options };
        let mut sa = Self::of(parts, reserve);
        sa.seldom.elsewhere = sa.carried();
        // So with the first packet, if the pair is not sent by when the next one comes.
        sa.first_owed = sa.inbound.packets() > 0;
        Ok(sa)
    }

    fn of(parts: SaParts, reserve: &Reserve) -> Self {
        let SaParts { tenant, tunnel, inbound, outbound, path, mtu, local, own, follows, hosts, options } =
            parts;
        let mut sa = Self {
            last_flow: LastFlow::default(),
            drops: Drops::default(),
            last_in: None,
            inbound,
            mark: Mark::Quiet,
            first_owed: false,
            strays: false,
            own,
            follows,
            tenant,
            tunnel_id: tunnel.id,
            tunnel,
            hosts: hosts.map(Box::new),
            path,
            options,
            max_inner: 0,
            mtu,
            outbound,
            last_out: None,
            soft_raised: false,
            hard_raised: false,
            seldom: Box::new(Seldom {
                icmp: Allowance::new(ICMP_PER_SECOND),
                local,
                elsewhere: Carried::default(),
                moves: Moves::new(),
                stuck: Reminder::default(),
            }),
        };
        sa.reserve(reserve);
        sa.measure();
        sa
    }

    /// Whether what comes by it leaves the flow where it is, which goes by the shard that the kernel has chosen for it.
    pub(crate) fn leaves_flows(&self) -> bool {
        !self.follows && self.tunnel.is_spread()
    }

    /// Fetches what a packet that comes in reads of it. Nothing comes of it but time; nor below.
    pub(super) fn fetch_inbound(&self) {
        fetch_between(&self.last_flow, &self.mtu);
    }

    /// Fetches what a packet that goes out reads of it.
    pub(super) fn fetch_outbound(&self) {
        fetch_between(self.inbound.selectors(), &self.last_out);
    }

    /// How far it may count.
    pub(crate) fn reserve(&mut self, reserve: &Reserve) {
        self.outbound.reserve(reserve.lease);
        self.outbound.warn_at(reserve.warn_at);
    }

    /// Everything that another node needs to go on with it.
    pub(crate) fn snapshot(&self) -> PairSnapshot {
        PairSnapshot::new(Parts {
            tenant: self.tenant.id,
            tunnel: self.tunnel_id,
            own: self.own,
            follows: self.follows,
            transport: self.hosts.is_some(),
            inbound: self.inbound.snapshot(),
            outbound: self.outbound.snapshot(),
            options: &self.options,
            local: self.seldom.local,
            remote: self.path.remote,
            encapsulation: self.path.encapsulation,
            active: self.tunnel.sends_on(self.spi()),
        })
    }

    /// Puts it on the list of those whose standby is to be told how far they have come, by what came in or, where nothing does, went out.
    pub(crate) fn note_moved(&mut self, moved: &mut VecDeque<Spi>) {
        if self.mark == Mark::Clean {
            self.mark = Mark::Quiet;
            moved.push_back(self.spi());
        }
    }

    /// How far it has come.
    pub(crate) fn window(&self) -> WindowSnapshot {
        WindowSnapshot::new(self.spi(), self.inbound.progress(), self.outbound.progress())
    }

    /// What the kernel says of the path of a pair that is to be.
    pub(crate) fn path_mtu(ends: &Ends, options: &TunnelOptions, now: Instant) -> PathMtu {
        let (local, remote) = (specific(ends.local), ends.remote.ip());
        PathMtu::new(remote.is_ipv6(), options.outer_mtu, sys::path_mtu::towards(local, remote), now)
    }

    /// The largest inner packet that the path takes in one piece. Asks the kernel now and then.
    pub(crate) fn max_inner(&mut self, now: Instant) -> usize {
        if self.mtu.is_due(now) {
            self.mtu.renew(self.found_mtu(), now);
            self.measure();
        }
        self.max_inner as usize
    }

    /// The largest payload of ESP that the path takes in one piece.
    pub(crate) fn max_payload(&mut self, now: Instant) -> usize {
        self.max_inner(now).saturating_sub(self.bare_header())
    }

    /// Octets of an inner packet that are not sealed: in transport mode its IP header, which is the one outside.
    fn bare_header(&self) -> usize {
        self.hosts.as_ref().map_or(0, |hosts| hosts.header_len())
    }

    /// What is sealed of a packet in transport mode; nothing to tell for a tunnel, which seals all of it.
    pub(crate) fn upper(&self, packet: &[u8]) -> Result<Option<Upper>, SealError> {
        self.hosts.as_ref().map(|_| Upper::of(packet)).transpose()
    }

    /// An ESP packet of `len` octets was too large for the path as the kernel knows it.
    pub(crate) fn note_refusal(&mut self, len: usize, now: Instant) {
        self.mtu.lower(len + self.outer_headers(), self.found_mtu(), now);
        self.measure();
    }

    /// Whether nobody may fragment the outer packet around `inner`.
    pub(crate) fn outer_df(&self, inner: &[u8]) -> bool {
        self.options.outer_df(inner) && !self.mtu.is_narrower()
    }

    /// Octets of the headers before ESP.
    fn outer_headers(&self) -> usize {
        let ip = if self.path.remote.is_ipv4() { 20 } else { 40 };
        let udp = if self.path.encapsulation == Encapsulation::Udp { 8 } else { 0 };
        ip + udp
    }

    /// What the kernel says of its path.
    fn found_mtu(&self) -> Option<u16> {
        sys::path_mtu::towards(specific(self.seldom.local), self.path.remote.ip())
    }

    fn measure(&mut self) {
        let room = self.mtu.outer() - self.outer_headers();
        let max_inner = self.outbound.max_payload(room.min(BATCH_OCTETS)) + self.bare_header();
        self.max_inner = max_inner as u32;
    }

    pub(crate) fn spi(&self) -> Spi {
        self.inbound.spi()
    }

    /// Counts the drop of a packet.
    pub(crate) fn count_drop(&mut self, name: &'static str) {
        self.count_drops(name, 1);
    }

    /// Counts drops of so many packets.
    pub(crate) fn count_drops(&mut self, name: &'static str, packets: u64) {
        self.drops.count(name, packets);
    }

    /// Whether there may be one more ICMP error about its packets now.
    pub(super) fn may_answer(&mut self, now: Instant) -> bool {
        self.seldom.icmp.take(now)
    }

    /// Counts a packet that was not sealed. What stands in its way is told again: whoever was told before may not have been able to do anything,
    /// or was on its way to another node.
    pub(crate) fn not_sealed(&mut self, error: SealError, now: Instant, events: &mut EventSink) {
        self.count_drop(error.name());
        match error {
            SealError::LeaseUsedUp if self.seldom.stuck.is_due(now, false) => {
                self.raise(LimitEvent::NumbersLow, events)
            }
            // A hard limit was told by the packet that reached it; that no number is left nobody has said.
            SealError::HardLimit | SealError::SequenceExhausted
                if self.seldom.stuck.is_due(now, error == SealError::HardLimit) =>
            {
                events.send(RouterEvent::HardLimit { spi: self.spi() });
            }
            _ => {}
        }
    }

    /// Counts a packet that was not opened, as [`Sa::not_sealed`].
    pub(crate) fn not_opened(&mut self, error: OpenError, now: Instant, events: &mut EventSink) {
        if error == OpenError::Dummy {
            // It is no loss to anybody, and a sign of life (RFC 4303 section 2.6).
            self.last_in = Some(now);
            return;
        }
        self.count_drop(error.name());
        if error == OpenError::HardLimit && self.seldom.stuck.is_due(now, true) {
            events.send(RouterEvent::HardLimit { spi: self.spi() });
        }
    }

    /// Reports a limit, each kind once whichever direction reaches it first.
    pub(crate) fn raise(&mut self, limit: LimitEvent, events: &mut EventSink) {
        let spi = self.spi();
        match limit {
            LimitEvent::Soft if !self.soft_raised => {
                self.soft_raised = events.send(RouterEvent::SoftLimit { spi });
                if !self.soft_raised {
                    // Nobody has heard it, and an SA without a lifetime in seconds is renewed by nothing else.
                    self.inbound.tell_soft_again();
                    self.outbound.tell_soft_again();
                }
            }
            LimitEvent::Hard if !self.hard_raised => {
                self.hard_raised = true;
                events.send(RouterEvent::HardLimit { spi });
            }
            LimitEvent::NumbersLow => {
                events.send(RouterEvent::NumbersLow { spi, sequence: self.outbound.sequence() });
            }
            _ => {}
        }
    }

    /// Whether it is still to be told that packets come in. Of a pair that is sent by it has been heard.
    pub(crate) fn owes_first(&mut self) -> bool {
        self.first_owed = self.first_owed && !self.tunnel.sends_on(self.spi());
        self.first_owed
    }

    /// Reports that a packet has come in, which says that the peer has the pair in place.
    pub(crate) fn tell_first(&mut self, events: &mut EventSink) {
        self.first_owed = !events.send(RouterEvent::FirstInbound { spi: self.spi() });
    }

    /// Reports where the newest packet came from, when that is new. Older packets say nothing: they may have been under
    /// way since before the move. Nor do those without UDP: what comes through a NAT has ports, and who is behind none does
    /// not move (RFC 7296 section 2.23).
    pub(crate) fn note_origin(
        &mut self,
        now: Instant,
        origin: &Origin,
        sequence: u64,
        events: &mut EventSink,
    ) {
        if sequence != self.inbound.top() || origin.encapsulation == Encapsulation::Raw {
            return;
        }
        // A pair of raw ESP has no port to compare.
        let same = if self.path.encapsulation == Encapsulation::Raw {
            origin.from.ip() == self.path.remote.ip()
        } else {
            origin.from == self.path.remote
        };
        if same {
            self.settle();
        } else {
            self.strays = true;
            self.seldom.moves.note_elsewhere(now, self.inbound.spi(), origin.from, events);
        }
    }

    /// The peer sends from where we send to, or from anywhere as far as is known.
    fn settle(&mut self) {
        if std::mem::take(&mut self.strays) {
            self.seldom.moves.settle();
        }
    }

    /// Sends there from now on, and by this encapsulation if one is given.
    pub(crate) fn set_remote(
        &mut self,
        remote: SocketAddr,
        encapsulation: Option<Encapsulation>,
        now: Instant,
    ) {
        self.settle();
        let encapsulation = encapsulation.unwrap_or(self.path.encapsulation);
        if (self.path.remote, self.path.encapsulation) == (remote, encapsulation) {
            // What is known of the path stays known.
            return;
        }
        (self.path.remote, self.path.encapsulation) = (remote, encapsulation);
        self.mtu = PathMtu::new(remote.is_ipv6(), self.options.outer_mtu, self.found_mtu(), now);
        self.measure();
    }

    fn carried(&self) -> Carried {
        Carried {
            packets_in: self.inbound.packets(),
            bytes_in: self.inbound.bytes(),
            packets_out: self.outbound.packets(),
            bytes_out: self.outbound.bytes(),
        }
    }

    pub(crate) fn stats(&self) -> SaStats {
        let Carried { packets_in, bytes_in, packets_out, bytes_out } = self.carried();
        SaStats {
            spi: self.spi(),
            outbound_spi: self.outbound.spi(),
            tenant: self.tenant.id,
            tunnel: self.tunnel_id,
            active: self.tunnel.sends_on(self.spi()),
            remote: self.path.remote,
            encapsulation: self.path.encapsulation,
            inner_mtu: self.max_inner as usize,
            packets_in,
            bytes_in,
            packets_out,
            bytes_out,
            elsewhere: self.seldom.elsewhere,
            sequence_in: self.inbound.top(),
            sequence_out: self.outbound.sequence(),
            drops: self.drops.list(),
            last_used_in: self.last_in,
            last_used_out: self.last_out,
        }
    }
}

/// A host that does path MTU discovery needs one per connection; a flood of large packets gets no flood of answers.
const ICMP_PER_SECOND: u32 = 32;

fn specific(address: IpAddr) -> Option<IpAddr> {
    (!address.is_unspecified()).then_some(address)
}

#[cfg(test)]
mod tests {
    use std::mem::offset_of;

    use esp::{Encryption, Limits, SaKeys, Selectors, Suite};

    use super::*;

    /// With a million pairs each line of 64 octets comes from memory for each packet.
    #[test]
    fn what_a_packet_reads_of_its_pair_is_a_few_lines() {
        let lines = |from: usize, to: usize| from / 64..to.div_ceil(64);
        let selectors = offset_of!(Sa, inbound) + size_of::<InboundSa>() - size_of::<Selectors>();
        assert!(lines(0, offset_of!(Sa, outbound)).len() <= 8);
        assert!(lines(selectors, offset_of!(Sa, soft_raised)).len() <= 7);
        assert!(size_of::<Sa>() <= 11 * 64);
    }

    /// Else packets that go out would have to fetch more than they read.
    #[test]
    fn the_selectors_are_the_last_of_the_inbound_side() {
        let suite = Suite::new(Encryption::AesGcm16_128, None, false).unwrap();
        let keys = SaKeys::new(vec![1; 20], Vec::new());
        let sa = InboundSa::new(Spi(1000), suite, &keys, Arc::default(), 64, &Limits::default()).unwrap();
        let (begin, end) = (std::ptr::from_ref(&sa).addr(), std::ptr::from_ref(sa.selectors()).addr());
        assert_eq!(end - begin, size_of::<InboundSa>() - size_of::<Selectors>());
    }
}
